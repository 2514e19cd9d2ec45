//! A timer that wakes to the microsecond, where tokio's counts in milliseconds.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::Clock;
use crate::sys;

/// A timer of the kernel's, on the event loop of the thread that made it.
pub struct Alarm {
    timer: TimerFd,
    watched: AsyncFd<OwnedFd>,
    /// What it is set to, unless it has rung.
    set_to: Cell<Option<Duration>>,
}

impl Alarm {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let watched = sys::watch(&timer)?;
        Ok(Self { timer, watched, set_to: Cell::new(None) })
    }

    /// Whether the clock shows `at`; if not, the task is woken when it does.
    pub fn poll(&self, context: &mut Context<'_>, clock: &Clock, at: Duration) -> Poll<()> {
        loop {
            let left = at.saturating_sub(clock.mono());
            if left.is_zero() {
                return Poll::Ready(());
            }
            if self.set_to.replace(Some(at)) != Some(at)
                && let Err(errno) = self.timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())
            {
                // It never fails for a time as this; if it does, there is nothing better than to look again.
                tracing::debug!(%errno, "timer cannot be set");
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.watched.poll_read_ready(context) {
                // Setting it anew takes back what it had to say, so nothing is read.
                Poll::Ready(Ok(mut ready)) => {
                    ready.clear_ready();
                    self.set_to.set(None);
                }
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
