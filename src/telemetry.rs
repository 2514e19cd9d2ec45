//! Logs: structured lines on stderr, JSON or text, with the priority that journald understands in front.
//!
//! Nobody waits for whoever reads them: lines go through a bounded queue to a thread of their own, which says how many did not
//! fit as soon as it has caught up.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Env, Log, LogFormat};
use crate::privileges;
use queue::{Lines, Queue};

mod queue;

/// Parts of others that tell at INFO what only their authors want to know, at WARN what the network does, as often as it does
/// it, and below whatever passes through them: what a server says may be a secret that it was told before.
const QUIET: &str = "actix_server=warn,actix_http=error,h2=error,hickory_net=error,hickory_proto=error,\
                     hickory_resolver=error,hyper=error,hyper_util=error,reqwest=error,rustls=error";

/// Lines that may wait for whoever reads them.
const WAITING: usize = 4096;
/// How long the end of the process waits for the last lines to be taken.
const LAST_LINES: Duration = Duration::from_millis(200);

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
}

impl Telemetry {
    /// Begins to log. Whoever logs never waits: while stderr takes nothing, lines wait in memory; those that find it full are
    /// counted and lost.
    pub fn start(log: &Log, env: &Env) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(filter(log));
        let priorities = env.contains_key("JOURNAL_STREAM");
        let queue = Arc::new(Queue::new(WAITING));
        let base = Registry::default().with(filter);
        let lines = tracing_subscriber::fmt::layer().with_writer(Lines(Arc::clone(&queue)));
        match log.format {
            LogFormat::Json => {
                let format = Format::default().json().flatten_event(true).with_current_span(true).with_span_list(false);
                base.with(lines.fmt_fields(JsonFields::new()).event_format(Prioritised::<Format<Json>> { priorities, format }))
                    .try_init()?;
            }
            LogFormat::Text => {
                let colours = std::io::stderr().is_terminal();
                let format = Format::default().compact().with_target(false);
                base.with(lines.with_ansi(colours).event_format(Prioritised { priorities, format })).try_init()?;
            }
        }
        let filled = Arc::clone(&queue);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            // It is started before the sockets are opened, and a thread keeps what the others give away later.
            privileges::drop_capabilities();
            filled.write_to(std::io::stderr());
        })?;
        Ok(Self { filter: handle, queue })
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
        self.queue.flush(LAST_LINES);
    }
}

/// The check has refused what does not parse. A level that names one of the quiet parts itself wins.
fn filter(log: &Log) -> EnvFilter {
    let with_quiet = |level: &str| EnvFilter::try_new(format!("{QUIET},{level}"));
    with_quiet(&log.level).or_else(|_| with_quiet("info")).unwrap_or_default()
}

/// A format with `<N>` in front of each line where journald reads them.
struct Prioritised<F> {
    priorities: bool,
    format: F,
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
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
