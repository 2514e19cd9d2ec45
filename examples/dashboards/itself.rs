//! The dashboard of qosd itself: what it did, what waits, what was lost. Of the measurement `qosd`.

use super::ask::Aggregate::{Last, Max};
use super::panel::Shape::{Bars, Lines};
use super::panel::{Board, Origin, Panel, Section, Variable};

const CHOSEN: &[(&str, &str)] = &[("source", "source")];
const SOURCE: Origin = Origin { measurement: "qosd", by: &["source"], chosen: CHOSEN };

pub(crate) fn board() -> Board {
    Board {
        name: "qosd",
        title: "qosd: itself",
        description: "What qosd says of itself once a minute. Every figure is explained in docs/measurements.md, what to do about it in docs/operating.md.",
        variables: vec![Variable { name: "source", measurements: &["qosd"], tag: "source", only: None, chosen: &[], hidden: false }],
        sections: vec![
            Section { title: "Slots", closed: false, panels: slots() },
            Section { title: "Outputs", closed: false, panels: outputs() },
            Section { title: "Journal", closed: false, panels: journal() },
            Section { title: "The process", closed: false, panels: process() },
            Section { title: "Mesh", closed: true, panels: mesh() },
        ],
    }
}

fn slots() -> Vec<Panel> {
    vec![
        Panel::new(
            Bars,
            "Slots",
            "short",
            "Slots that came due, and slots that have their row, in each step. They are the same but for runs in flight.",
            vec![SOURCE.growth("scheduled", "due"), SOURCE.growth("rows", "rows")],
        ),
        Panel::new(
            Bars,
            "Skipped slots",
            "short",
            "By the reason: overrun, restart, suspended, shutdown, budget, reload.",
            vec![
                SOURCE.growth("skipped_overrun", "overrun"),
                SOURCE.growth("skipped_restart", "restart"),
                SOURCE.growth("skipped_suspended", "suspended"),
                SOURCE.growth("skipped_shutdown", "shutdown"),
                SOURCE.growth("skipped_budget", "budget"),
                SOURCE.growth("skipped_reload", "reload"),
            ],
        ),
        Panel::new(
            Lines,
            "How late slots began",
            "ms",
            "The 99th percentile of a minute, by actor; the greatest in a step. More than some ms: the host is busy.",
            vec![SOURCE.by(&["actor", "source"]).steps(Max, "lateness_p99_ms", "p99")],
        )
        .warns(20.0, 100.0),
        Panel::new(
            Bars,
            "Replies that count for no run",
            "short",
            "Late after their run was closed; claiming to answer us without proof; belonging to nobody.",
            vec![
                SOURCE.growth("ping_late_after_close", "late after close"),
                SOURCE.growth("ping_forged", "forged"),
                SOURCE.growth("ping_unmatched", "unmatched"),
            ],
        ),
    ]
}

fn outputs() -> Vec<Panel> {
    let output = SOURCE.by(&["output", "source"]);
    vec![
        Panel::new(
            Lines,
            "Rows that wait for an output",
            "short",
            "It grows while a database is away, and falls when it is back: rows are kept, not lost, as long as the journal has room.",
            vec![output.steps(Last, "pending", "pending")],
        ),
        Panel::new(
            Bars,
            "Rows delivered",
            "short",
            "Rows that an output accepted in each step.",
            vec![output.growth("delivered", "delivered")],
        ),
        Panel::new(
            Bars,
            "Requests sent again",
            "short",
            "After a failure, or an outcome that is not known.",
            vec![output.growth("retries", "retries")],
        ),
        Panel::new(
            Lines,
            "Dead letters",
            "short",
            "Rows that an output refused even alone. qosd export --dead-letters has the reasons, qosd requeue sends them again.",
            vec![output.steps(Last, "dead", "dead")],
        )
        .warns(1.0, 100.0),
        Panel::new(
            Bars,
            "Fields left out",
            "short",
            "Because the output has them with another type.",
            vec![output.growth("refused_fields", "fields")],
        ),
    ]
}

fn journal() -> Vec<Panel> {
    vec![
        Panel::new(
            Lines,
            "Size of the journal",
            "bytes",
            "With its write-ahead file; at max_size the oldest rows go.",
            vec![SOURCE.steps(Last, "journal_bytes", "bytes")],
        ),
        Panel::new(Lines, "Rows in the journal", "short", "Delivered and not.", vec![SOURCE.steps(Last, "journal_rows", "rows")]),
        Panel::new(
            Lines,
            "Age of the oldest row",
            "s",
            "How far back qosd export and the page can see.",
            vec![SOURCE.steps(Last, "journal_oldest_age_s", "age")],
        ),
        Panel::new(
            Lines,
            "Rows in memory only",
            "short",
            "Not durable yet. More than a few: the disk takes none.",
            vec![SOURCE.steps(Max, "journal_waiting", "waiting")],
        )
        .warns(1000.0, 100_000.0),
        Panel::new(
            Bars,
            "Rows lost",
            "short",
            "Any of these is lost for good: no writer, no disk, no room, the file taken away, too many dead letters, damaged.",
            vec![
                SOURCE.growth("queue_dropped", "queue"),
                SOURCE.growth("journal_dropped_memory", "memory"),
                SOURCE.growth("journal_dropped_size", "size"),
                SOURCE.growth("journal_dropped_gone", "gone"),
                SOURCE.growth("journal_dropped_dead", "dead letters"),
                SOURCE.growth("journal_damaged", "damaged"),
            ],
        )
        .sized(16, 8)
        .warns(1.0, 1.0),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::new(
            Bars,
            "Actors started again",
            "short",
            "By actor. Once in a while is nothing, again and again is: the log has the reason.",
            vec![SOURCE.by(&["actor", "source"]).growth("restarts", "restarts")],
        ),
        Panel::new(Lines, "Memory", "bytes", "Resident memory of the process.", vec![SOURCE.steps(Last, "rss_bytes", "memory")]),
        Panel::new(Bars, "Processor time", "s", "User and system, in each step.", vec![SOURCE.growth("cpu_s", "CPU")]),
        Panel::new(
            Lines,
            "Blocked threads left behind",
            "short",
            "Above 3 systemd starts the service again.",
            vec![SOURCE.steps(Max, "abandoned_threads", "threads")],
        )
        .warns(1.0, 4.0),
    ]
}

fn mesh() -> Vec<Panel> {
    vec![
        Panel::new(
            Lines,
            "Agent: others that are pinged",
            "short",
            "And entries of the list that are not: wrong, or no address of another host.",
            vec![SOURCE.steps(Last, "mesh_peers", "pinged"), SOURCE.steps(Last, "mesh_refused", "refused")],
        ),
        Panel::new(
            Lines,
            "Agent: the list is stale",
            "short",
            "1 while the collector has not confirmed it lately.",
            vec![SOURCE.steps(Max, "mesh_stale", "stale")],
        )
        .warns(1.0, 2.0),
        Panel::new(
            Bars,
            "Agent: results that nobody takes",
            "short",
            "Which the collector said it will never take.",
            vec![SOURCE.growth("mesh_lost", "lost")],
        ),
        Panel::new(
            Bars,
            "Collector: results",
            "short",
            "Stored; posted again; refused; expected and missing; passed over because this host was behind.",
            vec![
                SOURCE.growth("collector_stored", "stored"),
                SOURCE.growth("collector_duplicates", "again"),
                SOURCE.growth("collector_rejected", "refused"),
                SOURCE.growth("collector_absent", "absent"),
                SOURCE.growth("collector_passed_over", "passed over"),
            ],
        ),
        Panel::new(
            Bars,
            "Collector: posts",
            "short",
            "With the right key; of names in the list; and those that could not be stored in time.",
            vec![
                SOURCE.growth("collector_attempts", "attempts"),
                SOURCE.growth("collector_posts", "posts"),
                SOURCE.growth("collector_not_durable", "not durable"),
            ],
        ),
        Panel::new(
            Bars,
            "Collector: calls turned away",
            "short",
            "By the reason. Wrong keys and too many calls may be somebody who tries.",
            vec![
                SOURCE.growth("collector_no_key", "no key"),
                SOURCE.growth("collector_wrong_key", "wrong key"),
                SOURCE.growth("collector_rate_limited", "too many"),
                SOURCE.growth("collector_bad_posts", "no post"),
                SOURCE.growth("collector_too_large", "too large"),
                SOURCE.growth("collector_unknown_source", "unknown"),
                SOURCE.growth("collector_too_slow", "too slow"),
                SOURCE.growth("collector_busy", "no memory"),
                SOURCE.growth("collector_refused_connections", "no room"),
            ],
        ),
        Panel::new(
            Lines,
            "Collector: connections",
            "short",
            "At each full minute.",
            vec![SOURCE.steps(Max, "collector_connections", "connections")],
        ),
    ]
}
