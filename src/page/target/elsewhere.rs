//! What another host of a mesh found of a target last, as it is known here. Pure.
//!
//! It is told as the matrix tells it: a result does not hold for ever, and that none came says nothing of the target.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::measurement::Series;
use crate::mesh::agent::plan::{KIND, PROBE};
use crate::mesh::list::Proto;
use crate::page::matrix::Member;
use crate::page::shown::{Shown, shown};
use crate::page::words;
use crate::probe::Outcome;
use crate::status::health::Health;
use crate::status::pairs::{Pair, Pairs};

/// The last result of a series of another host.
pub(super) struct Elsewhere {
    pair: Pair,
    /// From round to round.
    interval: Option<Duration>,
}

impl Elsewhere {
    /// Of what this host measures itself, or did, the board knows all that there is: a pair that is not forgotten yet does not
    /// make it scheduled.
    pub(super) fn of(pairs: &Pairs, member: &Member, series: &Series) -> Option<Self> {
        let tag = |key| series.tag(key);
        let of_a_mesh = tag("kind") == Some(KIND) && tag("probe") == Some(PROBE);
        let source = tag("source").filter(|source| of_a_mesh && *source != member.agent)?;
        let pair = pairs.of(source, tag("target")?, tag("family").and_then(Proto::of_family))?;
        Some(Self { pair, interval: member.interval })
    }

    /// When it was due.
    pub(super) fn time(&self) -> Timestamp {
        self.pair.time
    }

    /// How the series is.
    pub(super) fn health(&self, now: Timestamp) -> Health {
        Health::of_pair(&self.pair, self.interval, now)
    }

    /// What there is to be said of that, in a few words.
    pub(super) fn why(&self, now: Timestamp) -> Shown {
        let outcome = self.pair.outcome.name();
        shown(&match self.pair.outcome {
            Outcome::PeerAbsent => match self.pair.heard {
                Some(heard) => format!("absent: the source sent no result in time; the last one was of {}", words::time(heard)),
                None => "absent: the source sent no result in time".to_owned(),
            },
            _ if self.pair.is_old(self.interval, now) => format!("no result came lately; the last was {outcome}"),
            Outcome::Ok => return Shown::default(),
            _ => outcome.to_owned(),
        })
    }
}
