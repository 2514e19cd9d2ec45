//! The thread that reads requests and writes replies when they are due.
//!
//! It waits for the device and for a timer of the kernel, never by spinning, and ahead of ordinary programs: the delay of a
//! reply is to be that of its rule, also on a busy machine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tun_rs::SyncDevice;

use super::STRANGER;
use super::log::{Entry, Log};
use super::packet::Echo;
use super::rule::{Means, Reply, Rule, answer};

/// How many requests are read before it is looked whether a reply is due.
const A_TURN: usize = 32;

/// Everything that the thread has.
pub(super) struct Desk {
    device: Arc<SyncDevice>,
    rules: HashMap<IpAddr, Rule>,
    seen: HashMap<IpAddr, u64>,
    due: BinaryHeap<Reverse<Due>>,
    log: Arc<Mutex<Log>>,
    timer: TimerFd,
    /// How many replies there were, so that of two at one time the first stays so.
    numbered: u64,
}

/// A reply that waits: ordered by time, then by number.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
    means: Means,
    /// Which entry of the log it answers; a stranger's has none.
    entry: Option<usize>,
}

impl Desk {
    pub(super) fn new(device: Arc<SyncDevice>, rules: HashMap<IpAddr, Rule>, log: Arc<Mutex<Log>>) -> Self {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC);
        let timer = timer.expect("a timer can be had");
        Self { device, rules, seen: HashMap::new(), due: BinaryHeap::new(), log, timer, numbered: 0 }
    }

    /// Reads and answers until the other end of `stopped` is closed.
    pub(super) fn serve(mut self, stopped: &UnixStream) {
        hurry();
        loop {
            let (device, timer, stop) = {
                let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
                let mut fds = [wanted(self.device.as_fd()), wanted(self.timer.as_fd()), wanted(stopped.as_fd())];
                poll(&mut fds, PollTimeout::NONE).expect("descriptors can be waited for");
                fds.map(|fd| fd.any().unwrap_or(true)).into()
            };
            if stop {
                return;
            }
            if timer {
                // It has run out, or was set anew in between.
                let _ = self.timer.wait();
            }
            if device {
                self.read();
            }
            self.write();
            self.set_timer();
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 2048];
        for _ in 0..A_TURN {
            match self.device.recv(&mut bytes) {
                Ok(length) => self.take(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Without its link there is nothing to read until it is up again.
                Err(_) => return,
            }
            self.write();
        }
    }

    /// A packet that came: what is to be done for it, and when.
    fn take(&mut self, packet: &[u8]) {
        let (now, read) = (Instant::now(), wall());
        let Some(echo) = Echo::parse(packet) else { return };
        let entry = self.enter(&echo, read);
        let nth = entry.map_or(0, |_| {
            let seen = self.seen.entry(echo.target).or_default();
            *seen += 1;
            *seen - 1
        });
        let Some(rule) = self.rules.get(&echo.target) else { return };
        for Reply { after, means, bytes } in answer(rule, nth, &echo) {
            self.numbered += 1;
            self.due.push(Reverse(Due { at: now + after, number: self.numbered, bytes, means, entry }));
        }
    }

    /// Writes a request into the log; `None` for a stranger's.
    fn enter(&self, echo: &Echo, read: i64) -> Option<usize> {
        let mut log = self.log.lock().expect("whoever holds it does not panic");
        if echo.payload().starts_with(STRANGER) {
            log.strangers += 1;
            return None;
        }
        let Echo { target, ident, sequence, .. } = *echo;
        log.entries.push(Entry { target, ident, sequence, left: read, replies: Vec::new(), noise: 0 });
        Some(log.entries.len() - 1)
    }

    /// Writes what is due.
    fn write(&mut self) {
        while let Some(Reverse(due)) = self.due.peek().filter(|due| due.0.at <= Instant::now()) {
            // Read before the write: a prober's stamp is not earlier than this.
            let (at, outcome) = (wall(), self.device.send(&due.bytes));
            if outcome.is_ok()
                && let Some(entry) = due.entry
            {
                let mut log = self.log.lock().expect("whoever holds it does not panic");
                match due.means {
                    Means::Noise => log.entries[entry].noise += 1,
                    means => log.entries[entry].replies.push((means, at)),
                }
            }
            self.due.pop();
        }
    }

    fn set_timer(&self) {
        let Some(Reverse(Due { at, .. })) = self.due.peek() else { return };
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let timer = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(timer, TimerSetTimeFlags::empty()).expect("a timer can be set");
    }
}

/// Nanoseconds since the epoch.
fn wall() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after the epoch");
    i64::try_from(now.as_nanos()).expect("this century fits into an i64")
}

/// Puts the calling thread ahead of all that are not in a hurry.
fn hurry() {
    let thread = nix::unistd::gettid().to_string();
    let status = Command::new("/usr/bin/chrt").args(["--fifo", "--pid", "1", &thread]).status().expect("util-linux is there");
    assert!(status.success(), "root may order threads by priority");
}
