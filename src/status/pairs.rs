//! Who reaches whom: the last result of every pair of a mesh, from here and, on a collector, from all others.
//!
//! At most [`MOST`] pairs of [`MOST_NAMES`] names are kept. When there is no place, those of which nothing was heard for a day
//! make some; what finds none even so is counted, and not shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::measurement::{QOS_METRICS, Row, Value};
use crate::mesh::agent::plan::{KIND, PROBE};
use crate::mesh::collector::rows::PING;
use crate::mesh::list::Proto;
use crate::probe::{Outcome, RESULT_CODE};

/// The most pairs: 300 hosts, each with both protocols.
pub const MOST: usize = 300 * 300 * 2;
/// The most names.
pub const MOST_NAMES: usize = 2000;
/// Pairs that were not heard of for so long make place.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// After so many rounds without a result the last one is old.
const ROUNDS: u32 = 3;
/// How long a round is taken for where nobody tells it.
const ROUND: Duration = Duration::from_mins(20);
/// No more often than this place is looked for.
const LOOK: Duration = Duration::from_mins(1);

/// The last results of pairs. Clones share them.
#[derive(Clone, Default)]
pub struct Pairs(Arc<Mutex<Seen>>);

/// The last result of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// When it was due.
    pub time: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Per cent.
    pub loss_pct: Option<f32>,
    /// The mean.
    pub rtt_ms: Option<f32>,
    /// When the last one came that was not absent, if it is known.
    pub heard: Option<Timestamp>,
}

impl Pair {
    /// Whether it is too old to say how it is now. `interval` is that from round to round.
    pub fn is_old(&self, interval: Option<Duration>, now: Timestamp) -> bool {
        let round = interval.unwrap_or(ROUND);
        // A time that has not come yet is of a clock that was wrong: nobody knows how old it is.
        now.since(self.time) > round.saturating_mul(ROUNDS) || self.time.since(now) > round
    }
}

/// A pair with its names.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Who measured.
    pub source: Arc<str>,
    /// Whom.
    pub target: Arc<str>,
    /// By which protocol.
    pub proto: Proto,
    /// What came of it.
    pub pair: Pair,
}

/// A source and a target by their numbers, and the protocol.
type Key = (u16, u16, Proto);

#[derive(Default)]
struct Seen {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
    pairs: HashMap<Key, Pair>,
    looked: Option<Timestamp>,
    unplaced: u64,
}

impl Pairs {
    /// A row was made, or came. Those that are not of a mesh are nothing to it. `proto` is that of rows that do not tell it.
    /// What came last holds, whatever its time: the wall clock may have been set back.
    pub fn observe(&self, row: &Row, proto: Option<Proto>) {
        let (Some(pair), Some((source, target))) = (pair(row), hosts(row)) else { return };
        if let Some(proto) = family(row).or(proto) {
            self.lock().note(source, target, proto, pair);
        }
    }

    /// A row of before: nothing that is known gives way to it. Only figures are taken: rows that do not tell their protocol
    /// cannot be placed any more, and without them an absence or a failure of long ago would be the last word.
    pub fn recall(&self, row: &Row) {
        let (Some(pair), Some((source, target))) = (pair(row).filter(|pair| pair.loss_pct.is_some()), hosts(row)) else { return };
        if let Some(proto) = family(row) {
            self.lock().remember(source, target, proto, pair);
        }
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Named> {
        let seen = self.lock();
        let name = |number: u16| seen.names.get(usize::from(number)).cloned();
        let named = |(&(source, target, proto), pair): (&Key, &Pair)| {
            Some(Named { source: name(source)?, target: name(target)?, proto, pair: *pair })
        };
        seen.pairs.iter().filter_map(named).collect()
    }

    /// The last result of a pair, by a protocol or by whichever came last.
    pub fn of(&self, source: &str, target: &str, proto: Option<Proto>) -> Option<Pair> {
        let seen = self.lock();
        let (source, target) = (*seen.numbers.get(source)?, *seen.numbers.get(target)?);
        let protos = proto.map_or(vec![Proto::V4, Proto::V6], |proto| vec![proto]);
        protos.into_iter().filter_map(|proto| seen.pairs.get(&(source, target, proto)).copied()).max_by_key(|pair| pair.time)
    }

    /// Results for which there was no place.
    pub fn unplaced(&self) -> u64 {
        self.lock().unplaced
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, source: &str, target: &str, proto: Proto, pair: Pair) {
        let Some(key) = self.key(source, target, proto, pair.time) else {
            self.unplaced += 1;
            return;
        };
        let before = self.pairs.get(&key).copied();
        if pair.outcome != Outcome::PeerAbsent {
            self.pairs.insert(key, Pair { heard: Some(pair.time), ..pair });
            return;
        }
        // An absence is told late: of a slot of which a result came, or of one before, it says nothing any more.
        if before.is_none_or(|before| before.time < pair.time) {
            self.pairs.insert(key, Pair { heard: before.and_then(|before| before.heard), ..pair });
        }
    }

    fn remember(&mut self, source: &str, target: &str, proto: Proto, pair: Pair) {
        let Some(key) = self.key(source, target, proto, pair.time) else {
            self.unplaced += 1;
            return;
        };
        let heard = Some(pair.time);
        let known = self.pairs.entry(key).or_insert(Pair { heard, ..pair });
        if known.time < pair.time {
            *known = Pair { heard, ..pair };
        }
        known.heard = known.heard.max(heard);
    }

    /// The key of a pair, if there is place for it.
    fn key(&mut self, source: &str, target: &str, proto: Proto, now: Timestamp) -> Option<Key> {
        if let (Some(source), Some(target)) = (self.numbers.get(source), self.numbers.get(target))
            && self.pairs.contains_key(&(*source, *target, proto))
        {
            return Some((*source, *target, proto));
        }
        if self.pairs.len() >= MOST || self.names.len() + 2 > MOST_NAMES {
            self.make_place(now);
        }
        (self.pairs.len() < MOST).then_some(())?;
        Some((self.number(source)?, self.number(target)?, proto))
    }

    fn number(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok().filter(|_| self.names.len() < MOST_NAMES)?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }

    /// Forgets what is old, and the names that are used no more.
    fn make_place(&mut self, now: Timestamp) {
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK && looked.since(now) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let (names, mut pairs) = (std::mem::take(&mut self.names), std::mem::take(&mut self.pairs));
        self.numbers.clear();
        pairs.retain(|_, pair| now.since(pair.time) < FORGOTTEN);
        for ((source, target, proto), pair) in pairs {
            let mut again = |number: u16| self.number(names.get(usize::from(number))?);
            if let (Some(source), Some(target)) = (again(source), again(target)) {
                self.pairs.insert((source, target, proto), pair);
            }
        }
    }
}

fn hosts(row: &Row) -> Option<(&str, &str)> {
    row.series.tag("source").zip(row.series.tag("target"))
}

/// The protocol, of rows that tell it.
fn family(row: &Row) -> Option<Proto> {
    row.series.tag("family").and_then(Proto::of_family)
}

/// What a row says of its pair, if it is of a mesh.
fn pair(row: &Row) -> Option<Pair> {
    let float = |name: &str| match row.fields.get(name)? {
        Value::Float(value) => Some(*value),
        Value::Integer(_) | Value::Text(_) => None,
    };
    let (outcome, loss_pct, rtt_ms) = match row.series.measurement() {
        PING => {
            let loss = float("loss")?;
            let outcome = match loss {
                _ if loss <= 0.0 => Outcome::Ok,
                _ if loss < 1.0 => Outcome::Partial,
                _ => Outcome::Timeout,
            };
            (outcome, Some(loss * 100.0), float("avg"))
        }
        QOS_METRICS if row.series.tag("probe") == Some(PROBE) && row.series.tag("kind") == Some(KIND) => {
            let Value::Integer(code) = row.fields.get(RESULT_CODE.info().name)? else { return None };
            let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.code() == *code)?;
            (outcome, float("ping_packet_loss_pct"), float("ping_avg_ms"))
        }
        _ => return None,
    };
    let small = |value: f64| value as f32;
    Some(Pair { time: row.time, outcome, loss_pct: loss_pct.map(small), rtt_ms: rtt_ms.map(small), heard: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Fields, Series};
    use crate::mesh::collector::rows::absent;
    use crate::mesh::list::Name;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000).plus(Duration::from_secs(second))
    }

    fn ping(source: &str, target: &str, second: u64, loss: f64, avg: Option<f64>) -> Row {
        let mut fields = Fields::new();
        fields.put("loss", Value::Float(loss));
        if let Some(avg) = avg {
            fields.put("avg", Value::Float(avg));
        }
        Row { series: Series::new(PING, [("source", source), ("target", target), ("status", "ok")]), time: at(second), fields }
    }

    fn own(target: &str, second: u64, code: i64) -> Row {
        let mut fields = Fields::new();
        fields.put("result_code", Value::Integer(code));
        fields.put("ping_packet_loss_pct", Value::Float(20.0));
        fields.put("ping_avg_ms", Value::Float(1.5));
        let tags = [("source", "me"), ("target", target), ("probe", "mesh"), ("kind", "ping"), ("family", "ipv6")];
        Row { series: Series::new(QOS_METRICS, tags), time: at(second), fields }
    }

    #[test]
    fn rows_of_both_measurements_tell_of_a_pair() {
        let pairs = Pairs::default();
        pairs.observe(&ping("a", "b", 1, 0.25, Some(2.0)), Some(Proto::V4));
        pairs.observe(&own("b", 2, 1), None);
        let mut all = pairs.all();
        all.sort_by(|a, b| a.source.cmp(&b.source));
        let expected = Pair { time: at(1), outcome: Outcome::Partial, loss_pct: Some(25.0), rtt_ms: Some(2.0), heard: Some(at(1)) };
        assert_eq!((&*all[0].source, &*all[0].target, all[0].proto, all[0].pair), ("a", "b", Proto::V4, expected));
        assert_eq!((&*all[1].source, all[1].proto, all[1].pair.loss_pct), ("me", Proto::V6, Some(20.0)));
    }

    #[test]
    fn an_absent_result_is_no_loss_and_leaves_when_the_last_one_came() {
        let pairs = Pairs::default();
        let name = |text| Name::new(text).unwrap();
        let absent = |second| absent(&name("a"), &name("b"), Proto::V4, at(second));
        pairs.observe(&absent(5), Some(Proto::V4));
        assert_eq!(pairs.all()[0].pair.heard, None);
        pairs.observe(&ping("a", "b", 10, 0.0, Some(2.0)), Some(Proto::V4));
        pairs.observe(&absent(8), Some(Proto::V4));
        assert_eq!(pairs.all()[0].pair.outcome, Outcome::Ok, "what was due before is told too late");
        pairs.observe(&absent(20), Some(Proto::V4));
        let Pair { outcome, loss_pct, heard, .. } = pairs.all()[0].pair;
        assert_eq!((outcome, loss_pct, heard), (Outcome::PeerAbsent, None, Some(at(10))));
    }

    #[test]
    fn after_the_clock_was_set_back_what_comes_still_holds() {
        let pairs = Pairs::default();
        pairs.observe(&own("b", 3_600, 0), None);
        pairs.observe(&own("b", 10, 1), None);
        let Pair { time, outcome, heard, .. } = pairs.all()[0].pair;
        assert_eq!((time, outcome, heard), (at(10), Outcome::Partial, Some(at(10))));
    }

    #[test]
    fn a_result_and_an_absence_of_the_same_slot_are_a_result() {
        let pairs = Pairs::default();
        let absent = absent(&Name::new("me").unwrap(), &Name::new("b").unwrap(), Proto::V6, at(10));
        for rows in [[absent.clone(), own("b", 10, 0)], [own("b", 10, 0), absent]] {
            for row in rows {
                pairs.observe(&row, None);
            }
            assert_eq!(pairs.all()[0].pair.outcome, Outcome::Ok);
        }
    }

    #[test]
    fn what_is_recalled_comes_the_newest_first_and_gives_way_to_what_came_since() {
        let pairs = Pairs::default();
        let absent = |second| absent(&Name::new("me").unwrap(), &Name::new("b").unwrap(), Proto::V6, at(second));
        pairs.observe(&absent(20), None);
        for second in [10, 5] {
            pairs.recall(&own("b", second, 0));
        }
        let Pair { time, outcome, heard, .. } = pairs.all()[0].pair;
        assert_eq!((time, outcome, heard), (at(20), Outcome::PeerAbsent, Some(at(10))));
    }

    #[test]
    fn an_absence_of_before_a_restart_is_not_the_last_word() {
        let pairs = Pairs::default();
        // The result that came after it does not tell its protocol.
        pairs.recall(&ping("me", "b", 30, 0.0, Some(2.0)));
        pairs.recall(&absent(&Name::new("me").unwrap(), &Name::new("b").unwrap(), Proto::V6, at(20)));
        assert_eq!(pairs.all(), vec![]);
    }

    #[test]
    fn what_is_not_of_a_mesh_is_nothing_to_it() {
        let pairs = Pairs::default();
        let tags = [("source", "me"), ("target", "b"), ("probe", "core"), ("kind", "ping"), ("family", "ipv4")];
        let mut row = own("b", 1, 0);
        row.series = Series::new(QOS_METRICS, tags);
        pairs.observe(&row, None);
        pairs.observe(&ping("a", "b", 1, 0.0, None), None);
        assert_eq!((pairs.all(), pairs.unplaced()), (vec![], 0));
    }

    #[test]
    fn there_is_a_bound_and_what_is_old_makes_place() {
        let pairs = Pairs::default();
        for n in 0..MOST_NAMES {
            pairs.observe(&ping("a", &format!("t{n}"), 1, 0.0, None), Some(Proto::V4));
        }
        assert_eq!((pairs.all().len(), pairs.unplaced()), (MOST_NAMES - 1, 1));
        pairs.observe(&ping("a", "late", 200_000, 0.0, None), Some(Proto::V4));
        assert_eq!((pairs.all().len(), pairs.unplaced()), (1, 1));
    }
}
