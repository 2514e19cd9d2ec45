//! Logs: structured lines on stderr, JSON or text, with the priority that journald understands in front.
//!
//! Nobody waits for whoever reads them: lines go through a bounded queue to a thread of their own, which says how many did not
//! fit as soon as it has caught up. One event is one line, whatever it holds, and of what happens again and again there are ten
//! lines a second, with the number of those left out; but who asks for DEBUG or TRACE gets all of it.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::clock::Clock;
use crate::config::{Env, Log, LogFormat};
use crate::privileges;
use limit::{Limit, Suppressed};
pub(crate) use one_line::is_unfit;
use queue::{Lines, Queue};

mod limit;
mod one_line;
mod queue;

/// Parts of others that tell at INFO what only their authors want to know, at WARN what the network does, as often as it does
/// it, and below whatever passes through them: what a server says may be a secret that it was told before. `actix_http` takes
/// a malformed head for an error, which whoever reaches a port can send: it tells its lines to who asks for them by its name.
const QUIET: &str = "actix_server=warn,actix_http=off,h2=error,hickory_net=error,hickory_proto=error,\
                     hickory_resolver=error,hyper=error,hyper_util=error,reqwest=error,rustls=error";

/// Lines that may wait for whoever reads them.
const WAITING: usize = 4096;
/// How long the end of the process waits for the last lines to be taken.
const LAST_LINES: Duration = Duration::from_millis(200);

/// How long to wait until lines that were left out are told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What tells of lines that were left out; it is not left out itself.
const TELLING: &str = "qosd::telemetry::suppressed";

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// This process has a log already.
    #[error("there is a log already")]
    Taken(#[from] TryInitError),
    /// The thread that writes could not be started.
    #[error("no thread for the log")]
    Thread(#[from] std::io::Error),
}

/// Changes what is logged while it is logged. When it is dropped, lines that wait are written, for a short while.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Arc<Queue>,
    limited: Arc<Limited>,
}

impl Telemetry {
    /// Begins to log. Whoever logs never waits: while stderr takes nothing, lines wait in memory; those that find it full are
    /// counted and lost.
    pub fn start(log: &Log, env: &Env) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(filter(log));
        let priorities = env.contains_key("JOURNAL_STREAM");
        let queue = Arc::new(Queue::new(WAITING));
        let base = Registry::default().with(filter);
        let colours = log.format == LogFormat::Text && std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_writer(Lines { queue: Arc::clone(&queue), colours });
        let limited = Arc::new(Limited { clock: Clock::system(), limit: Mutex::new(Limit::new()) });
        let limit = Arc::clone(&limited);
        match log.format {
            LogFormat::Json => {
                let format = Format::default().json().flatten_event(true).with_current_span(true).with_span_list(false);
                base.with(lines.fmt_fields(JsonFields::new()).event_format(Prioritised::<Format<Json>> { priorities, limit, format }))
                    .try_init()?;
            }
            LogFormat::Text => {
                let format = Format::default().compact().with_target(false);
                base.with(lines.with_ansi(colours).event_format(Prioritised { priorities, limit, format })).try_init()?;
            }
        }
        let (filled, telling) = (Arc::clone(&queue), Arc::clone(&limited));
        std::thread::Builder::new().name("log".into()).spawn(move || {
            // It is started before the sockets are opened, and a thread keeps what the others give away later.
            privileges::drop_capabilities();
            filled.write_to(std::io::stderr(), || telling.tell(Duration::ZERO));
        })?;
        Ok(Self { filter: handle, queue, limited })
    }

    /// Takes a new level from a reload.
    pub fn follow(&self, log: &Log) {
        if let Err(error) = self.filter.reload(filter(log)) {
            tracing::warn!(%error, "log level stays as it was");
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // There is nobody to tell later.
        self.limited.tell(LOOK_AGAIN);
        self.queue.flush(LAST_LINES);
    }
}

/// The check has refused what does not parse. A level that names one of the quiet parts itself wins.
fn filter(log: &Log) -> EnvFilter {
    let with_quiet = |level: &str| EnvFilter::try_new(format!("{QUIET},{level}"));
    with_quiet(&log.level).or_else(|_| with_quiet("info")).unwrap_or_default()
}

/// The limit on lines, shared by all who log.
struct Limited {
    clock: Clock,
    limit: Mutex<Limit<Identifier>>,
}

impl Limited {
    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TELLING {
            return true;
        }
        self.held(|limit, now| limit.admits(metadata.callsite(), || message(event), now))
    }

    /// Tells what was left out and would be told within so much time, and says when to look again.
    fn tell(&self, within: Duration) -> Option<Duration> {
        let (told, busy) = self.held(|limit, now| (limit.overdue(now.saturating_add(within)), limit.is_busy(now)));
        for Suppressed { class, lines } in told {
            tracing::warn!(target: TELLING, class, suppressed = lines, "log lines were left out, as there were too many alike");
        }
        busy.then_some(LOOK_AGAIN)
    }

    /// A panic elsewhere leaves the limit whole enough: the worst is a line too many.
    fn held<T>(&self, with: impl FnOnce(&mut Limit<Identifier>, Duration) -> T) -> T {
        with(&mut self.limit.lock().unwrap_or_else(PoisonError::into_inner), self.clock.mono())
    }
}

/// What an event says, of ours; that of others may hold anything, so there it is whose it is.
fn message(event: &Event<'_>) -> String {
    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }

    let target = event.metadata().target();
    let mut message = Message(target.to_owned());
    if target.starts_with(env!("CARGO_CRATE_NAME")) {
        event.record(&mut message);
    }
    message.0
}

/// A format with `<N>` in front of each line where journald reads them, which writes no more lines than it may.
struct Prioritised<F> {
    priorities: bool,
    limit: Arc<Limited>,
    format: F,
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if !self.limit.admits(event) {
            return Ok(());
        }
        if self.priorities {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
