//! Network namespaces: three hosts in a row, with a router in the middle.
//!
//! A namespace is held by a descriptor, has no name and leaves nothing behind, however the test ends. Whatever is to
//! happen inside runs on a thread that has entered it; children inherit it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::{need_root, tool};

/// One network namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// An empty namespace with its loopback up, without the delays that IPv6 has at home.
    pub(crate) fn new() -> Self {
        need_root();
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("a thread has a network namespace")
        });
        let namespace = Self(file.join().expect("the thread only made a namespace"));
        // Addresses work at once, and ICMP errors come for every packet.
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0");
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        namespace.sysctl("net/ipv4/icmp_ratelimit", "0");
        namespace.sysctl("net/ipv6/icmp/ratelimit", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// That of a process.
    pub(super) fn of(pid: u32) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).expect("a process has a network namespace"))
    }

    /// Does something inside.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside and gives what it wrote to stdout; it must succeed.
    pub(crate) fn exec(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        let output = self.enter(|| command.output()).expect("the program is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ip` inside, with its arguments as one line.
    pub(crate) fn ip(&self, line: &str) -> String {
        self.exec(tool("ip"), &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Adds nft rules to one hook of a table of their own, one rule a line.
    pub(crate) fn nft(&self, hook: &str, rules: &[&str]) {
        let chain = format!("add table inet test; add chain inet test {hook} {{ type filter hook {hook} priority 0; }}");
        let rules = rules.iter().map(|rule| format!("; add rule inet test {hook} {rule}"));
        self.exec(tool("nft"), &[&(chain + &rules.collect::<String>())]);
    }

    /// Takes away all that [`Self::nft`] added.
    pub(crate) fn nft_flush(&self) {
        self.exec(tool("nft"), &["delete table inet test"]);
    }

    /// Sets a kernel parameter, which belongs to the namespace of whoever writes it.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let written = self.enter(|| std::fs::write(format!("/proc/sys/{key}"), value));
        written.unwrap_or_else(|error| panic!("sysctl {key} = {value}: {error}"));
    }

    /// Where other programs find it, as long as this test runs.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// One end of a cable, up. The other end is known from the start: neighbour discovery would cost the first packet a second.
    fn plug(&self, name: &str, this: End, other: End) {
        self.ip(&format!("link set {name} address {}", this.mac));
        self.ip(&format!("address add {}/24 dev {name}", this.ip.v4));
        self.ip(&format!("address add {}/64 dev {name} nodad", this.ip.v6));
        self.ip(&format!("link set {name} up"));
        for address in [other.ip.v4, other.ip.v6] {
            self.ip(&format!("neighbour replace {address} lladdr {} dev {name} nud permanent", other.mac));
        }
    }
}

/// A cable between two namespaces.
fn connect((a, a_name, a_end): (&Namespace, &str, End), (b, b_name, b_end): (&Namespace, &str, End)) {
    a.ip(&format!("link add {a_name} type veth peer name {b_name} netns {}", b.path().display()));
    a.plug(a_name, a_end, b_end);
    b.plug(b_name, b_end, a_end);
}

/// One end of a cable.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) mac: &'static str,
    pub(super) ip: Pair,
}

pub(super) const HOST_UP: End = End { mac: "02:00:00:00:01:01", ip: Pair { v4: "10.71.1.1", v6: "fd71:0:0:1::1" } };
const ROUTER_TO_HOST: End = End { mac: "02:00:00:00:01:fe", ip: Pair { v4: "10.71.1.254", v6: "fd71:0:0:1::fe" } };
const ROUTER_TO_FAR: End = End { mac: "02:00:00:00:02:fe", ip: Pair { v4: "10.71.2.254", v6: "fd71:0:0:2::fe" } };
pub(super) const FAR_UP: End = End { mac: "02:00:00:00:02:01", ip: FAR };

/// `host — router — far`, with IPv4 and IPv6. The host routes [`FAR`], [`UNREACHABLE`] and nothing else.
pub(crate) struct Net {
    /// Where qosd runs.
    pub(crate) host: Namespace,
    /// In between.
    pub(crate) router: Namespace,
    /// Where the targets are.
    pub(crate) far: Namespace,
}

/// An address of each family.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    /// IPv4.
    pub(crate) v4: &'static str,
    /// IPv6.
    pub(crate) v6: &'static str,
}

/// The far end.
pub(crate) const FAR: Pair = Pair { v4: "10.71.2.1", v6: "fd71:0:0:2::1" };
/// Behind the router, which answers that it is unreachable.
pub(crate) const UNREACHABLE: Pair = Pair { v4: "10.71.3.1", v6: "fd71:0:0:3::1" };
/// Where the host has no route to.
pub(crate) const NO_ROUTE: Pair = Pair { v4: "192.0.2.1", v6: "2001:db8::1" };

impl Net {
    /// The three namespaces, connected; packets flow when this returns.
    pub(crate) fn new() -> Self {
        let net = Self { host: Namespace::new(), router: Namespace::new(), far: Namespace::new() };
        connect((&net.host, "up0", HOST_UP), (&net.router, "down0", ROUTER_TO_HOST));
        connect((&net.far, "up0", FAR_UP), (&net.router, "down1", ROUTER_TO_FAR));
        net.host.ip(&format!("route add 10.71.0.0/16 via {}", ROUTER_TO_HOST.ip.v4));
        net.host.ip(&format!("-6 route add fd71::/32 via {}", ROUTER_TO_HOST.ip.v6));
        net.far.ip(&format!("route add default via {}", ROUTER_TO_FAR.ip.v4));
        net.far.ip(&format!("-6 route add default via {}", ROUTER_TO_FAR.ip.v6));
        net.router.sysctl("net/ipv4/ip_forward", "1");
        net.router.sysctl("net/ipv6/conf/all/forwarding", "1");
        net.router.ip("route add unreachable 10.71.3.0/24");
        net.router.ip("-6 route add unreachable fd71:0:0:3::/64");
        net
    }
}
