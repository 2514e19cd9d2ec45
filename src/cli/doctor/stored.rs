//! What lies beside the rows: the history, and what the journal counted as lost. Pure.

use std::path::PathBuf;

use super::super::check::plural;
use super::check::{Check, State};
use super::data::size;
use crate::history::rest::AtRest;
use crate::history::{HistoryStatus, SHARE};

/// How the history is, by whoever can tell.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// The running service.
    Service(HistoryStatus),
    /// Its file, which nobody has open.
    File(AtRest),
}

/// Everything about the history.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Its file.
    pub(super) path: PathBuf,
    /// Bytes of the file with its write-ahead file; none if there is none.
    pub(super) bytes: Option<u64>,
    /// How it is.
    pub(super) told: Told,
    /// Bytes that are free on its file system.
    pub(super) free: Option<u64>,
    /// Bytes that the journal takes.
    pub(super) journal: u64,
    /// `journal.max_size`.
    pub(super) max_size: u64,
}

const HISTORY: &str = "history";

/// Whether long charts have what they are drawn of.
pub(super) fn history(history: &History) -> Check {
    let path = history.path.display();
    let Some(bytes) = history.bytes else {
        return with_room(history, &format!("{path} is not there yet, the service makes it of the journal"));
    };
    let found = format!("{path}, {}", size(bytes));
    match &history.told {
        Told::Service(HistoryStatus { failing: Some(why), .. }) => Check::warn(
            HISTORY,
            format!("{found}, is not kept: {why}"),
            "do what the reason says; it goes on by itself, and nothing is lost",
        ),
        Told::Service(HistoryStatus { short: Some(why), .. }) => Check::warn(
            HISTORY,
            format!("{found}, of which the newest alone is kept: {why}"),
            "set a larger journal.max_size, or measure fewer series",
        ),
        Told::Service(status) => with_room(history, &format!("{found}, {}: {}", behind(status.behind), status.lag())),
        Told::File(AtRest::Behind(rows)) => with_room(history, &format!("{found}, opens, {}", behind(*rows))),
        Told::File(AtRest::Anew(why)) => Check::warn(
            HISTORY,
            format!("{found}: {why}"),
            "start the service, which makes it anew of the journal; what the journal no longer has is gone from long charts",
        ),
        Told::File(AtRest::Unknown(why)) => match with_room(history, &format!("{found}, not looked into: {why}")) {
            room if room.state() == State::Ok => room.noted(),
            room => room,
        },
    }
}

fn behind(rows: u64) -> String {
    format!("{rows} {} behind the journal", plural("row", usize::try_from(rows).unwrap_or(usize::MAX)))
}

/// As found, if there is room for what journal and history may still grow to.
fn with_room(history: &History, found: &str) -> Check {
    let History { path, bytes, free, journal, max_size, .. } = history;
    let most = max_size / SHARE;
    let found = format!("{found}; it may grow to {}, an eighth of journal.max_size on top of it", size(most));
    let growth = max_size.saturating_sub(*journal).saturating_add(most.saturating_sub(bytes.unwrap_or_default()));
    let Some(free) = free.filter(|free| *free < growth) else { return Check::ok(HISTORY, found) };
    // Half of all that both could ever have, of which the journal has eight ninths.
    let fits = (free.saturating_add(*journal).saturating_add(bytes.unwrap_or_default()) / 2).saturating_mul(SHARE) / (SHARE + 1);
    let folder = path.parent().unwrap_or(path).display();
    // What is free is rounded down, so what is wanted is rounded up: it must not look as if they were the same.
    let found = format!("{found}; {} free, and the two may want {} more", size(free), at_least(growth));
    Check::warn(HISTORY, found, format!("set journal.max_size = \"{}\", or make room: df -h {folder}", size(fits.max(1 << 20))))
}

/// The size, rounded up in the unit in which it is shown.
fn at_least(bytes: u64) -> String {
    let unit = 1 << (bytes.max(1).ilog2() / 10 * 10).min(20);
    size(bytes.checked_next_multiple_of(unit).unwrap_or(bytes))
}

/// What the journal counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Rows lost undelivered, because the journal was full.
    pub(super) size: u64,
    /// Rows lost from memory, because the disk took none.
    pub(super) memory: u64,
    /// Rows lost with a file that was taken away.
    pub(super) gone: u64,
    /// Rows that the disk altered.
    pub(super) damaged: u64,
    /// Dead letters that are there.
    pub(super) dead: u64,
    /// Dead letters dropped.
    pub(super) dropped_dead: u64,
}

/// Whether dead letters wait, and what was lost, ever; or why that is not known. What is lost stays counted when its cause is
/// long gone: only of what waits is there something to be done.
pub(super) fn lost(lost: &Result<Lost, String>) -> Check {
    const NAME: &str = "rows";
    let Lost { size, memory, gone, damaged, dead, dropped_dead } = match lost {
        Ok(lost) => lost,
        Err(why) => return Check::note(NAME, format!("whether rows were lost is not known: {why}")),
    };
    let all = [
        (dropped_dead, "were dropped as dead letters"),
        (size, "were lost undelivered at journal.max_size"),
        (memory, "were lost from memory while the disk took none"),
        (gone, "were lost with the journal's file, which was taken away"),
        (damaged, "were altered by the disk, they are in the table damaged"),
    ];
    let ever: Vec<_> = all.iter().filter(|(rows, _)| **rows > 0).map(|(rows, what)| format!("{rows} {what}")).collect();
    let ever = format!("ever, since the journal was made: {}", if ever.is_empty() { "none was lost".to_owned() } else { ever.join(", ") });
    if *dead > 0 {
        let fix = "qosd export --dead-letters --since 7d --format json says why; mend that, then: qosd requeue";
        return Check::warn(NAME, format!("{dead} wait as dead letters; {ever}"), fix);
    }
    if lost == &Ok(Lost::default()) { Check::ok(NAME, "none was ever lost, and none is a dead letter") } else { Check::note(NAME, ever) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(told: Told) -> History {
        let path = "/var/lib/qosd/history.sqlite3".into();
        History { path, bytes: Some(300 << 10), told, free: Some(2 << 30), journal: 4 * MIB, max_size: 1 << 30 }
    }

    fn service(behind: u64, failing: Option<&str>) -> Told {
        Told::Service(HistoryStatus { behind, failing: failing.map(str::to_owned), ..HistoryStatus::default() })
    }

    #[test]
    fn the_history_is_told_with_its_size_and_how_far_it_is_behind() {
        let check = history(&of(service(5, None)));
        assert_eq!(check.state(), State::Ok);
        assert!(check.found().starts_with("/var/lib/qosd/history.sqlite3, 300KiB, 5 rows behind the journal: added together"), "{check:?}");
        assert!(check.found().ends_with("it may grow to 128MiB, an eighth of journal.max_size on top of it"), "{check:?}");
        let check = history(&of(Told::File(AtRest::Behind(1))));
        assert!(check.state() == State::Ok && check.found().contains("opens, 1 row behind the journal;"), "{check:?}");
        let none = history(&History { bytes: None, ..of(service(0, None)) });
        assert!(none.state() == State::Ok && none.found().contains("is not there yet"), "{none:?}");
    }

    #[test]
    fn a_history_that_is_not_kept_or_does_not_open_is_warned_of() {
        let failing = history(&of(service(9, Some("only 9 bytes are free"))));
        assert!(failing.state() == State::Warn && failing.found().ends_with("is not kept: only 9 bytes are free"), "{failing:?}");
        let short = history(&of(Told::Service(HistoryStatus { short: Some("it is too small".to_owned()), ..HistoryStatus::default() })));
        assert!(short.state() == State::Warn && short.found().ends_with("the newest alone is kept: it is too small"), "{short:?}");
        assert!(short.fix().starts_with("set a larger journal.max_size"), "{short:?}");
        let damaged = history(&of(Told::File(AtRest::Anew("the file of the history is damaged".to_owned()))));
        assert!(damaged.state() == State::Warn && damaged.fix().contains("makes it anew"), "{damaged:?}");
        assert!(damaged.fix().ends_with("what the journal no longer has is gone from long charts"), "{damaged:?}");
        assert_eq!(history(&of(Told::File(AtRest::Unknown("Permission denied".to_owned())))).state(), State::Note);
    }

    #[test]
    fn the_history_needs_room_on_top_of_the_journal() {
        let short = |free| history(&History { free: Some(free), journal: 1 << 30, ..of(service(0, None)) });
        assert_eq!(short(128 * MIB).state(), State::Ok);
        let little = short(127 * MIB);
        assert!(little.state() == State::Warn && little.found().contains("127MiB free, and the two may want 128MiB more"), "{little:?}");
        assert!(little.fix().starts_with("set journal.max_size = \"511MiB\""), "{little:?}");
    }

    #[test]
    fn dead_letters_are_warned_of_and_what_was_ever_lost_is_noted() {
        assert_eq!(lost(&Ok(Lost::default())).state(), State::Ok);
        assert_eq!(lost(&Err("no service runs".to_owned())).state(), State::Note);
        let both = lost(&Ok(Lost { size: 12, dead: 3, ..Lost::default() }));
        assert_eq!(
            (both.state(), both.found()),
            (State::Warn, "3 wait as dead letters; ever, since the journal was made: 12 were lost undelivered at journal.max_size")
        );
        assert!(both.fix().contains("qosd requeue") && !both.fix().contains("max_size"), "{both:?}");
        for one in [
            Lost { size: 1, ..Lost::default() },
            Lost { memory: 1, ..Lost::default() },
            Lost { gone: 1, ..Lost::default() },
            Lost { damaged: 1, ..Lost::default() },
            Lost { dropped_dead: 1, ..Lost::default() },
        ] {
            let check = lost(&Ok(one));
            assert!(check.state() == State::Note && check.found().starts_with("ever, since the journal was made: 1 were "), "{check:?}");
        }
    }
}
