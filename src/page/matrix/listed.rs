//! Who is in the mesh, as qosd's own report tells it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use crate::measurement::Series;
use crate::mesh::agent::plan::{KIND, PROBE};
use crate::mesh::agent::standing::AgentStatus;
use crate::mesh::collector::status::CollectorStatus;
use crate::mesh::list::Proto;

/// Who measures whom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Who is expected to measure.
    pub(super) sources: BTreeSet<String>,
    /// Who is expected to be measured, by which protocols.
    pub(super) targets: BTreeMap<String, BTreeSet<Proto>>,
    /// From round to round.
    pub(super) interval: Option<Duration>,
    /// Whether this is a collector, and shows the whole mesh.
    pub(super) whole: bool,
}

/// This host, where it is in a mesh.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::page) struct Member {
    /// As whom it measures.
    pub(in crate::page) agent: String,
    /// From round to round.
    pub(in crate::page) interval: Option<Duration>,
}

#[derive(Default, Deserialize)]
struct Report {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    collector: Option<CollectorStatus>,
    #[serde(default)]
    mesh: Option<AgentStatus>,
}

impl Report {
    fn read(report: &serde_json::Value) -> Option<Self> {
        let read = Self::deserialize(report).unwrap_or_default();
        (read.collector.is_some() || read.mesh.is_some()).then_some(read)
    }

    /// From round to round: the collector's, which is of the whole mesh, before the agent's.
    fn interval(&self) -> Option<Duration> {
        let of_collector = self.collector.as_ref().and_then(|collector| Duration::try_from_secs_f64(collector.interval_s).ok());
        of_collector.or_else(|| humantime::parse_duration(&self.mesh.as_ref()?.interval).ok())
    }
}

/// Reads who this host is in its mesh; none if it is in none.
pub(in crate::page) fn member(report: &serde_json::Value) -> Option<Member> {
    let read = Report::read(report)?;
    Some(Member { interval: read.interval(), agent: read.agent })
}

/// Reads it; none if this host is in no mesh. `scheduled` are the series that this host measures itself.
pub(super) fn listed(report: &serde_json::Value, scheduled: &[Series]) -> Option<Listed> {
    let read = Report::read(report)?;
    let mut listed = Listed { whole: read.collector.is_some(), interval: read.interval(), ..Listed::default() };
    let Report { agent, collector, mesh } = read;
    if let Some(collector) = collector {
        for source in collector.sources {
            listed.targets.entry(source.name.clone()).or_default().extend(source.protos);
            listed.sources.insert(source.name);
        }
    }
    if mesh.is_some() {
        listed.sources.insert(agent);
        for series in scheduled.iter().filter(|series| series.tag("probe") == Some(PROBE) && series.tag("kind") == Some(KIND)) {
            let proto = if series.tag("family") == Some(Proto::V6.family()) { Proto::V6 } else { Proto::V4 };
            listed.targets.entry(series.tag("target").unwrap_or_default().to_owned()).or_default().insert(proto);
        }
    }
    Some(listed)
}
