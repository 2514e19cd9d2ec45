//! The service: the one place that knows every part. Builds them, wires them, starts them, reloads, drains.
//!
//! What outlives actors is made here and lent to them: sockets, ledgers, the row queue, the journal. So an actor may end at
//! any moment and the next one goes on where it stopped.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Moment, Timestamp};
use crate::config::{self, Config, Env, Problems};
use crate::history::History;
use crate::influxdb;
use crate::journal::{DeadCount, Journal, JournalError, Mode};
use crate::listeners::Listeners;
use crate::measurement::Row;
use crate::mesh;
use crate::mesh::agent::actor::{Agent, AgentParts, Desk};
use crate::mesh::collector::{self, Collector, CollectorParts, Surface};
use crate::page::{self, Press};
use crate::probe::actor::{Probe, ProbeParts, RowSink};
use crate::probe::iperf3;
use crate::probe::ledger::{Counts, Ledger};
use crate::probe::load::Load;
use crate::probe::{AnyKind, EngineSource, Finding, Shared, Skip};
use crate::resolve::Resolver;
use crate::responder::{self, Responder, ResponderParts};
use crate::status::pairs::Pairs;
use crate::status::{Board, ConfigStatus};
use crate::supervisor::actor::{Notice, View};
use crate::supervisor::child::{Child, Placement};
use crate::supervisor::policy::Policy;
use crate::writer::{Intake, Outlet, OutputSpec, OutputStatus, Statuses, Writer, WriterParts, queue};

mod absence;
mod halves;
mod plan;
mod service;
mod sight;
mod state_socket;

use plan::Planner;
pub use service::{Ended, run};

/// Rows that may wait for the writer, while it is being restarted.
const QUEUE: usize = 100_000;
/// How long the journal may take to make the last rows durable.
const LAST_COMMIT: Duration = Duration::from_millis(600);

/// How late each kind took its slots in a minute.
type Lateness = Vec<(&'static str, f64)>;

/// What a service is started with.
#[derive(Clone)]
pub struct Options {
    /// The main config file.
    pub config: PathBuf,
    /// The environment.
    pub env: Env,
    /// The kinds of probe that there are.
    pub kinds: &'static [&'static dyn AnyKind],
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config is wrong.
    #[error("{0}")]
    Config(Problems),
    /// The journal cannot be used.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
    /// The system refused something.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
}

/// All that outlives the actors.
pub struct Parts {
    options: Options,
    clock: Clock,
    config: Mutex<Config>,
    config_status: Mutex<ConfigStatus>,
    // Before the journal, as it ends before that.
    history: History,
    journal: Journal,
    ledgers: Vec<(&'static str, Arc<Mutex<Ledger>>)>,
    outlet: Outlet,
    intake: Intake,
    board: Board,
    pairs: Pairs,
    statuses: Statuses,
    view: View,
    listeners: Listeners,
    engines: Vec<(&'static str, Arc<dyn EngineSource>)>,
    planner: Planner,
    outputs: watch::Sender<Arc<Vec<OutputSpec>>>,
    iperf3_server: watch::Sender<Option<iperf3::server::Settings>>,
    web: watch::Sender<Option<page::Settings>>,
    lateness: Mutex<Lateness>,
    responder: watch::Sender<Option<responder::Settings>>,
    collector: watch::Sender<Option<collector::Settings>>,
    surface: Arc<Surface>,
    mesh: watch::Sender<Option<mesh::agent::Settings>>,
    desk: Desk,
    draining: watch::Sender<bool>,
    started: Moment,
}

impl Parts {
    /// Makes everything that the actors will be lent. Nothing runs yet but the journal.
    fn new(
        options: Options,
        config: Config,
        engines: Vec<(&'static str, Arc<dyn EngineSource>)>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let journal = Journal::open(&config.agent.data_dir, config.journal.clone(), clock.clone(), Mode::Threaded)?;
        let (outlet, intake) = queue(QUEUE);
        let started = clock.now();
        let board = Board::default();
        let pairs = Pairs::default();
        let desk = halves::desk(&options, &config, clock.clone());
        // With the list on disk slots go on from the first moment, whether the collector is there or not.
        let listed = desk.follow(config.mesh.as_ref()).unwrap_or_default();
        Ok(Self {
            config_status: Mutex::new(config_status(&options, started.unix)),
            planner: Planner::new(config.assignments.clone(), listed, board.clone(), journal.clone()),
            outputs: watch::Sender::new(Arc::new(outputs(&config, &desk))),
            mesh: watch::Sender::new(config.mesh.clone()),
            desk,
            iperf3_server: watch::Sender::new(config.iperf3_server.clone()),
            web: watch::Sender::new(config.web.clone()),
            lateness: Mutex::default(),
            responder: watch::Sender::new(config.responder.clone()),
            collector: watch::Sender::new(config.collector.clone()),
            surface: halves::surface(&journal, (&board, &pairs), &clock),
            config: Mutex::new(config),
            ledgers: options.kinds.iter().map(|kind| (kind.name(), Arc::default())).collect(),
            options,
            history: History::open(&journal, clock.clone()),
            clock,
            journal,
            outlet,
            intake,
            board,
            pairs,
            statuses: Statuses::default(),
            view: View::default(),
            listeners: Listeners::default(),
            engines,
            draining: watch::Sender::new(false),
            started,
        })
    }

    /// The actors: the writer, one for each kind, the server for the tests of others, the responder, both
    /// halves of a mesh, and the page.
    fn children(&self, resolver: &Resolver, probe_policy: Policy, press: &Press) -> Vec<Child> {
        let (outlet, board) = (self.outlet.clone(), self.board.clone());
        let pairs = self.pairs.clone();
        let sink: RowSink = Arc::new(move |row| outlet.send(row));
        let writer = WriterParts {
            intake: self.intake.clone(),
            journal: self.journal.clone(),
            outputs: self.outputs.subscribe(),
            statuses: self.statuses.clone(),
            observe: Arc::new(move |row| {
                board.observe(row);
                pairs.observe(row, None);
            }),
            clock: self.clock.clone(),
            random: Arc::new(rand::random),
        };
        let essential = Policy { healthy_after: probe_policy.healthy_after, ..Policy::ESSENTIAL };
        let writer = Child::new("writer", essential, Placement::OwnThread, move || Ok(Writer::new(writer.clone())));
        let load = Load::new(self.clock.clone());
        let server = self.iperf3_server(load.clone(), probe_policy);
        let shared = Shared { clock: self.clock.clone(), resolver: resolver.clone(), load };
        let probes = self.engines.iter().zip(&self.ledgers).map(|((name, engines), (_, ledger))| {
            let parts = ProbeParts {
                kind: name,
                engines: Arc::clone(engines),
                shared: shared.clone(),
                ledger: Arc::clone(ledger),
                plan: self.planner.subscribe(),
                sink: Arc::clone(&sink),
                draining: self.draining.subscribe(),
            };
            Child::new(name, probe_policy, Placement::OwnThread, move || Probe::new(parts.clone()))
        });
        let responder =
            ResponderParts { settings: self.responder.subscribe(), listeners: self.listeners.clone(), clock: self.clock.clone() };
        let responder = Child::new("responder", probe_policy, Placement::OwnThread, move || Ok(Responder::new(responder.clone())));
        let others = [server, responder, self.agent(probe_policy), self.collector(probe_policy), self.web(probe_policy, press)];
        std::iter::once(writer).chain(probes).chain(others).collect()
    }

    fn collector(&self, policy: Policy) -> Child {
        let parts = CollectorParts {
            settings: self.collector.subscribe(),
            surface: Arc::clone(&self.surface),
            listeners: self.listeners.clone(),
            clock: self.clock.clone(),
        };
        Child::new("collector", policy, Placement::OwnThread, move || Ok(Collector::new(parts.clone())))
    }

    fn agent(&self, policy: Policy) -> Child {
        let planner = self.planner.clone();
        let parts = AgentParts {
            settings: self.mesh.subscribe(),
            desk: self.desk.clone(),
            measure: Arc::new(move |assignments| planner.mesh(assignments)),
            random: Arc::new(rand::random),
        };
        Child::new("mesh", policy, Placement::OwnThread, move || Ok(Agent::new(parts.clone())))
    }

    fn iperf3_server(&self, load: Load, policy: Policy) -> Child {
        let parts = iperf3::server::ServerParts {
            wanted: self.iperf3_server.subscribe(),
            load,
            listeners: self.listeners.clone(),
            clock: self.clock.clone(),
            random: Arc::new(rand::random),
        };
        Child::new("iperf3_server", policy, Placement::OwnThread, move || Ok(iperf3::server::Server::new(parts.clone())))
    }

    /// Reads the config again and applies what changed; with any problem nothing changes.
    fn reload(&self) -> Result<config::Log, String> {
        let outcome = config::load(&self.options.config, self.options.kinds, &self.options.env)
            .map_err(|problems| problems.to_string())
            .and_then(|new| config::diff(&lock(&self.config), &new).map(|change| (new, change)).map_err(|error| error.to_string()));
        match outcome {
            Ok((new, change)) => {
                tracing::info!(changed = %change, "config reloaded");
                Ok(self.apply(new))
            }
            Err(problem) => {
                tracing::error!(problem = problem.replace('\n', "; "), "reload refused, the old config goes on");
                lock(&self.config_status).problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    fn apply(&self, new: Config) -> config::Log {
        self.journal.configure(new.journal.clone());
        self.planner.config(new.assignments.clone());
        // The writer finds out itself which outputs changed; one with a new secret is tried at once.
        self.outputs.send_replace(Arc::new(outputs(&new, &self.desk)));
        tell(&self.iperf3_server, &new.iperf3_server);
        tell(&self.web, &new.web);
        tell(&self.responder, &new.responder);
        tell(&self.collector, &new.collector);
        tell(&self.mesh, &new.mesh);
        *lock(&self.config_status) = config_status(&self.options, self.clock.now().unix);
        let log = new.log.clone();
        if log.format != lock(&self.config).log.format {
            tracing::warn!("the new log.format is used from the next start on");
        }
        *lock(&self.config) = new;
        log
    }

    /// Whether every slot that came due has its row.
    fn settled(&self) -> bool {
        self.ledgers.iter().all(|(_, ledger)| lock(ledger).open() == 0)
    }

    /// The last rows: every slot that is still open, or came due until `stopped` while its actor was away, is skipped;
    /// everything is made durable, the stop noted as clean.
    ///
    /// After a failure the stop is not clean: the next qosd tells what was missed until then.
    async fn close(&self, stopped: Moment, clean: bool) {
        for (_, ledger) in &self.ledgers {
            let mut ledger = lock(ledger);
            // From here on no actor can open or close a slot.
            ledger.lend();
            let finding = Finding::skipped(Skip::Shutdown);
            let mut open = ledger.abandon(stopped, true);
            while !open.is_empty() {
                for (series, time) in open {
                    ledger.close(&series, time, finding.outcome);
                    self.outlet.send(Row { series, time, fields: finding.clone().into_fields(None) });
                }
                open = ledger.abandon(stopped, true);
            }
        }
        self.intake.hand_over(|rows| self.journal.append(rows));
        let committed = async { if clean { self.journal.close().await } else { self.journal.flush().await } };
        match tokio::time::timeout(LAST_COMMIT, committed).await {
            Ok(Ok(())) => tracing::info!("journal closed"),
            Ok(Err(error)) => tracing::error!(%error, "the last rows are not durable"),
            Err(_) => tracing::error!("the disk took too long for the last rows"),
        }
    }

    fn slots(&self) -> Counts {
        self.ledgers.iter().map(|(_, ledger)| lock(ledger).counts()).fold(Counts::default(), |sum, counts| Counts {
            scheduled: sum.scheduled + counts.scheduled,
            rows: sum.rows + counts.rows,
            skipped: sum.skipped + counts.skipped,
        })
    }

    /// Every output, with its dead letters.
    fn outputs_now(&self) -> Vec<OutputStatus> {
        let with_letters = |status: OutputStatus| {
            let DeadCount { letters: dead, requeued } = self.journal.dead(&status.name);
            OutputStatus { dead, requeued, ..status }
        };
        self.statuses.all().into_iter().map(with_letters).collect()
    }

    /// Everything but the series.
    fn state(&self) -> serde_json::Value {
        let now = self.clock.now();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "agent": lock(&self.config).agent.name,
            "pid": std::process::id(),
            "started": self.started.unix,
            "uptime_s": now.mono.saturating_sub(self.started.mono).as_secs(),
            "config": *lock(&self.config_status),
            "actors": self.actors(),
            "listeners": self.listeners.all(),
            "abandoned_threads": self.view.abandoned(),
            "slots": self.slots(),
            "queue_dropped": self.outlet.dropped(),
            "journal": self.journal.stats(),
            "history": self.history.status(),
            "outputs": self.outputs_now(),
            "collector": self.surface.status(),
            "mesh": self.desk.status(),
        })
    }

    /// Everything, for the state socket.
    fn report(&self) -> serde_json::Value {
        let mut report = self.state();
        report["series"] = serde_json::json!(self.board.series(self.clock.now().unix));
        report
    }

    /// One line on how things are.
    fn summary(&self) -> String {
        let slots = self.slots();
        let series = self.planner.now().len();
        let pending: u64 = self.statuses.all().iter().map(|output| output.pending).sum();
        format!("{series} series, {} rows, {} skipped, {pending} to deliver", slots.rows, slots.skipped)
    }
}

/// Tells an actor its settings if they changed.
fn tell<T: Clone + PartialEq>(actor: &watch::Sender<T>, settings: &T) {
    actor.send_if_modified(|old| {
        let changed = old != settings;
        if changed {
            old.clone_from(settings);
        }
        changed
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn outputs(config: &Config, desk: &Desk) -> Vec<OutputSpec> {
    let mesh = config.mesh.iter().map(|settings| mesh::agent::output::output(settings.clone(), desk.losses.clone()));
    config.influxdb.iter().map(|(name, settings)| influxdb::output(name, settings.clone())).chain(mesh).collect()
}

fn config_status(options: &Options, now: Timestamp) -> ConfigStatus {
    ConfigStatus { file: options.config.display().to_string(), loaded: now.to_string(), problem: None }
}

/// Whether the service has to end because of this.
fn is_fatal(notice: &Notice) -> bool {
    matches!(notice, Notice::Escalated(_))
}
