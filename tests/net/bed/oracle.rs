//! The oracle: compares what was scheduled, what the journal holds, what the database holds, and what qosd counts.
//!
//! Every slot of every series has exactly one row, from the first to the last: `scheduled = rows`. Each row is somewhere:
//! `rows = delivered + pending + dead + dropped`. And what the database holds is the journal, row by row. The oracle knows
//! nothing but what everybody can read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rows::{Exported, Key, Rows, difference};

/// How many complaints of a kind are told one by one.
const TOLD: usize = 5;

/// What was to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheduled {
    /// So many series.
    pub(crate) series: usize,
    /// A slot every so many nanoseconds.
    pub(crate) interval: i64,
    /// From this time on, in nanoseconds since the epoch.
    pub(crate) from: i64,
    /// Until this time.
    pub(crate) until: i64,
}

/// What qosd counts. Rows are those of the journal, whoever they are of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Slots that came due, and slots that ended as a row; none where other processes counted theirs.
    pub(crate) slots: Option<(u64, u64)>,
    /// Rows that were accepted, ever.
    pub(crate) rows: u64,
    /// Rows that the output took.
    pub(crate) delivered: u64,
    /// Rows that it is yet to take.
    pub(crate) pending: u64,
    /// Rows that it refused for good.
    pub(crate) dead: u64,
    /// Rows that were lost, whatever the reason.
    pub(crate) dropped: u64,
}

impl Counters {
    /// What the status says of an output, of a process that began with an empty journal and lives on.
    pub(crate) fn of(status: &Value, output: &str) -> Result<Self, String> {
        let count = |value: &Value, name: &str| value[name].as_u64().ok_or_else(|| format!("no {name} in {value}"));
        let (slots, journal) = (&status["slots"], &status["journal"]);
        let outputs = status["outputs"].as_array().ok_or("outputs are a list")?;
        let output = outputs.iter().find(|one| one["name"] == output).ok_or_else(|| format!("no output {output} in {status}"))?;
        let dropped = count(journal, "dropped_memory")? + count(journal, "dropped_size")? + count(journal, "damaged")?;
        // Rows that are refused are held, and pending, as long as they are not set aside for good.
        let (pending, dead) = (count(output, "pending")?, output["dead"].as_u64().unwrap_or(0));
        Ok(Self {
            slots: Some((count(slots, "scheduled")?, count(slots, "rows")?)),
            rows: count(journal, "rows")? + dropped,
            delivered: count(output, "delivered")?,
            pending,
            dead,
            dropped,
        })
    }
}

/// Everything that is to agree.
pub(crate) struct Books<'a> {
    /// What was scheduled.
    pub(crate) scheduled: Scheduled,
    /// The rows of the journal, as they are exported.
    pub(crate) journal: &'a [Exported],
    /// The rows of the database.
    pub(crate) database: &'a Rows,
    /// What qosd counts.
    pub(crate) counters: Counters,
}

/// What was found to agree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Slots, each with its row.
    pub(crate) slots: usize,
    /// How many rows have which result.
    pub(crate) results: BTreeMap<String, usize>,
}

impl Books<'_> {
    /// Checks everything; says what is wrong, the first of each kind one by one.
    pub(crate) fn audit(&self) -> Result<Sums, String> {
        let (slots, mut wrong) = self.slots();
        let mut journal = Rows::new();
        for row in self.journal {
            let key = Key { time: row.time(), measurement: row.measurement.clone(), tags: row.tags.clone() };
            if journal.insert(key.clone(), row.fields.clone()).is_some() {
                wrong.add("doubles in the journal", format!("{key:?}"));
            }
        }
        if let Err(why) = difference(&journal, self.database) {
            wrong.add("differences to the database", why);
        }
        self.count(&mut wrong, slots);
        wrong.told()?;
        let probes = self.journal.iter().filter(|row| is_measured(row));
        let mut results = BTreeMap::new();
        probes.for_each(|row| *results.entry(row.text("result").to_owned()).or_default() += 1);
        Ok(Sums { slots, results })
    }

    /// How many slots have a row, and where there is none or another.
    fn slots(&self) -> (usize, Wrong) {
        let (mut wrong, mut slots) = (Wrong::default(), 0);
        let mut series: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for row in self.journal.iter().filter(|row| is_measured(row)) {
            series.entry(&row.tags).or_default().push(row.time());
        }
        if series.len() != self.scheduled.series {
            wrong.add("series", format!("{} have rows, {} are scheduled", series.len(), self.scheduled.series));
        }
        let Scheduled { interval, from, until, .. } = self.scheduled;
        for (tags, mut times) in series {
            times.sort_unstable();
            let (before, rows) = (times.len(), format!("of {tags:?}"));
            times.dedup();
            if times.len() != before {
                wrong.add("doubles", format!("{} {rows}", before - times.len()));
            }
            slots += times.len();
            // Any row tells where the slots are; the ends are where they would be without a hole.
            let (first, last) = (times[0], times[times.len() - 1]);
            let ends = [(from, first - interval), (last + interval, until)];
            for (late, at) in ends.into_iter().filter(|(late, at)| late <= at) {
                wrong.add("holes at an end", format!("{} slots {rows} in {late}..={at}", (at - late) / interval + 1));
            }
            for pair in times.windows(2).filter(|pair| pair[1] - pair[0] != interval) {
                let kind = if (pair[1] - pair[0]) % interval == 0 { "holes" } else { "rows that are no slots" };
                wrong.add(kind, format!("nothing between {} and {} {rows}", pair[0], pair[1]));
            }
        }
        (slots, wrong)
    }

    fn count(&self, wrong: &mut Wrong, slots: usize) {
        let Counters { rows, delivered, pending, dead, dropped, .. } = self.counters;
        if rows != delivered + pending + dead + dropped {
            wrong.add("counters", format!("{rows} rows ≠ {delivered} delivered + {pending} pending + {dead} dead + {dropped} dropped"));
        }
        if self.journal.len() as u64 + dropped != rows {
            wrong.add("counters", format!("{rows} rows ≠ {} in the journal + {dropped} dropped", self.journal.len()));
        }
        if delivered != self.database.len() as u64 {
            wrong.add("counters", format!("{delivered} delivered ≠ {} in the database", self.database.len()));
        }
        if let Some((scheduled, ended)) = self.counters.slots
            && (scheduled != ended || ended != slots as u64)
        {
            wrong.add("counters", format!("{scheduled} slots scheduled, {ended} ended, {slots} in the journal"));
        }
    }
}

/// Rows that qosd writes about itself have no slots.
fn is_measured(row: &Exported) -> bool {
    row.measurement == "qos_metrics"
}

/// Complaints by their kind.
#[derive(Default)]
struct Wrong(BTreeMap<&'static str, Vec<String>>);

impl Wrong {
    fn add(&mut self, kind: &'static str, what: String) {
        self.0.entry(kind).or_default().push(what);
    }

    fn told(&self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let kinds = self.0.iter().map(|(kind, all)| {
            let some = all.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n  ");
            format!("{kind}: {} times, such as\n  {some}", all.len())
        });
        Err(kinds.collect::<Vec<_>>().join("\n"))
    }
}
