//! Who is silent: which results are expected, when the last of each came, and which are overdue. Pure: time is an argument.
//!
//! Expected is a result for each source and each entry of the list with another name, once an interval. Each pair has an
//! anchor: when its last result came, or when it was expected to have learnt what is expected of it. It is overdue when
//! interval and grace have passed since; then one result is absent, at anchor + interval, and the anchor moves there.
//!
//! The time is that of the monotonic clock, less that in which nobody asked: a collector that stood still heard nobody, and
//! knows nothing of that time. A pair costs one look an interval, whether it is heard or not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::clock::{Moment, Timestamp};
use crate::mesh::list::{List, Name, Proto};

/// The least time that a result may be late.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// Whoever was not asked for longer than this stood still.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// How long agents may take to learn of a list: they ask once a minute, each at a time of its own, and then wait for a slot.
pub const SETTLING: Duration = Duration::from_secs(90);
/// Marks what is due to be looked at if nothing is heard while settling. A million pairs do not need the bit.
const FIRST: u32 = 1 << 31;

/// A result that did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// From whom.
    pub source: Name,
    /// About whom.
    pub target: Name,
    /// By which protocol.
    pub proto: Proto,
    /// When it was expected.
    pub time: Timestamp,
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Results that did not come.
    pub absent: Vec<Absent>,
    /// There is more to be looked at now.
    pub more: bool,
}

/// What is expected, and when it last came.
#[derive(Debug, Default)]
pub struct Presence {
    sources: Vec<Source>,
    targets: Vec<(Name, Proto)>,
    /// Where a name stands among the sources, and its entries among the targets.
    places: HashMap<Name, Place>,
    interval: Duration,
    /// The anchor of each pair, at `source · targets + target`.
    anchors: Vec<Nanos>,
    /// How it is with each.
    states: Vec<State>,
    /// When each expected pair is to be looked at; once each, and once more until it would have settled if it was heard before.
    due: BinaryHeap<Reverse<(Nanos, u32)>>,
    expected: usize,
    stood_still: Duration,
    asked: Option<Duration>,
    passed_over: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was heard since it began to be expected, and nothing has to be yet.
    Settling,
    /// The last result that was expected came.
    Present,
    /// It did not.
    Absent,
}

#[derive(Debug)]
struct Source {
    name: Name,
    absent: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    source: usize,
    targets: [Option<usize>; 2],
}

/// Our time, small, as there may be a million of them.
type Nanos = u64;

impl Presence {
    /// What is expected from now on. Pairs that were expected at this interval before keep their anchors; the others have
    /// so long to settle.
    pub fn expect(&mut self, list: &List, interval: Duration, settling: Duration, now: Duration) {
        let settled = self.our_time(now) + nanos(settling);
        let mut new = Self { interval, stood_still: self.stood_still, asked: self.asked, passed_over: self.passed_over, ..Self::default() };
        for peer in &list.probes {
            let next = new.sources.len();
            let place = new.places.entry(peer.name.clone()).or_insert_with(|| {
                new.sources.push(Source { name: peer.name.clone(), absent: 0 });
                Place { source: next, ..Place::default() }
            });
            place.targets[index(peer.proto)] = Some(new.targets.len());
            new.targets.push((peer.name.clone(), peer.proto));
        }
        let wait = nanos(interval + grace(interval));
        let before: Vec<_> = new.targets.iter().map(|(name, proto)| self.target(name, *proto)).collect();
        let mut due = Vec::new();
        for source in &mut new.sources {
            let known = self.places.get(&source.name).filter(|_| self.interval == interval);
            for ((target, _), before) in new.targets.iter().zip(&before) {
                let known = known.zip(*before).map(|(source, target)| source.source * self.targets.len() + target);
                let (anchor, state) = known.map_or((settled, State::Settling), |pair| (self.anchors[pair], self.states[pair]));
                if source.name != *target {
                    source.absent += usize::from(state == State::Absent);
                    let first = if state == State::Settling { FIRST } else { 0 };
                    due.push(Reverse((anchor + wait, new.anchors.len() as u32 | first)));
                }
                new.anchors.push(anchor);
                new.states.push(state);
            }
        }
        new.expected = due.len();
        new.due = due.into();
        *self = new;
    }

    /// A result came. Says whether it was expected.
    pub fn heard(&mut self, source: &Name, target: &Name, proto: Proto, now: Duration) -> bool {
        let now = self.our_time(now);
        let (Some(source), Some(target)) = (self.places.get(source).map(|place| place.source), self.target(target, proto)) else {
            return false;
        };
        if self.sources[source].name == self.targets[target].0 {
            return false;
        }
        let pair = source * self.targets.len() + target;
        self.anchors[pair] = now;
        match std::mem::replace(&mut self.states[pair], State::Present) {
            State::Settling => self.due.push(Reverse((now + nanos(self.interval + grace(self.interval)), pair as u32))),
            State::Present => {}
            State::Absent => self.sources[source].absent -= 1,
        }
        true
    }

    /// Looks at no more than `most` pairs that are to be looked at. To be called about every second.
    pub fn overdue(&mut self, now: Moment, most: usize) -> Found {
        let our = self.our_time(now.mono);
        let mut found = Found::default();
        for _ in 0..most {
            let Some(Reverse((_, pair))) = self.due.peek().copied().filter(|Reverse((due, _))| *due < our) else { return found };
            self.due.pop();
            if pair & FIRST != 0 && self.states[(pair & !FIRST) as usize] != State::Settling {
                // It was heard meanwhile, and is looked at as all others.
                continue;
            }
            let pair = pair & !FIRST;
            if let Some(anchor) = self.look(pair, our) {
                let source = &self.sources[pair as usize / self.targets.len()].name;
                let (target, proto) = &self.targets[pair as usize % self.targets.len()];
                let time = now.unix.minus(Duration::from_nanos(our.saturating_sub(anchor)));
                found.absent.push(Absent { source: source.clone(), target: target.clone(), proto: *proto, time });
            }
        }
        found.more = true;
        found
    }

    /// When a result of this pair was last expected in vain, if it is overdue.
    fn look(&mut self, pair: u32, now: Nanos) -> Option<Nanos> {
        let (interval, grace) = (nanos(self.interval), nanos(grace(self.interval)));
        let index = pair as usize;
        let anchor = &mut self.anchors[index];
        let overdue = *anchor + interval + grace < now;
        if overdue {
            // Whoever looks too late has one row for all, not one for each.
            let times = ((now - grace - *anchor) / interval).max(1);
            *anchor += interval * times;
            self.passed_over += times - 1;
            let before = std::mem::replace(&mut self.states[index], State::Absent);
            self.sources[index / self.targets.len()].absent += usize::from(before != State::Absent);
        }
        self.due.push(Reverse((*anchor + interval + grace, pair)));
        overdue.then_some(*anchor)
    }

    /// How many results of a source are absent now.
    pub fn absent_of(&self, source: &Name) -> usize {
        self.places.get(source).map_or(0, |place| self.sources[place.source].absent)
    }

    /// How many results are expected each interval.
    pub fn expected(&self) -> usize {
        self.expected
    }

    /// Absent results that have no row, because whoever looked came more than an interval too late.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    fn target(&self, name: &Name, proto: Proto) -> Option<usize> {
        self.places.get(name)?.targets[index(proto)]
    }

    /// The time that passed for us. It never goes back.
    fn our_time(&mut self, now: Duration) -> Nanos {
        let asked = self.asked.map_or(now, |asked| asked.max(now));
        let gap = asked.saturating_sub(self.asked.unwrap_or(now));
        if gap > STOOD_STILL {
            self.stood_still += gap;
        }
        self.asked = Some(asked);
        nanos(asked.saturating_sub(self.stood_still))
    }
}

/// How late a result may be.
pub fn grace(interval: Duration) -> Duration {
    (interval / 2).max(LEAST_GRACE)
}

fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}

fn index(proto: Proto) -> usize {
    usize::from(proto == Proto::V6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::list::Peer;

    const INTERVAL: Duration = Duration::from_secs(10);
    const EPOCH: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What ends with /6 is an entry of IPv6.
    fn list(names: &[&str]) -> List {
        let peer = |text: &&str| match text.strip_suffix("/6") {
            Some(text) => Peer { name: name(text), proto: Proto::V6, address: "2001:db8::1".parse().unwrap() },
            None => Peer { name: name(text), proto: Proto::V4, address: "10.0.0.1".parse().unwrap() },
        };
        List { probes: names.iter().map(peer).collect() }
    }

    fn expecting(names: &[&str]) -> Presence {
        let mut presence = Presence::default();
        presence.expect(&list(names), INTERVAL, Duration::ZERO, s(0));
        presence
    }

    /// Asks at this second what is overdue: `source>target@second`.
    fn overdue(presence: &mut Presence, second: u64) -> Vec<String> {
        let now = Moment { unix: EPOCH.plus(s(second)), mono: s(second), boot: s(second) };
        let found = presence.overdue(now, 1_000);
        assert!(!found.more);
        let mut told: Vec<_> = found.absent.iter().map(tell).collect();
        told.sort();
        told
    }

    fn tell(absent: &Absent) -> String {
        let proto = if absent.proto == Proto::V6 { "/6" } else { "" };
        format!("{}>{}{proto}@{}", absent.source, absent.target, absent.time.since(EPOCH).as_secs())
    }

    /// Asks every second.
    fn until(presence: &mut Presence, seconds: std::ops::RangeInclusive<u64>) -> Vec<String> {
        seconds.flat_map(|second| overdue(presence, second)).collect()
    }

    fn hear(presence: &mut Presence, source: &str, target: &str, second: u64) -> bool {
        presence.heard(&name(source), &name(target), Proto::V4, s(second))
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn every_name_is_expected_to_measure_every_entry_of_another() {
        let mut presence = expecting(&["a", "b", "b/6"]);
        assert_eq!(presence.expected(), 3);
        assert_eq!(until(&mut presence, 1..=15), NOTHING, "not before interval and grace have passed");
        assert_eq!(until(&mut presence, 16..=25), ["a>b/6@10", "a>b@10", "b>a@10"]);
        assert_eq!(until(&mut presence, 26..=35), ["a>b/6@20", "a>b@20", "b>a@20"], "one row for each that is missing");
        assert!(!hear(&mut presence, "a", "a", 35) && !hear(&mut presence, "a", "x", 35) && !hear(&mut presence, "x", "a", 35));
        assert!(!presence.heard(&name("b"), &name("a"), Proto::V6, s(35)), "a has no such entry");
    }

    #[test]
    fn who_is_heard_is_expected_an_interval_later() {
        let mut presence = expecting(&["a", "b"]);
        assert_eq!(until(&mut presence, 1..=8), NOTHING);
        assert!(hear(&mut presence, "a", "b", 8));
        assert_eq!(until(&mut presence, 8..=23), ["b>a@10"]);
        assert_eq!((presence.absent_of(&name("a")), presence.absent_of(&name("b"))), (0, 1));
        assert_eq!(until(&mut presence, 24..=25), ["a>b@18"]);
        assert!(hear(&mut presence, "a", "b", 25) && hear(&mut presence, "b", "a", 25));
        assert_eq!((presence.absent_of(&name("a")), presence.absent_of(&name("b"))), (0, 0));
        assert_eq!(until(&mut presence, 26..=40), NOTHING);
        assert_eq!(overdue(&mut presence, 41), ["a>b@35", "b>a@35"]);
    }

    #[test]
    fn who_has_not_learnt_of_the_list_yet_is_not_absent() {
        let mut presence = Presence::default();
        presence.expect(&list(&["a", "b"]), INTERVAL, s(70), s(0));
        assert_eq!((presence.expected(), presence.absent_of(&name("a"))), (2, 0));
        // Whoever was heard once is expected from then on.
        let mut told = until(&mut presence, 0..=20);
        assert!(hear(&mut presence, "a", "b", 20));
        told.extend(until(&mut presence, 21..=46));
        assert_eq!(told, ["a>b@30", "a>b@40"]);
        // Whoever was not is, once it has had the time to settle; and whoever was is so no more than once a interval.
        assert!(hear(&mut presence, "a", "b", 47));
        assert_eq!(until(&mut presence, 47..=96), ["a>b@57", "a>b@67", "a>b@77", "b>a@80", "a>b@87", "b>a@90"]);
        assert_eq!(presence.expected(), 2);
    }

    #[test]
    fn a_new_list_leaves_the_pairs_that_stay_as_they_are() {
        let mut presence = expecting(&["a", "b", "gone"]);
        until(&mut presence, 1..=11);
        hear(&mut presence, "b", "a", 11);
        assert_eq!(until(&mut presence, 12..=16), ["a>b@10", "a>gone@10", "b>gone@10", "gone>a@10", "gone>b@10"]);
        presence.expect(&list(&["new", "b", "a"]), INTERVAL, Duration::ZERO, s(16));
        assert_eq!((presence.expected(), presence.absent_of(&name("a")), presence.absent_of(&name("gone"))), (6, 1, 0));
        let mut told = until(&mut presence, 16..=32);
        told.sort();
        assert_eq!(told, ["a>b@20", "a>new@26", "b>a@21", "b>new@26", "new>a@26", "new>b@26"]);
        presence.expect(&list(&["a", "b"]), s(60), Duration::ZERO, s(32));
        assert_eq!(until(&mut presence, 33..=122), NOTHING, "with another interval all begins anew");
        assert_eq!(overdue(&mut presence, 123), ["a>b@92", "b>a@92"]);
        presence.expect(&List::default(), s(60), Duration::ZERO, s(123));
        assert_eq!((presence.expected(), until(&mut presence, 124..=300)), (0, Vec::new()));
    }

    #[test]
    fn time_in_which_nobody_asked_does_not_count() {
        let mut presence = expecting(&["a", "b"]);
        assert_eq!(until(&mut presence, 1..=10), NOTHING);
        assert_eq!(until(&mut presence, 1_000..=1_005), NOTHING, "990 s are not told of");
        assert_eq!(until(&mut presence, 1_006..=1_006), ["a>b@1000", "b>a@1000"]);
        assert!(hear(&mut presence, "a", "b", 5_000));
        assert_eq!(until(&mut presence, 5_000..=5_009), NOTHING, "also when a result comes first");
        assert_eq!(until(&mut presence, 5_010..=5_010), ["b>a@5004"]);
        assert_eq!(presence.passed_over(), 0);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_the_times_of_rows_and_makes_none() {
        let mut presence = expecting(&["a", "b"]);
        for step in [Duration::from_hours(24 * 365), Duration::ZERO] {
            for second in 0..=15 {
                let now = Moment { unix: EPOCH.plus(step), mono: s(second), boot: s(second) };
                assert_eq!(presence.overdue(now, 10), Found::default());
            }
        }
        let stepped = EPOCH.minus(Duration::from_hours(1));
        let found = presence.overdue(Moment { unix: stepped, mono: s(16), boot: s(16) }, 10);
        assert_eq!(found.absent.iter().map(|absent| absent.time).collect::<Vec<_>>(), [stepped.minus(s(6)); 2]);
    }

    #[test]
    fn who_looks_at_too_few_falls_behind_without_a_storm() {
        let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
        let mut presence = expecting(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (mut rows, mut most) = (0, 0);
        for second in 1..=1_000 {
            let found = presence.overdue(Moment { unix: EPOCH.plus(s(second)), mono: s(second), boot: s(second) }, 19);
            assert_eq!(found.more, second > 15, "{second}");
            rows += found.absent.len() as u64;
            most = most.max(found.absent.len());
        }
        assert_eq!(most, 19);
        // 380 pairs are looked at in 20 s: every second result has a row.
        let missing = rows + presence.passed_over();
        assert!((rows * 2).abs_diff(missing) < 800 && missing > 380 * 96, "{rows} {}", presence.passed_over());
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the figures are of interest")]
    fn a_million_pairs_cost_little() {
        let names: Vec<String> = (0..1_000).map(|n| format!("probe-{n}")).collect();
        let mut presence = Presence::default();
        let clock = crate::clock::Clock::system();
        let (begun, mut laps) = (clock.now().mono, Vec::new());
        let mut lap = |doing| laps.push((doing, clock.now().mono.saturating_sub(begun)));
        presence.expect(&list(&names.iter().map(String::as_str).collect::<Vec<_>>()), INTERVAL, Duration::ZERO, s(0));
        lap("begun");
        presence.expect(&list(&names.iter().rev().map(String::as_str).collect::<Vec<_>>()), INTERVAL, Duration::ZERO, s(1));
        lap("with another list");
        let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
        for (source, target) in names.iter().flat_map(|source| names.iter().map(move |target| (source, target))) {
            presence.heard(source, target, Proto::V4, s(2));
        }
        lap("all heard");
        let second = |second| Moment { unix: EPOCH, mono: s(second), boot: s(second) };
        (3..=16).for_each(|now| drop(presence.overdue(second(now), usize::MAX)));
        lap("all looked at");
        let bytes = presence.anchors.capacity() * 8 + presence.states.capacity() + presence.due.capacity() * size_of::<(Nanos, u32)>();
        println!("999 000 pairs take {} MB; after {laps:?}", bytes / 1_000_000);
        assert_eq!((presence.expected(), presence.passed_over()), (999_000, 0));
        assert!(bytes < 45_000_000, "{bytes}");
    }

    proptest::proptest! {
        #[test]
        fn it_tells_what_one_who_looks_at_every_pair_every_second_would_tell(
            heard in proptest::collection::vec((0..3usize, 0..3usize, 0..120u64), 0..60)
        ) {
            let names = ["a", "b", "c"];
            let mut presence = expecting(&names);
            let mut anchors = [[0; 3]; 3];
            for second in 1..=120 {
                for (source, target, _) in heard.iter().filter(|(_, _, at)| *at == second) {
                    hear(&mut presence, names[*source], names[*target], second);
                    anchors[*source][*target] = second;
                }
                let mut expected = Vec::new();
                for (source, target) in (0..9).map(|pair| (pair / 3, pair % 3)).filter(|(source, target)| source != target) {
                    let anchor = &mut anchors[source][target];
                    if *anchor + 15 < second {
                        *anchor += 10;
                        expected.push(format!("{}>{}@{anchor}", names[source], names[target]));
                    }
                }
                proptest::prop_assert_eq!(overdue(&mut presence, second), expected);
            }
        }
    }
}
