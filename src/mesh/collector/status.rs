//! What a collector tells of itself: for `qosd status`, and in qosd's own rows.

use serde::{Deserialize, Serialize};

use crate::measurement::{Counter, Field, FieldInfo};
use crate::mesh::list::Proto;

const POSTS: Field<i64> = Field::integer("collector_posts");
const STORED: Field<i64> = Field::integer("collector_stored");
const DUPLICATES: Field<i64> = Field::integer("collector_duplicates");
const REJECTED: Field<i64> = Field::integer("collector_rejected");
const NOT_DURABLE: Field<i64> = Field::integer("collector_not_durable");
const ABSENT: Field<i64> = Field::integer("collector_absent");
const PASSED_OVER: Field<i64> = Field::integer("collector_passed_over");

/// Every field of the row about qosd itself that a collector adds.
pub const FIELDS: &[FieldInfo] =
    &[POSTS.info(), STORED.info(), DUPLICATES.info(), REJECTED.info(), NOT_DURABLE.info(), ABSENT.info(), PASSED_OVER.info()];

/// What is counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Posts of sources that are in the list.
    pub posts: u64,
    /// Results that are durable.
    pub stored: u64,
    /// Results that were stored before.
    pub duplicates: u64,
    /// Items that cannot be, or whose target is not in the list.
    pub rejected: u64,
    /// Posts that were answered with an error because they were not durable in time.
    pub not_durable: u64,
    /// Rows for results that did not come.
    pub absent: u64,
    /// Results that did not come and have no row, because this host was too slow.
    pub passed_over: u64,
}

impl Counts {
    /// For qosd's own rows.
    pub fn counters(&self) -> [Counter; 7] {
        [
            (POSTS, self.posts),
            (STORED, self.stored),
            (DUPLICATES, self.duplicates),
            (REJECTED, self.rejected),
            (NOT_DURABLE, self.not_durable),
            (ABSENT, self.absent),
            (PASSED_OVER, self.passed_over),
        ]
    }
}

/// How the mesh is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectorStatus {
    /// Names in the list.
    pub probes: usize,
    /// From round to round, in seconds.
    pub interval_s: f64,
    /// Results that are expected each interval.
    pub expected: usize,
    /// Of these, how many did not come.
    pub absent_now: usize,
    /// What is counted since the start.
    pub counts: Counts,
    /// Of each name, those with the most absent results first, then those that were silent the longest.
    pub sources: Vec<SourceStatus>,
}

/// What a probe sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// By which protocols it is listed.
    #[serde(default)]
    pub protos: Vec<Proto>,
    /// How long ago its last post came; none = none since the start.
    pub age_s: Option<f64>,
    /// How many results were stored of that post.
    pub results: usize,
    /// How many of its results are absent now.
    pub absent: usize,
}

/// Puts those first that a person has to look at.
pub(super) fn sort(sources: &mut [SourceStatus]) {
    let silent = |source: &SourceStatus| source.age_s.unwrap_or(f64::INFINITY);
    sources.sort_by(|a, b| b.absent.cmp(&a.absent).then(silent(b).total_cmp(&silent(a))).then_with(|| a.name.cmp(&b.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_late_comes_first() {
        let source = |name: &str, age_s, absent| SourceStatus { name: name.to_owned(), protos: Vec::new(), age_s, results: 1, absent };
        let mut sources = [
            source("c", Some(1.0), 0),
            source("b", Some(1.0), 0),
            source("new", None, 0),
            source("a", Some(9.0), 0),
            source("late", Some(2.0), 3),
        ];
        sort(&mut sources);
        assert_eq!(sources.map(|source| source.name), ["late", "new", "a", "b", "c"]);
    }
}
