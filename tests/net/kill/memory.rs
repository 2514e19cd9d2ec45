//! The kernel takes its memory back at any instant: it kills qosd, and what was accepted is there.

use super::*;
use crate::bed::memory::Memory;

/// More than qosd ever needs here.
const ENOUGH: u64 = 128 << 20;

#[test]
fn p10_whatever_was_accepted_survives_the_kernels_killer_for_want_of_memory() {
    let memory = Memory::limited_to(ENOUGH);
    let mut bed = Bed::new(None);
    bed.home = bed.home.within(&memory);
    let mut witness = Witness::of(bed.journal());
    let running = bed.start();
    let bed = Bed { since: now(), ..bed };
    running.kill();
    bed.database.flaps(true);
    let (lives, begun) = (short_or_long(5, 100), Instant::now());
    // What is in a file of memory cannot be written back anywhere.
    let folder = tempfile::tempdir_in("/dev/shm").expect("there is memory");
    for life in 1..=lives {
        let mut running = bed.home.launch_in(&bed.namespace);
        if rand::random_bool(0.8) {
            running.ready(READY_AT_ALL);
        }
        pause(Duration::ZERO, LIFE);
        witness.look();
        memory.take(&folder.path().join("taken"));
        running.killed();
        assert!(memory.kills() >= life, "{} kills", memory.kills());
        std::fs::remove_file(folder.path().join("taken")).expect("it is ours");
    }
    let sums = account(&bed, &witness);
    told(&format!(
        "{lives} kills for want of memory in {:?}; rows {:?}, {} of them seen before a kill",
        begun.elapsed(),
        sums.results,
        witness.count()
    ));
    assert!(["ok", "timeout", "skipped"].iter().all(|result| sums.results[*result] > 0), "{:?}", sums.results);
}
