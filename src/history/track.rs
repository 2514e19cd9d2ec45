//! What was so from when until when: the states of a series, or the addresses that answered. Pure.

/// The most runs of a track. A target that flaps more often than that within a piece is told to flap, if not how often.
const MOST: usize = 64;

/// From its first row until its last, a value was the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// When the first row was, in milliseconds from the start of the piece.
    pub(super) from: u32,
    /// When the last row was.
    pub(super) until: u32,
    /// What was so.
    pub(super) value: u16,
}

/// Runs in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Track(Vec<Run>);

impl Track {
    /// As it was taken apart.
    pub(super) fn new(runs: Vec<Run>) -> Self {
        Self(runs)
    }

    /// The runs, in order of time.
    pub(super) fn runs(&self) -> &[Run] {
        &self.0
    }

    /// A row says what was so at this time. They come in order, but for some that are late.
    pub(super) fn add(&mut self, at: u32, value: u16) {
        let runs = &mut self.0;
        let next = runs.partition_point(|run| run.from <= at);
        let joins_next = runs.get(next).is_some_and(|run| run.value == value);
        match next.checked_sub(1).map(|last| runs[last]) {
            Some(last) if last.value == value => runs[next - 1].until = last.until.max(at),
            Some(last) if at < last.until && runs.len() + 2 <= MOST => {
                // It was not so all the time: what is behind began to be so at its last row, for all that is known.
                runs[next - 1].until = at.saturating_sub(1).max(last.from);
                runs.insert(next, Run { from: last.until, until: last.until, value: last.value });
                runs.insert(next, Run { from: at, until: at, value });
            }
            Some(last) if at < last.until => {}
            _ if joins_next => runs[next].from = at,
            _ if runs.len() < MOST => runs.insert(next, Run { from: at, until: at, value }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(rows: &[(u32, u16)]) -> Vec<(u32, u32, u16)> {
        let mut track = Track::default();
        for (at, value) in rows {
            track.add(*at, *value);
        }
        track.runs().iter().map(|run| (run.from, run.until, run.value)).collect()
    }

    #[test]
    fn rows_that_say_the_same_are_one_run() {
        assert_eq!(runs(&[(1, 7), (2, 7), (3, 8), (4, 8), (5, 7)]), [(1, 2, 7), (3, 4, 8), (5, 5, 7)]);
    }

    #[test]
    fn a_late_row_finds_its_place() {
        for (late, expected) in [
            ((3, 7), vec![(2, 6, 7), (8, 9, 8)]),
            ((7, 7), vec![(2, 7, 7), (8, 9, 8)]),
            ((7, 8), vec![(2, 6, 7), (7, 9, 8)]),
            ((1, 9), vec![(1, 1, 9), (2, 6, 7), (8, 9, 8)]),
            ((1, 7), vec![(1, 6, 7), (8, 9, 8)]),
            ((4, 9), vec![(2, 3, 7), (4, 4, 9), (6, 6, 7), (8, 9, 8)]),
        ] {
            assert_eq!(runs(&[(2, 7), (6, 7), (8, 8), (9, 8), late]), expected, "{late:?}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_in_order_and_bounded(rows in prop::collection::vec((0..5000_u32, 0..4_u16), 0..300)) {
            let runs = runs(&rows);
            prop_assert!(runs.len() <= MOST);
            prop_assert!(runs.iter().all(|(from, until, _)| from <= until));
            prop_assert!(runs.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].0));
        }
    }
}
