//! A probe kind that measures nothing, with settings as ping has them.

use std::sync::Arc;
use std::time::Duration;

use qosd::measurement::FieldInfo;
use qosd::probe::schedule::Schedule;
use qosd::probe::target::Target;
use qosd::probe::{Cost, Engine, Finding, Kind, Naming, Outcome, Planned, Shared, Slot};
use qosd::settings::{KeyProblem, out_of_range, units};
use serde::{Deserialize, Serialize};

pub(super) struct Ping;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    targets: Vec<Target>,
    #[serde(default = "interval", with = "units::duration")]
    interval: Duration,
    #[serde(default = "count")]
    count: u32,
    #[serde(default = "spacing", with = "units::duration")]
    spacing: Duration,
    #[serde(default)]
    family: Family,
    #[serde(default = "size")]
    size: u32,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    #[default]
    Auto,
    Ipv4,
    Ipv6,
}

fn interval() -> Duration {
    Duration::from_mins(1)
}

fn count() -> u32 {
    5
}

fn spacing() -> Duration {
    Duration::from_millis(200)
}

fn size() -> u32 {
    56
}

#[derive(PartialEq)]
pub(super) struct Job {
    host: String,
    count: u32,
}

pub(super) struct Idle;

impl Engine for Idle {
    type Job = Job;

    fn run(&self, _job: Arc<Job>, _slot: Slot) -> impl Future<Output = Finding> + 'static {
        std::future::ready(Finding::failed(Outcome::LocalError, "measures nothing"))
    }
}

impl Kind for Ping {
    const NAME: &'static str = "ping";
    type Settings = Settings;
    type Job = Job;
    type Lent = ();
    type Engine = Idle;

    fn fields() -> &'static [FieldInfo] {
        &[]
    }

    fn plan(settings: &Settings, naming: &Naming) -> Result<Vec<Planned<Job>>, Vec<KeyProblem>> {
        let (interval, count) = (settings.interval, settings.count);
        let longest = Duration::from_hours(24);
        let ranges = [
            out_of_range("interval", &interval, &(Duration::from_secs(1)..=longest), units::show_duration),
            out_of_range("count", &count, &(1..=10_000), u32::to_string),
            out_of_range("spacing", &settings.spacing, &(Duration::from_millis(10)..=longest), units::show_duration),
        ];
        let mut problems: Vec<KeyProblem> = ranges.into_iter().flatten().collect();
        for (n, target) in settings.targets.iter().enumerate() {
            problems.extend(target.check().err().map(|message| KeyProblem::new(format!("targets[{n}]"), message)));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let family = match settings.family {
            Family::Auto => "auto",
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let packets = f64::from(count) / interval.as_secs_f64();
        let cost = Cost { packets_per_second: packets, bytes_per_day: packets * 86_400.0 * 2.0 * f64::from(settings.size + 28) };
        let planned = settings.targets.iter().map(|target| Planned {
            series: naming.series(target.label(), family, &target.tags),
            schedule: Schedule::new(interval, Duration::ZERO),
            longest: Duration::from_secs(5),
            cost,
            job: Job { host: target.host.clone(), count },
        });
        Ok(planned.collect())
    }

    fn open() {}

    fn engine(_lent: Arc<()>, _shared: Shared) -> Result<Idle, String> {
        Ok(Idle)
    }
}
