//! A probe kind that measures nothing, in one file: all that a new kind needs.
//!
//! The config says how each of its targets behaves, so it also shows what becomes of the others when one is bad.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use futures_util::future::{LocalBoxFuture, pending};
use qosd::cli::check::{BAD_CONFIG, GOOD, check};
use qosd::clock::{Clock, millis, nanos};
use qosd::config::Env;
use qosd::measurement::{Field, FieldInfo, Fields, Value};
use qosd::probe::schedule::Schedule;
use qosd::probe::target::Target;
use qosd::probe::{AnyKind, Cost, Engine, Finding, Kind, Member, Naming, Outcome, Planned, Shared, Slot};
use qosd::settings::{KeyProblem, out_of_range, units};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::database::Database;
use crate::service::{Service, World};

/// The one line.
pub(crate) static KINDS: &[&dyn AnyKind] = &[&Member::<Toy>::NEW];

/// How long a run took to answer.
const ANSWER: Field<f64> = Field::float("toy_answer_ms");
/// How long after its slot a run began.
const LATE: Field<f64> = Field::float("toy_late_ms");

/// The kind.
pub(crate) struct Toy;

/// `[toy.NAME]`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    targets: Vec<Target>,
    #[serde(default = "interval", with = "units::duration")]
    interval: Duration,
    /// How long a run takes.
    #[serde(default = "takes", with = "units::duration")]
    takes: Duration,
    /// What hosts do that do not simply answer.
    #[serde(default)]
    does: BTreeMap<String, Does>,
    /// They do it at every so many slots and answer at the others.
    #[serde(default = "every")]
    every: i64,
}

/// What a target does with a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Does {
    /// It answers.
    #[default]
    Answers,
    /// It answers when the run should long have ended.
    Crawls,
    /// It never answers.
    Hangs,
    /// The run panics.
    Panics,
    /// What the engine does besides its runs panics.
    Breaks,
}

fn interval() -> Duration {
    Duration::from_mins(1)
}

fn takes() -> Duration {
    Duration::from_millis(100)
}

fn every() -> i64 {
    1
}

/// What a run does.
#[derive(PartialEq)]
pub(crate) struct Job {
    takes: Duration,
    does: Does,
    /// Nanoseconds.
    interval: i64,
    every: i64,
}

impl Job {
    fn does_in(&self, slot: Slot) -> Does {
        let number = slot.time.nanos().div_euclid(self.interval);
        if number % self.every == 0 { self.does } else { Does::Answers }
    }
}

impl Kind for Toy {
    const NAME: &'static str = "toy";
    type Settings = Settings;
    type Job = Job;
    type Lent = ();
    type Engine = Playing;

    fn fields() -> &'static [FieldInfo] {
        const FIELDS: &[FieldInfo] = &[ANSWER.info(), LATE.info()];
        FIELDS
    }

    fn plan(settings: &Settings, naming: &Naming) -> Result<Vec<Planned<Job>>, Vec<KeyProblem>> {
        let allowed = Duration::from_millis(10)..=Duration::from_hours(1);
        let interval = out_of_range("interval", &settings.interval, &allowed, units::show_duration);
        let every = out_of_range("every", &settings.every, &(1..=1_000_000), i64::to_string);
        let problems: Vec<_> = interval.into_iter().chain(every).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let planned = settings.targets.iter().zip(0..).map(|(target, index)| Planned {
            series: naming.series(target.label(), "auto", &target.tags),
            schedule: Schedule::new(settings.interval, settings.interval * (index % 2) / 2),
            longest: settings.takes,
            cost: Cost { packets_per_second: 2.0 / settings.interval.as_secs_f64(), bytes_per_day: 1e6 },
            job: Job {
                takes: settings.takes,
                does: settings.does.get(&target.host).copied().unwrap_or_default(),
                interval: nanos(settings.interval),
                every: settings.every,
            },
        });
        Ok(planned.collect())
    }

    fn open() {}

    fn engine(_lent: Arc<()>, shared: Shared) -> Result<Playing, String> {
        Ok(Playing { clock: shared.clock, broken: Rc::default() })
    }
}

/// The engine.
pub(crate) struct Playing {
    clock: Clock,
    broken: Rc<Notify>,
}

impl Engine for Playing {
    type Job = Job;

    fn run(&self, job: Arc<Job>, slot: Slot) -> impl Future<Output = Finding> + 'static {
        let late = self.clock.now().mono.saturating_sub(slot.due);
        let broken = Rc::clone(&self.broken);
        async move {
            match job.does_in(slot) {
                Does::Answers => tokio::time::sleep(job.takes).await,
                Does::Crawls => tokio::time::sleep(job.takes * 3 + Duration::from_secs(2)).await,
                Does::Hangs => pending().await,
                Does::Panics => panic!("provoked in a run"),
                Does::Breaks => {
                    broken.notify_one();
                    pending::<()>().await;
                }
            }
            let mut finding = Finding { outcome: Outcome::Ok, error: None, fields: Fields::new() };
            finding.fields.float(ANSWER, millis(job.takes)).float(LATE, millis(late));
            finding
        }
    }

    fn drive(&self) -> Option<LocalBoxFuture<'static, ()>> {
        let broken = Rc::clone(&self.broken);
        Some(Box::pin(async move {
            broken.notified().await;
            panic!("provoked in an engine");
        }))
    }
}

const CONFIG: &str = r#"
[agent]
name = "rome-1"

[toy.shelf]
targets = ["bear", { host = "train", tags = { room = "attic" } }]
interval = "10s"
"#;

/// What `CONTRIBUTING.md` says of a new kind: all of the above is a file, `KINDS` is the line.
#[test]
fn a_new_kind_is_one_file_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qosd.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let mut said = Vec::new();
    assert_eq!(check(&path, KINDS, &Env::new(), true, &mut said), GOOD);
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("1 probe, 2 series") && said.contains("0.40 packets/s, 2.0 MB a day on the network, 17280 rows/day"), "{said}");
    assert!(said.contains("takes = \"100ms\""), "its defaults are shown: {said}");

    std::fs::write(&path, CONFIG.replace("10s", "1ms").replace("targets", "every = 0\ntargets")).unwrap();
    let mut said = Vec::new();
    assert_eq!(check(&path, KINDS, &Env::new(), false, &mut said), BAD_CONFIG);
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("toy.shelf.interval") && said.contains("toy.shelf.every"), "{said}");

    let database = Database::default();
    let rows = System::new().block_on(async {
        let service = Service::start(World::Virtual, &[("toy", CONFIG)], &database).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        service.stop().await;
        service.rows().await
    });
    assert_eq!(rows.len(), 12);
    assert_eq!(database.len(), 12);
    for row in rows {
        let room = (row.series.tag("target") == Some("train")).then_some("attic");
        assert_eq!((row.series.tag("kind"), row.series.tag("room")), (Some("toy"), room));
        assert_eq!(row.fields.get("toy_answer_ms"), Some(&Value::Float(100.0)));
        assert_eq!(row.fields.get("result"), Some(&Value::Text("ok".to_owned())));
    }
}
