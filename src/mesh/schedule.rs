//! When the probes of a mesh measure each other: `schedule.json`, the same on the wire. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::out_of_range;
use crate::settings::units::{self, show_duration};

/// The largest schedule that is read, in bytes.
pub const LARGEST: u64 = 64 << 10;

/// `{"ping": {"interval": "5m", "count": 10, "spacing": "1s"}}`; what is not said is as shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// How all ping all.
    pub ping: Ping,
}

/// How a probe pings another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ping {
    /// From round to round.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Packets that count; one more is sent first.
    pub count: u32,
    /// From packet to packet.
    #[serde(with = "units::duration")]
    pub spacing: Duration,
}

/// Packets sent first in a run and not counted.
pub const WARMUP: u32 = 1;

impl Default for Ping {
    fn default() -> Self {
        Self { interval: Duration::from_mins(5), count: 10, spacing: Duration::from_secs(1) }
    }
}

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSchedule(String);

impl Schedule {
    /// Reads a schedule.
    pub fn read(bytes: &[u8]) -> Result<Self, BadSchedule> {
        let schedule: Self = serde_json::from_slice(bytes).map_err(|error| BadSchedule(error.to_string()))?;
        match schedule.ping.problem() {
            None => Ok(schedule),
            Some(problem) => Err(BadSchedule(problem)),
        }
    }
}

impl Schedule {
    /// Reads a schedule that came over the network: of a later collector it may say more than is known here.
    pub fn take(bytes: &[u8]) -> Result<Self, BadSchedule> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            ping: Ping,
        }
        let Whole { ping } = serde_json::from_slice(bytes).map_err(|error| BadSchedule(error.to_string()))?;
        ping.problem().map_or(Ok(Self { ping }), |problem| Err(BadSchedule(problem)))
    }
}

impl Ping {
    fn problem(&self) -> Option<String> {
        let ranges = [
            out_of_range("ping.interval", &self.interval, &(Duration::from_secs(1)..=Duration::from_hours(24)), show_duration),
            out_of_range("ping.count", &self.count, &(1..=1000), u32::to_string),
            out_of_range("ping.spacing", &self.spacing, &(Duration::from_millis(10)..=Duration::from_mins(1)), show_duration),
        ];
        if let Some(problem) = ranges.into_iter().flatten().next() {
            return Some(format!("{}: {}", problem.key, problem.message));
        }
        let needed = self.duration();
        (needed > self.interval).then(|| {
            let (needed, interval) = (show_duration(&needed), show_duration(&self.interval));
            format!("ping.count: with the packet sent first a run takes {needed}, allowed is at most the interval of {interval}")
        })
    }

    /// How long a run sends.
    pub fn duration(&self) -> Duration {
        self.spacing * (self.count + WARMUP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_schedule_does_not_say_is_as_the_existing_clients_do_it() {
        let default = Schedule::read(b"{}").unwrap();
        assert_eq!(serde_json::to_string(&default).unwrap(), r#"{"ping":{"interval":"5m","count":10,"spacing":"1s"}}"#);
        let fast = Schedule::read(br#"{"ping":{"interval":"5s","count":4}}"#).unwrap();
        assert_eq!(fast.ping, Ping { interval: Duration::from_secs(5), count: 4, spacing: Duration::from_secs(1) });
    }

    #[test]
    fn what_a_later_collector_says_beside_it_does_not_stop_an_agent() {
        let more = br#"{"ping":{"interval":"1m"},"iperf3":{"every":"6h"}}"#;
        assert_eq!(Schedule::take(more).unwrap().ping.interval, Duration::from_mins(1));
        assert!(Schedule::read(more).is_err() && Schedule::take(br#"{"ping":{"interval":"0s"}}"#).is_err());
    }

    #[test]
    fn a_schedule_that_cannot_be_kept_is_refused() {
        for (bad, said) in [
            (r#"{"ping":{"interval":"0s"}}"#, "ping.interval: 0s is out of range"),
            (r#"{"ping":{"interval":"10s"}}"#, "with the packet sent first a run takes 11s"),
            (r#"{"ping":{"count":0}}"#, "ping.count: 0 is out of range"),
            (r#"{"ping":{"count":4294967295}}"#, "ping.count: 4294967295 is out of range"),
            (r#"{"ping":{"spacing":"1ms"}}"#, "ping.spacing: 1ms is out of range"),
            (r#"{"ping":{"interval":5}}"#, "expected a duration such as"),
            (r#"{"pong":{}}"#, "unknown field `pong`"),
            ("", "EOF"),
        ] {
            let problem = Schedule::read(bad.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains(said), "{bad}: {problem}");
        }
    }
}
