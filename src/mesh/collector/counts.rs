//! What the collector's server counts, for the status and for qosd's own rows.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::measurement::{Counter, Field, FieldInfo};

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/measurements.md says what each is")]
pub enum Count {
    Attempts,
    NoKey,
    WrongKey,
    RateLimited,
    BadPosts,
    TooLarge,
    UnknownSource,
    TooSlow,
    Busy,
    RefusedConnections,
}

const ALL: [Field<i64>; 10] = [
    Field::integer("collector_attempts"),
    Field::integer("collector_no_key"),
    Field::integer("collector_wrong_key"),
    Field::integer("collector_rate_limited"),
    Field::integer("collector_bad_posts"),
    Field::integer("collector_too_large"),
    Field::integer("collector_unknown_source"),
    Field::integer("collector_too_slow"),
    Field::integer("collector_busy"),
    Field::integer("collector_refused_connections"),
];
const CONNECTIONS: Field<i64> = Field::integer("collector_connections");

/// Every field of them.
pub fn fields() -> impl Iterator<Item = FieldInfo> {
    ALL.into_iter().chain([CONNECTIONS]).map(Field::info)
}

/// The counts since the start of the process.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; ALL.len()]);

impl Counts {
    /// So many more.
    pub fn add(&self, what: Count, more: usize) {
        self.0[what as usize].fetch_add(more as u64, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// All, with the connections that there are now.
    pub fn all(&self, connections: usize) -> Vec<Counter> {
        let counted = ALL.into_iter().zip(&self.0).map(|(field, count)| (field, count.load(Ordering::Relaxed)));
        counted.chain([(CONNECTIONS, connections as u64)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_its_own_field() {
        let counts = Counts::default();
        counts.add(Count::RefusedConnections, 2);
        counts.add(Count::Attempts, 1);
        let all = counts.all(7);
        let named = |index: usize| (all[index].0.info().name, all[index].1);
        assert_eq!((named(0), named(9)), (("collector_attempts", 1), ("collector_refused_connections", 2)));
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 10);
    }
}
