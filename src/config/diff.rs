//! What a reload changes. Pure.

use std::fmt;

use super::Config;

/// The sections in which two configs differ. Which series differ, the probe actors find out themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each section")]
pub struct Change {
    /// `[log]`.
    pub log: bool,
    /// `[journal]`.
    pub journal: bool,
    /// Outputs, their settings or their secrets.
    pub influxdb: bool,
    /// `[iperf3_server]`.
    pub iperf3_server: bool,
    /// `[web]`.
    pub web: bool,
    /// `[responder]`.
    pub responder: bool,
    /// `[mesh]`, or its key.
    pub mesh: bool,
    /// `[collector]`, or a file that it names.
    pub collector: bool,
    /// Any series of any probe.
    pub assignments: bool,
}

impl Change {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What changed, for the log: the sections, or that none did.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections = [
            (self.log, "log"),
            (self.journal, "journal"),
            (self.influxdb, "influxdb"),
            (self.iperf3_server, "iperf3_server"),
            (self.web, "web"),
            (self.responder, "responder"),
            (self.mesh, "mesh"),
            (self.collector, "collector"),
            (self.assignments, "probes"),
        ];
        let changed: Vec<_> = sections.into_iter().filter(|(changed, _)| *changed).map(|(_, section)| section).collect();
        f.write_str(if changed.is_empty() { "nothing" } else { "" })?;
        f.write_str(&changed.join(", "))
    }
}

/// A change that a running service cannot take: everything it wrote and holds depends on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartNeeded {
    /// Rows of one series would get another name.
    #[error("agent.name changed from {old} to {new}, which is refused until restart")]
    Name {
        /// As it runs.
        old: String,
        /// As the file has it.
        new: String,
    },
    /// The journal is open in the old one.
    #[error("agent.data_dir changed from {old} to {new}, which is refused until restart")]
    DataDir {
        /// As it runs.
        old: String,
        /// As the file has it.
        new: String,
    },
}

/// What has to be changed for `old` to become `new`.
pub fn diff(old: &Config, new: &Config) -> Result<Change, RestartNeeded> {
    if old.agent.name != new.agent.name {
        return Err(RestartNeeded::Name { old: old.agent.name.clone(), new: new.agent.name.clone() });
    }
    if old.agent.data_dir != new.agent.data_dir {
        let show = |config: &Config| config.agent.data_dir.display().to_string();
        return Err(RestartNeeded::DataDir { old: show(old), new: show(new) });
    }
    Ok(Change {
        log: old.log != new.log,
        journal: old.journal != new.journal,
        influxdb: old.influxdb != new.influxdb,
        iperf3_server: old.iperf3_server != new.iperf3_server,
        web: old.web != new.web,
        responder: old.responder != new.responder,
        mesh: old.mesh != new.mesh,
        collector: old.collector != new.collector,
        assignments: old.assignments != new.assignments,
    })
}
