//! qosd itself: a folder with its config and journal, the running service, and its rows.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::memory::Memory;
use super::net::Namespace;
use super::process::Process;
use super::rows::Exported;
use super::tools;

/// Nobody, who owns nothing and may do nothing.
const NOBODY: u32 = 65534;

/// How long it may take for qosd to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The program that is tested.
pub(crate) const QOSD: &str = env!("CARGO_BIN_EXE_qosd");

/// A folder with a config and everything that qosd writes. Several incarnations may run from it, one after the other.
pub(crate) struct Home {
    dir: TempDir,
    name: String,
    user: User,
    programs: PathBuf,
    /// What the service finds in its environment beside `PATH`.
    environment: Vec<(&'static str, PathBuf)>,
    ready_within: Duration,
    /// What covers which path for qosd.
    covers: Option<(PathBuf, PathBuf)>,
    /// What limits the service has from its first instruction on: a command that ends in becoming it.
    limits: Vec<OsString>,
}

/// Who qosd runs as.
#[derive(Clone, Copy, PartialEq)]
enum User {
    Root,
    Nobody,
}

impl Home {
    /// A home with this config; `[agent]` is added.
    pub(crate) fn new(config: &str) -> Self {
        Self::named("under-test", config)
    }

    /// A home of an agent with this name.
    pub(crate) fn named(name: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is a place for temporary files");
        fs::create_dir(dir.path().join("data")).expect("the folder is ours");
        let home = Self {
            dir,
            name: name.to_owned(),
            user: User::Root,
            covers: None,
            programs: tools(),
            environment: Vec::new(),
            ready_within: READY_WITHIN,
            limits: Vec::new(),
        };
        // The journal is read with a config of its own, as that of the service may be broken on purpose.
        home.file("reader.toml", &home.agent());
        home.configure(config);
        home
    }

    /// qosd runs as nobody, without any capability.
    pub(crate) fn unprivileged(mut self) -> Self {
        self.user = User::Nobody;
        let dir = self.dir.path();
        for path in [dir.to_owned(), dir.join("data"), dir.join("qosd.toml"), dir.join("reader.toml")] {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        }
        // The build folder may be closed to others.
        fs::copy(QOSD, dir.join("qosd")).expect("the program was built");
        self
    }

    /// qosd sees this as /etc/resolv.conf.
    pub(crate) fn resolving_by(mut self, resolv_conf: &str) -> Self {
        let path = self.dir.path().join("resolv.conf");
        fs::write(&path, resolv_conf).expect("the folder is ours");
        self.covers = Some((PathBuf::from("/etc/resolv.conf"), path));
        self
    }

    /// qosd finds programs in this folder alone.
    pub(crate) fn finding_programs_in(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.programs);
        self
    }

    /// The service runs with this in its environment; other commands do not.
    pub(crate) fn with_environment(mut self, variables: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// The service may take so long until it is ready.
    pub(crate) fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }

    /// The service has no more memory than this, and is the first to be killed for it.
    pub(crate) fn within(mut self, memory: &Memory) -> Self {
        let enter = ["/bin/sh", "-c", "echo 1000 > /proc/self/oom_score_adj && echo $$ > \"$0\" && exec \"$@\""].map(OsString::from);
        self.limits = enter.into_iter().chain([memory.door().into()]).collect();
        self
    }

    /// The service may have so many descriptors open, soft and hard limit as prlimit(1) writes them.
    pub(crate) fn with_descriptors(mut self, most: &str) -> Self {
        self.limits = vec!["/usr/bin/prlimit".into(), format!("--nofile={most}").into(), "--".into()];
        self
    }

    /// A file beside the config.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// qosd sees a folder of its own as /etc, in which there is nothing yet.
    pub(crate) fn with_own_etc(mut self) -> Self {
        let path = self.dir.path().join("etc");
        fs::create_dir(&path).expect("the folder is ours");
        self.covers = Some((PathBuf::from("/etc"), path));
        self
    }

    /// qosd sees a folder of its own as /run, in which there is nothing yet.
    pub(crate) fn with_own_run(mut self) -> Self {
        let path = self.dir.path().join("run");
        fs::create_dir(&path).expect("the folder is ours");
        self.covers = Some((PathBuf::from("/run"), path));
        self
    }

    /// The config file, for commands that are run in a namespace.
    pub(crate) fn config(&self) -> String {
        self.dir.path().join("qosd.toml").display().to_string()
    }

    /// The folder that qosd sees as /etc.
    pub(crate) fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// Runs a command of the program that ends by itself, and gives what it wrote to both streams.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        self.finished(arguments).1
    }

    /// As [`Home::command`], with how it ended.
    pub(crate) fn finished(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = self.within_two_minutes();
        command.args(arguments).arg("--config").arg(self.dir.path().join("qosd.toml"));
        let output = command.output().expect("the program was built");
        (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// As [`Home::finished`], in a namespace, with all that the service would see there.
    pub(crate) fn finished_in(&self, namespace: &Namespace, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = self.within_two_minutes();
        command.args(arguments).arg("--config").arg(self.dir.path().join("qosd.toml")).envs(self.environment.iter().cloned());
        let output = namespace.enter(|| {
            if let Some((path, by)) = &self.covers {
                cover(path, by);
            }
            command.output().expect("the program was built")
        });
        (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Replaces the config, as an operator's editor would: whole, by a rename.
    pub(crate) fn configure(&self, config: &str) {
        self.file("qosd.toml", &format!("{}{config}", self.agent()));
    }

    /// The state socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("data/qosd.sock")
    }

    fn agent(&self) -> String {
        format!("[agent]\nname = \"{}\"\ndata_dir = \"{}\"\n", self.name, self.dir.path().join("data").display())
    }

    /// Writes a file beside the config that only its owner can read.
    pub(crate) fn file(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        let new = path.with_extension("new");
        fs::write(&new, content).expect("the folder is ours");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("the file is ours");
        fs::rename(&new, &path).expect("the folder is ours");
    }

    /// Starts the service on the host's own network and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Running {
        let mut running = self.launched(Process::start);
        running.ready(self.ready_within);
        running
    }

    /// Starts the service in a namespace and waits until it says that it is ready.
    pub(crate) fn start_in(&self, namespace: &Namespace) -> Running {
        let mut running = self.launch_in(namespace);
        running.ready(self.ready_within);
        running
    }

    /// Starts the service in a namespace.
    pub(crate) fn launch_in(&self, namespace: &Namespace) -> Running {
        self.launched(|command| {
            namespace.enter(|| {
                if let Some((path, by)) = &self.covers {
                    cover(path, by);
                }
                Process::start(command)
            })
        })
    }

    fn launched(&self, start: impl FnOnce(&mut Command) -> Process) -> Running {
        let path = self.dir.path().join("notify");
        // A socket of an earlier incarnation, if there was one.
        let _ = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).expect("the folder is ours");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("the socket is ours");
        let mut command = self.service();
        command.arg("run").arg("--config").arg(self.dir.path().join("qosd.toml")).env("NOTIFY_SOCKET", &path);
        command.envs(self.environment.iter().cloned());
        let started = Instant::now();
        Running { process: start(&mut command).keeping_secrets_of(self.dir.path()), notify, started }
    }

    /// The program, as the home's user, in an environment that holds nothing of this test's.
    fn program(&self) -> Command {
        let mut command = match self.user {
            User::Root => Command::new(QOSD),
            User::Nobody => {
                let mut command = Command::new("/usr/bin/setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]);
                command.arg(self.dir.path().join("qosd"));
                command
            }
        };
        command.env_clear().env("PATH", &self.programs).current_dir("/");
        command
    }

    /// The program within its limits.
    fn service(&self) -> Command {
        let Some((first, rest)) = self.limits.split_first() else { return self.program() };
        self.behind(Command::new(first).args(rest))
    }

    /// The program for what ends by itself: if it does not, the test fails.
    fn within_two_minutes(&self) -> Command {
        self.behind(Command::new("/usr/bin/timeout").args(["--kill-after=5", "120"]))
    }

    /// The program as what this command becomes or starts.
    fn behind(&self, first: &Command) -> Command {
        let program = self.program();
        let mut command = Command::new(first.get_program());
        command.args(first.get_args()).arg(program.get_program()).args(program.get_args());
        command.env_clear().env("PATH", &self.programs).current_dir("/");
        command
    }

    /// Every row of the last hour, oldest first.
    pub(crate) fn rows(&self) -> Vec<Exported> {
        let mut command = self.program();
        command.args(["export", "--since", "1h", "--format", "json", "--config"]).arg(self.dir.path().join("reader.toml"));
        let output = command.output().expect("the program was built");
        assert!(output.status.success(), "qosd export: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(Exported::parse).collect()
    }

    /// The rows of probes, without those in which qosd speaks of itself.
    pub(crate) fn probe_rows(&self) -> Vec<Exported> {
        self.rows().into_iter().filter(|row| row.measurement == "qos_metrics").collect()
    }
}

/// The running service. Dropping it kills it.
pub(crate) struct Running {
    process: Process,
    notify: UnixDatagram,
    started: Instant,
}

impl Running {
    /// Waits until it tells systemd this, however much it says before.
    fn wait_for(&mut self, state: &str, limit: Duration) {
        let start = Instant::now();
        while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.notify.set_read_timeout(Some(left.min(Duration::from_millis(200)))).expect("a socket takes a timeout");
            let mut bytes = [0; 4096];
            let told = self.notify.recv(&mut bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned());
            if told.is_ok_and(|told| told.lines().any(|line| line == state)) {
                return;
            }
            assert!(self.process.runs(), "qosd ended before it said {state}; it wrote:\n{}", self.process.log());
        }
        panic!("qosd did not say {state} within {limit:?}; it wrote:\n{}", self.process.log());
    }

    /// Waits until it is ready, and says how long after its start that was.
    pub(crate) fn ready(&mut self, limit: Duration) -> Duration {
        self.wait_for("READY=1", limit.saturating_sub(self.started.elapsed()));
        self.started.elapsed()
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How many lines with this text it has logged.
    pub(crate) fn times_said(&self, text: &str) -> usize {
        self.process.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGHUP, and waits until the reload is over.
    pub(crate) fn reload(&mut self) {
        self.process.signal(Signal::SIGHUP);
        self.wait_for("RELOADING=1", READY_WITHIN);
        self.wait_for("READY=1", READY_WITHIN);
    }

    /// SIGTERM; gives the exit status and how long it took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.process.signal(Signal::SIGTERM);
        self.process.ended(start, Duration::from_secs(20))
    }

    /// SIGTERM; it must end as it should.
    pub(crate) fn stop(mut self) {
        let (status, _) = self.terminate();
        assert!(status.success(), "SIGTERM ended it with {status}; it wrote:\n{}", self.process.log());
    }

    /// Waits until somebody else has killed it.
    pub(crate) fn killed(mut self) {
        let (status, _) = self.process.ended(Instant::now(), READY_WITHIN);
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "it wrote:\n{}", self.process.log());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        assert!(self.process.runs(), "it ended by itself; it wrote:\n{}", self.process.log());
        self.process.kill();
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has logged a line with this text, and gives the line.
    pub(crate) fn said(&self, text: &str) -> String {
        self.process.said(text, Duration::from_secs(5))
    }
}

/// Puts a file in place of another, for the calling thread and its children alone.
fn cover(path: &Path, by: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("mounts of this namespace can be its own");
    mount(Some(by), path, none, MsFlags::MS_BIND, none).unwrap_or_else(|error| panic!("cannot cover {}: {error}", path.display()));
}

/// Waits for a moment at random within a span. Not to wait for something, but to interrupt at any point.
pub(crate) fn pause(from: Duration, to: Duration) {
    thread::sleep(rand::random_range(from..to));
}
