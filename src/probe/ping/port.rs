//! A socket as an engine uses it: registered with the event loop, its stamps matched to packets, its overflows seen.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::packet::Family;
use super::session::{Request, RunId};
use super::socket::{Channel, IcmpSocket, Identity, Sockets};
use super::wire::{self, Heard, Options};
use crate::sys;

/// Messages that are read in one turn, before what is due is done.
pub const A_TURN: usize = 4096;
/// What the kernel adds to each message in the receive buffer, about.
const PER_MESSAGE: usize = 700;
/// How many packets may wait for their transmit stamp; the kernel delivers them at once or never.
const AWAITING_STAMPS: usize = 4096;

/// Tells when a port has something to read. Waiting for it borrows nothing of the port.
#[derive(Clone)]
pub struct Readiness(Rc<AsyncFd<OwnedFd>>);

impl Readiness {
    /// Waits until there is something to read.
    pub async fn readable(&self) {
        match self.0.ready(Interest::READABLE | Interest::ERROR).await {
            // Cleared before the read: what arrives from here on wakes again.
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                tracing::warn!(%error, "icmp socket cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// An open channel.
pub struct Port {
    sockets: Arc<Sockets>,
    channel: Channel,
    readiness: Readiness,
    /// Packets sent and not stamped yet: the kernel's number, and which packet.
    unstamped: VecDeque<(u32, RunId, usize)>,
    /// What the kernel had thrown away when it was last asked.
    drops: u32,
    /// Receive buffer that the messages of this turn had taken, by estimate.
    taken: usize,
    receive_buffer: usize,
}

impl Port {
    /// Registers a channel's socket with the event loop of this thread; `None` if it is not open. What arrived for an
    /// engine before this one is thrown away.
    pub fn open(sockets: &Arc<Sockets>, channel: Channel) -> io::Result<Option<Self>> {
        let Ok(socket) = sockets.get(channel) else { return Ok(None) };
        let mut buffer = vec![0; wire::BUFFER];
        for _ in 0..A_TURN {
            if wire::read(socket, &mut buffer)?.is_none() {
                break;
            }
        }
        let (drops, receive_buffer) = (sys::receive_drops(socket)?, socket.receive_buffer()?);
        let readiness = Readiness(Rc::new(sys::watch(socket)?));
        let mut port =
            Self { sockets: Arc::clone(sockets), channel, readiness, unstamped: VecDeque::new(), drops, taken: 0, receive_buffer };
        port.number_anew(&mut buffer)?;
        Ok(Some(port))
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    fn socket(&self) -> Option<&IcmpSocket> {
        self.sockets.get(self.channel).ok()
    }

    /// For waiting.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Sends a request; what the error queue held in its way goes to `heard`.
    pub fn send(
        &mut self,
        message: &[u8],
        request: &Request,
        options: &Options,
        buffer: &mut [u8],
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        let to = request.key.peer;
        match self.attempt(message, to, options) {
            Err(error) if self.is_worth_another_try(&error) => {
                // A datagram socket reports the error of an earlier packet instead of sending this one.
                while let Some(entry) = self.read_error(buffer) {
                    heard(entry);
                }
                self.attempt(message, to, options)
            }
            outcome => outcome,
        }
        .map_err(|error| {
            // Whether the kernel numbered a packet that it then refused cannot be told.
            if let Err(error) = self.number_anew(buffer) {
                tracing::debug!(%error, "transmit stamps are off");
            }
            name_of(&error)
        })?;
        if let Some(number) = self.socket().map(IcmpSocket::number_of_send) {
            if self.unstamped.len() == AWAITING_STAMPS {
                self.unstamped.pop_front();
            }
            self.unstamped.push_back((number, request.run, request.index));
        }
        Ok(())
    }

    fn attempt(&self, message: &[u8], to: IpAddr, options: &Options) -> io::Result<()> {
        let socket = self.socket().ok_or(io::ErrorKind::NotConnected)?;
        wire::send(socket, message, to, options)
    }

    fn is_worth_another_try(&self, error: &io::Error) -> bool {
        let datagram = self.socket().is_some_and(|socket| matches!(socket.identity(), Identity::Datagram(_)));
        datagram || matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOBUFS | Errno::EAGAIN))
    }

    /// Which packet a transmit stamp belongs to.
    pub fn stamped(&mut self, number: u32) -> Option<(RunId, usize)> {
        let at = self.unstamped.iter().position(|(waiting, ..)| *waiting == number)?;
        let (_, run, index) = self.unstamped.remove(at)?;
        Some((run, index))
    }

    /// The next message.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Option<Heard<'a>> {
        let heard = self.or_nothing(wire::read(self.socket()?, buffer))?;
        if let Heard::Message { message, .. } = &heard {
            self.taken += PER_MESSAGE + message.map_or(0, <[u8]>::len);
        }
        Some(heard)
    }

    /// The next entry of the error queue.
    pub fn read_error(&self, buffer: &mut [u8]) -> Option<Heard<'static>> {
        self.or_nothing(wire::read_error(self.socket()?, buffer))
    }

    /// A read can also report the error of an earlier packet; the error queue tells of it in full.
    fn or_nothing<'a>(&self, outcome: io::Result<Option<Heard<'a>>>) -> Option<Heard<'a>> {
        outcome.unwrap_or_else(|error| {
            tracing::debug!(family = ?self.channel().family, %error, "icmp socket reports an error");
            Some(Heard::Noise)
        })
    }

    /// Whether the receive buffer has overflowed since the last call, and by how many packets. To be called after each turn
    /// of reading.
    ///
    /// The kernel counts packets with a bad checksum as well, so its figure is believed only if the buffer can have been full:
    /// if this turn took a good part of it.
    pub fn overflowed(&mut self) -> Option<u32> {
        let taken = std::mem::take(&mut self.taken);
        let now = self.socket().and_then(|socket| sys::receive_drops(socket).ok())?;
        let more = now.wrapping_sub(std::mem::replace(&mut self.drops, now));
        (more > 0 && taken >= self.receive_buffer / 4).then_some(more)
    }

    fn number_anew(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while self.read_error(buffer).is_some() {}
        self.unstamped.clear();
        self.socket().map_or(Ok(()), IcmpSocket::stamp_from_zero)
    }

    /// Its protocol.
    pub fn family(&self) -> Family {
        self.channel().family
    }
}

/// `EPERM: Operation not permitted`.
fn name_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno::from_raw(number).to_string())
}
