//! The batch of a backlog that is made ready while the one before it is on its way.

use super::*;

#[test]
fn the_next_batch_of_a_backlog_is_foretold_while_one_is_on_its_way_and_live_rows_do_not_change_it() {
    let mut outbox = outbox(10);
    let foretold = |after| Some(Reading { after: p(after), upto: p(90), limit: 10, part: Arc::default() });
    assert_eq!(outbox.ahead(), None, "nothing is on its way");
    assert_eq!(posted(&mut outbox, s(1), 100, &all(100)), list(91, 100));
    assert_eq!(outbox.ahead(), foretold(0));
    outbox.answered(s(1), 0.5, Verdict::Accepted);
    assert_eq!(outbox.next(s(1), p(100)), Step::Read(foretold(0).unwrap()));
    assert_eq!(posted(&mut outbox, s(1), 100, &all(100)), list(1, 10));
    assert_eq!(outbox.ahead(), foretold(10));
    outbox.answered(s(1), 0.5, Verdict::Accepted);
    // Live rows take their turn, and what was foretold comes behind them.
    assert_eq!(posted(&mut outbox, s(1), 110, &all(110)), list(101, 110));
    assert_eq!(outbox.ahead(), foretold(10));
    outbox.answered(s(1), 0.5, Verdict::Accepted);
    assert_eq!(outbox.next(s(1), p(110)), Step::Read(foretold(10).unwrap()));
}

#[test]
fn nothing_is_foretold_without_a_backlog_or_while_rows_are_suspected() {
    let mut outbox = outbox(10);
    assert_eq!(posted(&mut outbox, s(1), 30, &all(30)), list(1, 10));
    assert_eq!(outbox.ahead(), None, "the rest is no backlog");
    let mut outbox = self::outbox(10);
    posted(&mut outbox, s(1), 100, &all(100));
    outbox.answered(s(1), 0.5, refused());
    assert_eq!(posted(&mut outbox, s(1), 100, &all(100)), list(91, 95));
    assert_eq!(outbox.ahead(), None, "the other half comes first");
}
