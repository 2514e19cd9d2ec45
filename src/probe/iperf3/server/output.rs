//! What a server says, line by line. Pure.
//!
//! Part of it comes from its clients, so lines may be of any length and claim anything.

use std::net::IpAddr;

/// Longer lines are cut.
const LONGEST_LINE: usize = 1024;

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It waits for a client.
    Listening,
    /// A client's test begins.
    Accepted(Option<IpAddr>),
}

/// Puts lines together from pieces.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that a piece completes.
    pub(super) fn complete(&mut self, piece: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in piece {
            if *byte == b'\n' {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned());
            } else if self.0.len() < LONGEST_LINE {
                self.0.push(*byte);
            }
        }
        lines
    }
}

/// What a line says, if it matters.
pub(super) fn understand(line: &str) -> Option<Said> {
    if line.starts_with("Server listening on ") {
        return Some(Said::Listening);
    }
    // A client may have given its test a title, which stands before.
    let (_, peer) = line.split_once("Accepted connection from ")?;
    Some(Said::Accepted(peer.split(',').next().and_then(|address| address.parse().ok()).map(|address: IpAddr| address.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.complete(b"Server lis"), Vec::<String>::new());
        assert_eq!(lines.complete(b"tening on 5201\n\nAcc"), ["Server listening on 5201", ""]);
        assert_eq!(lines.complete(&vec![b'x'; 1 << 20]), Vec::<String>::new());
        assert_eq!(lines.complete(b"\n")[0].len(), LONGEST_LINE);
    }

    #[test]
    fn what_matters_is_understood() {
        let address = |text: &str| Some(Said::Accepted(Some(text.parse().unwrap())));
        assert_eq!(understand("Server listening on 5301 (test #1)"), Some(Said::Listening));
        assert_eq!(understand("Accepted connection from 127.0.0.1, port 50662"), address("127.0.0.1"));
        assert_eq!(understand("title:  Accepted connection from ::ffff:192.0.2.1, port 1"), address("192.0.2.1"));
        assert_eq!(understand("Accepted connection from somewhere"), Some(Said::Accepted(None)));
        assert_eq!(understand("[  5]   0.00-1.00   sec  5.59 GBytes  48.0 Gbits/sec"), None);
    }
}
