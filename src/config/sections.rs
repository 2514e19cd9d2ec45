//! The sections that belong to no module of their own: `[agent]`, `[log]` and the table of `[journal]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::journal;
use crate::settings::{KeyProblem, out_of_range, units};

/// The longest name.
const LONGEST_NAME: usize = 64;

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Who measures: tag `source`.
    pub name: String,
    /// Where the journal is.
    pub data_dir: PathBuf,
}

/// `[agent]` as it stands in the config.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AgentTable {
    name: Option<String>,
    data_dir: Option<PathBuf>,
}

impl AgentTable {
    /// Fills in the host's name and the folder that systemd made.
    pub(super) fn finish(self, host: Option<String>, state_dir: Option<PathBuf>) -> Result<Agent, Vec<KeyProblem>> {
        let mut problems = Vec::new();
        let set = self.name.is_some();
        let name = self.name.or(host).unwrap_or_default();
        if !is_name(&name) {
            let what = if set { format!("{name:?}") } else { format!("the host name {name:?}") };
            let message = format!("{what} cannot be the agent's name, allowed are 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ -");
            problems.push(KeyProblem::new("name", message));
        }
        let data_dir = self.data_dir.or(state_dir).unwrap_or_else(|| PathBuf::from("/var/lib/qosd"));
        if data_dir == Path::new("") {
            problems.push(KeyProblem::new("data_dir", "is empty, expected the path of a folder"));
        }
        if problems.is_empty() { Ok(Agent { name, data_dir }) } else { Err(problems) }
    }
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The name of a probe or an output. Lower case only, because names from the environment are.
pub(super) fn table_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let good = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain);
    if good { Ok(()) } else { Err(format!("{name:?} cannot be a name, allowed are 1 to {LONGEST_NAME} of a-z 0-9 _ -")) }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged, in the syntax of tracing's filters: `info,qosd::probe=debug`.
    pub level: String,
    /// How.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// An object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
    }
}

impl Log {
    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<KeyProblem> {
        filter_problem(&self.level).map(|message| KeyProblem::new("level", message)).into_iter().collect()
    }
}

const FILTER: &str = "expected off, error, warn, info, debug or trace, or a filter such as \"info,qosd::probe=debug\"";

fn filter_problem(level: &str) -> Option<String> {
    // A misspelt level would be the name of a module, and nothing else be logged.
    let bare = |part: &&str| !part.contains(['=', '[', ']', '{', '}']);
    let odd = level.split(',').filter(bare).find(|part| part.is_empty() || part.parse::<LevelFilter>().is_err());
    if let Some(part) = odd {
        return Some(format!("{part:?} is no level, {FILTER}"));
    }
    EnvFilter::builder().parse(level).err().map(|_| format!("{level:?} is no filter, {FILTER}"))
}

/// `[journal]` as it stands in the config.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JournalTable {
    #[serde(with = "units::duration")]
    flush: Duration,
    #[serde(with = "units::bytes")]
    max_size: u64,
    #[serde(with = "units::duration")]
    max_age: Duration,
}

impl Default for JournalTable {
    fn default() -> Self {
        Self { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(30 * 24) }
    }
}

impl JournalTable {
    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<KeyProblem> {
        let (flush, size) = (Duration::from_millis(10)..=Duration::from_mins(1), 1 << 20..=1 << 50);
        let age = Duration::from_mins(1)..=Duration::from_hours(36500 * 24);
        let problems = [
            out_of_range("flush", &self.flush, &flush, units::show_duration),
            out_of_range("max_size", &self.max_size, &size, units::show_bytes),
            out_of_range("max_age", &self.max_age, &age, units::show_duration),
        ];
        problems.into_iter().flatten().collect()
    }

    /// As the journal takes it.
    pub(super) fn settings(&self) -> journal::Settings {
        journal::Settings { flush: self.flush, max_size: self.max_size, max_age: self.max_age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_no_level() {
        for good in ["info", "INFO", "off", "info,qosd::probe=debug", "warn,qosd=trace", "info,[run{probe=core}]=debug"] {
            assert_eq!(filter_problem(good), None);
        }
        for bad in ["", "inof", "info,", "qosd::probe", "qosd=loud", "warn, qosd=trace", "info,[="] {
            assert!(filter_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for (name, good) in
            [("rome-1.example_x", true), ("", false), ("a b", false), ("ä", false), (&"a".repeat(65), false), ("a\n", false)]
        {
            assert_eq!(is_name(name), good, "{name}");
        }
        for (name, good) in [("core_1-x", true), ("Core", false), ("a.b", false), ("", false), (&"a".repeat(65), false)] {
            assert_eq!(table_name(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn what_is_not_set_comes_from_the_system() {
        let agent = AgentTable::default().finish(Some("rome-1".into()), Some("/var/lib/private/qosd".into())).unwrap();
        assert_eq!(agent, Agent { name: "rome-1".into(), data_dir: "/var/lib/private/qosd".into() });
        let agent = AgentTable::default().finish(Some("rome-1".into()), None).unwrap();
        assert_eq!(agent.data_dir, Path::new("/var/lib/qosd"));
        let problems = AgentTable::default().finish(Some("my host".into()), None).unwrap_err();
        assert!(problems[0].message.starts_with("the host name \"my host\" cannot be"), "{problems:?}");
    }
}
