//! What goes wrong with the file, with the journal, and with the disk.

use super::*;
use crate::history::range::Lacking;
use crate::journal::Position;

#[tokio::test(start_paused = true)]
async fn every_row_counts_once_wherever_it_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        for name in [FILE.to_owned(), format!("{FILE}-wal")] {
            let _ = std::fs::remove_file(to.join(&name));
            if from.join(&name).exists() {
                std::fs::copy(from.join(&name), to.join(&name)).unwrap();
            }
        }
    };
    for round in 0..6 {
        let mut bench = Bench::open(dir.path());
        bench.append(round * 100..round * 100 + 60);
        bench.roll();
        // As it lies on disk in the middle of all this, with what is in the write-ahead file.
        copy(dir.path(), older.path());
        bench.append(round * 100 + 60..round * 100 + 100);
        if round % 2 == 0 {
            bench.roll();
        }
        drop(bench);
        if round % 3 == 1 {
            copy(older.path(), dir.path());
        }
    }
    let mut bench = Bench::open(dir.path());
    for rolled in [false, true] {
        if rolled {
            bench.roll();
        }
        assert_eq!([0, 1, 2].map(|target| bench.rows(target)), [600; 3]);
    }
    assert_eq!(bench.status().rows, 1800, "the file was never made anew");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_none_any_more_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let truth = {
        let mut bench = Bench::open(dir.path());
        bench.append(0..900);
        bench.roll();
        bench.range(1, span(0, 86_400), 100)
    };
    let later = |conn: &rusqlite::Connection| conn.pragma_update(None, "user_version", 9).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777, 0o600);
    for damage in 0..4 {
        match damage {
            0 => std::fs::write(&file, vec![7; 100_000]).unwrap(),
            1 => std::fs::write(&file, &std::fs::read(&file).unwrap()[..20_000]).unwrap(),
            2 => later(&rusqlite::Connection::open(&file).unwrap()),
            _ => std::fs::remove_file(&file).unwrap(),
        }
        let mut bench = Bench::open(dir.path());
        bench.roll();
        bench.roll();
        assert_eq!(bench.status().failing, None, "{damage}");
        assert_eq!(bench.range(1, span(0, 86_400), 100), truth, "{damage}");
        assert_eq!(bench.status().rows, 2700, "{damage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_flips_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let mut bench = Bench::open(dir.path());
    bench.append(0..900);
    bench.roll();
    let truth = bench.range(1, span(0, 86_400), 100);
    drop(bench);
    let whole = std::fs::read(&file).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 41) {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        std::fs::write(&file, flipped).unwrap();
        let mut bench = Bench::open(dir.path());
        // Whoever reads first tells whoever writes.
        let first = bench.look.range(&series(1), span(0, 86_400), 100, None);
        if first.as_ref().is_err_and(FileError::is_damage) {
            bench.shared.suspect();
        } else if let Ok(range) = first {
            assert_eq!(range, truth, "byte {place}");
        }
        bench.roll();
        bench.roll();
        assert_eq!(bench.status().failing, None, "byte {place}");
        assert_eq!(bench.range(1, span(0, 86_400), 100), truth, "byte {place}");
        drop(bench);
        std::fs::write(&file, &whole).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_deleted_meanwhile_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(0..900);
    bench.roll();
    let truth = bench.range(1, span(0, 86_400), 100);
    for name in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("{FILE}{name}")));
    }
    bench.roller.turn();
    assert_eq!(bench.range(1, span(0, 86_400), 100), truth);
    bench.roll();
    assert_eq!(bench.range(1, span(0, 86_400), 100), truth);
    assert!(dir.path().join(FILE).exists());
}

#[tokio::test(start_paused = true)]
async fn of_another_journal_it_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(0..500);
    bench.roll();
    // While it is open: the journal goes on in a new file, with positions behind those of the old.
    for name in ["journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    bench.append(500..600);
    bench.journal.flush().await.ok();
    tokio::time::advance(Duration::from_secs(10)).await;
    bench.append(600..700);
    bench.journal.flush().await.unwrap();
    bench.roll();
    bench.roll();
    let expected = bench.journal.stats().rows / 3;
    assert!(expected <= 200);
    assert_eq!(u64::from(bench.rows(0)), expected);
}

#[tokio::test(start_paused = true)]
async fn of_a_journal_that_lost_its_end_it_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let before = tempfile::tempdir().unwrap();
    let name = "journal.sqlite3";
    drop({
        let bench = Bench::open(dir.path());
        bench.append(0..100);
        bench
    });
    std::fs::copy(dir.path().join(name), before.path().join(name)).unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(100..200);
    bench.roll();
    assert_eq!(bench.rows(0), 200);
    drop(bench);
    // The same file as it was before, which now gives the same positions to other rows.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("{name}{suffix}")));
    }
    std::fs::copy(before.path().join(name), dir.path().join(name)).unwrap();
    for (from, to) in [(0, 0), (1000, 1150)] {
        let mut bench = Bench::open(dir.path());
        bench.append(from..to);
        bench.roll();
        bench.roll();
        assert_eq!(i64::from(bench.rows(0)), 100 + to - from);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_away_is_an_error_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut bench = Bench::open(&data);
    bench.append(0..100);
    bench.roll();
    let away = dir.path().join("away");
    std::fs::rename(&data, &away).unwrap();
    bench.roll();
    assert!(bench.status().failing.is_some());
    assert!(bench.look.range(&series(0), span(0, 86_400), 100, None).is_err());
    std::fs::rename(&away, &data).unwrap();
    bench.roll();
    assert_eq!((bench.status().failing, bench.rows(0)), (None, 100));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_at_the_cap_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { max_size: 8 * 300_000, ..settings() };
    let mut bench = Bench::with(dir.path(), small);
    for day in 0..20 {
        bench.append(day * 300..(day + 1) * 300);
        bench.roll();
    }
    let status = bench.status();
    assert!(status.bytes < 1_000_000 && status.buckets > 0, "{status:?}");
    let all = bench.range(0, span(0, 86_400 * 5), 2000).columns;
    assert!(all.len() > 10 && all[0].start > at(3600), "the newest stay");

    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(dir.path(), Settings { max_age: Duration::from_hours(12), ..settings() });
    bench.append(0..1440);
    bench.roll();
    assert_eq!(bench.rows(0), 1440);
    let buckets = bench.status().buckets;
    tokio::time::advance(Duration::from_mins(1445)).await;
    // The clock is believed after it stood for an hour.
    let mut roller = Roller::new(Arc::clone(&bench.shared), bench.journal.beside(), bench.clock.clone());
    roller.turn();
    assert_eq!(bench.status().buckets, buckets);
    tokio::time::advance(Duration::from_mins(61)).await;
    roller.turn();
    let left = bench.status().buckets;
    assert!(left < buckets && left >= buckets / 3, "{left} of {buckets}");
    assert!(!bench.shared.suspect.load(Ordering::Relaxed));
    assert!(file::identity(&dir.path().join(FILE)).is_some());
}

#[tokio::test(start_paused = true)]
async fn rows_that_another_host_sends_late_hide_none_while_much_is_to_be_added() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let late = Series::new("Ping", [("source", "a"), ("target", "b"), ("status", "ok")]);
    bench.journal.append((0..3600).map(|second| row(0, 36_000 + second)).collect());
    for minute in 0..24 {
        bench.journal.append((0..1000).map(|n| Row { series: late.clone(), ..row(0, minute * 1000 + n) }).collect());
    }
    let range = bench.range(0, span(39_000, 39_600), 300);
    assert_eq!((range.columns.len(), range.lacking), (600, None));
}

#[tokio::test(start_paused = true)]
async fn while_much_is_to_be_added_short_spans_are_there_and_of_long_ones_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    for hour in 0..45 {
        bench.journal.append((hour * 3600..(hour + 1) * 3600).map(|second| row(0, second)).collect());
    }
    let range = bench.range(0, span(45 * 3600 - 600, 45 * 3600), 300);
    assert_eq!((range.single, range.columns.len()), (true, 600));
    assert_eq!(range.lacking, None);
    let whole = span(0, 45 * 3600);
    let rows = |range: &Range| range.columns.iter().map(super::super::range::Column::rows).sum::<u32>();
    let first = bench.range(0, whole, 300);
    let lacking = Lacking { rows: 142_000, from: at(0), to: at(142_000), why: None };
    assert_eq!((rows(&first), first.lacking), (20_000, Some(lacking)));
    // One batch: what there is now lies on both sides of what there is not.
    bench.roller.turn();
    let second = bench.range(0, whole, 300);
    let lacking = second.lacking.clone().unwrap();
    assert!(lacking.rows < 142_000 && lacking.from > at(0) && lacking.to == at(142_000), "{lacking:?}");
    assert_eq!(u64::from(rows(&second)) + lacking.rows, 162_000);
    assert_eq!(lacking.within(span(0, 1000)), None);
    bench.roll();
    let last = bench.range(0, whole, 300);
    assert_eq!((rows(&last), last.lacking), (162_000, None));
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_dropped_is_not_counted_as_lacking() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.journal.append((0..161_999).map(|second| row(0, second)).collect());
    let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite3")).unwrap();
    conn.execute("DELETE FROM row WHERE position <= 100000", []).unwrap();
    bench.journal.append(vec![row(0, 161_999)]);
    assert_eq!(bench.journal.beside().behind(Position(0)).unwrap(), 62_000);
    let range = bench.range(0, span(0, 162_000), 300);
    assert_eq!(range.lacking, Some(Lacking { rows: 42_000, from: at(100_000), to: at(142_000), why: None }));
}

#[tokio::test(start_paused = true)]
async fn what_happened_where_nobody_looked_is_not_told_of_the_first_row_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let outcome = |second: i64| if (100_000..150_000).contains(&second) { Outcome::Timeout } else { Outcome::Ok };
    let made = |second: i64| {
        let mut fields = Finding { outcome: outcome(second), error: None, fields: Fields::new() }.into_fields(None);
        // Of the first row that is seen.
        if second == 140_000 {
            fields.put("clock_step_ms", Value::Float(5.0));
        }
        Row { fields, ..row(0, second) }
    };
    bench.journal.append((0..160_000).map(made).collect());
    let told = |bench: &mut Bench| -> Vec<_> {
        bench.range(0, span(0, 160_000), 300).events.into_iter().map(|event| (event.time, event.what)).collect()
    };
    bench.roller.turn();
    assert!(bench.range(0, span(0, 160_000), 300).lacking.is_some());
    assert_eq!(
        told(&mut bench),
        [(at(140_000), What::ClockStep(5.0)), (at(150_000), What::Back)],
        "that it was lost is known of the first row that was seen, since when is not"
    );
    bench.roll();
    let all = [(at(100_000), What::Lost(Outcome::Timeout)), (at(140_000), What::ClockStep(5.0)), (at(150_000), What::Back)];
    assert_eq!(told(&mut bench), all);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_filled_stays_however_small_the_share_is_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(dir.path(), Settings { max_size: 8 * 30_000, ..settings() });
    bench.append(0..100);
    for _ in 0..3 {
        bench.roll();
        assert_eq!(bench.rows(0), 100);
        let status = bench.status();
        assert!(status.short.unwrap().contains("less than two hours") && status.failing.is_none());
    }
    bench.append(100..130);
    bench.roll();
    assert_eq!(bench.rows(0), 10, "what is older goes as soon as there is something newer");
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_dropped_at_the_edge_of_a_span_does_not_make_its_columns_coarse() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.journal.append((0..60).map(|minute| row(0, minute * 60)).collect());
    bench.roll();
    let asked = span(33 * 60, 3600);
    let before = bench.range(0, asked, 100);
    let drop_before = |minute: i64| {
        let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite3")).unwrap();
        conn.execute("DELETE FROM row WHERE time < ?1", [at(minute * 60).nanos()]).unwrap();
    };
    drop_before(32);
    assert_eq!(bench.range(0, asked, 100), before);
    drop_before(36);
    assert!(!bench.range(0, asked, 100).single);
}
