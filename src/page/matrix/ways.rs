//! Who is in a mesh by one protocol, and what is known of each way between two of them. Pure.

use std::collections::{BTreeSet, HashMap};

use super::cell::Cell;
use super::listed::Listed;
use crate::clock::Timestamp;
use crate::mesh::list::Proto;
use crate::probe::Outcome;
use crate::status::pairs::{Named, Pair};

/// The ways by one protocol.
pub(super) struct Ways<'a> {
    /// Who measures.
    pub(super) sources: BTreeSet<&'a str>,
    /// Who is measured.
    pub(super) targets: BTreeSet<&'a str>,
    listed: &'a Listed,
    proto: Proto,
    now: Timestamp,
    known: HashMap<(&'a str, &'a str), Pair>,
}

impl<'a> Ways<'a> {
    /// Of those that are listed, and on a collector of whoever was heard of lately.
    pub(super) fn of(listed: &'a Listed, pairs: &'a [Named], proto: Proto, now: Timestamp) -> Self {
        let of_proto = || pairs.iter().filter(|named| named.proto == proto);
        let known = of_proto().map(|named| ((&*named.source, &*named.target), named.pair)).collect();
        let sources = listed.sources.iter().map(String::as_str).collect();
        let targets = listed.targets.iter().filter(|(_, protos)| protos.contains(&proto)).map(|(name, _)| name.as_str()).collect();
        let mut ways = Self { sources, targets, listed, proto, now, known };
        if listed.whole {
            // Whoever is not listed any more is shown for as long as there is something of it that is new.
            // That nothing came of it is nothing new.
            for named in of_proto().filter(|named| named.pair.outcome != Outcome::PeerAbsent) {
                if matches!(Cell::seen(named.pair, listed.interval, now), Cell::Seen { stale: false, .. }) {
                    ways.sources.insert(&named.source);
                    ways.targets.insert(&named.target);
                }
            }
        }
        ways
    }

    /// What is known from one to another.
    pub(super) fn cell(&self, source: &str, target: &str) -> Cell {
        let is_target = || self.listed.targets.get(target).is_some_and(|protos| protos.contains(&self.proto));
        match self.known.get(&(source, target)) {
            _ if source == target => Cell::Itself,
            Some(pair) => Cell::seen(*pair, self.listed.interval, self.now),
            None if self.listed.sources.contains(source) && is_target() => Cell::Never,
            None => Cell::Unlisted,
        }
    }
}
