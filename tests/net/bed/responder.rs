//! Targets that answer by rule, behind a TUN device: what they do is known packet by packet, and that is the truth by which
//! probes are judged.
//!
//! [`rule`] decides, [`device`] waits and writes, [`capture`] knows when a request left, [`log`] says what was done and what must be said of it.

mod capture;
mod device;
pub(crate) mod log;
pub(crate) mod packet;
pub(crate) mod rule;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tun_rs::{DeviceBuilder, SyncDevice};

use self::capture::Capture;
use self::device::Desk;
use self::log::Log;
use self::rule::Rule;
use super::net::Namespace;

/// What requests of others than qosd begin with.
pub(crate) const STRANGER: &[u8; 8] = b"stranger";
/// The device, in its namespace.
pub(crate) const DEVICE: &str = "tun0";
/// The namespace's own addresses.
pub(crate) const HERE: [&str; 2] = ["10.77.0.1", "fd77::1"];

/// A thread that answers for `10.78.0.0/16` and `fd78::/64`. Whoever has no rule is silent.
pub(crate) struct Responder {
    device: Arc<SyncDevice>,
    log: Arc<Mutex<Log>>,
    stop: UnixStream,
    thread: JoinHandle<()>,
    capture: Capture,
}

impl Responder {
    /// Makes the device in a namespace, routes the targets there, and begins to answer.
    pub(crate) fn start(namespace: &Namespace, rules: HashMap<IpAddr, Rule>) -> Self {
        // A request must never be dropped between the kernel's stamp and the thread that answers.
        let build = || DeviceBuilder::new().name(DEVICE).mtu(1500).build_sync();
        let device = Arc::new(namespace.enter(build).expect("root may make a TUN device"));
        device.set_nonblocking(true).expect("a device can be told not to block");
        plug(namespace);
        let (log, capture) = (Arc::default(), Capture::start(namespace));
        let (stop, stopped) = UnixStream::pair().expect("sockets can be had");
        let desk = Desk::new(Arc::clone(&device), rules, Arc::clone(&log));
        let thread = thread::spawn(move || desk.serve(&stopped));
        Self { device, log, stop, thread, capture }
    }

    /// Writes a packet of one's own to the host.
    pub(crate) fn inject(&self) -> impl Fn(&[u8]) + Send + 'static {
        let device = Arc::clone(&self.device);
        // A full queue takes no more for the moment, which is all right for junk.
        move |bytes| drop(device.send(bytes))
    }

    /// Asks the log so far.
    pub(crate) fn look<T>(&self, ask: impl FnOnce(&Log) -> T) -> T {
        ask(&self.log.lock().expect("whoever holds it does not panic"))
    }

    /// Ends it and gives the log.
    pub(crate) fn stop(self) -> Log {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut log = std::mem::take(&mut *self.log.lock().expect("whoever held it did not panic"));
        log.stamp(&self.capture.stop());
        log
    }
}

/// Addresses and routes, in both families.
pub(crate) fn plug(namespace: &Namespace) {
    for line in [
        format!("link set {DEVICE} txqueuelen 20000 up"),
        format!("address replace {}/32 dev {DEVICE}", HERE[0]),
        format!("address replace {}/128 dev {DEVICE} nodad", HERE[1]),
        format!("route replace 10.78.0.0/16 dev {DEVICE} src {}", HERE[0]),
        format!("-6 route replace fd78::/64 dev {DEVICE} src {}", HERE[1]),
    ] {
        namespace.ip(&line);
    }
}
