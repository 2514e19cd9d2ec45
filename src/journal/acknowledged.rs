//! What an output has acknowledged: everything up to a floor, and at most 64 ranges above it. Pure.
//!
//! The ranges let live rows be delivered while a backlog is still on its way. Forgetting a range is harmless, the rows are
//! sent once more; inventing one would lose rows, so bytes that do not read back exactly are refused.

use super::Position;
use super::encoding::{put_varint, take_varint};

/// The most ranges that are kept above the floor.
const MOST_RANGES: usize = 64;

/// First byte of the encoding.
const VERSION: u8 = 1;

/// Everything up to the floor, and some ranges above.
///
/// The ranges are sorted, disjoint, never adjacent to each other or to the floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    floor: Position,
    ranges: Vec<(Position, Position)>,
}

impl Acknowledged {
    /// Everything up to `floor`, nothing above.
    pub fn starting_at(floor: Position) -> Self {
        Self { floor, ranges: Vec::new() }
    }

    /// Everything up to here is acknowledged; zero = nothing.
    pub fn floor(&self) -> Position {
        self.floor
    }

    /// The ranges above the floor, both ends included, in order.
    pub fn ranges(&self) -> &[(Position, Position)] {
        &self.ranges
    }

    /// Whether this position is acknowledged.
    pub fn contains(&self, position: Position) -> bool {
        let behind = self.ranges.partition_point(|&(_, to)| to < position);
        position <= self.floor || self.ranges.get(behind).is_some_and(|&(from, _)| from <= position)
    }

    /// Whether a further range that touches none can not be kept.
    pub fn is_full(&self) -> bool {
        self.ranges.len() >= MOST_RANGES
    }

    /// Acknowledges `from` to `to`, both included. A range that touches no other is forgotten when there are 64 already.
    pub fn add(&mut self, from: Position, to: Position) {
        if from > to {
            return;
        }
        if from <= next(self.floor) {
            return self.raise(to);
        }
        let first = self.ranges.partition_point(|&(_, end)| next(end) < from);
        let behind = self.ranges.partition_point(|&(start, _)| start <= next(to));
        if first < behind {
            let merged = (from.min(self.ranges[first].0), to.max(self.ranges[behind - 1].1));
            self.ranges.splice(first..behind, [merged]);
        } else if !self.is_full() {
            self.ranges.insert(first, (from, to));
        }
    }

    /// Acknowledges everything up to `floor`: rows that retention dropped, or that nobody wants any more.
    pub fn raise(&mut self, floor: Position) {
        self.floor = self.floor.max(floor);
        let mut swallowed = 0;
        for &(from, to) in &self.ranges {
            if from > next(self.floor) {
                break;
            }
            self.floor = self.floor.max(to);
            swallowed += 1;
        }
        self.ranges.drain(..swallowed);
    }

    /// The first position after `after` that is not acknowledged.
    pub fn next_unacknowledged(&self, after: Position) -> Position {
        let candidate = next(after.max(self.floor));
        let behind = self.ranges.partition_point(|&(_, to)| to < candidate);
        match self.ranges.get(behind) {
            Some(&(from, to)) if from <= candidate => next(to),
            _ => candidate,
        }
    }

    /// As bytes: a version, the floor, and for each range its distance from the end before and its length, as varints.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_varint(&mut bytes, self.floor.0);
        let mut end = self.floor.0;
        for &(from, to) in &self.ranges {
            put_varint(&mut bytes, from.0 - end);
            put_varint(&mut bytes, to.0 - from.0);
            end = to.0;
        }
        bytes
    }

    /// Reads what [`Acknowledged::to_bytes`] wrote, and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if version != VERSION {
            return None;
        }
        let mut read = Self::starting_at(Position(take_varint(&mut rest)?));
        let mut end = read.floor.0;
        while !rest.is_empty() {
            let from = end.checked_add(take_varint(&mut rest)?)?;
            end = from.checked_add(take_varint(&mut rest)?)?;
            read.add(Position(from), Position(end));
        }
        (read.to_bytes() == bytes).then_some(read)
    }
}

fn next(position: Position) -> Position {
    Position(position.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn p(position: u64) -> Position {
        Position(position)
    }

    fn of(floor: u64, ranges: &[(u64, u64)]) -> Acknowledged {
        let mut acknowledged = Acknowledged::starting_at(p(floor));
        for &(from, to) in ranges {
            acknowledged.add(p(from), p(to));
        }
        acknowledged
    }

    #[test]
    fn a_contiguous_range_raises_the_floor_and_swallows_what_it_reaches() {
        let mut acknowledged = of(0, &[(3, 4), (6, 9)]);
        acknowledged.add(p(1), p(2));
        assert_eq!(acknowledged, of(4, &[(6, 9)]));
        acknowledged.add(p(5), p(5));
        assert_eq!(acknowledged, Acknowledged::starting_at(p(9)));
    }

    #[test]
    fn touching_ranges_become_one() {
        assert_eq!(of(0, &[(5, 6), (7, 8)]).ranges(), [(p(5), p(8))]);
        assert_eq!(of(0, &[(5, 6), (10, 12), (6, 11)]).ranges(), [(p(5), p(12))]);
        assert_eq!(of(0, &[(9, 2)]).ranges(), []);
    }

    #[test]
    fn a_full_set_forgets_a_further_range_but_still_merges() {
        let mut full = of(0, &(1..=64).map(|k| (10 * k, 10 * k)).collect::<Vec<_>>());
        assert!(full.is_full());
        full.add(p(1005), p(1005));
        assert!(!full.contains(p(1005)));
        full.add(p(11), p(19));
        assert_eq!(full.ranges().len(), 63);
        full.add(p(1), p(9));
        assert_eq!(full.floor(), p(20));
    }

    #[test]
    fn the_last_position_there_is_does_not_overflow() {
        let mut acknowledged = of(0, &[(u64::MAX - 1, u64::MAX)]);
        assert_eq!(acknowledged.next_unacknowledged(p(u64::MAX)), p(u64::MAX));
        acknowledged.raise(p(u64::MAX));
        assert_eq!(Acknowledged::from_bytes(&acknowledged.to_bytes()), Some(acknowledged));
    }

    #[test]
    fn rubbish_is_refused() {
        for bytes in [&[][..], &[0, 1], &[1], &[1, 5, 0, 0], &[1, 5, 1, 0], &[1, 5, 3], &[1, 0x80]] {
            assert_eq!(Acknowledged::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        Add(u64, u64),
        Raise(u64),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            8 => (1..120u64, 0..9u64).prop_map(|(from, more)| Action::Add(from, from + more)),
            1 => (0..60u64).prop_map(Action::Raise),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_positions(actions in prop::collection::vec(action(), 0..60)) {
            let mut acknowledged = Acknowledged::default();
            let mut model = BTreeSet::new();
            for action in actions {
                match action {
                    Action::Add(from, to) => {
                        acknowledged.add(p(from), p(to));
                        model.extend(from..=to);
                    }
                    Action::Raise(floor) => {
                        acknowledged.raise(p(floor));
                        model.extend(1..=floor);
                    }
                }
            }
            for position in 1..140 {
                prop_assert_eq!(acknowledged.contains(p(position)), model.contains(&position));
                let next = (position + 1..200).find(|next| !model.contains(next));
                prop_assert_eq!(Some(acknowledged.next_unacknowledged(p(position)).0), next);
            }
            prop_assert_eq!(acknowledged.floor().0 + 1, (1..200).find(|next| !model.contains(next)).unwrap());
            prop_assert!(acknowledged.ranges().windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0));
            prop_assert_eq!(Acknowledged::from_bytes(&acknowledged.to_bytes()), Some(acknowledged));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Acknowledged::from_bytes(&bytes);
        }
    }
}
