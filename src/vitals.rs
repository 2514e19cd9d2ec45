//! qosd's own state as rows: measurement `qosd`, every minute. The rows go the way of all rows.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::journal;
use crate::listeners::Listener;
use crate::measurement::{Counter, Field, FieldInfo, Fields, QOSD, Row, Series};
use crate::probe::Skip;
use crate::probe::ledger::Counts;
use crate::supervisor::roster::Roster;
use crate::writer::OutputStatus;

/// From row to row.
pub const INTERVAL: Duration = Duration::from_mins(1);

const SCHEDULED: Field<i64> = Field::integer("scheduled");
const ROWS: Field<i64> = Field::integer("rows");
const SKIPPED: Field<i64> = Field::integer("skipped");
const SKIPPED_BY: [(Skip, Field<i64>); 6] = [
    (Skip::Overrun, Field::integer("skipped_overrun")),
    (Skip::Restart, Field::integer("skipped_restart")),
    (Skip::Suspended, Field::integer("skipped_suspended")),
    (Skip::Reload, Field::integer("skipped_reload")),
    (Skip::Shutdown, Field::integer("skipped_shutdown")),
    (Skip::Budget, Field::integer("skipped_budget")),
];
const LATENESS_P99: Field<f64> = Field::float("lateness_p99_ms");
const RESTARTS: Field<i64> = Field::integer("restarts");
const NOT_LISTENING: Field<i64> = Field::integer("not_listening");
const ABANDONED_THREADS: Field<i64> = Field::integer("abandoned_threads");
const QUEUE_DROPPED: Field<i64> = Field::integer("queue_dropped");
const JOURNAL_ROWS: Field<i64> = Field::integer("journal_rows");
const JOURNAL_BYTES: Field<i64> = Field::integer("journal_bytes");
const JOURNAL_OLDEST_AGE: Field<f64> = Field::float("journal_oldest_age_s");
const JOURNAL_WAITING: Field<i64> = Field::integer("journal_waiting");
const JOURNAL_DROPPED_MEMORY: Field<i64> = Field::integer("journal_dropped_memory");
const JOURNAL_DROPPED_SIZE: Field<i64> = Field::integer("journal_dropped_size");
const JOURNAL_DROPPED_GONE: Field<i64> = Field::integer("journal_dropped_gone");
const JOURNAL_DROPPED_DEAD: Field<i64> = Field::integer("journal_dropped_dead");
const JOURNAL_DAMAGED: Field<i64> = Field::integer("journal_damaged");
const RSS_BYTES: Field<i64> = Field::integer("rss_bytes");
const CPU_SECONDS: Field<f64> = Field::float("cpu_s");
const DELIVERED: Field<i64> = Field::integer("delivered");
const PENDING: Field<i64> = Field::integer("pending");
const DEAD: Field<i64> = Field::integer("dead");
const RETRIES: Field<i64> = Field::integer("retries");
const REFUSED_FIELDS: Field<i64> = Field::integer("refused_fields");
const GAP_FROM: Field<String> = Field::text("gap_from");
const GAP_TO: Field<String> = Field::text("gap_to");
const GAP_SLOTS: Field<i64> = Field::integer("gap_slots");

/// Every field of measurement `qosd`.
pub const FIELDS: &[FieldInfo] = &[
    SCHEDULED.info(),
    ROWS.info(),
    SKIPPED.info(),
    SKIPPED_BY[0].1.info(),
    SKIPPED_BY[1].1.info(),
    SKIPPED_BY[2].1.info(),
    SKIPPED_BY[3].1.info(),
    SKIPPED_BY[4].1.info(),
    SKIPPED_BY[5].1.info(),
    LATENESS_P99.info(),
    RESTARTS.info(),
    NOT_LISTENING.info(),
    ABANDONED_THREADS.info(),
    QUEUE_DROPPED.info(),
    JOURNAL_ROWS.info(),
    JOURNAL_BYTES.info(),
    JOURNAL_OLDEST_AGE.info(),
    JOURNAL_WAITING.info(),
    JOURNAL_DROPPED_MEMORY.info(),
    JOURNAL_DROPPED_SIZE.info(),
    JOURNAL_DROPPED_GONE.info(),
    JOURNAL_DROPPED_DEAD.info(),
    JOURNAL_DAMAGED.info(),
    RSS_BYTES.info(),
    CPU_SECONDS.info(),
    DELIVERED.info(),
    PENDING.info(),
    DEAD.info(),
    RETRIES.info(),
    REFUSED_FIELDS.info(),
    GAP_FROM.info(),
    GAP_TO.info(),
    GAP_SLOTS.info(),
];

/// What the rows are made of.
pub struct Vitals<'a> {
    /// `agent.name`.
    pub agent: &'a str,
    /// The slots of all kinds together.
    pub slots: Counts,
    /// Skipped rows by reason.
    pub skipped: &'a BTreeMap<&'static str, u64>,
    /// How late slots were taken in the last minute, of each kind that took any.
    pub lateness_p99_ms: &'a [(&'static str, f64)],
    /// The actors.
    pub roster: &'a Roster,
    /// Where actors are to listen.
    pub listeners: &'a [Listener],
    /// What actors count beside their rows, by their names.
    pub counters: &'a [(&'static str, Vec<Counter>)],
    /// Threads left behind.
    pub abandoned: usize,
    /// Rows lost because no writer took them.
    pub queue_dropped: u64,
    /// The journal.
    pub journal: &'a journal::Stats,
    /// The outputs.
    pub outputs: &'a [OutputStatus],
    /// Resident memory and CPU time of this process.
    pub usage: Option<Usage>,
}

/// What this process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Bytes of memory that are resident.
    pub rss_bytes: u64,
    /// CPU time, user and system, since the start.
    pub cpu: Duration,
}

impl Vitals<'_> {
    /// The rows of one minute: one for qosd, one for each actor and each output.
    pub fn rows(&self, time: Timestamp) -> Vec<Row> {
        let row = |more: Option<(&str, &str)>, fields| Row { series: series(self.agent, more), time, fields };
        let mut rows = vec![row(None, self.process(time))];
        for entry in self.roster.entries() {
            let mut fields = Fields::new();
            fields.integer(RESTARTS, entry.restarts);
            let mut places = self.listeners.iter().filter(|listener| listener.actor == entry.name).peekable();
            if places.peek().is_some() {
                fields.integer(NOT_LISTENING, places.filter(|listener| listener.error.is_some()).count() as u64);
            }
            if let Some((_, late)) = self.lateness_p99_ms.iter().find(|(kind, _)| *kind == entry.name) {
                fields.float(LATENESS_P99, *late);
            }
            for (field, count) in self.counters.iter().filter(|(kind, _)| *kind == entry.name).flat_map(|(_, counters)| counters) {
                fields.integer(*field, *count);
            }
            rows.push(row(Some(("actor", &entry.name)), fields));
        }
        for output in self.outputs {
            let mut fields = Fields::new();
            fields.integer(DELIVERED, output.delivered).integer(PENDING, output.pending);
            fields.integer(DEAD, output.dead).integer(RETRIES, output.retries).integer(REFUSED_FIELDS, output.refused_fields);
            rows.push(row(Some(("output", &output.name)), fields));
        }
        rows
    }

    fn process(&self, time: Timestamp) -> Fields {
        let mut fields = Fields::new();
        fields.integer(SCHEDULED, self.slots.scheduled).integer(ROWS, self.slots.rows).integer(SKIPPED, self.slots.skipped);
        for (reason, field) in SKIPPED_BY {
            fields.integer(field, self.skipped.get(reason.name()).copied().unwrap_or_default());
        }
        fields.integer(ABANDONED_THREADS, self.abandoned as u64).integer(QUEUE_DROPPED, self.queue_dropped);
        fields.integer(JOURNAL_ROWS, self.journal.rows).integer(JOURNAL_BYTES, self.journal.bytes);
        if let Some(oldest) = self.journal.oldest {
            fields.float(JOURNAL_OLDEST_AGE, time.since(oldest).as_secs_f64());
        }
        fields.integer(JOURNAL_WAITING, self.journal.waiting).integer(JOURNAL_DROPPED_MEMORY, self.journal.dropped_memory);
        fields.integer(JOURNAL_DROPPED_SIZE, self.journal.dropped_size).integer(JOURNAL_DROPPED_GONE, self.journal.dropped_gone);
        fields.integer(JOURNAL_DROPPED_DEAD, self.journal.dropped_dead).integer(JOURNAL_DAMAGED, self.journal.damaged);
        if let Some(usage) = self.usage {
            fields.integer(RSS_BYTES, usage.rss_bytes).float(CPU_SECONDS, usage.cpu.as_secs_f64());
        }
        fields
    }
}

/// The row that stands for slots missed while no qosd ran, beyond those that have rows of their own.
pub fn gap(agent: &str, (from, to, slots): (Timestamp, Timestamp, u64)) -> Row {
    let mut fields = Fields::new();
    fields.text(GAP_FROM, from.to_string()).text(GAP_TO, to.to_string()).integer(GAP_SLOTS, slots);
    Row { series: series(agent, None), time: to, fields }
}

fn series(agent: &str, more: Option<(&str, &str)>) -> Series {
    Series::new(QOSD, [("source", agent)].into_iter().chain(more))
}

/// Reads what this process uses from `/proc/self`, as proc(5) describes it.
pub fn usage() -> Option<Usage> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let rss_kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    Some(Usage { rss_bytes: rss_kib * 1024, cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_uses() {
        let usage = usage().unwrap();
        assert!(usage.rss_bytes > 1 << 20 && usage.cpu < Duration::from_hours(1), "{usage:?}");
    }
}
