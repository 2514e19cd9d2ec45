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
