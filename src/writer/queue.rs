//! The queue between the probes and the writer: bounded, never blocking, and older than any incarnation of the writer.
//!
//! A mailbox would be lost with its actor; this queue is lent to one incarnation after the other. It is short of room only
//! while no writer runs: then the oldest row goes, and is counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::measurement::Row;

/// A queue for at most `capacity` rows.
pub fn queue(capacity: usize) -> (Outlet, Intake) {
    let shared = Arc::new(Shared {
        rows: Mutex::default(),
        handing_over: Mutex::default(),
        capacity: capacity.max(1),
        arrived: Notify::new(),
        dropped: AtomicU64::new(0),
        told: AtomicU64::new(0),
    });
    (Outlet(Arc::clone(&shared)), Intake(shared))
}

struct Shared {
    rows: Mutex<VecDeque<Row>>,
    handing_over: Mutex<()>,
    capacity: usize,
    arrived: Notify,
    dropped: AtomicU64,
    told: AtomicU64,
}

impl Shared {
    /// No code that can panic runs under the lock, so what it guards is whole even if the lock says poisoned.
    fn rows(&self) -> MutexGuard<'_, VecDeque<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where probes put their rows. Clones share the queue.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

impl Outlet {
    /// Puts a row in. Never waits: if there is no room the oldest row is dropped and counted.
    pub fn send(&self, row: Row) {
        let dropped = {
            let mut rows = self.0.rows();
            let dropped = if rows.len() >= self.0.capacity { rows.pop_front() } else { None };
            rows.push_back(row);
            dropped
        };
        if dropped.is_some() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.0.arrived.notify_one();
    }

    /// Rows dropped because there was no room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Where the writer takes them from. Clones share the queue; one reads at a time.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Waits until there are rows. May be dropped while it waits.
    pub async fn ready(&self) {
        while self.0.rows().is_empty() {
            self.0.arrived.notified().await;
        }
    }

    /// Hands over all rows, in the order in which they were sent. One hand-over at a time: when it returns, no row that was
    /// in the queue before is anywhere but where some hand-over put it.
    pub fn hand_over<T>(&self, to: impl FnOnce(Vec<Row>) -> T) -> T {
        let _one_at_a_time = self.0.handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = std::mem::take(&mut *self.0.rows()).into();
        to(rows)
    }

    /// Rows dropped because there was no room, since this was last asked.
    pub fn newly_dropped(&self) -> u64 {
        let dropped = self.0.dropped.load(Ordering::Relaxed);
        dropped - self.0.told.swap(dropped, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::Timestamp;
    use crate::measurement::{Fields, Series};

    fn row(n: i64) -> Row {
        Row { series: Series::new("m", [("a", "b")]), time: Timestamp::from_nanos(n), fields: Fields::new() }
    }

    fn times(rows: &[Row]) -> Vec<i64> {
        rows.iter().map(|row| row.time.nanos()).collect()
    }

    #[test]
    fn rows_come_out_in_order_and_once() {
        let (outlet, intake) = queue(10);
        (0..3).for_each(|n| outlet.send(row(n)));
        assert_eq!(times(&intake.hand_over(|rows| rows)), [0, 1, 2]);
        assert!(intake.hand_over(|rows| rows).is_empty());
    }

    #[test]
    fn without_room_the_oldest_row_goes_and_is_counted() {
        let (outlet, intake) = queue(3);
        (0..8).for_each(|n| outlet.clone().send(row(n)));
        assert_eq!(times(&intake.hand_over(|rows| rows)), [5, 6, 7]);
        assert_eq!((outlet.dropped(), intake.newly_dropped(), intake.newly_dropped()), (5, 5, 0));
    }

    #[test]
    fn a_reader_that_goes_away_takes_no_wake_up_with_it() {
        let (outlet, intake) = queue(3);
        let mut gone = Box::pin(intake.ready());
        assert!(gone.as_mut().now_or_never().is_none());
        outlet.send(row(1));
        drop(gone);
        assert!(intake.ready().now_or_never().is_some());
        assert_eq!(times(&intake.hand_over(|rows| rows)), [1]);
        assert!(intake.ready().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (outlet, intake) = queue(3);
        let reader = async { (intake.ready().await, intake.hand_over(|rows| rows).len()).1 };
        let (seen, ()) = tokio::join!(reader, async { outlet.send(row(1)) });
        assert_eq!(seen, 1);
    }
}
