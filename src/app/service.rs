//! The life of the service: start, signals, the watchdog, the end.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context};
use actix_rt::System;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, timeout};

use super::absence::Begun;
use super::{Options, Parts, StartError, is_fatal, state_socket};
use crate::clock::Clock;
use crate::config;
use crate::journal::Journal;
use crate::page::server::pages;
use crate::privileges;
use crate::probe::schedule::Schedule;
use crate::resolve::Resolver;
use crate::settings::explain;
use crate::status::recall::recall;
use crate::status::server::{self, Told};
use crate::supervisor::actor::{Drain, MOST_ABANDONED, Notice, ProvokeIn, Supervisor, View};
use crate::supervisor::guard::{Guarded, install_panic_hook};
use crate::supervisor::policy::Policy;
use crate::supervisor::{Exit, Fault};
use crate::sys;
use crate::systemd::{self, Systemd};
use crate::telemetry::Telemetry;
use crate::vitals;

/// How long runs in flight may go on after SIGTERM.
const DRAIN: Duration = Duration::from_millis(1200);
/// How long the actors may take to start before systemd is told that qosd is ready all the same.
const START: Duration = Duration::from_secs(5);
/// How long qosd waits for the wall clock to be set.
const CLOCK_WAIT: Duration = Duration::from_mins(1);
/// The most descriptors that are asked for.
const DESCRIPTORS: u64 = 65_536;
/// How often systemd's status line is renewed.
const STATUS_LINE: Duration = Duration::from_secs(10);
/// Turns on what tests need: faults by the state socket. Its value may shorten the time after which an actor is healthy.
const TEST_HOOKS: &str = "QOSD_TEST_HOOKS";

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By SIGTERM or SIGINT.
    Asked,
    /// Because it could not go on.
    Failed,
}

/// Runs the service until it is stopped.
pub fn run(options: Options) -> Result<Ended, StartError> {
    sys::share_memory();
    System::new().block_on(async {
        // Before anything else: a reload that comes early must not kill.
        let signals = Signals::install().map_err(|error| StartError::System("signal handlers cannot be installed", error))?;
        Box::pin(serve(options, signals)).await
    })
}

struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
    usr1: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }
}

async fn serve(options: Options, mut signals: Signals) -> Result<Ended, StartError> {
    let config = config::load(&options.config, options.kinds, &options.env).map_err(StartError::Config)?;
    let telemetry = Telemetry::start(&config.log, &options.env).ok();
    install_panic_hook();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), agent = config.agent.name, config = %options.config.display(), "qosd starts");
    allow_descriptors();
    let clock = Clock::system();
    if !clock_is_set(&clock, &mut signals).await {
        return Ok(Ended::Asked);
    }
    let (hooks, env) = (options.env.get(TEST_HOOKS).cloned(), options.env.clone());
    let engines = options.kinds.iter().map(|kind| (kind.name(), Arc::from(kind.open()))).collect();
    // No packet has been read yet, and of the threads only that of the log was started: it drops its own.
    privileges::drop_capabilities();
    let systemd = Systemd::connect(&env);
    let parts = Arc::new(Parts::new(options, config, engines, clock.clone())?);
    tokio::select! {
        begun = parts.begin() => if let Begun::Unaccounted(started) = begun {
            let parts = Arc::clone(&parts);
            actix_rt::spawn(async move { parts.account_later(started).await });
        },
        // Nothing runs yet, and what was missed is told by the next one.
        _ = signals.term.recv() => return Ok(Ended::Asked),
        _ = signals.int.recv() => return Ok(Ended::Asked),
    }
    actix_rt::spawn(remember(Arc::clone(&parts)));
    let press = parts.press();
    let children = parts.children(&Resolver::start(clock.clone()), policy(hooks.as_deref()), &press);

    let (notice, notices) = watch::channel(Notice::Working);
    let supervisor = Supervisor::new(children, parts.view.clone(), notice, clock, rand::random);
    let context = Context::<Supervisor>::new();
    let address = context.address();
    let task = actix_rt::spawn(Guarded::new(context, supervisor));

    let socket = socket_path(&parts);
    let hook = hooks.is_some().then(|| fault_hook(address.clone(), parts.view.clone()));
    let told = Told { report: parts.reporter(), requeue: requeue(parts.journal.clone()), hook, pages: pages(press) };
    let socket = actix_rt::spawn(state_socket::keep(socket, told));

    let service = Service { parts, supervisor: address, task, notices, signals, telemetry, systemd };
    let ended = service.live().await;
    socket.abort();
    // Cancelled, as was asked for; its file goes with it.
    let _ = socket.await;
    Ok(ended)
}

/// Before its first rows the page shows the last ones of the process before.
async fn remember(parts: Arc<Parts>) {
    let meshed = super::lock(&parts.config).collector.is_some();
    if let Err(error) = recall(&parts.board, meshed.then_some(&parts.pairs), &parts.journal, parts.started.unix).await {
        tracing::warn!(error = explain(&error), "the last rows of before cannot be read, the page begins without them");
    }
}

/// As many descriptors as this host allows: the usual limit is low for the sake of programs that use select(2).
fn allow_descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // What cannot be raised is enough, or whoever lacks one says so.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(DESCRIPTORS)), hard);
}

/// Waits for the wall clock to be set, but not for ever: then rows say that it was not. False if qosd is to stop.
async fn clock_is_set(clock: &Clock, signals: &mut Signals) -> bool {
    let waited = clock.now().mono + CLOCK_WAIT;
    loop {
        clock.look_at_sync();
        if !clock.is_unsynced() || clock.now().mono >= waited {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = signals.term.recv() => return false,
            _ = signals.int.recv() => return false,
        }
    }
}

/// Puts dead letters back into delivery, for whoever asks on the state socket.
fn requeue(journal: Journal) -> server::Requeue {
    Arc::new(move |output| {
        let journal = journal.clone();
        Box::pin(async move {
            let letters = journal.requeue(output.as_deref()).await.map_err(|error| explain(&error))?;
            tracing::info!(letters, output, "dead letters requeued");
            Ok(letters)
        })
    })
}

fn socket_path(parts: &Parts) -> std::path::PathBuf {
    super::lock(&parts.config).socket_path()
}

/// Tests shorten the time after which an actor counts as healthy: `healthy_after=200ms`.
fn policy(hooks: Option<&str>) -> Policy {
    let healthy_after = hooks.and_then(|hooks| humantime::parse_duration(hooks.strip_prefix("healthy_after=")?).ok());
    Policy { healthy_after: healthy_after.unwrap_or(Policy::PROBE.healthy_after), ..Policy::PROBE }
}

fn fault_hook(supervisor: actix::Addr<Supervisor>, view: View) -> server::Hook {
    Arc::new(move |actor, fault| {
        let known = view.roster().entries().iter().any(|entry| entry.name == actor);
        let fault = match fault {
            "panic" => Fault::Panic,
            "block" => Fault::Block,
            "freeze" => Fault::Freeze,
            _ => return false,
        };
        known && supervisor.try_send(ProvokeIn(actor.to_owned(), fault)).is_ok()
    })
}

struct Service {
    parts: Arc<Parts>,
    supervisor: actix::Addr<Supervisor>,
    task: JoinHandle<Exit>,
    notices: watch::Receiver<Notice>,
    signals: Signals,
    telemetry: Option<Telemetry>,
    systemd: Systemd,
}

/// Why the main loop was left.
enum Turn {
    Stop(&'static str),
    Fail(String),
}

impl Service {
    async fn live(mut self) -> Ended {
        if self.wait_for_actors().await {
            self.drain().await;
            return Ended::Asked;
        }
        self.systemd.ready(&self.parts.summary());
        tracing::info!(series = self.parts.planner.now().len(), "qosd is ready");
        match self.main_loop().await {
            Turn::Stop(signal) => {
                tracing::info!(signal, "qosd stops");
                self.drain().await;
                Ended::Asked
            }
            Turn::Fail(why) => {
                tracing::error!(why, "qosd cannot go on");
                self.parts.close(self.parts.clock.now(), false).await;
                Ended::Failed
            }
        }
    }

    /// Waits for the actors, for a while; true if qosd is to stop meanwhile.
    async fn wait_for_actors(&mut self) -> bool {
        let view = &self.parts.view;
        let working = async {
            while !view.roster().all_working() || view.roster().entries().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            outcome = timeout(START, working) => {
                if outcome.is_err() {
                    tracing::warn!("not every actor works yet");
                }
                false
            }
            _ = self.signals.term.recv() => true,
            _ = self.signals.int.recv() => true,
        }
    }

    async fn main_loop(&mut self) -> Turn {
        let mut watchdog = systemd::watchdog_interval().map(|every| ticks(interval(every)));
        let mut status_line = ticks(interval(STATUS_LINE));
        let mut minute = ticks(self.minutes());
        loop {
            tokio::select! {
                _ = self.signals.hup.recv() => self.reload(),
                _ = self.signals.usr1.recv() => tracing::info!(state = %self.parts.report(), "state"),
                _ = self.signals.term.recv() => return Turn::Stop("SIGTERM"),
                _ = self.signals.int.recv() => return Turn::Stop("SIGINT"),
                exit = &mut self.task => return Turn::Fail(format!("the supervisor ended: {}", exit.unwrap_or(Exit::Cancelled))),
                Ok(()) = self.notices.changed() => {
                    let notice = self.notices.borrow_and_update().clone();
                    if is_fatal(&notice) {
                        return Turn::Fail(format!("{notice:?}"));
                    }
                }
                () = tick(watchdog.as_mut()) => self.feed_watchdog(),
                _ = status_line.tick() => self.systemd.status(&self.parts.summary()),
                _ = minute.tick() => {
                    self.parts.clock.look_at_sync();
                    self.report_vitals();
                }
            }
        }
    }

    /// Ticks at the full minutes of the wall clock.
    fn minutes(&self) -> Interval {
        let now = self.parts.clock.now().unix;
        let first = Schedule::new(vitals::INTERVAL, Duration::ZERO).after(now).since(now);
        interval_at(Instant::now() + first, vitals::INTERVAL)
    }

    fn report_vitals(&self) {
        let every_minute = Schedule::new(vitals::INTERVAL, Duration::ZERO);
        let time = every_minute.after(self.parts.clock.now().unix.minus(vitals::INTERVAL));
        for row in self.parts.vitals_of_a_minute(time) {
            self.parts.outlet.send(row);
        }
    }

    fn feed_watchdog(&self) {
        let abandoned = self.parts.view.abandoned();
        if abandoned <= MOST_ABANDONED {
            self.systemd.alive();
        } else {
            tracing::error!(abandoned, "too many blocked threads, the watchdog is not fed");
        }
    }

    fn reload(&self) {
        self.systemd.reloading();
        match self.parts.reload() {
            Ok(log) => {
                if let Some(telemetry) = &self.telemetry {
                    telemetry.follow(&log);
                }
                self.systemd.ready(&self.parts.summary());
            }
            Err(problem) => self.systemd.ready(&format!("reload refused: {}", problem.lines().next().unwrap_or_default())),
        }
    }

    /// Lets runs in flight end, for a moment, then makes everything durable. A second signal ends the waiting.
    async fn drain(&mut self) {
        self.systemd.stopping();
        let stopped = self.parts.clock.now();
        self.supervisor.do_send(Drain);
        self.parts.draining.send_replace(true);
        let settled = async {
            while !self.parts.settled() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // The history is done with the disk before the journal's last rows want it.
        let settled = async { tokio::join!(settled, self.parts.history.close()) };
        tokio::select! {
            _ = timeout(DRAIN, settled) => {}
            _ = self.signals.term.recv() => tracing::info!("second signal, runs in flight are not waited for"),
            _ = self.signals.int.recv() => tracing::info!("second signal, runs in flight are not waited for"),
        }
        self.parts.close(stopped, true).await;
    }
}

/// What was missed while this process stood still is not made up for.
fn ticks(mut interval: Interval) -> Interval {
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
