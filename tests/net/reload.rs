//! A reload touches what was changed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bed::daemon::{Home, Running, pause};
use crate::bed::rows::Exported;
use crate::bed::{eventually, need_root, short_or_long};

const SECOND: i64 = 1_000_000_000;
const SERIES: usize = 50;

/// 49 series of one probe, the 50th of another, a row a second each; `more` follows the 49 targets.
fn config(more: &str, count_of_last: u32) -> String {
    let targets: Vec<_> = (1..SERIES).map(|n| format!("\"127.0.2.{n}\"")).collect();
    let targets = targets.join(", ");
    let common = "interval = \"1s\"\nspacing = \"10ms\"\ntimeout = \"500ms\"";
    format!(
        "[ping.many]\ntargets = [{targets}{more}]\ncount = 1\n{common}\n[ping.last]\ntargets = [\"127.0.2.{SERIES}\"]\ncount = {count_of_last}\n{common}\n"
    )
}

/// The rows of the 50 by target, oldest first.
fn by_target(home: &Home) -> BTreeMap<String, Vec<Exported>> {
    let mut targets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in home.probe_rows().into_iter().filter(|row| row.tag("target").starts_with("127.0.2.")) {
        targets.entry(row.tag("target").to_owned()).or_default().push(row);
    }
    targets
}

/// Waits until all 50 series have this many rows more than they have now, and gives all rows.
fn after_rows(home: &Home, more: usize) -> BTreeMap<String, Vec<Exported>> {
    let before = by_target(home);
    let had = |target: &String| before.get(target).map_or(0, Vec::len);
    eventually(Duration::from_secs(20 + more as u64), || {
        let now = by_target(home);
        let fewest = now.iter().map(|(target, rows)| rows.len() - had(target)).filter(|new| *new < more).count();
        if now.len() >= SERIES && fewest == 0 { Ok(now) } else { Err(format!("{} series, {fewest} of them with too few rows", now.len())) }
    })
}

/// No slot missed, none skipped, no phase moved.
fn assert_undisturbed(target: &str, rows: &[Exported]) {
    for pair in rows.windows(2) {
        assert_eq!(pair[1].time() - pair[0].time(), SECOND, "{target}: a slot is missing or has moved: {pair:?}");
    }
    let skipped: Vec<_> = rows.iter().filter(|row| row.text("result") == "skipped").collect();
    assert!(skipped.is_empty(), "{target}: {skipped:?}");
}

fn assert_all_undisturbed(targets: &BTreeMap<String, Vec<Exported>>) {
    assert_eq!(targets.len(), SERIES);
    for (target, rows) in targets {
        assert_undisturbed(target, rows);
    }
}

fn started(config: &str) -> (Home, Running) {
    need_root();
    let home = Home::new(config);
    let running = home.start();
    (home, running)
}

#[test]
fn reloads_that_add_and_remove_a_target_disturb_no_other_series() {
    let (home, mut running) = started(&config("", 1));
    after_rows(&home, 1);
    for turn in 0..short_or_long(40, 200) {
        home.configure(&config(if turn % 2 == 0 { ", \"127.0.3.1\"" } else { "" }, 1));
        running.reload();
        // Spread over the seconds, so that reloads fall before, after and into slots.
        pause(Duration::from_millis(50), Duration::from_millis(350));
    }
    let targets = after_rows(&home, 1);
    running.stop();
    assert_all_undisturbed(&targets);
    let counts: BTreeSet<_> = targets.values().map(Vec::len).collect();
    assert!(counts.len() <= 2, "series that run for the same time have the same rows, but for one: {counts:?}");
}

#[test]
fn a_broken_file_leaves_the_old_config_and_the_log_says_why() {
    let (home, mut running) = started(&config("", 1));
    after_rows(&home, 1);
    home.configure(&config("", 1).replace("spacing", "spacingg"));
    running.reload();
    running.said("spacingg");
    home.configure("[ping.many\n");
    running.reload();
    running.said("qosd.toml:4:");
    let targets = after_rows(&home, 2);
    running.stop();
    assert_all_undisturbed(&targets);
}

#[test]
fn one_changed_series_of_fifty_changes_alone() {
    let (home, mut running) = started(&config("", 1));
    after_rows(&home, 1);
    home.configure(&config("", 2));
    running.reload();
    let mut targets = after_rows(&home, 3);
    running.stop();
    let last = targets.remove(&format!("127.0.2.{SERIES}")).expect("the changed series has rows");
    assert_eq!(targets.len(), SERIES - 1);
    for (target, rows) in &targets {
        assert_undisturbed(target, rows);
        assert!(rows.iter().all(|row| row.integer("ping_sent") == Some(1)), "{target}: {rows:?}");
    }
    let sent: Vec<_> = last.iter().filter_map(|row| row.integer("ping_sent")).collect();
    assert!(sent.is_sorted() && sent.first() == Some(&1) && sent.last() == Some(&2), "{last:?}");
    let times: Vec<_> = last.iter().map(Exported::time).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == SECOND), "every slot of the changed series has a row too: {times:?}");
}
