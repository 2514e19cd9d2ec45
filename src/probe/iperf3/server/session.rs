//! One process of the server: from its start to the end of its only client.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, interval, timeout};

use super::output::{Lines, Said, understand};
use super::{Health, Settings};
use crate::probe::iperf3::process::Running;
use crate::probe::load::{self, Load};

/// How rows of runs that a client's test overlapped call it.
const LOAD: &str = "iperf3_server";
/// A client that is connected at two looks and has not begun a test is thrown out.
const LOOK: Duration = Duration::from_secs(5);
/// The longest that one client may keep the server.
const LONGEST: Duration = Duration::from_hours(1);
/// The most streams that iperf3 takes.
const STREAMS: u32 = 128;
/// While it listens it has one socket.
const LISTENER: usize = 1;
/// How long it may take to end once it has closed its output.
const ENDING: Duration = Duration::from_secs(1);

/// How a process ended.
pub(super) enum Ended {
    /// After a client, of whatever kind.
    Served,
    /// Without one, or as it should not.
    Failed(String),
}

/// Starts a process and stays with it to its end.
pub(super) async fn serve_one(settings: &Settings, load: &Load, health: &Health<'_>) -> Ended {
    let mut running = match Running::start(&arguments(settings), STREAMS, LONGEST) {
        Ok(running) => running,
        Err(error) => return Ended::Failed(error.to_string()),
    };
    let (mut stdout, mut stderr) = (running.stdout(), running.stderr());
    let (mut lines, mut complaints) = (Lines::default(), Lines::default());
    let mut complaint = None;
    let mut session = Session { load, health, began: Instant::now(), listens: false, test: None, silent: false };
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            piece = read(&mut stdout) => match piece {
                Some(piece) => lines.complete(&piece).iter().for_each(|line| session.hear(line)),
                None => break,
            },
            Some(piece) = read(&mut stderr) => {
                complaint = complaint.take().or_else(|| first(complaints.complete(&piece)));
            }
            _ = look.tick() => if session.is_over(running.id()) {
                // Dropping it ends it.
                return Ended::Served;
            }
        }
    }
    drop(session);
    let rest = async {
        while let Some(piece) = read(&mut stderr).await {
            complaint = complaint.take().or_else(|| first(complaints.complete(&piece)));
        }
    };
    // Whoever keeps it open has said what there was to say.
    let _ = timeout(ENDING, rest).await;
    match timeout(ENDING, running.wait()).await {
        Ok(Ok(status)) if !status.success() => Ended::Failed(complaint.unwrap_or_else(|| format!("iperf3 ended: {status}"))),
        _ => Ended::Served,
    }
}

fn arguments(settings: &Settings) -> Vec<String> {
    let (listen, port) = (settings.listen.to_string(), settings.port.to_string());
    // Results are written only as they come at every interval, so the line that a client came waits for the first of them.
    ["-s", "-1", "-B", &listen, "-p", &port, "-i", "0.1", "--forceflush"].map(str::to_owned).to_vec()
}

/// The first line that says something.
fn first(lines: Vec<String>) -> Option<String> {
    lines.into_iter().find(|line| !line.trim().is_empty())
}

/// The next piece; none at the end.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let length = stream.as_mut()?.read(&mut buffer).await.unwrap_or(0);
    buffer.truncate(length);
    if length == 0 {
        *stream = None;
    }
    (length > 0).then_some(buffer)
}

struct Session<'a> {
    load: &'a Load,
    health: &'a Health<'a>,
    began: Instant,
    listens: bool,
    /// Since when, and its mark, unless it is our own.
    test: Option<(Instant, Option<load::Running>)>,
    /// Whether a client without a test was there at the last look.
    silent: bool,
}

impl Session<'_> {
    fn hear(&mut self, line: &str) {
        match understand(line) {
            Some(Said::Listening) => {
                self.listens = true;
                self.health.listens(self.began.elapsed());
            }
            Some(Said::Accepted(peer)) if self.test.is_none() => {
                let own = self.load.is_running() && peer.is_some_and(is_own);
                self.test = Some((Instant::now(), (!own).then(|| self.load.begin_elsewhere(LOAD))));
            }
            _ => {}
        }
    }

    /// Looks whether the client has to go.
    fn is_over(&mut self, process: Option<u32>) -> bool {
        if self.listens {
            self.health.listens(self.began.elapsed());
        }
        if let Some((since, _)) = self.test {
            return since.elapsed() > LONGEST;
        }
        let silent_before = self.silent;
        self.silent = process.is_some_and(|process| sockets(process) > LISTENER);
        if silent_before && self.silent {
            tracing::debug!("client of the iperf3 server began no test and is thrown out");
        }
        silent_before && self.silent
    }
}

/// Whether an address is one of this host's: then its test is known already, as one of ours.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// How many sockets a process has open; none if that cannot be seen.
fn sockets(process: u32) -> usize {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let is_socket = |link: &std::path::PathBuf| link.as_os_str().as_encoded_bytes().starts_with(b"socket:");
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).filter(is_socket).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::listeners::Listeners;

    /// (F9)
    #[tokio::test(start_paused = true)]
    async fn no_client_keeps_the_server_for_longer_than_an_hour() {
        let (settings, load) = (Settings::default(), Load::new(Clock::system()));
        let listeners = Listeners::default();
        let health = Health::new(&settings, &listeners);
        let mut session = Session { load: &load, health: &health, began: Instant::now(), listens: false, test: None, silent: false };
        session.hear("Accepted connection from 192.0.2.1, port 50662");
        assert!(!session.is_over(None));
        assert!(load.is_running());
        tokio::time::advance(LONGEST).await;
        // Whoever comes to the same process later does not begin anew.
        session.hear("Accepted connection from 192.0.2.1, port 50664");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(session.is_over(None));
        drop(session);
        assert!(!load.is_running());
    }
}
