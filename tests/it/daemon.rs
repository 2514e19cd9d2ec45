//! qosd as users run it: its command line, its signals and its state socket. Every process ends with its test, by its own pid.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::canaries;

/// The longest that anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A folder with a config and all that qosd writes.
pub(crate) struct Home(TempDir, &'static str);

impl Home {
    /// With this config; `[agent]` is added.
    pub(crate) fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap(), "qosd.toml");
        home.replace(config);
        home
    }

    /// Its config file has this name from now on.
    pub(crate) fn renamed(self, name: &'static str) -> Self {
        Self(self.0, name)
    }

    /// Replaces the config.
    pub(crate) fn replace(&self, config: &str) {
        let agent = format!("[agent]\nname = \"rome-1\"\ndata_dir = \"{}\"\n", self.0.path().join("data").display());
        fs::write(self.config(), agent + config).unwrap();
    }

    /// The config file.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.path().join(self.1)
    }

    /// The folder with its journal.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// A command of qosd with this config, in an environment that holds nothing of this test's.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = qosd(arguments);
        command.arg("--config").arg(self.config());
        command
    }

    /// Starts the service.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&mut self.command(&["run"]))
    }

    /// Starts the service with its test hooks: an actor that lives for this long is healthy.
    pub(crate) fn start_with_hooks(&self, healthy_after: Duration) -> Daemon {
        let hooks = format!("healthy_after={}ms", healthy_after.as_millis());
        self.start_with(self.command(&["run"]).env("QOSD_TEST_HOOKS", hooks))
    }

    /// Starts the service, which trusts these authorities and no others.
    pub(crate) fn start_trusting(&self, roots: &Path) -> Daemon {
        self.start_with(self.command(&["run"]).env("SSL_CERT_FILE", roots))
    }

    fn start_with(&self, command: &mut Command) -> Daemon {
        let (daemon, stderr) = self.spawn(command);
        let kept = Arc::clone(&daemon.lines);
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        daemon.said("qosd is ready");
        daemon
    }

    /// Starts the service; after its first line nobody reads its log any more.
    pub(crate) fn start_unheard(&self) -> Daemon {
        let (daemon, mut stderr) = self.spawn(self.command(&["run"]).env("QOSD_TEST_HOOKS", ""));
        stderr.read_line(&mut String::new()).unwrap();
        drop(stderr);
        daemon.until(|| UnixStream::connect(&daemon.socket).is_ok());
        daemon
    }

    /// Starts the service with a log that takes nothing from the start, until it is read.
    pub(crate) fn start_stalled(&self) -> (Daemon, PipeReader) {
        let (log, mut full) = std::io::pipe().unwrap();
        let size = fcntl(&full, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        full.write_all(&vec![b'\n'; size as usize]).unwrap();
        let child = self.command(&["run"]).stderr(full).stdout(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { child, lines: Arc::default(), socket: self.0.path().join("data/qosd.sock") };
        daemon.until(|| UnixStream::connect(&daemon.socket).is_ok());
        (daemon, log)
    }

    fn spawn(&self, command: &mut Command) -> (Daemon, BufReader<ChildStderr>) {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        (Daemon { child, lines: Arc::default(), socket: self.0.path().join("data/qosd.sock") }, stderr)
    }

    /// The rows of probes, oldest first: target, time in nanoseconds, result, error.
    pub(crate) fn rows(&self) -> Vec<(String, i64, String, String)> {
        let output = run(&mut self.command(&["export", "--since", "1h", "--kind", "ping", "--format", "json"]));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(row).collect()
    }
}

fn row(line: &str) -> (String, i64, String, String) {
    let row: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = humantime::parse_rfc3339(row["time"].as_str().unwrap()).unwrap();
    let nanos = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    (text(&row["tags"]["target"]), nanos, text(&row["fields"]["result"]), text(&row["fields"]["error"]))
}

/// A command of qosd.
pub(crate) fn qosd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qosd"));
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// The running service. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    socket: PathBuf,
}

impl Daemon {
    /// A request on the state socket: the status and the body of the answer.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: qosd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// What `qosd status --json` shows.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/api/v1/status").1).unwrap()
    }

    /// How often an actor was restarted, and whether it works.
    pub(crate) fn actor(&self, name: &str) -> (u64, bool) {
        let status = self.status();
        let actor = status["actors"].as_array().unwrap().iter().find(|actor| actor["name"] == name).unwrap();
        (actor["restarts"].as_u64().unwrap(), ["running", "idle", "degraded"].iter().any(|state| actor["state"] == *state))
    }

    /// Injects a panic, and says how long the actor was away.
    pub(crate) fn panic(&self, actor: &str) -> Duration {
        let (before, _) = self.actor(actor);
        let since = Instant::now();
        assert_eq!(self.ask("POST", &format!("/test/fault/{actor}/panic")).0, 204);
        self.until(|| self.actor(actor) == (before + 1, true));
        since.elapsed()
    }

    /// Looks again and again.
    pub(crate) fn until(&self, done: impl Fn() -> bool) {
        let since = Instant::now();
        while !done() {
            assert!(since.elapsed() < LIMIT, "it does not come; it wrote:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until it has written a line with this text.
    pub(crate) fn said(&self, text: &str) {
        self.until(|| self.log().contains(text));
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end; says how long that took.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Duration) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, since.elapsed());
            }
            assert!(since.elapsed() < LIMIT, "still running; it wrote:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM; it has to end as it should and in time.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let (status, after) = self.ended();
        assert_eq!(status.code(), Some(0), "it wrote:\n{}", self.log());
        assert!(after <= Duration::from_secs(2), "it ended after {after:?}");
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !thread::panicking()
            && let Some(folder) = self.socket.parent().and_then(Path::parent)
        {
            canaries::are_untold(folder, self.child.id(), &self.log());
        }
        // Both fail only when it has ended, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
