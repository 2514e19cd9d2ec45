//! What is known of a series: its last row, the values of those before, since when it fails. Pure.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::recent::Recent;
use crate::clock::Timestamp;
use crate::measurement::{FieldType, Fields, Row, Value};
use crate::probe::{ADDRESS, DNS_STALE, ERROR, Outcome, RESULT};

/// How often a series is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From slot to slot.
    pub interval: Duration,
    /// The longest that a run may take, from its slot to its row.
    pub longest: Duration,
}

/// A number of a row. In JSON it is a number: a float has a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Figure {
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
}

impl Figure {
    /// It, if it is a float.
    pub fn float(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Integer(_) => None,
        }
    }
}

/// The names of a row's numbers in their order, shared by all rows that have the same.
type Names = Arc<[(&'static str, FieldType)]>;

/// Layouts that rows share. Bounded: one that is pushed out is made anew for the next row that has it.
#[derive(Debug, Default)]
pub(super) struct Layouts(Vec<Names>);

/// How many layouts are shared at most.
const MOST_LAYOUTS: usize = 32;

impl Layouts {
    fn of(&mut self, fields: &Fields) -> Names {
        if let Some(known) = self.0.iter().find(|names| names.iter().copied().eq(numbers(fields).map(|(field, _)| field))) {
            return Arc::clone(known);
        }
        let names: Names = numbers(fields).map(|(field, _)| field).collect();
        if self.0.len() == MOST_LAYOUTS {
            self.0.remove(0);
        }
        self.0.push(Arc::clone(&names));
        names
    }
}

/// The numbers of a row, each as 64 bits.
fn numbers(fields: &Fields) -> impl Iterator<Item = ((&'static str, FieldType), u64)> {
    fields.iter().filter_map(|(name, value)| match value {
        Value::Float(value) => Some(((name, FieldType::Float), value.to_bits())),
        Value::Integer(value) => Some(((name, FieldType::Integer), value.cast_unsigned())),
        Value::Text(_) => None,
    })
}

/// The last row of a series.
#[derive(Clone, Debug)]
pub struct Last {
    /// The time of its slot.
    pub time: Timestamp,
    /// How its run ended; none if the word is not known.
    pub outcome: Option<Outcome>,
    /// What happened, if it is not ok.
    pub error: Option<Box<str>>,
    texts: Box<[(&'static str, Box<str>)]>,
    names: Names,
    numbers: Box<[u64]>,
}

impl Last {
    fn of(row: &Row, layouts: &mut Layouts) -> Self {
        let told = [RESULT.info().name, ERROR.info().name];
        let other = |(name, value): (&'static str, &Value)| match value {
            Value::Text(text) if !told.contains(&name) => Some((name, text.as_str().into())),
            Value::Text(_) | Value::Float(_) | Value::Integer(_) => None,
        };
        Self {
            time: row.time,
            outcome: outcome(&row.fields),
            error: text(&row.fields, ERROR.info().name).map(Into::into),
            texts: row.fields.iter().filter_map(other).collect(),
            names: layouts.of(&row.fields),
            numbers: numbers(&row.fields).map(|(_, bits)| bits).collect(),
        }
    }

    /// The numbers, in the order of the row.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, Figure)> {
        self.names.iter().zip(&self.numbers).map(|((name, kind), bits)| match kind {
            FieldType::Integer => (*name, Figure::Integer(bits.cast_signed())),
            FieldType::Float | FieldType::Text => (*name, Figure::Float(f64::from_bits(*bits))),
        })
    }

    /// A number, if the row has it.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures().find(|(known, _)| *known == name).map(|(_, figure)| match figure {
            Figure::Float(value) => value,
            Figure::Integer(value) => value as f64,
        })
    }

    /// The texts but result and error, in the order of the row.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.texts.iter().map(|(name, text)| (*name, &**text))
    }

    /// Whether its slot was run.
    fn is_run(&self) -> bool {
        !matches!(self.outcome, None | Some(Outcome::Skipped))
    }

    /// Where the run went.
    pub fn address(&self) -> Option<&str> {
        self.texts().find(|(name, _)| *name == ADDRESS.info().name).map(|(_, address)| address)
    }

    /// Whether the name did not resolve and an old address was used.
    pub fn is_dns_stale(&self) -> bool {
        self.figure(DNS_STALE.info().name) == Some(1.0)
    }
}

/// What is known of a series. A page holds one while the next rows come.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub(super) pace: Option<Pace>,
    last: Option<Last>,
    /// The last row of a slot that was run, if others came after it.
    run: Option<Last>,
    recent: Recent,
    good: Option<Timestamp>,
    failing: Option<Timestamp>,
}

impl Known {
    /// Nothing yet of a series that is measured so often.
    pub(super) fn new(pace: Option<Pace>) -> Self {
        Self { pace, ..Self::default() }
    }

    /// A row was made.
    pub(super) fn observe(&mut self, row: &Row, layouts: &mut Layouts) {
        let last = Last::of(row, layouts);
        self.recent.push(last.outcome, &row.fields);
        if self.is_overtaken(row.time) {
            return self.observe_late(last);
        }
        match last.outcome {
            Some(Outcome::Ok | Outcome::Partial) => (self.good, self.failing) = (Some(row.time), None),
            // A slot that was not run says nothing of the target.
            None | Some(Outcome::Skipped) => {}
            Some(_) => self.failing = self.failing.or(Some(row.time)),
        }
        self.run = if last.is_run() { None } else { self.ran().cloned() };
        self.last = Some(last);
    }

    /// Whether a later slot has its row already, as one that was skipped while a run before it had not ended. Times that are
    /// earlier still are of a clock that was set back.
    fn is_overtaken(&self, time: Timestamp) -> bool {
        let longest = self.pace.map_or(Duration::ZERO, |pace| pace.longest);
        self.last.as_ref().is_some_and(|last| time < last.time && last.time.since(time) <= longest)
    }

    /// A run ended after the row of a later slot was made.
    fn observe_late(&mut self, row: Last) {
        match row.outcome {
            Some(Outcome::Ok | Outcome::Partial) => {
                self.good = self.good.max(Some(row.time));
                self.failing = self.failing.filter(|since| *since > row.time);
            }
            None | Some(Outcome::Skipped) => return,
            Some(_) if self.good.is_none_or(|good| good < row.time) => {
                self.failing = Some(self.failing.map_or(row.time, |since| since.min(row.time)));
            }
            Some(_) => {}
        }
        if self.ran().is_none_or(|ran| ran.time < row.time) {
            self.run = Some(row);
        }
    }

    /// Puts what was before in front of it. What is newer wins.
    pub(super) fn precede(&mut self, older: Self) {
        // Of a failure that began before, the beginning is there.
        self.failing = match (self.good, self.last.is_some()) {
            (Some(_), _) => self.failing,
            (None, true) => older.failing.or(self.failing),
            (None, false) => older.failing,
        };
        self.good = self.good.or(older.good);
        if self.ran().is_none() {
            self.run = if self.last.is_some() { older.ran().cloned() } else { older.run };
        }
        self.last = self.last.take().or(older.last);
        self.recent.precede(older.recent);
    }

    /// How often it is measured, if that is known.
    pub fn pace(&self) -> Option<Pace> {
        self.pace
    }

    /// Its last row.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// The last row of a slot that was run: after a restart, skipped slots stand between it and now.
    pub fn ran(&self) -> Option<&Last> {
        self.last.as_ref().filter(|last| last.is_run()).or(self.run.as_ref())
    }

    /// Its last rows.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The time of the last row whose run got through, at least in part.
    pub fn good(&self) -> Option<Timestamp> {
        self.good
    }

    /// The time of the first row since then whose run did not.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing
    }

    /// The value of the last run that says the most, and of which field it is.
    pub fn value(&self) -> Option<(&'static str, f64)> {
        let main = self.recent.main()?;
        Some((main, self.ran()?.figure(main)?))
    }
}

pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    match fields.get(name)? {
        Value::Text(text) => Some(text),
        Value::Float(_) | Value::Integer(_) => None,
    }
}

fn outcome(fields: &Fields) -> Option<Outcome> {
    let word = text(fields, RESULT.info().name)?;
    Outcome::ALL.into_iter().find(|outcome| outcome.name() == word)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, ok};
    use super::*;

    fn known(rows: &[Row]) -> Known {
        let mut known = Known::default();
        for row in rows {
            known.observe(row, &mut Layouts::default());
        }
        known
    }

    #[test]
    fn the_last_row_keeps_its_numbers_their_types_and_its_texts() {
        let mut row = ok("a", 1, 2.5);
        row.fields.put("ping_sent", Value::Integer(5));
        row.fields.put("address", Value::Text("192.0.2.1".into()));
        let known = known(&[row]);
        let last = known.last().unwrap();
        assert_eq!(last.figures().last(), Some(("ping_sent", Figure::Integer(5))));
        assert_eq!((known.value(), last.address()), (Some(("ping_avg_ms", 2.5)), Some("192.0.2.1")));
        assert_eq!(last.texts().collect::<Vec<_>>(), [("address", "192.0.2.1")]);
    }

    #[test]
    fn a_series_fails_since_the_first_failure_after_the_last_good_row() {
        let rows = [ok("a", 1, 1.0), failed("a", 2, Outcome::Timeout), failed("a", 3, Outcome::Skipped), failed("a", 4, Outcome::Refused)];
        let known = known(&rows);
        assert_eq!((known.good(), known.failing_since()), (Some(at(1)), Some(at(2))));
        assert_eq!(known.value(), None, "what the last run does not have is not shown as its value");
    }

    #[test]
    fn a_run_that_ends_after_a_later_slot_was_skipped_is_not_the_last_row_and_counts_all_the_same() {
        let pace = Pace { interval: Duration::from_secs(10), longest: Duration::from_secs(30) };
        let mut known = Known::new(Some(pace));
        let mut seen = |row: Row| {
            known.observe(&row, &mut Layouts::default());
            (known.last().map(|last| last.time), known.ran().map(|ran| ran.time), known.failing_since(), known.good())
        };
        assert_eq!(seen(ok("a", 10, 1.0)), (Some(at(10)), Some(at(10)), None, Some(at(10))));
        assert_eq!(seen(failed("a", 40, Outcome::Skipped)), (Some(at(40)), Some(at(10)), None, Some(at(10))));
        assert_eq!(seen(failed("a", 20, Outcome::Timeout)), (Some(at(40)), Some(at(20)), Some(at(20)), Some(at(10))));
        assert_eq!(seen(ok("a", 30, 1.0)), (Some(at(40)), Some(at(30)), None, Some(at(30))));
        assert_eq!(seen(failed("a", 25, Outcome::Timeout)), (Some(at(40)), Some(at(30)), None, Some(at(30))));
        // A clock that was set back: what came last holds.
        assert_eq!(seen(ok("a", 5, 1.0)), (Some(at(5)), Some(at(5)), None, Some(at(5))));
    }

    #[test]
    fn slots_that_were_not_run_hide_nothing_of_the_last_run() {
        let skipped = |second| failed("a", second, Outcome::Skipped);
        let now = known(&[ok("a", 1, 1.5), skipped(2), skipped(3)]);
        assert_eq!((now.last().unwrap().time, now.ran().unwrap().time, now.value()), (at(3), at(1), Some(("ping_avg_ms", 1.5))));

        // What was before a restart is recalled in pieces, the newest first.
        let mut now = known(&[skipped(9)]);
        for piece in [[skipped(7), skipped(8)], [failed("a", 5, Outcome::Timeout), skipped(6)], [ok("a", 3, 1.0), ok("a", 4, 1.0)]] {
            now.precede(known(&piece));
        }
        assert_eq!((now.last().unwrap().time, now.ran().unwrap().time, now.failing_since()), (at(9), at(5), Some(at(5))));
    }

    #[test]
    fn what_was_before_a_restart_goes_in_front() {
        let older = known(&[ok("a", 1, 1.0), failed("a", 2, Outcome::Timeout)]);
        let mut now = known(&[failed("a", 3, Outcome::Timeout)]);
        now.precede(older.clone());
        assert_eq!((now.last().unwrap().time, now.good(), now.failing_since()), (at(3), Some(at(1)), Some(at(2))));

        let mut again = known(&[failed("a", 3, Outcome::Timeout), ok("a", 4, 2.0)]);
        again.precede(older.clone());
        assert_eq!((again.good(), again.failing_since()), (Some(at(4)), None));
        assert_eq!(again.recent().values(), [Some(1.0), None, None, Some(2.0)]);

        let mut nothing = Known::default();
        nothing.precede(older);
        assert_eq!((nothing.last().unwrap().time, nothing.failing_since()), (at(2), Some(at(2))));
    }

    #[test]
    fn rows_with_the_same_fields_share_their_names() {
        let mut layouts = Layouts::default();
        let mut names = |row: &Row| Last::of(row, &mut layouts).names;
        let (one, other) = (names(&ok("a", 1, 1.0)), names(&ok("b", 2, 2.0)));
        assert!(Arc::ptr_eq(&one, &other));
    }
}
