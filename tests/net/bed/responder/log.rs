//! What was done with every request, and what a prober that is right must say of it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::Duration;

use super::capture::Stamps;
use super::rule::Means;
use crate::bed::rows::Exported;

/// How far from the end of a run or from the time-out a reply must be written for its fate to be beyond doubt.
const CLEARLY: i64 = 5_000_000;

/// How many packets of a run in a row may be missing, and how long it may pause: numbers are random and come again.
const LONGEST_GAP: u16 = 100;
const LONGEST_PAUSE: i64 = 5_000_000_000;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// To whom.
    pub(crate) target: IpAddr,
    /// Its identifier.
    pub(crate) ident: u16,
    /// Its sequence number.
    pub(crate) sequence: u16,
    /// When it left the host, in nanoseconds since the epoch; while the log is being written, when it was read.
    pub(crate) left: i64,
    /// What was written for it and when, without noise.
    pub(crate) replies: Vec<(Means, i64)>,
    /// How many packets that mean nothing were written for it.
    pub(crate) noise: u64,
}

/// All requests, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Those of the prober that is judged.
    pub(crate) entries: Vec<Entry>,
    /// How many requests others sent.
    pub(crate) strangers: u64,
}

/// The fates that a packet can have, in the words of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Received,
    Late,
    Lost,
    IcmpError,
    Corrupt,
    LocalError,
    LocalDrop,
}

impl Fate {
    /// All of them, as a matrix lists them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Received, Self::Late, Self::Lost, Self::IcmpError, Self::Corrupt, Self::LocalError, Self::LocalDrop];
}

/// How many packets of a run, or of many, met which fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attempts to send.
    pub(crate) sent: u64,
    /// By fate, in the order of [`Fate::ALL`].
    pub(crate) fates: [u64; 7],
    /// Further replies to those that were received.
    pub(crate) duplicates: u64,
    /// Replies after that to a later request.
    pub(crate) reordered: u64,
}

impl Counts {
    /// How many met this fate.
    pub(crate) fn of(&self, fate: Fate) -> u64 {
        self.fates[fate as usize]
    }

    /// With packets that never left the host, of which a responder cannot know.
    pub(crate) fn with_unsent(mut self, unsent: u64) -> Self {
        self.sent += unsent;
        self.fates[Fate::LocalError as usize] += unsent;
        self
    }

    /// What a row says. What is neither answered nor accounted for is lost; fails if more is accounted for than was sent.
    pub(crate) fn reported(row: &Exported) -> Result<Self, String> {
        let figure = |name| row.integer(name).map_or(0, |value| u64::try_from(value).expect("a count is never negative"));
        let sent = figure("ping_sent");
        let told = ["ping_received", "ping_late", "", "ping_icmp_errors", "ping_corrupt", "ping_local_errors", "ping_local_drops"];
        let mut fates = told.map(|name| if name.is_empty() { 0 } else { figure(name) });
        let lost = sent.checked_sub(fates.iter().sum());
        fates[Fate::Lost as usize] = lost.ok_or_else(|| format!("more fates than packets: {row:?}"))?;
        Ok(Self { sent, fates, duplicates: figure("ping_duplicates"), reordered: figure("ping_reordered") })
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, more: &Self) {
        self.sent += more.sent;
        self.duplicates += more.duplicates;
        self.reordered += more.reordered;
        self.fates.iter_mut().zip(more.fates).for_each(|(fate, more)| *fate += more);
    }
}

impl Log {
    /// Notes when requests left, where that is known better than when they were read: the last of their numbers until then.
    pub(super) fn stamp(&mut self, stamps: &Stamps) {
        for entry in &mut self.entries {
            let stamps = stamps.get(&(entry.target, entry.ident, entry.sequence)).into_iter().flatten();
            entry.left = stamps.filter(|stamp| **stamp <= entry.left).max().copied().unwrap_or(entry.left);
        }
    }

    /// The requests that belong to each row that has figures. Takes all rows, as what was sent in runs that were skipped in
    /// the end belongs to no other.
    pub(crate) fn by_run<'a>(&'a self, rows: &'a [Exported]) -> Vec<(&'a Exported, Vec<&'a Entry>)> {
        let mut targets: HashMap<IpAddr, BTreeMap<i64, usize>> = HashMap::new();
        let mut runs: Vec<_> = rows.iter().map(|row| (row, Vec::new())).collect();
        for (index, row) in rows.iter().enumerate() {
            if let Ok(address) = row.tag("target").parse() {
                targets.entry(address).or_default().insert(row.time(), index);
            }
        }
        for run in self.runs() {
            // A run begins with its slot, and may end when others have begun.
            let row = targets.get(&run[0].target).and_then(|rows| rows.range(..=run[0].left).next_back());
            if let Some((_, index)) = row {
                runs[*index].1.extend(run);
            }
        }
        runs.retain(|(row, _)| row.integer("ping_sent").is_some());
        runs
    }

    /// Requests to one target under one identifier whose sequence numbers follow each other: what one run sends.
    fn runs(&self) -> Vec<Vec<&Entry>> {
        let mut runs: Vec<Vec<&Entry>> = Vec::new();
        let mut last: HashMap<(IpAddr, u16), usize> = HashMap::new();
        for entry in &self.entries {
            let index = last.entry((entry.target, entry.ident)).or_insert(usize::MAX);
            let before = runs.get(*index).and_then(|run| run.last());
            // Numbers of packets that this host did not send are missing.
            let follows =
                |before: &&Entry| entry.sequence.wrapping_sub(before.sequence) <= LONGEST_GAP && entry.left - before.left <= LONGEST_PAUSE;
            if !before.is_some_and(follows) {
                *index = runs.len();
                runs.push(Vec::new());
            }
            runs[*index].push(entry);
        }
        runs
    }
}

/// What is true of one run: a reply counts until the run closes, with its last request and the time-out after it.
/// Fails if a reply was written so near to an end that it proves nothing.
pub(crate) fn truth(run: &[&Entry], timeout: Duration) -> Result<Counts, String> {
    let timeout = i64::try_from(timeout.as_nanos()).expect("a time-out is short");
    let close = run.iter().map(|entry| entry.left).max().unwrap_or_default() + timeout;
    let mut counts = Counts { sent: run.len() as u64, ..Counts::default() };
    let mut answered = Vec::new();
    for (index, entry) in run.iter().enumerate() {
        let doubtful = |at: i64| (at - close).abs() < CLEARLY || (at - entry.left - timeout).abs() < CLEARLY;
        if let Some((means, at)) = entry.replies.iter().find(|(_, at)| doubtful(*at)) {
            return Err(format!("{means:?} at {at} for {entry:?} is too near to the end at {close}"));
        }
        let (fate, genuine) = fate(entry, timeout, close);
        counts.fates[fate as usize] += 1;
        counts.duplicates += genuine.len().saturating_sub(1) as u64;
        answered.extend(genuine.first().map(|at| (*at, index)));
    }
    counts.reordered = reordered(answered);
    Ok(counts)
}

/// The round trips of those that were received, in milliseconds and in the order of the requests.
pub(crate) fn round_trips(run: &[&Entry], timeout: Duration) -> Vec<f64> {
    let millis = |entry: &&Entry| {
        let (_, at) = entry.replies.iter().find(|(means, _)| matches!(means, Means::Genuine | Means::Error))?;
        let (received, trip) = (fate(entry, timeout.as_nanos() as i64, i64::MAX).0 == Fate::Received, at - entry.left);
        received.then_some(trip as f64 / 1e6)
    };
    run.iter().filter_map(millis).collect()
}

/// What a request met, and when its right replies were written while they counted.
fn fate(entry: &Entry, timeout: i64, close: i64) -> (Fate, Vec<i64>) {
    let heard = || entry.replies.iter().filter(|(_, at)| *at < close);
    let first = heard().find(|(means, _)| matches!(means, Means::Genuine | Means::Error));
    let genuine = || heard().filter(|(means, _)| *means == Means::Genuine).map(|(_, at)| *at).collect();
    match first {
        Some((Means::Genuine, at)) if at - entry.left > timeout => (Fate::Late, genuine()),
        Some((Means::Genuine, _)) => (Fate::Received, genuine()),
        Some(_) => (Fate::IcmpError, Vec::new()),
        None if heard().any(|(means, _)| *means == Means::Damaged) => (Fate::Corrupt, Vec::new()),
        None => (Fate::Lost, Vec::new()),
    }
}

/// RFC 4737 section 3.3: those that were written after one with a higher number.
fn reordered(mut answered: Vec<(i64, usize)>) -> u64 {
    answered.sort_unstable();
    let mut highest = 0;
    let late = answered.into_iter().filter(|(_, index)| {
        let late = *index < highest;
        highest = highest.max(*index);
        late
    });
    late.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const MS: i64 = 1_000_000;

    /// A request at `left` with its replies, in milliseconds.
    fn entry(left: i64, replies: &[(Means, i64)]) -> Entry {
        let replies = replies.iter().map(|(means, at)| (*means, at * MS)).collect();
        Entry { target: "10.78.0.1".parse().unwrap(), ident: 1, sequence: 0, left: left * MS, replies, noise: 0 }
    }

    fn told(run: &[Entry]) -> Counts {
        truth(&run.iter().collect::<Vec<_>>(), TIMEOUT).unwrap()
    }

    #[test]
    fn every_packet_has_one_fate() {
        let run = [
            entry(0, &[(Means::Genuine, 10)]),
            entry(1, &[(Means::Genuine, 150)]),
            entry(2, &[]),
            entry(3, &[(Means::Error, 9), (Means::Genuine, 11)]),
            entry(4, &[(Means::Damaged, 9)]),
            entry(5, &[(Means::Damaged, 9), (Means::Genuine, 11)]),
            entry(60, &[(Means::Genuine, 300)]),
        ];
        assert_eq!(told(&run).fates, [2, 1, 2, 1, 1, 0, 0]);
        assert_eq!(round_trips(&run.iter().collect::<Vec<_>>(), TIMEOUT), [10.0, 6.0]);
    }

    #[test]
    fn copies_are_duplicates_and_what_overtakes_makes_the_slower_one_reordered() {
        let run = [
            entry(0, &[(Means::Genuine, 30)]),
            entry(1, &[(Means::Genuine, 10), (Means::Genuine, 11), (Means::Genuine, 12)]),
            entry(2, &[(Means::Genuine, 20)]),
        ];
        assert_eq!((told(&run).duplicates, told(&run).reordered), (2, 1));
    }

    #[test]
    fn runs_are_told_apart_by_their_numbers_also_where_they_overlap() {
        let numbers = |ident, sequence| Entry { ident, sequence, ..entry(0, &[]) };
        let mixed = [numbers(1, 65535), numbers(2, 7), numbers(1, 0), numbers(2, 8), numbers(1, 40000), numbers(1, 3)];
        let later = Entry { left: 2 * LONGEST_PAUSE, ..numbers(2, 9) };
        let log = Log { entries: [&mixed[..], &[later]].concat(), strangers: 0 };
        let lengths: Vec<_> = log.runs().iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2, 1, 1, 1]);
    }

    #[test]
    fn a_reply_at_the_very_end_proves_nothing() {
        let run = [entry(0, &[(Means::Genuine, 103)])];
        assert!(truth(&[&run[0]], TIMEOUT).is_err());
    }
}
