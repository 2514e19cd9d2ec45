//! When requests left the host, by the kernel's own stamps: a responder reads them a moment later, and how much later is
//! its own affair.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns};
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt, socket};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, Socket};

use super::packet::Echo;
use crate::bed::net::Namespace;

/// Whom a request is for, its identifier, its sequence number.
type Numbers = (IpAddr, u16, u16);
/// When requests left, in nanoseconds since the epoch; numbers may come again.
pub(super) type Stamps = HashMap<Numbers, Vec<i64>>;

/// What may wait to be read.
const BUFFER: usize = 64 << 20;
/// How long the end of a capture may go unnoticed.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Listens to all that leaves a namespace.
pub(super) struct Capture {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Stamps>,
}

impl Capture {
    pub(super) fn start(namespace: &Namespace) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let open = || socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll);
        let socket = Socket::from(namespace.enter(open).expect("root may capture"));
        socket.attach_filter(&only_outgoing()).expect("the filter is well formed");
        socket.set_read_timeout(Some(A_MOMENT)).expect("a socket takes a timeout");
        setsockopt(&socket, RcvBufForce, &BUFFER).expect("root may have any buffer");
        setsockopt(&socket, ReceiveTimestampns, &true).expect("every kernel stamps");
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        Self { ended, thread: thread::spawn(move || listen(&socket, &end)) }
    }

    /// When each request left.
    pub(super) fn stop(self) -> Stamps {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Lets pass what the host sends: `pkttype` is `PACKET_OUTGOING`.
fn only_outgoing() -> [SockFilter; 4] {
    let packet_type = (-0x1000_i32 + 4) as u32;
    [
        SockFilter::new(0x30, 0, 0, packet_type),
        SockFilter::new(0x15, 0, 1, 4),
        SockFilter::new(0x06, 0, 0, u32::MAX),
        SockFilter::new(0x06, 0, 0, 0),
    ]
}

fn listen(socket: &Socket, ended: &AtomicBool) -> Stamps {
    let mut stamps = Stamps::new();
    let mut bytes = [0; 2048];
    let mut control = nix::cmsg_space!(TimeSpec);
    loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let read = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
            Ok(read) => read,
            Err(Errno::EAGAIN) if ended.load(Ordering::Relaxed) => return stamps,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
            Err(error) => panic!("cannot capture: {error}"),
        };
        let stamp = read.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::ScmTimestampns(at) => Some(at.tv_sec() * 1_000_000_000 + at.tv_nsec()),
                _ => None,
            })
        });
        let length = read.bytes;
        if let (Some(echo), Some(stamp)) = (Echo::parse(&bytes[..length]), stamp) {
            stamps.entry((echo.target, echo.ident, echo.sequence)).or_default().push(stamp);
        }
    }
}
