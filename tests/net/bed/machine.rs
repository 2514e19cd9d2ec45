//! A host of its own with a real systemd, in which qosd is installed as `make install` does it.
//!
//! Its root is an overlay of this host's, its namespaces are its own, and nothing is left of it when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::QOSD;
use super::net::Namespace;
use super::process::Process;
use super::rows::Exported;
use super::{eventually, need_root};

/// How long systemd may take until it is up.
const BOOT: Duration = Duration::from_mins(1);

/// A running host.
pub(crate) struct Machine {
    pid: u32,
    /// Its network.
    pub(crate) net: Namespace,
    // Ended before its folder is removed.
    _systemd: Process,
    _dir: TempDir,
}

impl Machine {
    /// Boots, and installs qosd with this config; the service is not started.
    pub(crate) fn new(config: &str) -> Self {
        need_root();
        assert!(Path::new("/lib/systemd/systemd").exists(), "these tests need systemd: apt-get install systemd");
        let dir = tempfile::tempdir().expect("there is a place for temporary files");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup"]);
        command.arg("sh").arg(sources.join("tests/net/bed/boot.sh")).arg(dir.path()).arg(sources);
        let systemd = Process::start(&mut command);
        let pid = eventually(BOOT, || child_of(systemd.pid()).ok_or_else(|| systemd.log()));
        eventually(BOOT, || match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) if name.trim() == "systemd" => Ok(()),
            other => Err(format!("{other:?}: {}", systemd.log())),
        });
        let machine = Self { pid, net: Namespace::of(pid), _systemd: systemd, _dir: dir };
        eventually(BOOT, || {
            let state = machine.run(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            if ["running", "degraded"].contains(&&*state) { Ok(()) } else { Err(state) }
        });
        machine.net.ip("link set lo up");
        machine.install(config);
        machine
    }

    fn install(&self, config: &str) {
        fs::copy(QOSD, self.path("/var/tmp/qosd")).expect("the program was built");
        self.done(&["make", "--no-print-directory", "-C", "/opt/qosd", "install", "BINARY=/var/tmp/qosd"]);
        self.configure(config);
        // As the service may, wherever this host has it.
        if !self.path("/usr/bin/iperf3").exists() {
            let lib = format!("/opt/qosd/target/tools/root/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let script = format!("#!/bin/sh\nLD_LIBRARY_PATH={lib} exec /opt/qosd/target/tools/root/usr/bin/iperf3 \"$@\"\n");
            self.write("/usr/local/bin/iperf3", &script);
            self.done(&["chmod", "755", "/usr/local/bin/iperf3"]);
        }
    }

    /// A path of this host, as a path of ours.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// Writes a file, and its folder.
    pub(crate) fn write(&self, inside: &str, content: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).and_then(|()| fs::write(&path, content)).expect("root may write");
    }

    /// Replaces the config of the service.
    pub(crate) fn configure(&self, config: &str) {
        self.write("/etc/qosd/qosd.toml", config);
    }

    /// Adds a drop-in to the unit; one that is shipped, or lines of a test.
    pub(crate) fn drop_in(&self, name: &str, content: &str) {
        self.write(&format!("/etc/systemd/system/qosd.service.d/{name}.conf"), content);
        self.done(&["systemctl", "daemon-reload"]);
    }

    /// Runs a command inside.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        let output = Command::new("nsenter").args(["-t", &self.pid.to_string(), "-a", "--"]).args(command).output();
        output.expect("nsenter is there")
    }

    /// Runs a command inside, which must succeed, and gives what it wrote.
    pub(crate) fn done(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts the service; returns when it is ready.
    pub(crate) fn start(&self) {
        self.done(&["systemctl", "start", "qosd"]);
    }

    /// A property of the unit.
    pub(crate) fn show(&self, property: &str) -> String {
        self.done(&["systemctl", "show", "--value", "--property", property, "qosd"])
    }

    /// The number of the service's process, inside.
    pub(crate) fn main_pid(&self) -> String {
        self.show("MainPID")
    }

    /// What the service logged, and systemd of it.
    pub(crate) fn log(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "--unit", "qosd"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The rows of the journal.
    pub(crate) fn rows(&self) -> Vec<Exported> {
        let rows = self.done(&["qosd", "export", "--since", "1h", "--format", "json"]);
        rows.lines().map(Exported::parse).collect()
    }

    /// Waits until a row is as wanted, and says how long that took.
    pub(crate) fn wait_for_row(&self, limit: Duration, wanted: impl Fn(&Exported) -> bool) -> Duration {
        let start = Instant::now();
        eventually(limit, || {
            let rows = self.rows();
            if rows.iter().any(&wanted) { Ok(()) } else { Err(format!("only {rows:?}\n{}", self.log())) }
        });
        start.elapsed()
    }
}

/// The one child of a process.
fn child_of(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
}
