//! The seam for probe kinds: what a kind gives to qosd, and the list of those that there are.
//!
//! A kind turns its config table into [`Assignment`]s (one per series) and has an [`Engine`] that runs one assignment for
//! one slot. Everything else is done here, once for all kinds: slots, rows that must not be missing, restarts, reloads.
//! A new kind is a new file or folder below `probe/` and its line in [`KINDS`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, Timestamp};
use crate::measurement::{Counter, Field, FieldInfo, Fields, QOS_METRICS, Series};
use crate::resolve::Resolver;
use crate::settings::KeyProblem;

pub mod actor;
mod assignment;
pub mod http;
pub mod iperf3;
pub mod ledger;
pub mod load;
mod member;
pub mod ping;
mod says;
pub mod schedule;
pub mod summary;
pub mod target;

pub use assignment::{Assignment, Planned};
use load::Load;
pub use member::{AnyEngine, AnyKind, EngineSource, Member, Reading};
pub use says::Says;

/// Every kind of probe. Config, checks, command line and supervisor learn from this list what there is.
pub static KINDS: &[&dyn AnyKind] = &[&Member::<ping::Ping>::NEW, &Member::<iperf3::Iperf3>::NEW, &Member::<http::Http>::NEW];

/// Field of every row: how the run ended, as a word. See [`Outcome`].
pub const RESULT: Field<String> = Field::text("result");
/// Field of every row: how the run ended, as a number.
pub const RESULT_CODE: Field<i64> = Field::integer("result_code");
/// Field of every row that is not ok: what happened.
pub const ERROR: Field<String> = Field::text("error");
/// Field of every run that reached an address: which.
pub const ADDRESS: Field<String> = Field::text("address");
/// Field of a run that used a last good address because the name did not resolve: 1.
pub const DNS_STALE: Field<i64> = Field::integer("dns_stale");
/// Field of every row: 1 if a throughput test of ours overlapped the run, else 0.
pub const LOADED: Field<i64> = Field::integer("loaded");
/// Field of rows whose run a throughput test overlapped: which, as `kind/probe/target`.
pub const LOAD_TEST: Field<String> = Field::text("load_test");
/// Field of rows within an interval of a step of the wall clock: by how much it was stepped.
pub const CLOCK_STEP: Field<f64> = Field::float("clock_step_ms");

/// Field of rows that were made while the wall clock was not set: `unsynced`.
pub const CLOCK: Field<String> = Field::text("clock");

/// The fields that rows of every kind may have.
pub const COMMON_FIELDS: &[FieldInfo] = &[
    RESULT.info(),
    RESULT_CODE.info(),
    ERROR.info(),
    ADDRESS.info(),
    DNS_STALE.info(),
    LOADED.info(),
    LOAD_TEST.info(),
    CLOCK_STEP.info(),
    CLOCK.info(),
];

/// How a run ended. The numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i64)]
#[expect(missing_docs, reason = "the words are their own explanation; docs/measurements.md has a sentence for each")]
pub enum Outcome {
    Ok = 0,
    Partial = 1,
    Timeout = 2,
    Unreachable = 3,
    Prohibited = 4,
    TtlExceeded = 5,
    DnsError = 6,
    Refused = 7,
    TlsError = 8,
    BadStatus = 9,
    BodyTooLarge = 10,
    Busy = 11,
    Killed = 12,
    ToolMissing = 13,
    ToolError = 14,
    Permission = 15,
    LocalError = 16,
    Skipped = 17,
    PeerAbsent = 18,
}

impl Outcome {
    /// All of them, by their numbers.
    pub const ALL: [Self; 19] = [
        Self::Ok,
        Self::Partial,
        Self::Timeout,
        Self::Unreachable,
        Self::Prohibited,
        Self::TtlExceeded,
        Self::DnsError,
        Self::Refused,
        Self::TlsError,
        Self::BadStatus,
        Self::BodyTooLarge,
        Self::Busy,
        Self::Killed,
        Self::ToolMissing,
        Self::ToolError,
        Self::Permission,
        Self::LocalError,
        Self::Skipped,
        Self::PeerAbsent,
    ];

    /// The number: field `result_code`.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The word: field `result`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Prohibited => "prohibited",
            Self::TtlExceeded => "ttl_exceeded",
            Self::DnsError => "dns_error",
            Self::Refused => "refused",
            Self::TlsError => "tls_error",
            Self::BadStatus => "bad_status",
            Self::BodyTooLarge => "body_too_large",
            Self::Busy => "busy",
            Self::Killed => "killed",
            Self::ToolMissing => "tool_missing",
            Self::ToolError => "tool_error",
            Self::Permission => "permission",
            Self::LocalError => "local_error",
            Self::Skipped => "skipped",
            Self::PeerAbsent => "peer_absent",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a slot was not run: the `error` of a `skipped` row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// Two runs of the series had not ended yet.
    Overrun,
    /// The actor, or the process, was being restarted.
    Restart,
    /// The whole process stood still.
    Suspended,
    /// The series was removed or changed by a reload.
    Reload,
    /// qosd was stopping.
    Shutdown,
    /// The probe's share of a resource was used up.
    Budget,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Overrun, Self::Restart, Self::Suspended, Self::Reload, Self::Shutdown, Self::Budget];

    /// The word in the row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Restart => "restart",
            Self::Suspended => "suspended",
            Self::Reload => "reload",
            Self::Shutdown => "shutdown",
            Self::Budget => "budget",
        }
    }
}

/// What a run found: its outcome and the kind's own fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How it ended.
    pub outcome: Outcome,
    /// What happened, when it is not ok.
    pub error: Option<String>,
    /// What was measured.
    pub fields: Fields,
}

impl Finding {
    /// A run that measured nothing, and why.
    pub fn failed(outcome: Outcome, error: impl Into<String>) -> Self {
        Self { outcome, error: Some(error.into()), fields: Fields::new() }
    }

    /// A slot that was not run.
    pub fn skipped(reason: Skip) -> Self {
        Self::failed(Outcome::Skipped, reason.name())
    }

    /// The fields of the row: outcome first, then what was measured. `load` is the throughput test that overlapped the run.
    pub fn into_fields(self, load: Option<String>) -> Fields {
        let mut fields = Fields::new();
        fields.text(RESULT, self.outcome.name()).integer(RESULT_CODE, self.outcome.code());
        fields.integer(LOADED, i64::from(load.is_some()));
        if let Some(load) = load {
            fields.text(LOAD_TEST, load);
        }
        if self.outcome != Outcome::Ok
            && let Some(error) = self.error
        {
            fields.text(ERROR, error);
        }
        fields.extend(self.fields);
        fields
    }
}

/// A scheduled time of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The time of its row.
    pub time: Timestamp,
    /// When it is due on the monotonic clock.
    pub due: Duration,
}

/// What a series costs, for `qosd check`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Packets sent per second, on average.
    pub packets_per_second: f64,
    /// Bytes on the network per day, both directions.
    pub bytes_per_day: f64,
}

/// The names that a probe's series are made of.
#[derive(Clone, Debug)]
pub struct Naming {
    /// `agent.name`: tag `source`.
    pub agent: String,
    /// The kind: tag `kind`.
    pub kind: &'static str,
    /// The probe's name: tag `probe`.
    pub probe: String,
}

impl Naming {
    /// The series of a target. Own tags never replace the fixed ones: the check refuses them first.
    pub fn series(&self, target: &str, family: &str, own: &BTreeMap<String, String>) -> Series {
        let fixed = [("target", target), ("source", &self.agent), ("probe", &self.probe), ("kind", self.kind), ("family", family)];
        Series::new(QOS_METRICS, own.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(fixed))
    }
}

/// Tags that qosd sets itself, refused as a target's own.
pub const FIXED_TAGS: &[&str] = &["target", "source", "probe", "kind", "family"];

/// What engines of every kind may use.
#[derive(Clone)]
pub struct Shared {
    /// The clocks.
    pub clock: Clock,
    /// Names to addresses.
    pub resolver: Resolver,
    /// Throughput tests.
    pub load: Load,
}

/// A kind of probe.
///
/// All functions but `engine` are pure or run once at start; the engine lives on the kind's own thread.
pub trait Kind: 'static {
    /// The config table and the value of the tag `kind`.
    const NAME: &'static str;
    /// Keys of its table that name files with secrets. `plan` finds whole paths there.
    const SECRET_FILES: &'static [&'static str] = &[];
    /// One `[kind.name]` table of the config.
    type Settings: DeserializeOwned + Serialize;
    /// What a run of one series does. Two equal jobs need no restart.
    type Job: PartialEq + Send + Sync + 'static;
    /// What needs a privilege or outlives restarts, opened once by the service and lent to every engine: sockets.
    type Lent: Send + Sync + 'static;
    /// Runs the jobs.
    type Engine: Engine<Job = Self::Job>;

    /// Every field of its rows beyond [`COMMON_FIELDS`].
    fn fields() -> &'static [FieldInfo];

    /// The series that a table asks for, or what is wrong with it. Keys in problems are relative to the table.
    fn plan(settings: &Self::Settings, naming: &Naming) -> Result<Vec<Planned<Self::Job>>, Vec<KeyProblem>>;

    /// Opens what engines will be lent. Called once, before privileges are dropped; what fails shows in the rows.
    fn open() -> Self::Lent;

    /// What the kind counts beside its rows, since the start of the process: fields of measurement `qosd`.
    fn counters(_lent: &Self::Lent) -> Vec<Counter> {
        Vec::new()
    }

    /// A fresh engine, made on the kind's own thread at every start.
    fn engine(lent: Arc<Self::Lent>, shared: Shared) -> Result<Self::Engine, String>;
}

/// Runs jobs. Lives on one thread, so it may use `Rc` and `RefCell`.
pub trait Engine: 'static {
    /// What a run does.
    type Job;

    /// One run. It ends within the assignment's `longest`, whatever happens; dropping it abandons the run.
    fn run(&self, job: Arc<Self::Job>, slot: Slot) -> impl Future<Output = Finding> + 'static;

    /// What the engine does besides its runs, if anything: driven as long as the engine lives. A panic in it ends the engine.
    fn drive(&self) -> Option<LocalBoxFuture<'static, ()>> {
        None
    }
}
