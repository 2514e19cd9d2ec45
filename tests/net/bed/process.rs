//! A child that ends with the test, and what it wrote.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{canaries, eventually};

/// A running program. Dropping it kills it, by its own pid.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    config: Option<PathBuf>,
}

impl Process {
    /// Starts a program, in the namespaces of the calling thread, and keeps every line that it writes.
    pub(crate) fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let lines = Arc::default();
        keep(child.stdout.take(), &lines);
        keep(child.stderr.take(), &lines);
        Self { child, lines, config: None }
    }

    /// It has its config in this folder, and tells nothing of what is secret there.
    pub(crate) fn keeping_secrets_of(mut self, config: &Path) -> Self {
        self.config = Some(config.to_owned());
        self
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits into 31 bits"));
        kill(pid, signal).unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}; it wrote:\n{}", self.log()));
    }

    /// Waits for its end, from `since` on, and says how long that took.
    pub(crate) fn ended(&mut self, since: Instant, limit: Duration) -> (ExitStatus, Duration) {
        while since.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return (status, since.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("still running after {limit:?}; it wrote:\n{}", self.log());
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // Both fail only when it has ended, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it wrote so far, on both streams.
    pub(crate) fn log(&self) -> String {
        self.lines.lock().expect("whoever holds it does not panic").join("\n")
    }

    /// Waits until a line holds this text, and gives that line.
    pub(crate) fn said(&self, text: &str, limit: Duration) -> String {
        eventually(limit, || {
            let lines = self.lines.lock().expect("whoever holds it does not panic");
            lines.iter().find(|line| line.contains(text)).cloned().ok_or_else(|| format!("no {text:?} in:\n{}", lines.join("\n")))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(config) = self.config.take().filter(|_| !thread::panicking()) {
            canaries::are_untold(&config, self.child.id(), &self.log());
        }
        self.kill();
        if thread::panicking() {
            // cargo shows this below the failed test.
            #[expect(clippy::print_stderr, reason = "what a failed test has to show")]
            {
                eprintln!("--- pid {} wrote:\n{}", self.child.id(), self.log());
            }
        }
    }
}

fn keep(stream: Option<impl Read + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>) {
    let stream = BufReader::new(stream.expect("it was piped"));
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in stream.split(b'\n').map_while(Result::ok) {
            lines.lock().expect("whoever holds it does not panic").push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}
