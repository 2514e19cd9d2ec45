//! What an output has acknowledged: everything up to a floor, and at most 64 ranges above it. Pure.
//!
//! The ranges let live rows be delivered while a backlog is still on its way. Forgetting a range is harmless, the rows are
//! sent once more; inventing one would lose rows, so bytes that do not read back exactly are refused.

use super::Position;

/// The most ranges that are kept above the floor.
const MOST_RANGES: usize = 64;

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
}

fn next(position: Position) -> Position {
    Position(position.0.saturating_add(1))
}
