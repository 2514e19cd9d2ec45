//! A socket as an engine uses it: registered with the event loop, its stamps matched to packets, its overflows seen.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pace::MESSAGE;
use super::packet::{Family, IcmpError, Key};
use super::session::RunId;
use super::socket::{Channel, IcmpSocket, Identity, Sockets};
use super::wire::{self, Heard};
use crate::clock::Timestamp;
use crate::sys::{self, BATCH, Inbox, Outgoing, Queue};

/// Batches that are read in one turn, before what is due is done.
pub const A_TURN: usize = 64;
/// How many packets may wait for their transmit stamp; the kernel delivers them at once or never.
const AWAITING_STAMPS: usize = 4096;
/// So many packets without a stamp when the error queue was just read: this kernel gives none.
const NO_STAMPS: usize = 64;

/// Tells when a port has something to read. Waiting for it borrows nothing of the port.
#[derive(Clone)]
pub struct Readiness {
    socket: Rc<AsyncFd<OwnedFd>>,
    errors: bool,
    ready: Rc<Cell<bool>>,
}

impl Readiness {
    /// Whether there is something to read; if not, the task is woken when there is.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.socket.poll_read_ready(context) {
            // Cleared before the read: what arrives from here on wakes again.
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                self.ready.set(true);
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether its error queue is worth a wake-up: it holds more than stamps.
    pub fn has_errors(&self) -> bool {
        self.errors
    }

    /// Waits for the error queue, if it is worth that.
    pub async fn errors(&self) {
        if self.errors
            && let Ok(mut ready) = self.socket.ready(Interest::ERROR).await
        {
            ready.clear_ready();
            self.ready.set(true);
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// What an error queue told.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// A packet left at this time.
    Left(RunId, usize, Timestamp),
    /// A packet could not be delivered: who says so, and what.
    Undelivered(IpAddr, IcmpError, Key),
}

/// The kernel has numbered more packets than it sent.
struct OutOfStep;

/// The packets that wait for their transmit stamps.
#[derive(Debug, Default)]
struct Unstamped {
    /// The kernel's number for the first of them.
    first: u32,
    /// From the first on; those without an entry have their stamp.
    packets: VecDeque<Option<(RunId, usize)>>,
}

impl Unstamped {
    fn push(&mut self, run: RunId, index: usize) {
        if self.packets.len() == AWAITING_STAMPS {
            self.drop_first();
        }
        self.packets.push_back(Some((run, index)));
    }

    /// Which packet has this number.
    fn take(&mut self, number: u32) -> Result<Option<(RunId, usize)>, OutOfStep> {
        let place = number.wrapping_sub(self.first);
        let Some(packet) = self.packets.get_mut(place as usize) else {
            // Of a packet that nobody waits for any more, or of one that was not sent yet.
            return if place.cast_signed() < 0 { Ok(None) } else { Err(OutOfStep) };
        };
        let packet = packet.take();
        while let Some(None) = self.packets.front() {
            self.drop_first();
        }
        Ok(packet)
    }

    fn drop_first(&mut self) {
        self.packets.pop_front();
        self.first = self.first.wrapping_add(1);
    }
}

/// An open channel.
pub struct Port {
    sockets: Arc<Sockets>,
    channel: Channel,
    readiness: Readiness,
    /// Something was sent, so answers are wanted.
    hears: bool,
    unstamped: Unstamped,
    /// The error queue was not read to its end.
    more_errors: bool,
    /// The kernel's numbers are not those of the packets any more.
    out_of_step: bool,
    /// What the kernel had thrown away when it was last asked.
    drops: u32,
    /// What it had thrown away by the last turn, which took too little to believe it.
    suspected: u32,
    /// Receive buffer that the messages of this turn had taken, by estimate.
    taken: usize,
    receive_buffer: usize,
}

impl Port {
    /// Registers a channel's socket with the event loop of this thread; `None` if it is not open. What arrived for an
    /// engine before this one is thrown away.
    pub fn open(sockets: &Arc<Sockets>, channel: Channel, inbox: &mut Inbox) -> io::Result<Option<Self>> {
        let Ok(socket) = sockets.get(channel) else { return Ok(None) };
        for queue in [Queue::Errors, Queue::Messages] {
            // A read may report an error of an earlier packet, and read on the next time.
            let all = |inbox: &mut Inbox| inbox.read(socket, queue).unwrap_or(false);
            let _ = (0..A_TURN).any(|_| all(inbox));
        }
        let (drops, receive_buffer) = (sys::receive_drops(socket)?, socket.receive_buffer()?);
        let errors = matches!(socket.identity(), Identity::Datagram(_));
        let readiness = Readiness { socket: Rc::new(sys::watch(socket)?), errors, ready: Rc::default() };
        socket.stamp_from_zero()?;
        let (sockets, unstamped) = (Arc::clone(sockets), Unstamped::default());
        Ok(Some(Self {
            sockets,
            channel,
            readiness,
            hears: false,
            unstamped,
            more_errors: false,
            out_of_step: false,
            drops,
            suspected: 0,
            taken: 0,
            receive_buffer,
        }))
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Its protocol.
    pub fn family(&self) -> Family {
        self.channel.family
    }

    fn socket(&self) -> Option<&IcmpSocket> {
        self.sockets.get(self.channel).ok()
    }

    /// For waiting.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Whether there may be something to read, now that somebody asks.
    pub fn take_ready(&mut self) -> bool {
        let more_errors = std::mem::take(&mut self.more_errors);
        self.readiness.ready.take() || more_errors || !self.unstamped.packets.is_empty()
    }

    /// Whether answers may come: something was sent.
    pub fn hears(&self) -> bool {
        self.hears
    }

    /// How much the receive buffer holds.
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// How many packets may go out together. Without transmit stamps one, as it is taken to leave when the clock is read.
    pub fn burst(&self) -> usize {
        if self.unstamped.packets.len() >= NO_STAMPS { 1 } else { BATCH }
    }

    /// Sends packets in their order, up to [`BATCH`]; how many the kernel took. An error is of the first.
    pub fn send<'a>(&mut self, batch: impl Iterator<Item = (Outgoing<'a>, RunId, usize)> + Clone) -> io::Result<usize> {
        let socket = self.sockets.get(self.channel).map_err(|_| io::ErrorKind::NotConnected)?;
        if !self.hears {
            socket.hear(true)?;
            self.hears = true;
        }
        let sent = sys::send_batch(socket, batch.clone().map(|(outgoing, ..)| outgoing))?;
        batch.take(sent).for_each(|(_, run, index)| self.unstamped.push(run, index));
        Ok(sent)
    }

    /// Whether a send that failed so may succeed when the error queue was read: a datagram socket reports the error of an
    /// earlier packet instead of sending this one.
    pub fn is_worth_another_try(&self, error: &io::Error) -> bool {
        let datagram = self.socket().is_some_and(|socket| matches!(socket.identity(), Identity::Datagram(_)));
        datagram || matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOBUFS | Errno::EAGAIN))
    }

    /// Reads a batch of messages, and gives whether that was all; `hear` gets each. If not, the port stays ready.
    pub fn read(&mut self, inbox: &mut Inbox, mut hear: impl FnMut(Heard<'_>)) -> bool {
        let Ok(socket) = self.sockets.get(self.channel) else { return true };
        let all = or_again(inbox.read(socket, Queue::Messages));
        self.readiness.ready.set(!all);
        for incoming in inbox.iter() {
            self.taken += MESSAGE + incoming.message.len();
            hear(wire::message(socket, &incoming));
        }
        all
    }

    /// Reads the error queue to its end; if that is far away, the port stays ready.
    pub fn read_errors(&mut self, inbox: &mut Inbox, mut hear: impl FnMut(Told)) {
        let Ok(socket) = self.sockets.get(self.channel) else { return };
        for _ in 0..A_TURN {
            let all = or_again(inbox.read(socket, Queue::Errors));
            for incoming in inbox.iter() {
                self.taken += MESSAGE;
                match wire::error(socket, &incoming) {
                    Heard::Transmitted { number, at } => match self.unstamped.take(number) {
                        Ok(Some((run, index))) => hear(Told::Left(run, index, at)),
                        Ok(None) => {}
                        Err(OutOfStep) => self.out_of_step = true,
                    },
                    Heard::Undelivered { from, error, quoted: Some(quoted) } => hear(Told::Undelivered(from, error, quoted)),
                    Heard::Undelivered { quoted: None, .. } | Heard::Message { .. } | Heard::Noise => {}
                }
            }
            if all {
                return;
            }
        }
        self.more_errors = true;
    }

    /// The packets whose stamps may be lost: the kernel throws stamps away without a word when the receive buffer is nearly
    /// full, as it was if this turn took a good part of it.
    pub fn doubtful(&self) -> impl Iterator<Item = (RunId, usize)> {
        let nearly_full = self.taken >= self.receive_buffer / 4;
        self.unstamped.packets.iter().flatten().copied().filter(move |_| nearly_full)
    }

    /// Whether the kernel's numbers have to begin anew.
    pub fn is_out_of_step(&self) -> bool {
        self.out_of_step
    }

    /// Whether the receive buffer has overflowed since the last call, and by how many packets. To be called after each turn
    /// of reading.
    ///
    /// The kernel counts packets with a bad checksum as well, so its figure is believed only if the buffer can have been full:
    /// if this turn took a good part of it, or the next does, as this process may have stood still just before it asked.
    pub fn overflowed(&mut self) -> Option<u32> {
        let taken = std::mem::take(&mut self.taken);
        let now = self.socket().and_then(|socket| sys::receive_drops(socket).ok())?;
        let more = now.wrapping_sub(std::mem::replace(&mut self.drops, now));
        let before = std::mem::take(&mut self.suspected);
        if taken < self.receive_buffer / 4 {
            self.suspected = more;
            return None;
        }
        Some(before.saturating_add(more)).filter(|dropped| *dropped > 0)
    }

    /// Has the kernel number packets anew, as whether it numbered one that it then refused cannot be told. Gives the packets
    /// whose stamps will not be told any more; to be called when the error queue was read to its end.
    pub fn number_anew(&mut self) -> impl Iterator<Item = (RunId, usize)> + use<> {
        if let Some(Err(error)) = self.socket().map(IcmpSocket::stamp_from_zero) {
            tracing::debug!(%error, "transmit stamps are off");
        }
        self.out_of_step = false;
        std::mem::take(&mut self.unstamped).packets.into_iter().flatten()
    }
}

/// A read can also report the error of an earlier packet, of which the error queue tells in full, instead of reading.
fn or_again(outcome: io::Result<bool>) -> bool {
    outcome.unwrap_or_else(|error| {
        tracing::debug!(%error, "icmp socket reports an error");
        false
    })
}

/// `EPERM: Operation not permitted`.
pub fn name_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno::from_raw(number).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ping::run::Spec;
    use crate::probe::ping::session::Session;
    use std::time::Duration;

    #[test]
    fn a_number_that_no_packet_has_yet_shows_that_the_kernel_counts_otherwise() {
        let peer = "192.0.2.1".parse().unwrap();
        let spec = Spec { peer, count: 1, warmup: 0, spacing: Duration::ZERO, timeout: Duration::ZERO, size: 8 };
        let run = Session::new().start(Duration::ZERO, spec, 1, 1);
        let mut unstamped = Unstamped::default();
        (0..3).for_each(|index| unstamped.push(run, index));
        assert!(matches!(unstamped.take(1), Ok(Some((_, 1)))));
        assert!(matches!(unstamped.take(0), Ok(Some((_, 0)))), "stamps of other interfaces may come first");
        assert!(matches!(unstamped.take(1), Ok(None)), "it has its stamp already");
        assert_eq!(unstamped.packets.len(), 1);
        assert!(unstamped.take(3).is_err(), "only 0, 1 and 2 were sent");
    }
}
