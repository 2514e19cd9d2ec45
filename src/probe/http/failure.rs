//! Why a request failed: from an error of the client to a result, in words that hold no address and no secret. Pure.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::timing::Stage;
use crate::probe::Outcome;
use crate::settings::units::show_duration;

/// The longest explanation, in bytes: the other side has a part in it.
const LONGEST: usize = 200;
/// No more causes than this are looked at.
const DEEPEST: usize = 16;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The result that it makes.
    pub outcome: Outcome,
    /// What happened.
    pub why: String,
}

impl Failure {
    /// With its words.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        Self { outcome, why: why.into() }
    }

    /// Its time was up. Without an address there is nobody who could have been slow but the name servers.
    pub fn late(stage: Stage, limit: Duration) -> Self {
        let outcome = if stage == Stage::Lookup { Outcome::DnsError } else { Outcome::Timeout };
        Self::new(outcome, format!("not done within {} while {}", show_duration(&limit), stage.words()))
    }

    /// The client gave up.
    pub fn of(error: &(dyn Error + 'static), stage: Stage) -> Self {
        let causes = causes(error);
        let system = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>());
        let outcome = match system.and_then(by_system) {
            Some(outcome) => outcome,
            None if stage == Stage::Tls => Outcome::TlsError,
            None => Outcome::ToolError,
        };
        // The last cause is the one that says it; those before are layers of the client.
        let cause = causes.last().map_or_else(String::new, ToString::to_string);
        Self::new(outcome, format!("{} while {}", one_line(&cause), stage.words()))
    }
}

/// The error and its causes, also those that an `io::Error` wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut all = vec![error];
    while let Some(last) = all.last().copied().filter(|_| all.len() < DEEPEST) {
        let wrapped = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        let Some(next) = wrapped.or_else(|| last.source()) else { break };
        all.push(next);
    }
    all
}

/// What an error of the system says by itself, if it does.
fn by_system(error: &io::Error) -> Option<Outcome> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => return Some(Outcome::Refused),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            return Some(Outcome::Unreachable);
        }
        io::ErrorKind::TimedOut => return Some(Outcome::Timeout),
        _ => {}
    }
    let local = [
        libc::EACCES,
        libc::EADDRINUSE,
        libc::EADDRNOTAVAIL,
        libc::EAFNOSUPPORT,
        libc::EAGAIN,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EPERM,
    ];
    error.raw_os_error().filter(|code| local.contains(code)).map(|_| Outcome::LocalError)
}

/// Without line ends and other control characters, and not too long.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > LONGEST {
            return line + "…";
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("layer")]
    struct Layer(#[source] io::Error);

    fn failure(error: io::Error, stage: Stage) -> (Outcome, String) {
        let Failure { outcome, why } = Failure::of(&Layer(error), stage);
        (outcome, why)
    }

    #[test]
    fn errors_of_the_system_say_what_they_are() {
        let table = [
            (libc::ECONNREFUSED, Outcome::Refused),
            (libc::EHOSTUNREACH, Outcome::Unreachable),
            (libc::ENETUNREACH, Outcome::Unreachable),
            (libc::ETIMEDOUT, Outcome::Timeout),
            (libc::EMFILE, Outcome::LocalError),
            (libc::ENOBUFS, Outcome::LocalError),
            (libc::EADDRNOTAVAIL, Outcome::LocalError),
            (libc::EPERM, Outcome::LocalError),
            (libc::ECONNRESET, Outcome::ToolError),
            (libc::EPIPE, Outcome::ToolError),
        ];
        for (code, outcome) in table {
            assert_eq!(failure(io::Error::from_raw_os_error(code), Stage::Connect).0, outcome, "{code}");
        }
    }

    #[test]
    fn what_breaks_off_in_the_handshake_is_a_tls_error() {
        let reset = failure(io::Error::from_raw_os_error(libc::ECONNRESET), Stage::Tls);
        assert_eq!(reset, (Outcome::TlsError, "Connection reset by peer (os error 104) while in the TLS handshake".to_owned()));
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(
            failure(wrapped, Stage::Tls),
            (Outcome::TlsError, "cannot decrypt peer's message while in the TLS handshake".to_owned())
        );
    }

    #[test]
    fn time_that_went_to_the_name_servers_is_theirs() {
        let late = |stage| Failure::late(stage, Duration::from_secs(5));
        assert_eq!(late(Stage::Lookup), Failure::new(Outcome::DnsError, "not done within 5s while looking up the name"));
        assert_eq!(late(Stage::Body), Failure::new(Outcome::Timeout, "not done within 5s while reading the answer"));
    }

    #[test]
    fn words_of_the_other_side_stay_one_short_line() {
        let (_, why) = failure(io::Error::other(format!("a\nb\u{1b}[31m{}", "ä".repeat(500))), Stage::Answer);
        assert!(why.starts_with("a b [31mää") && why.ends_with("ä… while waiting for the answer"), "{why}");
        assert!(why.len() < 260 && !why.contains(char::is_control));
    }
}
