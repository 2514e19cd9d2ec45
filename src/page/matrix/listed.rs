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

#[derive(Default, Deserialize)]
struct Report {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    collector: Option<CollectorStatus>,
    #[serde(default)]
    mesh: Option<AgentStatus>,
}

/// Reads it; none if this host is in no mesh. `scheduled` are the series that this host measures itself.
pub(super) fn listed(report: &serde_json::Value, scheduled: &[Series]) -> Option<Listed> {
    let Report { agent, collector, mesh } = Report::deserialize(report).unwrap_or_default();
    if collector.is_none() && mesh.is_none() {
        return None;
    }
    let mut listed = Listed { whole: collector.is_some(), ..Listed::default() };
    if let Some(collector) = collector {
        listed.interval = Duration::try_from_secs_f64(collector.interval_s).ok();
        for source in collector.sources {
            listed.targets.entry(source.name.clone()).or_default().extend(source.protos);
            listed.sources.insert(source.name);
        }
    }
    if let Some(mesh) = mesh {
        listed.interval = listed.interval.or_else(|| humantime::parse_duration(&mesh.interval).ok());
        listed.sources.insert(agent);
        for series in scheduled.iter().filter(|series| series.tag("probe") == Some(PROBE) && series.tag("kind") == Some(KIND)) {
            let proto = if series.tag("family") == Some(Proto::V6.family()) { Proto::V6 } else { Proto::V4 };
            listed.targets.entry(series.tag("target").unwrap_or_default().to_owned()).or_default().insert(proto);
        }
    }
    Some(listed)
}
