//! One test: what it measures, as a command line of iperf3. Pure.
//!
//! Nothing that a person wrote becomes an argument as it stands: the server is an address, the rest are numbers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Bytes of a UDP datagram's payload: fits into a path of 1280 bytes, and so into any.
pub const DATAGRAM: u64 = 1200;
/// How long the server may take to accept the connection. iperf3's own default is for ever.
const CONNECT: Duration = Duration::from_secs(3);
/// How much longer than its test iperf3 may run.
const GRACE: Duration = Duration::from_secs(5);
/// iperf3 is asked for about so many intermediate results, of which it makes the round-trip time.
const REPORTS: u64 = 10;
/// The longest that iperf3 takes from one intermediate result to the next.
const LONGEST_REPORT: u64 = 60;

/// What a test measures with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As much as the path carries.
    Tcp,
    /// A fixed rate, in bits per second and stream.
    Udp(u64),
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This host.
    Upload,
    /// The server.
    Download,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// With what.
    pub protocol: Protocol,
    /// Which way.
    pub direction: Direction,
    /// How long it measures; whole seconds.
    pub duration: Duration,
    /// How long it sends before, to get TCP up to speed; whole seconds.
    pub omit: Duration,
    /// Connections at the same time.
    pub streams: u32,
}

impl Test {
    /// How long the path is busy with it.
    pub fn time(&self) -> Duration {
        self.duration + self.omit
    }

    /// How long iperf3 may run.
    pub fn deadline(&self) -> Duration {
        self.time() + GRACE
    }

    /// The arguments of iperf3.
    pub fn arguments(&self, server: IpAddr, port: u16) -> Vec<String> {
        let seconds = self.duration.as_secs();
        let mut arguments = vec!["--json".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-c", server.to_string());
        option("-p", port.to_string());
        option("--connect-timeout", CONNECT.as_millis().to_string());
        option("-t", seconds.to_string());
        option("-i", seconds.div_ceil(REPORTS).clamp(1, LONGEST_REPORT).to_string());
        option("-P", self.streams.to_string());
        if !self.omit.is_zero() {
            option("-O", self.omit.as_secs().to_string());
        }
        if let Protocol::Udp(bitrate) = self.protocol {
            option("-b", bitrate.to_string());
            option("-l", DATAGRAM.to_string());
            arguments.push("-u".to_owned());
        }
        if self.direction == Direction::Download {
            arguments.push("-R".to_owned());
        }
        arguments
    }
}

/// `tcp upload`.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        let direction = if self.direction == Direction::Upload { "upload" } else { "download" };
        write!(f, "{protocol} {direction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Test =
        Test { protocol: Protocol::Tcp, direction: Direction::Upload, duration: Duration::from_secs(10), omit: Duration::ZERO, streams: 1 };

    fn line(test: &Test, server: &str) -> String {
        test.arguments(server.parse().unwrap(), 5201).join(" ")
    }

    #[test]
    fn a_tcp_upload_is_the_plainest_command_line() {
        assert_eq!(line(&TCP, "192.0.2.1"), "--json -c 192.0.2.1 -p 5201 --connect-timeout 3000 -t 10 -i 1 -P 1");
        assert_eq!((TCP.time(), TCP.deadline()), (Duration::from_secs(10), Duration::from_secs(15)));
    }

    #[test]
    fn every_setting_is_its_option() {
        let omit = Duration::from_secs(2);
        let test = Test { protocol: Protocol::Udp(10_000_000), direction: Direction::Download, omit, streams: 4, ..TCP };
        let expected = "--json -c 2001:db8::1 -p 5201 --connect-timeout 3000 -t 10 -i 1 -P 4 -O 2 -b 10000000 -l 1200 -u -R";
        assert_eq!(line(&test, "2001:db8::1"), expected);
        assert_eq!((test.to_string(), test.deadline()), ("udp download".to_owned(), Duration::from_secs(17)));
    }

    #[test]
    fn the_output_of_a_long_test_is_no_longer_than_that_of_a_short_one() {
        let long = Test { duration: Duration::from_mins(10), ..TCP };
        assert!(line(&long, "192.0.2.1").contains("-t 600 -i 60 "));
    }
}
