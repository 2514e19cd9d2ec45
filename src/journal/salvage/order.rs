//! Which rows have a position that can be believed. No checksum covers it, but rows lie in its order: one that does not fit
//! between those beside it was altered, and may be where every output believes to have it.

use super::super::reader::Raw;

/// Rows in the order in which they lie, each held back until the next is known.
pub(super) struct Order {
    descending: bool,
    /// Where the last row is that fits.
    last: Option<i64>,
    held: Option<Raw>,
}

/// A row, and whether its position can be believed.
pub(super) type Judged = (Raw, bool);

impl Order {
    /// Nothing was read yet.
    pub(super) fn new(descending: bool) -> Self {
        Self { descending, last: None, held: None }
    }

    /// Takes the next row. Gives those that can be judged now.
    pub(super) fn next(&mut self, row: Raw) -> [Option<Judged>; 2] {
        let Some(held) = self.held.take() else {
            self.held = Some(row);
            return [None, None];
        };
        if self.follows(row.position, held.position) {
            self.last = Some(held.position);
            self.held = Some(row);
            return [Some((held, true)), None];
        }
        if self.last.is_some_and(|last| !self.follows(row.position, last)) {
            self.held = Some(held);
            return [Some((row, false)), None];
        }
        // One of the two, and nothing tells which: a row that comes twice is better than one that never comes.
        [Some((held, false)), Some((row, false))]
    }

    /// The row that is held back: nothing follows, or nothing that can be read.
    pub(super) fn end(self) -> Option<Judged> {
        self.held.map(|held| (held, true))
    }

    /// Where the last row is that fits so far.
    pub(super) fn reached(&self) -> Option<i64> {
        self.held.as_ref().map(|held| held.position).or(self.last)
    }

    fn follows(&self, position: i64, other: i64) -> bool {
        if self.descending { position < other } else { position > other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positions that are believed, of these.
    fn believed(positions: &[i64], descending: bool) -> Vec<i64> {
        let mut order = Order::new(descending);
        let mut judged: Vec<Judged> = Vec::new();
        for position in positions {
            judged.extend(order.next(Raw { position: *position, parts: None }).into_iter().flatten());
        }
        judged.extend(order.end());
        assert_eq!(judged.len(), positions.len(), "each row is judged once");
        judged.into_iter().filter(|(_, believed)| *believed).map(|(row, _)| row.position).collect()
    }

    #[test]
    fn a_position_that_does_not_fit_between_those_beside_it_is_not_believed() {
        for (positions, wanted) in [
            (&[][..], &[][..]),
            (&[7], &[7]),
            (&[21, 22, 23, 30], &[21, 22, 23, 30]),
            // Too low.
            (&[21, 22, 3, 24, 25], &[21, 22, 24, 25]),
            (&[21, 22, 23, 24, 5], &[21, 22, 23, 24]),
            // Too high: it may also be that the next is too low.
            (&[21, 22, 99, 24, 25], &[21, 22, 25]),
            (&[99, 22, 23], &[23]),
            (&[21, 3, 23], &[23]),
            (&[21, 22, 22, 24], &[21, 24]),
        ] {
            assert_eq!(believed(positions, false), wanted, "{positions:?}");
            let negative = |positions: &[i64]| positions.iter().map(|position| -position).collect::<Vec<_>>();
            assert_eq!(believed(&negative(positions), true), negative(wanted), "{positions:?} downwards");
        }
    }
}
