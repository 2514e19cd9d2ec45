//! The only unsafe code: system calls for which there is no safe crate.

#![expect(unsafe_code, reason = "each block says why it is sound")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a duplicate of a descriptor with the event loop of this thread, to wait for input and errors.
pub fn watch(descriptor: impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let owned = descriptor.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open and names the same file until it is dropped, and the `AsyncFd` owns it until then.
    Ok(unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE | Interest::ERROR) }?)
}

/// How many packets the kernel threw away because this socket's receive buffer was full, since the socket was opened.
///
/// `SO_MEMINFO` has the figure at once, while `SO_RXQ_OVFL` tells only with the next packet that is read.
pub fn receive_drops(socket: impl AsFd) -> io::Result<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    const SK_MEMINFO_VARS: usize = 9;
    let mut values = [0_u32; SK_MEMINFO_VARS];
    let mut length = libc::socklen_t::try_from(size_of_val(&values)).unwrap_or(0);
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most `length` bytes into `values`,
    // which are plain integers and valid whatever it writes, and stores how many into `length`. Both outlive the call.
    let status = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut length)
    };
    if status == 0 { Ok(values[SK_MEMINFO_DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// How many messages one system call sends or reads at most.
pub const BATCH: usize = 64;

/// Which family's ICMP a raw socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

/// Has the kernel give a raw ICMP socket messages of these types alone (of ICMP also those above 31). It looks at the type
/// before it makes a copy for the socket, so what is not wanted costs next to nothing.
pub fn hear_icmp(socket: impl AsFd, icmp: Icmp, types: &[u8]) -> io::Result<()> {
    const ICMP_FILTER: libc::c_int = 1;
    // One bit a type; those that are set are blocked.
    let mut blocked = [u32::MAX; 8];
    for kind in types {
        blocked[usize::from(*kind >> 5)] &= !(1 << (*kind & 31));
    }
    let (level, words) = match icmp {
        Icmp::V4 => (libc::SOL_RAW, 1),
        Icmp::V6 => (libc::IPPROTO_ICMPV6, blocked.len()),
    };
    let length = libc::socklen_t::try_from(words * size_of::<u32>()).unwrap_or(0);
    // SAFETY: the descriptor is open for the length of the borrow; the kernel reads `length` bytes from `blocked`, which has at
    // least as many and outlives the call.
    let status = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, ICMP_FILTER, blocked.as_ptr().cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A message to be sent: its bytes, where to (a `sockaddr`), and what goes beside it (control messages).
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// What is sent.
    pub message: &'a [u8],
    /// A `sockaddr_in` or `sockaddr_in6` as bytes.
    pub to: &'a [u8],
    /// Control messages as bytes, one after the other.
    pub control: &'a [u8],
}

/// Sends messages in their order with one system call, up to [`BATCH`] of them, and gives how many the kernel took. An error
/// is of the first of them: what stops the call later is told by the next call alone.
pub fn send_batch<'a>(socket: impl AsFd, batch: impl Iterator<Item = Outgoing<'a>>) -> io::Result<usize> {
    let mut parts = [NO_PART; BATCH];
    let mut headers = [no_header(); BATCH];
    let mut count = 0;
    for ((outgoing, part), header) in batch.zip(&mut parts).zip(&mut headers) {
        let Outgoing { message, to, control } = outgoing;
        *part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        point(header, part, (to.as_ptr().cast_mut(), to.len()), (control.as_ptr().cast_mut(), control.len()));
        count += 1;
    }
    // SAFETY: the descriptor is open for the length of the borrow. The first `count` headers were filled in; each points to one
    // `iovec` in `parts`, and these and the addresses and control data to slices that live as long as `'a`, with the lengths
    // that stand beside them. The kernel only reads through these pointers, and writes `msg_len` in `headers`.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Room for a `sockaddr_in6`, the largest address that is read.
const NAME: usize = 28;
/// Room for control data: stamps, a TTL, an error with its offender.
const CONTROL: usize = 256;

/// Which queue of a socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Messages that came in.
    Messages,
    /// Transmit stamps, and what could not be delivered.
    Errors,
}

/// A message that was read.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// What came in, as far as there was room.
    pub message: &'a [u8],
    /// From whom, a `sockaddr` as bytes.
    pub from: &'a [u8],
    /// Control messages as bytes.
    pub control: &'a [u8],
}

/// Room for messages that are read together, used again by each read.
#[derive(Debug)]
pub struct Inbox {
    /// Pages that no message ever reached cost nothing.
    messages: Vec<u8>,
    rooms: Vec<Room>,
    largest: usize,
    /// How many messages were read last.
    read: usize,
    /// How many are asked for: as many as came together not long ago, as each costs a little to ask for.
    asked: usize,
}

#[derive(Clone, Debug)]
struct Room {
    name: [u8; NAME],
    control: [u8; CONTROL],
    /// Bytes of message, name and control data.
    lengths: (usize, usize, usize),
}

impl Inbox {
    /// For messages of at most so many bytes.
    pub fn new(largest: usize) -> Self {
        let room = Room { name: [0; NAME], control: [0; CONTROL], lengths: (0, 0, 0) };
        Self { messages: vec![0; BATCH * largest], rooms: vec![room; BATCH], largest, read: 0, asked: 1 }
    }

    /// Reads what is there, up to [`BATCH`] messages, and gives whether that was all.
    pub fn read(&mut self, socket: impl AsFd, queue: Queue) -> io::Result<bool> {
        self.read = 0;
        let mut parts = [NO_PART; BATCH];
        let mut headers = [no_header(); BATCH];
        let rooms = self.messages.chunks_exact_mut(self.largest).zip(&mut self.rooms).take(self.asked);
        for (((chunk, room), part), header) in rooms.zip(&mut parts).zip(&mut headers) {
            *part = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
            point(header, part, (room.name.as_mut_ptr(), NAME), (room.control.as_mut_ptr(), CONTROL));
        }
        let flags = match queue {
            Queue::Messages => libc::MSG_DONTWAIT,
            Queue::Errors => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE,
        };
        let asked = libc::c_uint::try_from(self.asked).unwrap_or(1);
        // SAFETY: the descriptor is open for the length of the borrow. The first `asked` headers were filled in, as there are
        // `BATCH` chunks and rooms: each has pointers to one `iovec` in `parts`, to its own chunk of `messages`, and to the name
        // and control data of its own room, with their lengths. All are borrowed mutably by this call alone, outlive it, and
        // are plain bytes that are valid whatever the kernel writes.
        let read = unsafe { libc::recvmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), asked, flags, std::ptr::null_mut()) };
        let Ok(read) = usize::try_from(read) else {
            return match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                error => Err(error),
            };
        };
        for (room, libc::mmsghdr { msg_hdr, msg_len }) in self.rooms.iter_mut().zip(&headers).take(read) {
            let length = |length: u32| usize::try_from(length).unwrap_or(0);
            #[allow(clippy::unnecessary_cast, reason = "its type depends on the C library")]
            let control = (msg_hdr.msg_controllen as usize).min(CONTROL);
            room.lengths = (length(*msg_len).min(self.largest), length(msg_hdr.msg_namelen).min(NAME), control);
        }
        let all = read < self.asked;
        self.asked = if all { (read + 1).max(self.asked / 2) } else { (self.asked * 4).min(BATCH) };
        self.read = read;
        Ok(all)
    }

    /// What was read last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Incoming<'_>> {
        self.rooms[..self.read].iter().zip(self.messages.chunks_exact(self.largest)).map(|(room, chunk)| {
            let (message, name, control) = room.lengths;
            Incoming { message: &chunk[..message], from: &room.name[..name], control: &room.control[..control] }
        })
    }
}

const NO_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn no_header() -> libc::mmsghdr {
    // SAFETY: a `mmsghdr` is integers and pointers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

/// Fills in the header of one message; its pointers are as good as the arguments.
fn point(
    header: &mut libc::mmsghdr,
    part: &mut libc::iovec,
    (name, name_length): (*mut u8, usize),
    (control, control_length): (*mut u8, usize),
) {
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = libc::socklen_t::try_from(name_length).unwrap_or(0);
    header.msg_hdr.msg_control = control.cast();
    header.msg_hdr.msg_controllen = control_length as _;
}

/// What a child may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of address space.
    pub memory: u64,
    /// Bytes of stack, of every thread.
    pub stack: u64,
    /// Time on processors.
    pub cpu: Duration,
}

/// Makes a command's child die with the thread that spawns it, gain no privilege, and stay within limits.
///
/// The command has to be spawned by a thread that lives as long as the child should.
pub fn confine(command: &mut tokio::process::Command, limits: Limits) {
    let parent = getpid();
    let within = move || -> nix::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            // It died before the line above: nobody would ever end this child.
            return Err(nix::Error::ESRCH);
        }
        prctl::set_no_new_privs()?;
        lower(Resource::RLIMIT_AS, limits.memory)?;
        lower(Resource::RLIMIT_STACK, limits.stack)?;
        lower(Resource::RLIMIT_CPU, limits.cpu.as_secs() + 1)?;
        lower(Resource::RLIMIT_CORE, 0)
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, as another thread may have held any lock when
    // this one forked. The closure makes the system calls prctl, getppid, getrlimit and setrlimit and nothing else; it does not
    // allocate (an errno becomes an `io::Error` without), takes no lock, cannot panic, and what it captured is plain data.
    unsafe { command.pre_exec(move || within().map_err(io::Error::from)) };
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (soft, hard) = getrlimit(resource)?;
    setrlimit(resource, limit.min(soft), limit.min(hard))
}

/// Has this process, and all that it starts, leave no core file: its memory holds secrets.
pub fn leave_no_core() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Has the threads take memory from two places, so that what one has freed another can have. By default glibc gives nearly each
/// thread a place of its own, and what the reading of a large config took is kept for the thread that read it, for good.
///
/// To be called before there are other threads.
pub fn share_memory() {
    // SAFETY: mallopt changes a setting of the allocator under its lock, and touches nothing that anybody has.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_overflow_is_counted_at_once() {
        let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(receive_drops(&reader).unwrap(), 0);
        for _ in 0..20_000 {
            sender.send_to(&[0; 1024], reader.local_addr().unwrap()).unwrap();
        }
        assert!(receive_drops(&reader).unwrap() > 0);
    }
}
