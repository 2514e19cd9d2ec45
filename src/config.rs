//! The config: everything that an operator wants of qosd, or all that is wrong with it, each with its place.
//!
//! Layers lie over each other: the defaults of the settings, the main file, `conf.d/*.toml` beside it in the order of
//! their names, and `QOSD__SECTION__KEY` from the environment. Tables merge, everything else is replaced. Reading
//! promises to end in bounded time and memory whatever the files are, and never to show a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::influxdb;
use crate::journal;
use crate::mesh;
use crate::page;
use crate::probe::iperf3;
use crate::probe::{AnyKind, Assignment};
use crate::responder;

pub use diff::{Change, RestartNeeded, diff};
pub use problem::{Place, Problem, Problems};
pub use sections::{Agent, Log, LogFormat};

mod diff;
mod layers;
mod problem;
mod reader;
mod sections;

/// The config file when nothing names another.
pub const DEFAULT_PATH: &str = "/etc/qosd/qosd.toml";

/// The environment, as an argument.
pub type Env = BTreeMap<String, String>;

/// A config in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// `[log]`.
    pub log: Log,
    /// `[journal]`.
    pub journal: journal::Settings,
    /// `[influxdb.NAME]`, by name.
    pub influxdb: BTreeMap<String, influxdb::Settings>,
    /// `[iperf3_server]`, if it is there.
    pub iperf3_server: Option<iperf3::server::Settings>,
    /// `[web]`; none = the page is on the state socket alone.
    pub web: Option<page::Settings>,
    /// `[responder]`; none = off.
    pub responder: Option<responder::Settings>,
    /// `[mesh]`; none = no agent.
    pub mesh: Option<mesh::agent::Settings>,
    /// `[collector]`; none = no collector.
    pub collector: Option<mesh::collector::Settings>,
    /// Every series of every probe; no two are the same.
    pub assignments: Vec<Arc<Assignment>>,
    /// How many probes they come from.
    pub probes: usize,
    /// Where the state socket is: `$RUNTIME_DIRECTORY`, else `data_dir`.
    pub runtime_dir: PathBuf,
    /// Everything with its defaults, as a config that could be used instead. Secrets are redacted.
    pub effective: toml::Table,
}

impl Config {
    /// The state socket.
    pub fn socket_path(&self) -> PathBuf {
        socket_in(&self.runtime_dir)
    }
}

/// Where a service with some config has what others look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The folder with its journal.
    pub data_dir: PathBuf,
    /// Its state socket.
    pub socket: PathBuf,
}

/// Finds a service by `[agent]` alone, so that it is found while something else in its config is wrong.
pub fn whereabouts(main: &Path, env: &Env) -> Result<Whereabouts, Problems> {
    let layers = layers::read(main, env)?;
    let (agent, runtime_dir) = reader::agent(&layers, env)?;
    Ok(Whereabouts { data_dir: agent.data_dir, socket: socket_in(&runtime_dir) })
}

fn socket_in(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("qosd.sock")
}

/// The config file when no other is named: `$QOSD_CONFIG`, then `/etc/qosd/qosd.toml`; never one in the working directory.
pub fn default_path(env: &Env) -> PathBuf {
    env.get("QOSD_CONFIG").filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from(DEFAULT_PATH), PathBuf::from)
}

/// Reads a config with all its layers and the secrets that it names.
///
/// A file that cannot be parsed hides what else is wrong, so then the problems are those of the files alone.
pub fn load(main: &Path, kinds: &[&dyn AnyKind], env: &Env) -> Result<Config, Problems> {
    let layers = layers::read(main, env)?;
    reader::read(&layers, kinds, env)
}

/// A folder that systemd made for the service; of several it is the first.
fn systemd_folder(env: &Env, name: &str) -> Option<PathBuf> {
    let first = env.get(name)?.split(':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(first))
}
