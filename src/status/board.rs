//! The board: what is known of every series that is scheduled. The writer puts each row on it; pages read it.
//!
//! Whoever reads gets values that are shared, not copied, and holds nobody up while looking at them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::known::{Figure, Known, Last, Layouts, Pace, text};
use crate::clock::Timestamp;
use crate::measurement::{QOS_METRICS, Row, Series};
use crate::probe::{Assignment, ERROR, Outcome, RESULT, Skip};

/// What is known of every series that is scheduled. Clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    series: BTreeMap<Series, Arc<Known>>,
    layouts: Layouts,
    /// Skipped rows by reason.
    skipped: BTreeMap<&'static str, u64>,
}

impl Board {
    /// What is scheduled, and how often; other series are forgotten.
    pub fn assign<'a>(&self, assignments: impl IntoIterator<Item = &'a Assignment>) {
        let pace = |of: &Assignment| Pace { interval: of.schedule.interval(), longest: of.offset.saturating_add(of.longest) };
        self.replace(assignments.into_iter().map(|assignment| (&assignment.series, Some(pace(assignment)))));
    }

    /// The series that are scheduled, without a word of how often; others are forgotten.
    pub fn schedule<'a>(&self, series: impl IntoIterator<Item = &'a Series>) {
        self.replace(series.into_iter().map(|series| (series, None)));
    }

    fn replace<'a>(&self, series: impl Iterator<Item = (&'a Series, Option<Pace>)>) {
        let mut board = self.lock();
        let mut before = std::mem::take(&mut board.series);
        let kept = |(series, pace): (&Series, Option<Pace>)| {
            let known = match before.remove(series) {
                Some(mut known) => {
                    if known.pace != pace {
                        Arc::make_mut(&mut known).pace = pace;
                    }
                    known
                }
                None => Arc::new(Known::new(pace)),
            };
            (series.clone(), known)
        };
        board.series = series.map(kept).collect();
    }

    /// A row was made.
    pub fn observe(&self, row: &Row) {
        if row.series.measurement() != QOS_METRICS {
            return;
        }
        let mut board = self.lock();
        let Seen { series, layouts, skipped } = &mut *board;
        if let Some(reason) = skipped_because(row) {
            *skipped.entry(reason.name()).or_default() += 1;
        }
        if let Some(known) = series.get_mut(&row.series) {
            // Copied only while a page looks at it.
            Arc::make_mut(known).observe(row, layouts);
        }
    }

    /// Rows of before, oldest first: older than all that was ever put on the board.
    pub fn recall<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) {
        let (mut older, mut layouts) = (BTreeMap::<&Series, Known>::new(), Layouts::default());
        for row in rows.into_iter().filter(|row| row.series.measurement() == QOS_METRICS) {
            older.entry(&row.series).or_default().observe(row, &mut layouts);
        }
        let mut board = self.lock();
        for (series, older) in older {
            if let Some(known) = board.series.get_mut(series) {
                Arc::make_mut(known).precede(older);
            }
        }
    }

    /// Whether rows of before would add anything.
    pub fn has_room(&self) -> bool {
        self.lock().series.values().any(|known| !known.recent().is_full())
    }

    /// Skipped rows by reason.
    pub fn skipped(&self) -> BTreeMap<&'static str, u64> {
        self.lock().skipped.clone()
    }

    /// The series that are scheduled.
    pub fn scheduled(&self) -> Vec<Series> {
        self.lock().series.keys().cloned().collect()
    }

    /// What is known of every series, as it is at this moment.
    pub fn all(&self) -> Vec<(Series, Arc<Known>)> {
        self.lock().series.iter().map(|(series, known)| (series.clone(), Arc::clone(known))).collect()
    }

    /// What is known of one; none if it is not scheduled.
    pub fn of(&self, series: &Series) -> Option<Arc<Known>> {
        self.lock().series.get(series).map(Arc::clone)
    }

    /// What is known of every series, in the form of the status.
    pub fn series(&self, now: Timestamp) -> Vec<SeriesStatus> {
        self.all().iter().map(|(series, known)| SeriesStatus::of(series, known, now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the slot of a row was skipped, if it was.
fn skipped_because(row: &Row) -> Option<Skip> {
    let is_skipped = text(&row.fields, RESULT.info().name) == Some(Outcome::Skipped.name());
    let reason = text(&row.fields, ERROR.info().name).filter(|_| is_skipped)?;
    Skip::ALL.into_iter().find(|skip| skip.name() == reason)
}

/// One series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeriesStatus {
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The time of its last row.
    pub time: Option<String>,
    /// How old that is.
    pub age_s: Option<f64>,
    /// How its last row says that its run ended: `skipped` if there was none.
    pub result: Option<String>,
    /// What happened, if it is not ok.
    pub error: Option<String>,
    /// The numbers of its last row: the floats in their order, then the whole numbers in theirs.
    pub figures: Vec<(String, Figure)>,
    /// Its last run, if slots were skipped after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,
}

/// A run before the last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The time of its row.
    pub time: String,
    /// How it ended.
    pub result: String,
}

impl SeriesStatus {
    fn of(series: &Series, known: &Known, now: Timestamp) -> Self {
        let last = known.last();
        let earlier = known.ran().filter(|ran| last.is_some_and(|last| last.time != ran.time));
        let last_run = |ran: &Last| Some(RunStatus { time: ran.time.to_string(), result: ran.outcome?.name().to_owned() });
        let mut figures: Vec<_> =
            last.map(|last| last.figures().map(|(name, figure)| (name.to_owned(), figure)).collect()).unwrap_or_default();
        figures.sort_by_key(|(_, figure)| matches!(figure, Figure::Integer(_)));
        Self {
            tags: series.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            time: last.map(|last| last.time.to_string()),
            age_s: last.map(|last| now.since(last.time).as_secs_f64()),
            result: last.and_then(|last| Some(last.outcome?.name().to_owned())),
            error: last.and_then(|last| last.error.as_deref().map(str::to_owned)),
            figures,
            last_run: earlier.and_then(last_run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, ok, series};
    use super::*;
    use crate::measurement::Value;

    fn board(targets: &[&str]) -> Board {
        let board = Board::default();
        board.schedule(&targets.iter().map(|target| series(target)).collect::<Vec<_>>());
        board
    }

    #[test]
    fn the_status_of_a_series_has_the_numbers_of_its_last_row_floats_first() {
        let board = board(&["a", "b"]);
        let mut row = ok("a", 100, 1.5);
        row.fields.put("ping_sent", Value::Integer(5));
        row.fields.put("ping_packet_loss_pct", Value::Float(0.0));
        board.observe(&row);
        let status = serde_json::to_value(board.series(at(130))).unwrap();
        let figures = &status[0]["figures"];
        let floats = serde_json::json!([["ping_avg_ms", 1.5], ["ping_packet_loss_pct", 0.0]]);
        assert_eq!(figures.as_array().unwrap()[..2], floats.as_array().unwrap()[..]);
        assert_eq!(figures.as_array().unwrap().last(), Some(&serde_json::json!(["ping_sent", 5])));
        let read: Vec<SeriesStatus> = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(read[0].figures, board.series(at(130))[0].figures, "whoever reads it knows which are whole");
        assert_eq!((&status[0]["result"], &status[0]["age_s"]), (&"ok".into(), &30.0.into()));
        assert_eq!(status[0]["time"], "1970-01-01T00:01:40.000000000Z");
        assert!(status[1]["time"].is_null() && status[1]["result"].is_null());
    }

    #[test]
    fn the_last_run_is_told_beside_the_slots_that_were_skipped_after_it() {
        let board = board(&["a"]);
        board.observe(&failed("a", 100, Outcome::Timeout));
        assert_eq!(board.series(at(130))[0].last_run, None);
        board.observe(&failed("a", 110, Outcome::Skipped));
        let status = serde_json::to_value(board.series(at(130))).unwrap();
        assert_eq!((&status[0]["result"], &status[0]["last_run"]["result"]), (&"skipped".into(), &"timeout".into()));
        assert_eq!(status[0]["last_run"]["time"], "1970-01-01T00:01:40.000000000Z");
    }

    #[test]
    fn a_series_that_stays_keeps_its_rows_and_one_that_goes_is_forgotten() {
        let board = board(&["a", "b"]);
        board.observe(&ok("a", 1, 1.0));
        board.observe(&ok("b", 1, 1.0));
        board.schedule(&[series("a"), series("c")]);
        assert!(board.of(&series("a")).unwrap().last().is_some());
        assert!(board.of(&series("b")).is_none());
        board.schedule(&[series("a"), series("b")]);
        assert!(board.of(&series("b")).unwrap().last().is_none());
    }

    #[test]
    fn rows_of_before_go_in_front_of_those_of_now_and_count_nothing() {
        let board = board(&["a", "b"]);
        board.observe(&ok("a", 10, 3.0));
        board.recall(&[ok("a", 1, 1.0), failed("b", 1, Outcome::Skipped), ok("a", 2, 2.0), ok("gone", 1, 1.0)]);
        assert_eq!(board.of(&series("a")).unwrap().recent().values(), [Some(1.0), Some(2.0), Some(3.0)]);
        assert_eq!(board.of(&series("b")).unwrap().last().unwrap().time, at(1));
        assert!(board.skipped().is_empty() && board.has_room());
    }

    #[test]
    fn whoever_looks_sees_what_was_then() {
        let board = board(&["a"]);
        board.observe(&ok("a", 1, 1.0));
        let before = board.all();
        board.observe(&ok("a", 2, 2.0));
        assert_eq!(before[0].1.last().unwrap().time, at(1));
        assert_eq!(board.all()[0].1.last().unwrap().time, at(2));
    }
}
