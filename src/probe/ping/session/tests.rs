//! The session against scripted networks.

use super::*;
use crate::probe::ping::flight::Stamps;
use crate::probe::ping::packet::Family;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const WALL: i64 = 1_700_000_000_000_000_000;

fn spec(count: u32) -> Spec {
    Spec { peer: "192.0.2.1".parse().unwrap(), count, warmup: 0, spacing: 10 * MS, timeout: 100 * MS, size: 56 }
}

/// What a session wants next.
#[derive(Debug)]
enum Step {
    Send(Request),
    Finished(Tally),
}

fn poll(session: &mut Session, now: Duration) -> Option<Step> {
    let send = session.next_send(now).map(Step::Send);
    send.or_else(|| session.next_finished(now).map(|(_, tally)| Step::Finished(tally)))
}

fn wake(session: &Session) -> Option<Duration> {
    session.send_at().into_iter().chain(session.end_at()).min()
}

fn left(at: Duration) -> Departure {
    Departure { mono: at, wall: Bed::wall(at) }
}

/// What the network does with the packet of an index: replies after these times, in any number.
type Network = dyn Fn(usize) -> Vec<Duration>;

struct Bed {
    session: Session,
    now: Duration,
    /// Replies on their way, and the packets they answer.
    due: Vec<(Duration, Request)>,
    sent_at: Vec<Duration>,
}

impl Bed {
    fn new() -> Self {
        Self { session: Session::new(), now: 1000 * MS, due: Vec::new(), sent_at: Vec::new() }
    }

    fn wall(at: Duration) -> Timestamp {
        Timestamp::from_nanos(WALL).plus(at)
    }

    fn reply(&mut self, request: &Request, at: Duration) {
        let echo = packet::echo_request(Family::V4, request.key.ident, request.key.sequence, request.token, request.size);
        let arrival = Arrival { mono: at, wall: Self::wall(at), wire: Some(Self::wall(at)), ttl: Some(57) };
        self.session.reply(request.key, &echo[packet::ICMP_HEADER..], arrival);
    }

    /// Runs to the end.
    fn run(&mut self, spec: Spec, network: &Network) -> Tally {
        self.session.start(self.now, spec, 7, 0);
        loop {
            self.due.sort_by_key(|(at, _)| Reverse(*at));
            while self.due.last().is_some_and(|(at, _)| *at <= self.now) {
                if let Some((at, request)) = self.due.pop() {
                    self.reply(&request, at);
                }
            }
            match poll(&mut self.session, self.now) {
                Some(Step::Finished(tally)) => return tally,
                Some(Step::Send(request)) => {
                    self.session.sent(&request, left(self.now));
                    self.sent_at.push(self.now);
                    self.due.extend(network(request.index).into_iter().map(|after| (self.now + after, request)));
                }
                None => {
                    let arrival = self.due.iter().map(|(at, _)| *at).min();
                    let wake = wake(&self.session).expect("a run is open, so something is to be waited for");
                    self.now = arrival.map_or(wake, |at| at.min(wake)).max(self.now);
                }
            }
        }
    }
}

#[test]
fn every_packet_answered() {
    let mut bed = Bed::new();
    let tally = bed.run(spec(5), &|_| vec![3 * MS]);
    assert_eq!((tally.sent, tally.rtts.clone(), tally.silent), (5, vec![3 * MS; 5], 0));
    assert_eq!((tally.ttl, tally.stamps), (Some(57), Some(Stamps::KernelRx)));
    assert_eq!(bed.now, 1000 * MS + 43 * MS + LINGER, "over as soon as all is known");
}

#[test]
fn sends_keep_their_spacing() {
    let mut bed = Bed::new();
    bed.run(spec(4), &|_| vec![MS]);
    assert_eq!(bed.sent_at, (0..4).map(|i| 1000 * MS + 10 * MS * i).collect::<Vec<_>>());
}

#[test]
fn after_a_stall_nothing_bursts() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(10), 7, 0);
    let mut sends = Vec::new();
    let mut now = Duration::ZERO;
    while sends.len() < 10 {
        while let Some(Step::Send(request)) = poll(&mut session, now) {
            session.sent(&request, left(now));
            sends.push(now);
        }
        now = if sends.len() == 3 { 75 * MS } else { wake(&session).unwrap() };
    }
    assert!(sends.windows(2).all(|pair| pair[1] >= pair[0] + 5 * MS), "{sends:?}");
}

#[test]
fn silence_is_loss_at_the_time_out_of_the_last() {
    let mut bed = Bed::new();
    let tally = bed.run(spec(3), &|_| vec![]);
    assert_eq!((tally.silent, tally.rtts.len(), tally.stamps), (3, 0, None));
    assert_eq!(bed.now, 1000 * MS + 20 * MS + 100 * MS);
}

#[test]
fn a_late_reply_counts_as_lost() {
    let tally = Bed::new().run(spec(11), &|index| if index == 0 { vec![105 * MS] } else { vec![MS] });
    assert_eq!((tally.late, tally.rtts.len(), tally.silent), (1, 10, 0));
}

#[test]
fn a_reply_after_the_close_is_lost_and_counted_apart() {
    let mut bed = Bed::new();
    assert_eq!(bed.run(spec(1), &|_| vec![150 * MS]).silent, 1);
    let (at, request) = bed.due.pop().unwrap();
    bed.reply(&request, at);
    assert_eq!(bed.session.take_counters(), Counters { late_after_close: 1, ..Counters::default() });
}

#[test]
fn duplicates_do_not_raise_what_was_received() {
    let tally = Bed::new().run(spec(3), &|_| vec![MS, MS, 2 * MS]);
    assert_eq!((tally.rtts.len(), tally.duplicates), (3, 6));
}

#[test]
fn reordered_replies_keep_their_own_times() {
    let tally = Bed::new().run(spec(3), &|index| vec![[25 * MS, 5 * MS, 5 * MS][index]]);
    assert_eq!(tally.rtts, [25 * MS, 5 * MS, 5 * MS]);
    assert_eq!(tally.reordered, 1, "packet 0 came after packet 1");
}

#[test]
fn warm_up_packets_count_for_nothing() {
    let warm = Spec { warmup: 2, ..spec(3) };
    let tally = Bed::new().run(warm, &|index| if index < 2 { vec![MS, MS] } else { vec![4 * MS] });
    assert_eq!((tally.sent, tally.rtts, tally.duplicates), (3, vec![4 * MS; 3], 0));
}

#[test]
fn an_error_settles_a_packet_at_once() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(1), 7, 0);
    let Some(Step::Send(request)) = poll(&mut session, Duration::ZERO) else { panic!("nothing sent") };
    session.sent(&request, left(Duration::ZERO));
    let error = IcmpError { family: Family::V4, icmp_type: 3, code: 1 };
    let router: IpAddr = "10.0.0.1".parse().unwrap();
    assert!(session.icmp_error(router, error, Key { sequence: 99, ..request.key }, MS).is_none(), "somebody else's packet");
    assert!(session.icmp_error(router, error, request.key, MS).is_some());
    let Some(Step::Finished(tally)) = poll(&mut session, MS) else { panic!("still waiting") };
    assert_eq!(tally.icmp_errors, [(error, router)]);
}

#[test]
fn what_the_host_did_not_send_is_not_loss_and_is_not_waited_for() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(1), 7, 0);
    let Some(Step::Send(request)) = poll(&mut session, Duration::ZERO) else { panic!("nothing sent") };
    session.refused(&request, "EPERM".to_owned(), Duration::ZERO);
    let Some(Step::Finished(tally)) = poll(&mut session, Duration::ZERO) else { panic!("still waiting") };
    assert_eq!((tally.sent, tally.silent, tally.local_errors), (1, 0, vec!["EPERM".to_owned()]));
}

#[test]
fn a_forged_or_damaged_reply_is_not_believed() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(1), 7, 0);
    let Some(Step::Send(request)) = poll(&mut session, Duration::ZERO) else { panic!("nothing sent") };
    session.sent(&request, left(Duration::ZERO));
    let arrival = Arrival { mono: MS, wall: Bed::wall(MS), wire: None, ttl: None };
    let genuine = packet::echo_request(Family::V4, 7, 0, request.token, 56)[packet::ICMP_HEADER..].to_vec();
    assert!(session.reply(request.key, &packet::echo_request(Family::V4, 7, 0, 2, 56)[8..], arrival).is_none());
    assert!(session.reply(Key { peer: "192.0.2.2".parse().unwrap(), ..request.key }, &genuine, arrival).is_none());
    let mut damaged = genuine.clone();
    damaged[55] ^= 1;
    assert!(session.reply(request.key, &damaged, arrival).is_none());
    assert!(session.reply(request.key, &genuine, arrival).is_some(), "the true one still counts");
    let Some(Step::Finished(tally)) = poll(&mut session, 100 * MS) else { panic!("still waiting") };
    assert_eq!((tally.rtts.len(), tally.corrupt, tally.stamps), (1, 0, Some(Stamps::User)));
    assert_eq!(session.take_counters(), Counters { forged: 1, unmatched: 1, late_after_close: 0 });
}

/// The round-trip time of one packet that left at 1 ms, and whose clock it is from.
fn measured(transmitted: Option<Timestamp>, arrival: Arrival) -> (Duration, Stamps) {
    let mut session = Session::new();
    let run = session.start(MS, spec(1), 7, 0);
    let request = session.next_send(MS).unwrap();
    session.sent(&request, Departure { mono: MS, wall: Timestamp::from_nanos(WALL) });
    if let Some(at) = transmitted {
        session.transmitted(run, 0, at, 2 * MS);
    }
    let genuine = packet::echo_request(Family::V4, 7, 0, request.token, 56);
    session.reply(request.key, &genuine[packet::ICMP_HEADER..], arrival).unwrap();
    let (_, tally) = session.next_finished(Duration::from_secs(1)).unwrap();
    (tally.rtts[0], tally.stamps.unwrap())
}

#[test]
fn a_stepped_clock_never_makes_a_round_trip() {
    let at = |nanos: i64| Timestamp::from_nanos(WALL + nanos);
    let arrival = |step: i64, stamp: i64| Arrival { mono: 3 * MS, wall: at(2_000_000 + step), wire: Some(at(stamp + step)), ttl: None };
    assert_eq!(measured(None, arrival(0, 1_500_000)), (Duration::from_micros(1500), Stamps::KernelRx));
    for step in [-3_600_000_000_000, -1_400_000, 1_400_000, 3_600_000_000_000] {
        assert_eq!(measured(None, arrival(step, 1_500_000)), (2 * MS, Stamps::User), "stepped by {step} ns");
    }
    assert_eq!(measured(Some(at(500_000)), arrival(0, 1_500_000)), (MS, Stamps::Kernel));
    // What passed before the packet left is not the network's, whichever clock is believed in the end.
    assert_eq!(measured(Some(at(500_000)), arrival(3_600_000_000_000, 1_500_000)), (Duration::from_micros(1500), Stamps::User));
    assert_eq!(measured(Some(at(3_600_000_000_000)), arrival(0, 1_500_000)).1, Stamps::KernelRx, "a stamp that cannot be");
}

#[test]
fn runs_to_one_peer_under_one_identifier_share_no_sequence_number() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(1), 7, 0);
    session.start(Duration::ZERO, spec(1), 7, 0);
    let mut keys = Vec::new();
    while let Some(Step::Send(request)) = poll(&mut session, Duration::ZERO) {
        keys.push(request.key.sequence);
    }
    assert_eq!(keys, [0, 1]);
}

#[test]
fn the_numbers_of_a_long_run_wrap_around_and_none_is_in_flight_twice() {
    let mut session = Session::new();
    let long = Spec { count: 70_000, spacing: 10 * MS, timeout: Duration::from_mins(10), ..spec(1) };
    session.start(Duration::ZERO, long, 7, 65_000);
    let requests: Vec<Request> = (0..70_000_u32)
        .map(|n| {
            let request = session.next_send(10 * MS * n);
            request.inspect(|request| session.sent(request, left(10 * MS * n)))
        })
        .map_while(|request| request)
        .collect();
    assert_eq!(requests.len(), SEQUENCES, "packet 65 536 would have the number of packet 0, which is still awaited");
    let last = requests.last().unwrap();
    assert_eq!((last.key.sequence, last.index), (64_999, 65_535));
    let late = session.start(10 * MS, spec(3), 7, 0);
    assert!(session.runs[&late].sequences().is_none(), "no number is free");
}

#[test]
fn runs_that_share_an_identifier_find_their_own_packets() {
    let mut session = Session::new();
    let (first, second) = (session.start(Duration::ZERO, spec(3), 7, 65_534), session.start(Duration::ZERO, spec(3), 7, 65_535));
    assert_eq!(session.runs[&second].sequences(), Some((1, 3)));
    let mut owners = Vec::new();
    for now in [Duration::ZERO, 10 * MS, 20 * MS] {
        while let Some(request) = session.next_send(now) {
            session.sent(&request, left(now));
            owners.push((request.run, session.find(request.key).unwrap()));
        }
    }
    assert!(owners.iter().all(|(run, found)| *run == found.0), "{owners:?}");
    session.cancel(first);
    assert_eq!(session.routes.len(), 1);
    session.cancel(second);
    assert!(session.routes.is_empty());
}

#[test]
fn a_reply_that_was_damaged_is_the_fate_of_its_packet_if_no_other_comes() {
    let mut session = Session::new();
    session.start(Duration::ZERO, spec(1), 7, 0);
    let request = session.next_send(Duration::ZERO).unwrap();
    session.sent(&request, left(Duration::ZERO));
    let mut damaged = packet::echo_request(Family::V4, 7, 0, request.token, 56)[packet::ICMP_HEADER..].to_vec();
    damaged[20] ^= 1;
    session.reply(request.key, &damaged, Arrival { mono: MS, wall: Bed::wall(MS), wire: None, ttl: None });
    let (_, tally) = session.next_finished(100 * MS).unwrap();
    assert_eq!((tally.sent, tally.corrupt, tally.silent), (1, 1, 0));
}

#[test]
fn what_this_host_threw_away_is_not_loss() {
    let mut session = Session::new();
    let run = session.start(Duration::ZERO, spec(1), 7, 0);
    let Some(Step::Send(request)) = poll(&mut session, Duration::ZERO) else { panic!("nothing sent") };
    session.sent(&request, left(Duration::ZERO));
    session.overflow([run]);
    let Some(Step::Finished(tally)) = poll(&mut session, 100 * MS) else { panic!("still waiting") };
    assert_eq!((tally.local_drops, tally.silent), (1, 0));
}

/// Two packets, of which the kernel stamps the first; nothing comes back.
fn half_stamped(forget: bool) -> Tally {
    let mut session = Session::new();
    let run = session.start(Duration::ZERO, spec(2), 7, 0);
    for now in [Duration::ZERO, 10 * MS] {
        let Some(Step::Send(request)) = poll(&mut session, now) else { panic!("nothing sent") };
        session.sent(&request, left(now));
    }
    session.transmitted(run, 0, Bed::wall(MS), 20 * MS);
    if forget {
        (0..2).for_each(|index| session.forget_stamp(run, index));
    }
    let Some(Step::Finished(tally)) = poll(&mut session, Duration::from_secs(1)) else { panic!("still waiting") };
    tally
}

#[test]
fn a_packet_that_the_kernel_never_stamped_never_left() {
    let tally = half_stamped(false);
    assert_eq!((tally.sent, tally.silent, tally.local_errors.len()), (2, 1, 1), "{tally:?}");
    let tally = half_stamped(true);
    assert_eq!((tally.silent, tally.local_errors.len()), (2, 0), "stamps that were lost say nothing");
}

proptest! {
    #[test]
    fn every_packet_has_exactly_one_fate(count in 1u32..30, delays in prop::collection::vec(prop::collection::vec(0u64..200, 0..3), 30)) {
        let mut bed = Bed::new();
        let tally = bed.run(spec(count), &move |index| delays[index].iter().map(|ms| MS * *ms as u32).collect());
        let fates = tally.rtts.len() as u64 + tally.late + tally.silent + tally.icmp_errors.len() as u64 + tally.local_errors.len() as u64 + tally.local_drops + tally.corrupt;
        prop_assert_eq!(fates, tally.sent);
        prop_assert_eq!(tally.sent, u64::from(count));
        prop_assert!(bed.session.routes.is_empty() && bed.session.runs.is_empty());
    }
}
