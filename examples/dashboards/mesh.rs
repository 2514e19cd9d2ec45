//! The dashboard of a mesh, of what its collector stores: `Ping`, and the results that did not come.

use super::ask::Aggregate::{Max, Mean, Min};
use super::panel::{Board, Origin, Panel, Section, Shape, Variable};

const CHOSEN: &[(&str, &str)] = &[("source", "source"), ("target", "target")];
const PAIR: &[&str] = &["source", "target"];
const PING: Origin = Origin { measurement: "Ping", by: PAIR, chosen: CHOSEN };
const ROWS: Origin = Origin { measurement: "qos_metrics", ..PING };
/// Results as `docs/measurements.md` numbers them.
const TOOL_ERROR: i64 = 14;
const PEER_ABSENT: i64 = 18;

pub(crate) fn board() -> Board {
    Board {
        name: "mesh",
        title: "qosd: mesh",
        description: "What the hosts of a mesh found of each other, as their collector stored it. Each agent's own rows are on the dashboard of the network, with probe mesh.",
        variables: vec![variable("source", &[]), variable("target", &[("source", "source")])],
        sections: vec![
            Section { title: "From whom to whom", closed: false, panels: matrices() },
            Section { title: "Over time", closed: false, panels: over_time() },
        ],
    }
}

fn variable(tag: &'static str, chosen: &'static [(&'static str, &'static str)]) -> Variable {
    // A source that never said anything has no `Ping` row, but rows of what did not come.
    Variable { name: tag, measurements: &["Ping", "qos_metrics"], tag, only: Some(("probe", "mesh")), chosen, hidden: false }
}

fn matrices() -> Vec<Panel> {
    vec![
        Panel::new(Shape::Matrix, "Loss", "percentunit", "Mean loss in the time that is looked at; who measured stands at the left. An empty field: nothing came.", vec![
            PING.whole(Mean, "loss", "loss"),
        ])
        .sized(12, 10)
        .warns(0.001, 0.01),
        Panel::new(Shape::Matrix, "Round-trip time", "ms", "Mean in the time that is looked at; who measured stands at the left. Compare A to B with B to A: both are round trips, so they should be alike.", vec![
            PING.whole(Mean, "avg", "avg"),
        ])
        .sized(12, 10),
    ]
}

fn over_time() -> Vec<Panel> {
    vec![
        Panel::new(
            Shape::Lines,
            "Loss over time",
            "percentunit",
            "Mean share of the packets of a run that were lost, by who measured whom.",
            vec![PING.mean("loss", "loss")],
        )
        .warns(0.001, 0.01),
        Panel::new(
            Shape::Lines,
            "Round-trip time over time",
            "ms",
            "Mean of the runs' means, by who measured whom.",
            vec![PING.mean("avg", "avg")],
        ),
        Panel::new(Shape::Lines, "Shortest round trip", "ms", "It moves when the path does.", vec![PING.steps(Min, "min", "min")]),
        Panel::new(Shape::Lines, "Longest round trip", "ms", "Of all packets in a step.", vec![PING.steps(Max, "max", "max")]),
        Panel::new(
            Shape::Lines,
            "Jitter",
            "ms",
            "Population standard deviation of a run's round trips, as the protocol of the mesh has it.",
            vec![PING.mean("jitter", "jitter")],
        ),
        Panel::new(
            Shape::Bars,
            "Results that did not come",
            "short",
            "Rows peer_absent: a source said nothing. All of one source: its agent or its host is away.",
            vec![ROWS.times("result_code", PEER_ABSENT, "absent")],
        ),
        Panel::new(
            Shape::Bars,
            "Results that say nothing",
            "short",
            "Rows tool_error: posts without a loss, as the existing client sends them when any packet was lost, and slots that an agent could not measure.",
            vec![ROWS.times("result_code", TOOL_ERROR, "unknown")],
        ),
    ]
}
