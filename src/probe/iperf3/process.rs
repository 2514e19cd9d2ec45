//! iperf3 as a child: started without a shell, in a process group of its own, bounded in time, memory and output.
//!
//! Whatever happens to it or to us, no process is left: past its deadline the group gets SIGTERM and then SIGKILL, a run that
//! is dropped kills it, and the kernel does when this thread or the whole of qosd ends.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::sys::{self, Limits};

/// The program, looked for in `PATH`.
const PROGRAM: &str = "iperf3";
/// The most that it may write to stdout.
const MOST_OUTPUT: usize = 4 << 20;
/// How much of what it writes to stderr is kept.
const KEPT_ERRORS: usize = 64 << 10;
/// How long it may take to end after SIGTERM.
const TERMINATION: Duration = Duration::from_millis(500);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);
/// How long the kernel may take to end it after SIGKILL, before it is left to the kernel.
const REAPING: Duration = Duration::from_secs(1);
/// From the deadline to the end, at most.
pub const ENDING: Duration = Duration::from_millis(1500);
/// What it may allocate, with one stream.
const MEMORY: u64 = 256 << 20;
/// The stack of each of its threads; newer versions have one for each stream.
const STACK: u64 = 1 << 20;
/// What of our environment it gets.
const INHERITED: [&str; 2] = ["PATH", "TMPDIR"];

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// What it wrote to stdout, up to a limit.
    pub stdout: Vec<u8>,
    /// The beginning of what it wrote to stderr.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// By us, after it had run for so long.
    Deadline(Duration),
    /// By us, because it wrote too much.
    TooMuch,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is none, or it is none.
    #[error("iperf3 cannot be run: {}", reason(.0))]
    Missing(io::Error),
    /// This host has no room for it.
    #[error("iperf3 cannot be started: {0}")]
    Refused(io::Error),
}

fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound { "not found in PATH".to_owned() } else { error.to_string() }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => Self::Missing(error),
            _ if error.raw_os_error() == Some(libc::ENOEXEC) => Self::Missing(error),
            _ => Self::Refused(error),
        }
    }
}

/// A child, with all of its group. Dropping it kills them.
pub struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    /// Starts iperf3. It dies with the thread that calls this.
    pub fn start(arguments: &[String], streams: u32, cpu: Duration) -> Result<Self, StartError> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().envs(environment()).process_group(0).kill_on_drop(true);
        let streams = u64::from(streams);
        sys::confine(&mut command, Limits { memory: MEMORY + streams * 2 * STACK, stack: STACK, cpu });
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Its process id, until it was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it writes to stdout, to whoever asks first.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it writes to stderr, to whoever asks first.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Reads everything until both streams are closed, and waits for the end.
    async fn finish(&mut self, stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) -> Result<End, Stop> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        tokio::try_join!(keep(out, stdout, MOST_OUTPUT, true), keep(err, stderr, KEPT_ERRORS, false))?;
        Ok(End::Exited(self.child.wait().await?))
    }

    /// Ends it: SIGTERM to the group, and soon after SIGKILL.
    async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let ended = async {
            while !self.has_ended() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // In time or not: whoever else is in the group has had the same time.
        let _ = timeout(TERMINATION, ended).await;
        self.signal(Signal::SIGKILL);
        // What the kernel cannot end now is reaped when it can.
        let _ = timeout(REAPING, self.child.wait()).await;
    }

    /// Whether its first process has ended. That is not reaped by this, so that its number stays the group's.
    fn has_ended(&self) -> bool {
        let Some(group) = self.group else { return true };
        let looked = waitid(Id::Pid(group), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        !matches!(looked, Ok(WaitStatus::StillAlive))
    }

    /// To the group, as long as its first process has not been waited for: until then nobody else can have its number.
    fn signal(&self, signal: Signal) {
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            // It fails only when all of them have ended.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    // Errors in the language that they are looked for in; no address space for an arena of each thread.
    inherited.chain([("LC_ALL", OsString::from("C")), ("MALLOC_ARENA_MAX", OsString::from("1"))])
}

/// Why a stream is not read any further.
enum Stop {
    TooMuch,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Keeps the beginning of a stream. What is beyond is thrown away, or if `strict` not even read.
async fn keep(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize, strict: bool) -> Result<(), Stop> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = vec![0; 8192];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let room = most - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
        if strict && read > room {
            return Err(Stop::TooMuch);
        }
    }
}

/// Runs iperf3 to its end, which comes at `deadline` and [`ENDING`] at the latest.
pub async fn run(arguments: &[String], streams: u32, deadline: Duration) -> Result<Output, StartError> {
    // On every processor that the streams can keep busy.
    let mut running = Running::start(arguments, streams, (deadline + ENDING) * (streams + 1))?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let finished = timeout(deadline, running.finish(&mut stdout, &mut stderr)).await;
    let end = match finished {
        Ok(Ok(end)) => return Ok(Output { stdout, stderr, end }),
        Ok(Err(Stop::TooMuch)) => Ok(End::TooMuch),
        Ok(Err(Stop::Failed(error))) => Err(StartError::Refused(error)),
        Err(_) => Ok(End::Deadline(deadline)),
    };
    running.end().await;
    Ok(Output { stdout, stderr, end: end? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_from_a_host_without_room() {
        let table = [
            (libc::ENOENT, true),
            (libc::EACCES, true),
            (libc::ENOTDIR, true),
            (libc::ENOEXEC, true),
            (libc::EMFILE, false),
            (libc::ENFILE, false),
            (libc::EAGAIN, false),
            (libc::ENOMEM, false),
        ];
        for (errno, missing) in table {
            let error = StartError::from(io::Error::from_raw_os_error(errno));
            assert_eq!(matches!(error, StartError::Missing(_)), missing, "{error}");
        }
    }
}
