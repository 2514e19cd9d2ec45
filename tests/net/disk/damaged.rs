//! A damaged journal on a disk that has no room to repair it.

use super::*;

/// (S2, S5)
#[test]
fn on_a_full_disk_what_is_kept_of_earlier_damage_makes_room_for_the_repair() {
    let bed = Bed::on_tmpfs("size=3m");
    let running = bed.start();
    bed.measured(2 * SERIES as u64);
    running.stop();
    let before = bed.home.probe_rows().len();
    let (file, kept) = (bed.data().join("journal.sqlite3"), |number: u32| bed.data().join(format!("journal.sqlite3.damaged-{number}")));
    let damaged = fs::OpenOptions::new().write(true).open(&file).expect("it is there");
    std::os::unix::fs::FileExt::write_all_at(&damaged, b"?", 0).expect("the file is ours");
    for number in [1, 2] {
        fs::write(kept(number), vec![0; 600 << 10]).expect("there is room");
    }
    fill(&bed.data().join("filler"));
    let running = bed.start();
    bed.measured(SERIES as u64);
    eventually(NOTICED, || {
        let journal = bed.status()["journal"].clone();
        if journal["failing"].is_null() { Ok(()) } else { Err(journal.to_string()) }
    });
    assert!(running.said("disk is full, removed what was kept of earlier damage to the journal").contains("WARN"));
    assert!(!kept(1).exists() && !kept(2).exists());
    let journal = bed.status()["journal"].clone();
    assert_eq!((&journal["damaged"], &journal["dropped_memory"]), (&Value::from(0), &Value::from(0)), "{journal}");
    running.stop();
    assert!(bed.home.probe_rows().len() >= before + SERIES, "all rows are there");
}
