//! The outbox against every answer, and against a server that does its worst.

use std::collections::BTreeSet;

use super::*;

#[path = "outbox_ahead_tests.rs"]
mod ahead;
#[path = "outbox_world_tests.rs"]
mod world;

const SECOND: Duration = Duration::from_secs(1);

fn p(position: u64) -> Position {
    Position(position)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outbox(batch_size: usize) -> Outbox {
    Outbox::new(Acknowledged::starting_at(p(0)), Limits { batch_size, flush_interval: SECOND })
}

/// A body that says which rows it carries.
fn body(positions: &[Position]) -> Bytes {
    positions.iter().map(|position| position.0.to_string()).collect::<Vec<_>>().join(" ").into()
}

fn carried(body: &Bytes) -> Vec<u64> {
    std::str::from_utf8(body).unwrap().split(' ').map(|position| position.parse().unwrap()).collect()
}

/// What the journal holds of what is to be read.
fn read(journal: &BTreeSet<u64>, reading: &Reading) -> Vec<Position> {
    journal.range(reading.after.0 + 1..=reading.upto.0).take(reading.limit).map(|position| p(*position)).collect()
}

/// Goes on until there is something to post; other steps must not occur.
fn posted(outbox: &mut Outbox, now: Duration, tip: u64, journal: &BTreeSet<u64>) -> Vec<u64> {
    loop {
        match outbox.next(now, p(tip)) {
            Step::Read(reading) => {
                let positions = read(journal, &reading);
                let body = (!positions.is_empty()).then(|| body(&positions));
                outbox.loaded(now, reading, positions, body);
            }
            Step::Post { body, rows } => {
                let carried = carried(&body);
                assert_eq!(carried.len(), rows);
                return carried;
            }
            other => panic!("nothing to post: {other:?}"),
        }
    }
}

fn all(n: u64) -> BTreeSet<u64> {
    (1..=n).collect()
}

fn list(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

fn unknown() -> Verdict {
    Verdict::Unknown { why: "reset".to_owned() }
}

fn refused() -> Verdict {
    Verdict::Refused { why: "400".to_owned(), refused: None }
}

/// The positions and reasons of what died.
fn dead(outbox: &mut Outbox) -> Vec<(u64, String)> {
    outbox.take_dead().into_iter().map(|letter| (letter.position.0, letter.reason)).collect()
}

#[test]
fn nothing_to_send_waits_for_the_tip() {
    assert_eq!(outbox(5).next(s(0), p(0)), Step::Idle);
}

#[test]
fn what_is_gone_from_the_journal_is_not_pending() {
    let mut outbox = outbox(5);
    outbox.next(s(0), p(100));
    let pending = [1, 41, 100, 101, 200].map(|first| outbox.pending_from(p(first)));
    assert_eq!((outbox.pending(), pending), (100, [100, 60, 1, 0, 0]));
}

#[test]
fn a_few_rows_wait_for_others_and_a_full_batch_goes_at_once() {
    let mut outbox = outbox(5);
    assert_eq!(outbox.next(s(10), p(3)), Step::Wait(s(11)));
    assert_eq!(outbox.next(s(10) + SECOND / 2, p(4)), Step::Wait(s(11)));
    assert_eq!(posted(&mut outbox, s(10) + SECOND / 2, 12, &all(12)), list(1, 5));
    outbox.answered(s(10), 0.5, Verdict::Accepted);
    assert_eq!(posted(&mut outbox, s(10) + SECOND / 2, 12, &all(12)), list(6, 10));
    outbox.answered(s(10), 0.5, Verdict::Accepted);
    assert_eq!(outbox.next(s(10) + SECOND / 2, p(12)), Step::Wait(s(11)));
    assert_eq!(posted(&mut outbox, s(11), 12, &all(12)), list(11, 12));
    outbox.answered(s(11), 0.5, Verdict::Accepted);
    assert_eq!(outbox.next(s(11), p(12)), Step::Idle);
    assert_eq!(outbox.next(s(20), p(13)), Step::Wait(s(21)));
    assert_eq!(outbox.take_changed().unwrap().floor(), p(12));
    assert!(outbox.take_changed().is_none());
    assert_eq!((outbox.pending(), outbox.counters().delivered), (1, 12));
}

#[test]
fn asking_twice_changes_nothing() {
    let mut outbox = outbox(2);
    let step = outbox.next(s(0), p(2));
    assert_eq!(step, Step::Read(Reading { after: p(0), upto: p(2), limit: 2, part: Arc::default() }));
    assert_eq!(outbox.next(s(0), p(2)), step);
    posted(&mut outbox, s(0), 2, &all(2));
    assert_eq!(outbox.next(s(0), p(2)), outbox.next(s(0), p(2)));
}

#[test]
fn positions_without_a_row_are_acknowledged_with_the_others() {
    let mut outbox = outbox(3);
    assert_eq!(posted(&mut outbox, s(1), 9, &BTreeSet::from([4, 6])), [4, 6]);
    outbox.answered(s(1), 0.0, Verdict::Accepted);
    assert_eq!(outbox.take_changed().unwrap().floor(), p(9));
}

#[test]
fn rows_with_nothing_to_send_are_acknowledged_unsent() {
    let mut outbox = outbox(3);
    let Step::Read(reading) = outbox.next(s(0), p(3)) else { panic!() };
    outbox.loaded(s(0), reading, vec![p(1), p(2), p(3)], None);
    assert_eq!(outbox.next(s(0), p(3)), Step::Idle);
    assert_eq!((outbox.pending(), outbox.counters().delivered), (0, 0));
}

#[test]
fn an_unknown_outcome_sends_the_very_same_again_though_more_rows_have_come() {
    let mut outbox = outbox(10);
    outbox.next(s(0), p(3));
    let first = posted(&mut outbox, s(1), 3, &all(3));
    let mut now = s(1);
    for _ in 0..20 {
        outbox.answered(now, 1.0, unknown());
        let Step::Wait(until) = outbox.next(now, p(43)) else { panic!() };
        assert!(until <= now + s(60) && until > now);
        now = until;
        assert_eq!(posted(&mut outbox, now, 43, &all(43)), first);
    }
    outbox.answered(now, 1.0, Verdict::Accepted);
    assert_eq!(posted(&mut outbox, now, 43, &all(43)), list(4, 13));
    assert_eq!(outbox.counters(), Counters { delivered: 3, retries: 20, ..Counters::default() });
}

#[test]
fn a_server_that_says_when_is_waited_for() {
    let mut outbox = outbox(1);
    posted(&mut outbox, s(0), 1, &all(1));
    outbox.answered(s(5), 0.0, Verdict::After { wait: s(100), why: "429".to_owned() });
    assert_eq!(outbox.next(s(6), p(1)), Step::Wait(s(105)));
    assert_eq!((outbox.backing_off(s(6)), outbox.backing_off(s(105))), (Some(s(105)), None));
    assert_eq!(posted(&mut outbox, s(105), 1, &all(1)), [1]);
}

#[test]
fn a_server_that_wants_a_person_keeps_everything_and_says_so_once() {
    let mut outbox = outbox(2);
    let mut now = s(0);
    for _ in 0..50 {
        assert_eq!(posted(&mut outbox, now, 8, &all(8)), [1, 2]);
        outbox.answered(now, 0.9, Verdict::Hold { why: "401".to_owned() });
        now += s(60);
    }
    assert_eq!(outbox.take_events(), [Event::Failing { why: "401".to_owned() }]);
    assert_eq!(outbox.failing(), Some((s(0), "401")));
    assert_eq!((outbox.pending(), outbox.take_changed()), (8, None));
    posted(&mut outbox, now, 8, &all(8));
    outbox.answered(now, 0.9, Verdict::Accepted);
    assert_eq!(outbox.take_events(), [Event::Works { after: now }]);
}

#[test]
fn one_poison_row_in_5000_is_found_by_halves_and_becomes_a_dead_letter_while_the_rest_flows_on() {
    let mut outbox = outbox(5000);
    let mut requests = 0;
    let mut stored = BTreeSet::new();
    while outbox.pending() > 0 || requests == 0 {
        let rows = posted(&mut outbox, s(0), 5000, &all(5000));
        requests += 1;
        let verdict = if rows.contains(&777) {
            refused()
        } else {
            stored.extend(rows);
            Verdict::Accepted
        };
        outbox.answered(s(0), 0.0, verdict);
    }
    assert!(requests <= 2 * 13 + 2, "{requests} requests");
    assert_eq!(stored.len(), 4999);
    assert_eq!(outbox.take_events(), [Event::Dead { rows: 1, why: "400".to_owned() }]);
    assert_eq!(dead(&mut outbox), [(777, "400".to_owned())]);
    assert_eq!(outbox.take_changed(), Some(&Acknowledged::starting_at(p(5000))));
    assert_eq!(outbox.counters(), Counters { delivered: 4999, refused: 1, ..Counters::default() });
    assert_eq!(outbox.next(s(0), p(5000)), Step::Idle);
    assert_eq!(outbox.last_refusal(), Some("400"));
}

#[test]
fn a_letter_is_handed_over_no_earlier_and_no_later_than_its_row_is_acknowledged() {
    let mut outbox = outbox(4);
    let mut acknowledged = Acknowledged::default();
    for _ in 0..10 {
        let Step::Read(_) = outbox.next(s(1), p(4)) else { break };
        let sent = posted(&mut outbox, s(1), 4, &all(4));
        outbox.answered(s(1), 0.0, if sent.contains(&2) { refused() } else { Verdict::Accepted });
        let dead = dead(&mut outbox);
        if let Some(now) = outbox.take_changed() {
            acknowledged = now.clone();
        }
        assert_eq!(dead.iter().any(|(position, _)| *position == 2), sent == [2]);
        assert_eq!(acknowledged.contains(p(2)), sent == [2] || acknowledged.floor() == p(4));
    }
    assert_eq!(acknowledged.floor(), p(4));
}

#[test]
fn a_batch_of_which_nothing_was_stored_is_dead_at_once() {
    let mut outbox = outbox(100);
    assert_eq!(posted(&mut outbox, s(0), 100, &all(100)).len(), 100);
    let beyond = |refused| Verdict::Refused { why: "points beyond retention policy".to_owned(), refused: Some(refused) };
    outbox.answered(s(0), 0.0, beyond(99));
    assert_eq!(dead(&mut outbox), []);
    assert_eq!(posted(&mut outbox, s(0), 100, &all(100)), list(1, 50));
    outbox.answered(s(0), 0.0, beyond(50));
    assert_eq!((dead(&mut outbox).len(), outbox.take_changed().unwrap().floor()), (50, p(50)));
    assert_eq!(posted(&mut outbox, s(0), 100, &all(100)), list(51, 100));
}

#[test]
fn after_a_restart_a_gap_is_tried_at_once_and_alone() {
    let mut acknowledged = Acknowledged::starting_at(p(4));
    acknowledged.add(p(6), p(9));
    let mut outbox = Outbox::new(acknowledged, Limits { batch_size: 10, flush_interval: SECOND });
    assert_eq!(posted(&mut outbox, s(0), 12, &all(12)), [5]);
    outbox.answered(s(0), 0.0, refused());
    assert_eq!(outbox.next(s(0), p(12)), Step::Wait(s(1)));
    assert_eq!(posted(&mut outbox, s(1), 12, &all(12)), list(10, 12));
}

#[test]
fn a_server_that_refuses_everything_is_asked_twice_a_row_at_most_and_does_not_stop_the_output() {
    let mut outbox = outbox(500);
    let (mut requests, mut letters) = (0, BTreeSet::new());
    while let Step::Read(_) | Step::Post { .. } = outbox.next(s(1), p(10_000)) {
        posted(&mut outbox, s(1), 10_000, &all(10_000));
        outbox.answered(s(1), 0.0, refused());
        letters.extend(dead(&mut outbox).into_iter().map(|(position, _)| position));
        requests += 1;
    }
    assert!(requests < 20_000, "{requests} requests");
    assert_eq!((letters, outbox.pending()), (all(10_000), 0));
    assert_eq!(outbox.take_events().len(), 1, "told once a minute");
    assert_eq!(posted(&mut outbox, s(5), 10_500, &all(10_500)).len(), 500);
    outbox.answered(s(5), 0.0, Verdict::Accepted);
    assert_eq!((outbox.pending(), outbox.counters().delivered, outbox.counters().refused), (0, 500, 10_000));
}

#[test]
fn a_batch_too_large_is_halved_and_batches_grow_back_slowly() {
    let mut outbox = outbox(200);
    let (mut sizes, mut stored) = (Vec::new(), Vec::new());
    let rows = all(20_000);
    for _ in 0..160 {
        let sent = posted(&mut outbox, s(1), 20_000, &rows);
        sizes.push(sent.len());
        let verdict = if sent.len() > 30 {
            Verdict::TooLarge
        } else {
            stored.extend(sent);
            Verdict::Accepted
        };
        outbox.answered(s(1), 0.0, verdict);
    }
    let distinct: BTreeSet<u64> = stored.iter().copied().collect();
    assert_eq!(distinct.len(), stored.len(), "none twice");
    assert_eq!(sizes[..8], [200, 100, 50, 25, 25, 25, 25, 25]);
    let too_large = sizes.iter().filter(|size| **size > 30).count();
    assert!((5..=9).contains(&too_large), "{too_large}");
}

#[test]
fn a_single_row_too_large_is_a_dead_letter() {
    let mut outbox = outbox(1);
    posted(&mut outbox, s(0), 2, &all(2));
    outbox.answered(s(0), 0.0, Verdict::TooLarge);
    assert_eq!(dead(&mut outbox), [(1, "a single row is too large".to_owned())]);
    assert_eq!(posted(&mut outbox, s(0), 2, &all(2)), [2]);
}

#[test]
fn a_journal_that_cannot_be_read_is_tried_later() {
    let mut outbox = outbox(1);
    let Step::Read(_) = outbox.next(s(0), p(1)) else { panic!() };
    outbox.unreadable(s(0), 1.0);
    assert_eq!(outbox.next(s(0), p(1)), Step::Wait(SECOND / 2));
    assert_eq!(posted(&mut outbox, SECOND / 2, 1, &all(1)), [1]);
}

#[test]
fn the_back_off_begins_anew_after_a_success() {
    let mut outbox = outbox(1);
    let mut now = s(0);
    for _ in 0..10 {
        posted(&mut outbox, now, 2, &all(2));
        outbox.answered(now, 1.0, unknown());
        now += s(60);
    }
    posted(&mut outbox, now, 2, &all(2));
    outbox.answered(now, 1.0, Verdict::Accepted);
    posted(&mut outbox, now, 2, &all(2));
    outbox.answered(now, 1.0, unknown());
    assert_eq!(outbox.next(now, p(2)), Step::Wait(now + SECOND / 2));
}

#[test]
fn a_refused_row_is_acknowledged_with_the_unused_positions_around_it() {
    let mut outbox = outbox(1);
    assert_eq!(posted(&mut outbox, s(1), 1, &all(1)), [1]);
    outbox.answered(s(1), 0.0, Verdict::Accepted);
    outbox.next(s(1), p(5));
    let Step::Read(reading) = outbox.next(s(2), p(5)) else { panic!() };
    outbox.loaded(s(2), Reading { limit: 2, ..reading }, vec![p(3)], Some(body(&[p(3)])));
    outbox.answered(s(2), 0.0, refused());
    assert_eq!((dead(&mut outbox).len(), outbox.take_changed().unwrap().floor()), (1, p(5)));
}

#[test]
fn a_verdict_nobody_asked_for_is_ignored() {
    let mut outbox = outbox(1);
    outbox.answered(s(0), 0.0, Verdict::Accepted);
    assert_eq!((outbox.next(s(0), p(0)), outbox.counters()), (Step::Idle, Counters::default()));
}

#[test]
fn after_an_outage_the_newest_batch_goes_first_and_live_rows_take_turns_with_the_backlog() {
    let (mut outbox, mut now) = (outbox(10), s(1));
    let (mut tip, mut order) = (100, Vec::new());
    while outbox.pending() > 0 || order.is_empty() {
        let rows = posted(&mut outbox, now, tip, &all(tip));
        order.push((rows[0], rows.len()));
        outbox.answered(now, 0.5, Verdict::Accepted);
        assert!(outbox.take_changed().unwrap().ranges().len() <= 1);
        // Three rows a second, and four requests.
        now += SECOND / 4;
        tip += if order.len() % 4 == 0 && tip < 112 { 3 } else { 0 };
        if tip == 112 && outbox.next(now, p(tip)) == Step::Idle {
            break;
        }
        if let Step::Wait(until) = outbox.next(now, p(tip)) {
            now = until;
        }
    }
    assert_eq!(order[..3], [(91, 10), (1, 10), (11, 10)]);
    let live: Vec<_> = order.iter().filter(|(first, _)| *first > 100).collect();
    assert!(live.iter().all(|(_, rows)| *rows <= 6), "each within two seconds: {order:?}");
    let first_live = order.iter().position(|(first, _)| *first == 101).unwrap();
    assert!(first_live < order.len() - 2, "live rows do not wait for the end of the backlog: {order:?}");
    let touching = |pair: &[(u64, usize)]| pair.iter().all(|(first, _)| *first > 100);
    assert!(!order[..order.len() - 2].windows(2).any(touching), "at least every other batch is of the backlog: {order:?}");
    assert_eq!(outbox.counters().delivered, tip);
}

#[test]
fn when_no_further_range_can_be_kept_rows_go_in_order() {
    let mut acknowledged = Acknowledged::starting_at(p(1));
    (1..=64).for_each(|k| acknowledged.add(p(10 * k), p(10 * k)));
    let mut outbox = Outbox::new(acknowledged, Limits { batch_size: 5, flush_interval: SECOND });
    let rows = all(2000);
    let mut most = 0;
    for _ in 0..600 {
        let Step::Read(_) = outbox.next(s(1), p(2000)) else { break };
        posted(&mut outbox, s(1), 2000, &rows);
        outbox.answered(s(1), 0.5, Verdict::Accepted);
        most = most.max(outbox.take_changed().unwrap().ranges().len());
    }
    assert_eq!((outbox.pending(), outbox.counters().delivered, most), (0, 1935, 64));
}
