//! Two hours of a series: buckets of 5 minutes, what was so from when until when, and where the rows stand. Pure.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::range::Span;
use super::sample::Sample;
use super::track::Track;
use crate::clock::Timestamp;
use crate::journal::Position;
use crate::probe::Outcome;

/// A bucket, in nanoseconds: 5 minutes.
pub(super) const BUCKET: i64 = 300_000_000_000;
/// A piece, in nanoseconds.
pub(super) const PIECE: i64 = 24 * BUCKET;
/// The most steps of the clock that are kept.
const STEPS: usize = 8;
/// The most addresses and reasons, and how long each may be.
const WORDS: (usize, usize) = (32, 64);

/// What the rows of 5 minutes, or of any other time, come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    /// How many rows ended how, by their codes.
    pub(super) outcomes: Vec<(Outcome, u32)>,
    /// In how many rows a throughput test of ours overlapped the run.
    pub(super) loaded: u32,
    /// By the place of each field, in order.
    pub(super) digests: Vec<(u8, Digest)>,
}

/// The buckets of two hours, aligned to the epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// By their number in the piece.
    pub(super) buckets: BTreeMap<u8, Bucket>,
    /// How runs ended: the code, and 256 times the number of the reason for which a slot was skipped.
    pub(super) states: Track,
    /// Who answered, by the number of the word.
    pub(super) addresses: Track,
    /// When the wall clock was stepped, in milliseconds from the start, and by how many.
    pub(super) steps: Vec<(u32, f32)>,
    /// Addresses and reasons; the first has the number 1.
    pub(super) words: Vec<String>,
}

/// Where the rows of each bucket stand in the journal, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Places(pub(super) BTreeMap<u8, Vec<Position>>);

/// In which piece a time is; none for times that no clock shows.
pub(super) fn piece_of(time: Timestamp) -> Option<i64> {
    (time.nanos() >= 0).then_some(time.nanos() / PIECE)
}

/// Where a piece begins.
pub(super) fn start_of(piece: i64) -> Timestamp {
    Timestamp::from_nanos(piece.saturating_mul(PIECE))
}

/// Where a bucket of a piece begins.
pub(super) fn bucket_start(piece: i64, bucket: u8) -> Timestamp {
    Timestamp::from_nanos(piece.saturating_mul(PIECE).saturating_add(i64::from(bucket) * BUCKET))
}

/// Whether a bucket of a piece has a part in a span.
pub(super) fn is_in(span: Span, piece: i64, bucket: u8) -> bool {
    let start = bucket_start(piece, bucket);
    start < span.to && start.nanos().saturating_add(BUCKET) > span.from.nanos()
}

impl Bucket {
    /// Of a single row.
    pub(super) fn one(sample: &Sample) -> Self {
        Self {
            outcomes: vec![(sample.outcome, 1)],
            loaded: u32::from(sample.loaded),
            digests: sample.figures.iter().map(|(field, spread)| (*field, Digest::one(spread))).collect(),
        }
    }

    /// Of all rows of some.
    pub(super) fn merged(parts: &[&Self]) -> Self {
        let mut outcomes: BTreeMap<Outcome, u32> = BTreeMap::new();
        let mut digests: BTreeMap<u8, Vec<&Digest>> = BTreeMap::new();
        for part in parts {
            part.outcomes.iter().for_each(|(outcome, rows)| *outcomes.entry(*outcome).or_default() += rows);
            part.digests.iter().for_each(|(field, digest)| digests.entry(*field).or_default().push(digest));
        }
        Self {
            outcomes: outcomes.into_iter().collect(),
            loaded: parts.iter().map(|part| part.loaded).sum(),
            digests: digests.into_iter().filter_map(|(field, parts)| Some((field, Digest::merged(parts)?))).collect(),
        }
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> u64 {
        self.outcomes.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }
}

impl Piece {
    /// Adds rows that are of this piece, of which none was added before.
    pub(super) fn add(&mut self, rows: &[Sample]) {
        let mut new: BTreeMap<u8, Vec<Bucket>> = BTreeMap::new();
        for row in rows {
            new.entry(place(row.time).0).or_default().push(Bucket::one(row));
            self.follow(row);
        }
        for (number, rows) in new {
            let bucket = self.buckets.entry(number).or_default();
            let parts: Vec<&Bucket> = std::iter::once(&*bucket).chain(&rows).collect();
            *bucket = Bucket::merged(&parts);
        }
    }

    /// A word by its number.
    pub(super) fn word(&self, number: u16) -> Option<&str> {
        self.words.get(usize::from(number).checked_sub(1)?).map(String::as_str)
    }

    fn follow(&mut self, row: &Sample) {
        let at = place(row.time).1;
        let reason = row.skipped.as_deref().map_or(0, |reason| self.number(reason));
        // That some packets were lost is no other state: the target is there.
        let outcome = if row.outcome == Outcome::Partial { Outcome::Ok } else { row.outcome };
        self.states.add(at, outcome.code() as u16 | reason << 8);
        if let Some(address) = &row.address {
            let number = self.number(address);
            self.addresses.add(at, number);
        }
        if let Some(step) = row.clock_step {
            // Rows tell it for an interval.
            let known = self.steps.iter().any(|(_, known)| known.to_bits() == step.to_bits());
            if !known && self.steps.len() < STEPS {
                self.steps.push((at, step));
            }
        }
    }

    /// The number of a word; 0 if there are too many.
    fn number(&mut self, word: &str) -> u16 {
        let word: String = word.chars().take(WORDS.1).collect();
        let known = self.words.iter().position(|known| *known == word);
        match known {
            Some(known) => known as u16 + 1,
            None if self.words.len() < WORDS.0 => {
                self.words.push(word);
                self.words.len() as u16
            }
            None => 0,
        }
    }
}

impl Places {
    /// Adds rows, which come in order.
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = (Timestamp, Position)>) {
        for (time, position) in rows {
            self.0.entry(place(time).0).or_default().push(position);
        }
    }
}

/// The bucket of a time in its piece, and its milliseconds from the start of the piece.
fn place(time: Timestamp) -> (u8, u32) {
    let within = time.nanos().rem_euclid(PIECE);
    ((within / BUCKET) as u8, (within / 1_000_000) as u32)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::range::Spread;

    /// A row of a series, of any kind.
    pub(crate) fn sample() -> impl Strategy<Value = Sample> {
        let value = (1..4000_u32).prop_map(|value| f64::from(value) / 8.0);
        let figures = prop::collection::btree_map(0..17_u8, value, 0..6);
        let address = prop::option::of("[a-c]");
        (0..PIECE, 0..19_usize, any::<bool>(), figures, address, any::<bool>()).prop_map(
            |(time, code, loaded, figures, address, stepped)| {
                let outcome = Outcome::ALL[code];
                let alone = |value| Spread { min: value, low: value, median: value, high: value, max: value, mean: value, rows: 1 };
                Sample {
                    time: Timestamp::from_nanos(time + 1000 * PIECE),
                    outcome,
                    loaded,
                    figures: figures.into_iter().map(|(field, value)| (field, alone(value))).collect(),
                    address,
                    skipped: (outcome == Outcome::Skipped).then(|| "restart".to_owned()),
                    clock_step: stepped.then_some(1500.5),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn rows_come_to_the_same_in_any_batches(rows in prop::collection::vec(sample(), 1..100), cut in 0..100_usize) {
            // At most five rows a bucket: of more, batches are told apart by what their marks stand for.
            let mut room: BTreeMap<u8, usize> = BTreeMap::new();
            let rows: Vec<_> = rows.into_iter().filter(|row| {
                let rows = room.entry(place(row.time).0).or_default();
                *rows += 1;
                *rows <= 5
            }).collect();
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let (mut whole, mut parts) = (Piece::default(), Piece::default());
            whole.add(&rows);
            parts.add(first);
            parts.add(second);
            prop_assert_eq!(whole.words, parts.words);
            prop_assert_eq!(whole.states, parts.states);
            for (whole, parts) in whole.buckets.values().zip(parts.buckets.values()) {
                prop_assert_eq!(&whole.outcomes, &parts.outcomes);
                for ((_, whole), (_, parts)) in whole.digests.iter().zip(&parts.digests) {
                    prop_assert_eq!(whole.marks(), parts.marks());
                    prop_assert!((whole.mean - parts.mean).abs() < 1e-9);
                }
            }
        }
    }
}
