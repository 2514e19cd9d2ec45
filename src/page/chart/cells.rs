//! Where each column of a range stands on the axis of time, and which of them touch: a hole in the data parts what is drawn.

use super::axis::seconds;
use crate::history::range::{Column, Range};
use crate::probe::Says;

/// A column in its place, in seconds since the begin of the span.
pub(super) struct Cell<'a> {
    /// Its left edge.
    pub(super) from: f64,
    /// Its right edge: that of the next one, if there is no hole between.
    pub(super) to: f64,
    /// Whether there is a hole before it.
    pub(super) apart: bool,
    /// What it is made of.
    pub(super) column: &'a Column,
}

/// The columns in their places, each at least so many seconds wide, so that it can be seen.
pub(super) fn cells(range: &Range, least: f64) -> Vec<Cell<'_>> {
    let length = seconds(range.span.from, range.span.to).max(0.0);
    let step = range.step.as_secs_f64();
    let mut cells: Vec<Cell<'_>> = Vec::with_capacity(range.columns.len());
    for (index, column) in range.columns.iter().enumerate() {
        let start = seconds(range.span.from, column.start);
        let next = range.columns.get(index + 1).map(|next| seconds(range.span.from, next.start)).filter(|next| *next - start <= 1.5 * step);
        let end = next.unwrap_or(start + column.width.as_secs_f64().max(step)).max(start + least);
        let left = cells.last().map_or(0.0, |last| last.to);
        let to = end.clamp(0.0, length).max(left);
        // One that lies on the right edge is still to be seen.
        let from = start.clamp(0.0, length).min(to - least).max(left);
        let apart = index == 0 || is_hole(range, index);
        cells.push(Cell { from, to, apart, column });
    }
    cells
}

/// Whether a column is too far from the one before.
pub(super) fn is_hole(range: &Range, index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| range.columns.get(before));
    let pair = before.zip(range.columns.get(index));
    pair.is_some_and(|(before, column)| seconds(before.start, column.start) > 1.5 * range.step.as_secs_f64())
}

/// What is drawn in one go: cells that touch, each with what was picked of it.
pub(super) type Piece<T> = Vec<(f64, f64, T)>;

/// The pieces that a range falls into: a hole, or a column of which nothing is picked, parts them.
pub(super) fn pieces<T>(cells: &[Cell<'_>], pick: impl Fn(&Column) -> Option<T>) -> Vec<Piece<T>> {
    let mut pieces: Vec<Piece<T>> = Vec::new();
    let mut going_on = false;
    for cell in cells {
        let picked = pick(cell.column);
        going_on &= !cell.apart;
        let Some(picked) = picked else {
            going_on = false;
            continue;
        };
        match pieces.last_mut().filter(|_| going_on) {
            Some(piece) => piece.push((cell.from, cell.to, picked)),
            None => pieces.push(vec![(cell.from, cell.to, picked)]),
        }
        going_on = true;
    }
    pieces
}

/// A step for each cell of a piece.
pub(super) fn steps<T>(piece: &[(f64, f64, T)], height: impl Fn(&T) -> f64) -> Vec<(f64, f64)> {
    piece.iter().flat_map(|(from, to, picked)| [(*from, height(picked)), (*to, height(picked))]).collect()
}

/// Cells that touch and of which the same is to be told, as one: where it begins, where it ends, what.
pub(super) fn stretches<T: PartialEq>(cells: &[Cell<'_>], pick: impl Fn(&Column) -> Option<T>) -> Piece<T> {
    let mut stretches = Vec::new();
    for piece in pieces(cells, pick) {
        let mut joined: Piece<T> = Vec::new();
        for (from, to, what) in piece {
            match joined.last_mut().filter(|(_, _, before)| *before == what) {
                Some((_, end, _)) => *end = to,
                None => joined.push((from, to, what)),
            }
        }
        stretches.append(&mut joined);
    }
    stretches
}

/// How many rows of a column say so.
pub(super) fn count(column: &Column, what: Says) -> u32 {
    column.outcomes.iter().filter(|(outcome, _)| outcome.says() == what).fold(0, |sum, (_, rows)| sum.saturating_add(*rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::chart::testing::{column, range};

    #[test]
    fn a_hole_and_a_column_without_a_value_part_the_pieces() {
        let columns = vec![column(0, &[1.0]), column(60, &[2.0]), column(120, &[]), column(180, &[3.0]), column(400, &[4.0])];
        let range = range(600, 60, columns);
        let cells = cells(&range, 0.0);
        let found = pieces(&cells, |column| column.figure("ping_avg_ms").map(|spread| spread.median));
        assert_eq!(found, [vec![(0.0, 60.0, 1.0), (60.0, 120.0, 2.0)], vec![(180.0, 240.0, 3.0)], vec![(400.0, 460.0, 4.0)]]);
    }

    #[test]
    fn slots_that_are_a_little_late_touch() {
        let range = range(600, 60, vec![column(0, &[1.0]), column(61, &[2.0]), column(150, &[3.0]), column(241, &[4.0])]);
        let found: Vec<_> = cells(&range, 0.0).iter().map(|cell| (cell.from, cell.to, cell.apart)).collect();
        assert_eq!(found, [(0.0, 61.0, true), (61.0, 150.0, false), (150.0, 210.0, false), (241.0, 301.0, true)]);
    }

    #[test]
    fn the_same_side_by_side_is_one_stretch() {
        let range = range(600, 60, vec![column(0, &[1.0]), column(60, &[1.0]), column(120, &[2.0]), column(400, &[2.0])]);
        let cells = cells(&range, 0.0);
        let found = stretches(&cells, |column| column.figure("ping_avg_ms").map(|spread| spread.median > 1.5));
        assert_eq!(found, [(0.0, 120.0, false), (120.0, 180.0, true), (400.0, 460.0, true)]);
    }

    #[test]
    fn a_column_is_wide_enough_to_be_seen_wherever_it_is() {
        let range = range(86_400, 1, vec![column(0, &[1.0]), column(500, &[1.0]), column(86_399, &[1.0])]);
        for cell in cells(&range, 100.0) {
            assert!(cell.to - cell.from >= 99.9 && cell.from >= 0.0 && cell.to <= 86_400.0);
        }
    }
}
