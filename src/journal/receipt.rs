//! Rows of somebody else, who keeps them until they are durable here: what tells that one is the same as before, and what
//! became of each. Pure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Timestamp;
use crate::measurement::Row;

/// What a result is of: the names of what it is about, and its slot. A row is stored once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    /// The names, as 64 bits: two different ones of the same slot fall together once in 10¹⁹.
    pub(super) what: u64,
    /// The slot.
    pub(super) slot: Timestamp,
}

impl Receipt {
    /// Of a result about these, in their order.
    pub fn new(names: &[&str], slot: Timestamp) -> Self {
        // FNV-1a, each name ended by a byte that no text has: the file keeps it, so it is for ever.
        let bytes = names.iter().flat_map(|name| name.bytes().chain([0xff]));
        let what = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self { what, slot }
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is durable.
    Stored,
    /// One with the same receipt was stored before; it was left out.
    Known,
    /// It fell out of memory while the disk took nothing.
    Lost,
}

/// What became of rows that were taken together.
#[derive(Debug)]
pub struct Fates {
    each: Box<[OnceLock<Fate>]>,
    open: AtomicUsize,
}

impl Fates {
    fn new(count: usize) -> Self {
        Self { each: (0..count).map(|_| OnceLock::new()).collect(), open: AtomicUsize::new(count) }
    }

    /// Whether it is known of all.
    pub fn are_decided(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Of each row, in the order in which they were given; none = it still waits in memory.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Fate>> {
        self.each.iter().map(|fate| fate.get().copied())
    }

    fn decide(&self, index: usize, fate: Fate) {
        if self.each[index].set(fate).is_ok() {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A row in memory, and who wants to know what becomes of it.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The row.
    pub(super) row: Row,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    receipt: Option<Receipt>,
    fates: Arc<Fates>,
    index: usize,
}

impl From<Row> for Waiting {
    fn from(row: Row) -> Self {
        Self { row, watch: None }
    }
}

impl Waiting {
    /// Rows whose fates are of interest.
    pub(super) fn watched(rows: Vec<(Row, Option<Receipt>)>) -> (Vec<Self>, Arc<Fates>) {
        let fates = Arc::new(Fates::new(rows.len()));
        let watched = rows.into_iter().enumerate().map(|(index, (row, receipt))| {
            let watch = Watch { receipt, fates: Arc::clone(&fates), index };
            Self { row, watch: Some(watch) }
        });
        (watched.collect(), fates)
    }

    /// Its receipt, if it has one.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.watch.as_ref()?.receipt
    }

    /// Tells what became of it.
    pub(super) fn decide(&self, fate: Fate) {
        if let Some(watch) = &self.watch {
            watch.fates.decide(watch.index, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::row;

    #[test]
    fn receipts_differ_in_names_their_order_and_the_slot() {
        let at = Timestamp::from_nanos;
        let all = [
            Receipt::new(&["a", "b", "ipv4"], at(1)),
            Receipt::new(&["a", "b", "ipv4"], at(2)),
            Receipt::new(&["b", "a", "ipv4"], at(1)),
            Receipt::new(&["ab", "", "ipv4"], at(1)),
            Receipt::new(&["a", "b", "ipv6"], at(1)),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        assert_eq!(all[0].what, 0x3aa1_c17e_24bb_f282, "for ever, as the file keeps it");
    }

    #[test]
    fn the_first_word_on_a_row_stands() {
        let (waiting, fates) = Waiting::watched(vec![(row("a", 1), None), (row("a", 2), None)]);
        waiting[1].decide(Fate::Stored);
        waiting[1].decide(Fate::Lost);
        assert!(!fates.are_decided());
        assert_eq!(fates.iter().collect::<Vec<_>>(), [None, Some(Fate::Stored)]);
        waiting[0].decide(Fate::Known);
        assert!(fates.are_decided());
    }
}
