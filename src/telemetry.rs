//! Logs: structured lines on stderr, JSON or text, with the priority that journald understands in front.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Env, Log, LogFormat};

/// Parts that tell at INFO what only their authors want to know, and those that below it tell whatever passes through
/// them: what a server says may be a secret that it was told before.
const QUIET: &str = "actix_server=warn,actix_http=warn,h2=warn,hickory_net=warn,hickory_proto=warn,hickory_resolver=warn,\
                     hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn";

/// Changes what is logged while it is logged.
pub struct Telemetry(reload::Handle<EnvFilter, Registry>);

impl Telemetry {
    /// Begins to log. What stderr does not take is lost; nothing waits for it longer than for a write.
    pub fn start(log: &Log, env: &Env) -> Result<Self, TryInitError> {
        let (filter, handle) = reload::Layer::new(filter(log));
        let priorities = env.contains_key("JOURNAL_STREAM");
        let base = Registry::default().with(filter);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
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
        Ok(Self(handle))
    }

    /// Takes a new level from a reload.
    pub fn follow(&self, log: &Log) {
        if let Err(error) = self.0.reload(filter(log)) {
            tracing::warn!(%error, "log level stays as it was");
        }
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
