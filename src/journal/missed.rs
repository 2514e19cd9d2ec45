//! Which slots a process missed that was killed. Pure: what it promised and the rows that there are, in; slots without a row, out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use super::Missed;
use crate::clock::Timestamp;
use crate::measurement::Series;
use crate::probe::schedule::Schedule;

/// How far back missed slots are told one by one, and how long before its last commit a process may have left a slot open
/// at least.
const EXACT: Duration = Duration::from_hours(1);
/// A run may fill the interval of its series; its row is durable this long after that.
const OVER_THE_INTERVAL: Duration = Duration::from_mins(10);
/// The most slots told one by one.
pub(super) const MOST: usize = 100_000;
/// Rows that other hosts send late stand in a row no more often than this, as qosd's own rows of every minute are between them;
/// to look at so many takes no second.
const MANY: usize = 1_000_000;
/// After a clean stop only rows of a time that is still to come are looked for, and those are the last.
const FEW: usize = 10_000;
/// A row may have been appended this long after one whose slot is later.
const OUT_OF_ORDER: Duration = Duration::from_mins(10);

/// What a process left behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Previous {
    /// It stopped cleanly, or never scheduled anything.
    pub(super) clean: bool,
    /// Its last commit.
    pub(super) alive: Timestamp,
    /// What it scheduled, each with its series in the file.
    pub(super) promises: Vec<(i64, Promise)>,
}

/// Slots of a series that were, or are, to have a row each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Promise {
    /// The series.
    pub(super) series: Series,
    /// Its slots.
    pub(super) schedule: Schedule,
    /// The first slot is after this.
    pub(super) since: Timestamp,
    /// The last slot is at this or before, if another schedule or none followed.
    pub(super) until: Option<Timestamp>,
}

impl Promise {
    /// How long a slot may be without its row.
    fn open(&self) -> Duration {
        self.schedule.interval().saturating_add(OVER_THE_INTERVAL).max(EXACT)
    }

    /// Whether a slot may still be without its row at a time.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let nano = Duration::from_nanos(1);
        let kept = |until: Timestamp| self.schedule.count(self.since.plus(nano), until.plus(nano)) > 0 && until.plus(self.open()) > now;
        self.until.is_none_or(kept)
    }
}

impl Previous {
    /// To be shown the rows that there are; none if nothing was promised.
    pub(super) fn rows(&self, now: Timestamp) -> Option<Rows> {
        let mut wanted = HashMap::new();
        for (id, promise) in &self.promises {
            let from = if self.clean { now } else { self.settled(promise, now).min(now) };
            wanted.entry(*id).and_modify(|known| *known = from.min(*known)).or_insert(from);
        }
        let back_to = wanted.values().min()?.minus(OUT_OF_ORDER);
        let told_late: u64 = self.promises.iter().map(|(_, promise)| promise.schedule.count(now.minus(EXACT), now)).sum();
        let enough =
            Older { own: usize::try_from(told_late).unwrap_or(usize::MAX).min(MOST) + 1, all: if self.clean { FEW } else { MANY } };
        Some(Rows { now, back_to, enough, older: Older::default(), wanted, present: HashSet::new(), newest: HashMap::new() })
    }

    /// Slots of a promise before this all have their row.
    fn settled(&self, promise: &Promise, now: Timestamp) -> Timestamp {
        self.alive.min(now).minus(promise.open()).max(promise.since.plus(Duration::from_nanos(1)))
    }

    /// The slots without a row in `present`.
    pub(super) fn missed(&self, present: &HashSet<(i64, Timestamp)>, now: Timestamp, most: usize) -> Missed {
        if self.clean {
            return Missed::default();
        }
        let exact = now.minus(EXACT);
        let mut found = Found::new(most);
        for (index, (id, promise)) in self.promises.iter().enumerate() {
            let end = promise.until.map_or(now, |until| now.min(until.plus(Duration::from_nanos(1))));
            let from = self.settled(promise, now);
            let absent = |slot: &Timestamp| !present.contains(&(*id, *slot));
            // Up to its last commit the process left rows, afterwards none: those slots need not be looked at one by one.
            let alive = self.alive.plus(Duration::from_nanos(1)).clamp(from, exact.max(from));
            slots(promise.schedule, from, alive.min(exact).min(end)).filter(absent).for_each(|slot| found.gap.add(slot, slot, 1));
            found.gap.add_all(promise.schedule, alive, exact.min(end));
            slots(promise.schedule, exact.max(from), end).filter(absent).for_each(|slot| found.add(slot, index));
        }
        // Where the clock went back, two schedules of a series may share slots.
        let mut told = HashSet::new();
        let slots =
            found.newest.into_sorted_vec().into_iter().rev().filter(|Reverse((slot, index))| told.insert((self.promises[*index].0, *slot)));
        let slots = slots.map(|Reverse((slot, index))| (self.promises[index].1.series.clone(), slot)).collect();
        Missed { slots, gap: found.gap.0, newest: Vec::new() }
    }
}

/// Rows that are older than need be.
#[derive(Clone, Copy, Debug, Default)]
struct Older {
    /// Of the series that were promised.
    own: usize,
    /// Of all.
    all: usize,
}

/// What is to be known of the rows that there are.
pub(super) struct Rows {
    now: Timestamp,
    /// A row that is older says that those before it are older still, unless it came late: slots that another process missed are
    /// told one after the other, and other hosts send what they could not for days.
    back_to: Timestamp,
    /// So many of them in a row do not all come late.
    enough: Older,
    /// So many there were in a row.
    older: Older,
    wanted: HashMap<i64, Timestamp>,
    /// The series and times of rows at slots that may be without one.
    pub(super) present: HashSet<(i64, Timestamp)>,
    newest: HashMap<i64, (Timestamp, i64)>,
}

impl Rows {
    /// Here is one: they have to be shown in order of position, the last first, until this breaks.
    pub(super) fn see(&mut self, position: i64, series: i64, time: Timestamp) -> ControlFlow<()> {
        let from = self.wanted.get(&series);
        if from.is_some_and(|from| time >= *from) {
            self.present.insert((series, time));
        }
        if from.is_some() && time >= self.now {
            let newest = self.newest.entry(series).or_insert((time, position));
            *newest = (time, position).max(*newest);
        }
        if time >= self.back_to {
            self.older = Older::default();
            return ControlFlow::Continue(());
        }
        self.older.all += 1;
        self.older.own += usize::from(from.is_some());
        let is_enough = self.older.own >= self.enough.own || self.older.all >= self.enough.all;
        if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// For each series, where the newest row is that is not of the past.
    pub(super) fn newest(&self) -> Vec<i64> {
        self.newest.values().map(|(_, position)| *position).collect()
    }
}

/// The newest slots, and the sum of the others.
struct Found {
    newest: BinaryHeap<Reverse<(Timestamp, usize)>>,
    gap: Gap,
    most: usize,
}

impl Found {
    fn new(most: usize) -> Self {
        Self { newest: BinaryHeap::new(), gap: Gap(None), most }
    }

    fn add(&mut self, slot: Timestamp, index: usize) {
        self.newest.push(Reverse((slot, index)));
        if self.newest.len() > self.most
            && let Some(Reverse((oldest, _))) = self.newest.pop()
        {
            self.gap.add(oldest, oldest, 1);
        }
    }
}

struct Gap(Option<(Timestamp, Timestamp, u64)>);

impl Gap {
    fn add(&mut self, from: Timestamp, to: Timestamp, count: u64) {
        let (first, last, sum) = self.0.unwrap_or((from, to, 0));
        self.0 = Some((first.min(from), last.max(to), sum + count));
    }

    fn add_all(&mut self, schedule: Schedule, from: Timestamp, to: Timestamp) {
        let count = schedule.count(from, to);
        if count > 0 {
            let first = schedule.at_or_after(from);
            let span = u128::from(count - 1) * schedule.interval().as_nanos();
            self.add(first, first.plus(Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX))), count);
        }
    }
}

/// The slots in `[from, to)`.
fn slots(schedule: Schedule, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
    let first = schedule.at_or_after(from);
    std::iter::successors(Some(first), move |&slot| Some(schedule.after(slot)).filter(|next| *next > slot))
        .take_while(move |slot| *slot < to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn series(name: &str) -> Series {
        Series::new("m", [("target", name)])
    }

    fn promise(id: i64, name: &str, interval: u64, since: i64) -> (i64, Promise) {
        let schedule = Schedule::new(Duration::from_secs(interval), Duration::from_secs(1));
        (id, Promise { series: series(name), schedule, since: at(since), until: None })
    }

    fn ended(until: i64, (id, promise): (i64, Promise)) -> (i64, Promise) {
        (id, Promise { until: Some(at(until)), ..promise })
    }

    fn previous(alive: i64, promises: Vec<(i64, Promise)>) -> Previous {
        Previous { clean: false, alive: at(alive), promises }
    }

    #[test]
    fn slots_without_a_row_are_missed_also_the_one_in_flight_at_the_kill() {
        let previous = previous(125, vec![promise(1, "a", 10, 100), promise(2, "b", 60, 50)]);
        let present = HashSet::from([(1, at(101)), (1, at(111)), (2, at(61))]);
        let missed = previous.missed(&present, at(151), MOST);
        let expected = [("a", 121), ("b", 121), ("a", 131), ("a", 141)];
        assert_eq!(missed.slots, expected.map(|(name, slot)| (series(name), at(slot))));
        assert_eq!(missed.gap, None);
    }

    #[test]
    fn a_slot_at_the_start_of_the_promise_is_not_part_of_it() {
        let missed = previous(100, vec![promise(1, "a", 10, 101)]).missed(&HashSet::new(), at(112), MOST);
        assert_eq!(missed.slots, [(series("a"), at(111))]);
    }

    #[test]
    fn after_a_clean_stop_nothing_is_missed() {
        let previous = Previous { clean: true, ..previous(0, vec![promise(1, "a", 10, 0)]) };
        assert_eq!(previous.missed(&HashSet::new(), at(1000), MOST), Missed::default());
        assert_eq!(Previous::default().missed(&HashSet::new(), at(1000), MOST), Missed::default());
    }

    #[test]
    fn what_is_older_than_an_hour_is_summed_up() {
        let day = 86_400;
        let previous = previous(1_000, vec![promise(1, "a", 10, 900)]);
        let present: HashSet<_> = (0..8).map(|k| (1, at(901 + 10 * k))).collect();
        let missed = previous.missed(&present, at(day), MOST);
        assert_eq!(missed.slots.len(), 360);
        assert_eq!(missed.slots[0].1, at(day - 3600 + 1));
        assert_eq!(missed.gap, Some((at(981), at(day - 3600 - 9), (82_800 - 980) / 10)));
    }

    #[test]
    fn a_run_that_was_longer_than_an_hour_is_missed_too() {
        let hour = 3_600;
        let (runs, killed) = (100 * 24 * hour, 101 * 24 * hour - hour);
        let daily = promise(1, "a", 24 * 3_600, runs - 24 * hour);
        let previous = previous(killed, vec![daily, promise(2, "b", 60, runs)]);
        let before = HashSet::from([(1, at(runs + 1 - 24 * hour))]);
        let minutes = (runs..killed).step_by(60).map(|minute| (2, at(minute + 1)));
        let present: HashSet<_> = before.into_iter().chain(minutes).collect();
        let mut rows = previous.rows(at(killed)).unwrap();
        for &(series, time) in &present {
            let _ = rows.see(1, series, time);
        }
        assert_eq!(rows.present.len(), 60, "of the other series the last hour is enough");
        assert!(rows.back_to < at(runs));
        let missed = previous.missed(&present, at(killed), MOST);
        assert_eq!(missed, Missed { gap: Some((at(runs + 1), at(runs + 1), 1)), ..Missed::default() });
    }

    #[test]
    fn only_more_old_rows_in_a_row_than_may_be_told_late_end_the_look() {
        let previous = previous(10_000, vec![promise(1, "a", 60, 0)]);
        let mut rows = previous.rows(at(10_000)).unwrap();
        let mut late = |series, rows_of: usize| (0..rows_of).all(|_| rows.see(1, series, at(5)).is_continue());
        assert!(late(7, 100_000), "rows of another host are of any time");
        assert!(late(1, 60), "as many as an hour has slots");
        assert!(!late(1, 1));
        assert!(rows.see(1, 7, at(9_999)).is_continue());
        let mut late = |series, rows_of: usize| (0..rows_of).all(|_| rows.see(1, series, at(5)).is_continue());
        assert!(late(1, 60) && late(7, MANY - 61) && !late(7, 1), "what a host with a new name left behind is not all looked at");
    }

    #[test]
    fn what_a_reload_ended_is_missed_up_to_its_end() {
        let promises = vec![ended(121, promise(1, "a", 10, 100)), promise(1, "a", 60, 121), ended(111, promise(2, "b", 10, 100))];
        let previous = previous(125, promises);
        let present = HashSet::from([(1, at(101)), (1, at(111)), (2, at(101))]);
        let missed = previous.missed(&present, at(200), MOST);
        assert_eq!(missed.slots, [("b", 111), ("a", 121), ("a", 181)].map(|(name, slot)| (series(name), at(slot))));
        let later = previous.missed(&present, at(86_400), MOST);
        let last = 86_400 - 3_600 - 59;
        assert_eq!(later.gap.unwrap(), (at(111), at(last), 2 + (last as u64 - 121) / 60));
    }

    #[test]
    fn a_slot_that_an_ended_and_a_later_schedule_share_is_missed_once() {
        let stepped_back = vec![ended(130, promise(1, "a", 10, 100)), promise(1, "a", 10, 115)];
        let missed = previous(130, stepped_back).missed(&HashSet::new(), at(132), MOST);
        assert_eq!(missed.slots, [101, 111, 121, 131].map(|slot| (series("a"), at(slot))));
    }

    #[test]
    fn an_ended_promise_is_kept_while_a_slot_of_it_may_be_open() {
        let is_open = |until, now| ended(until, promise(1, "a", 7_200, 100)).1.is_open(at(now));
        assert!(is_open(7_201, 7_201 + 7_200));
        assert!(!is_open(7_201, 7_201 + 7_200 + 600));
        assert!(!is_open(7_200, 7_200), "it never had a slot");
        assert!(promise(1, "a", 1, 0).1.is_open(at(1_000_000)));
    }

    #[test]
    fn the_newest_row_of_each_series_is_found_unless_it_is_of_the_past() {
        let previous = Previous { clean: true, ..previous(500, vec![promise(1, "a", 10, 100), promise(2, "b", 10, 100)]) };
        let mut rows = previous.rows(at(200)).unwrap();
        for (position, series, time) in [(9, 1, 190), (8, 2, 199), (7, 3, 900), (6, 1, 301), (5, 1, 311), (4, 1, 201)] {
            let _ = rows.see(position, series, at(time));
        }
        assert_eq!(rows.newest(), [5]);
    }

    #[test]
    fn over_the_limit_the_newest_are_kept_and_the_others_summed_up() {
        let missed = previous(0, vec![promise(1, "a", 1, 0)]).missed(&HashSet::new(), at(100), 10);
        assert_eq!(missed.slots.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(), (90..100).map(at).collect::<Vec<_>>());
        assert_eq!(missed.gap, Some((at(1), at(89), 89)));
    }

    #[test]
    fn a_clock_that_went_back_misses_nothing() {
        let missed = previous(5_000, vec![promise(1, "a", 1, 4_000)]).missed(&HashSet::new(), at(100), MOST);
        assert_eq!(missed, Missed::default());
    }
}
