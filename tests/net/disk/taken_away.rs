//! A folder that is removed, or whose file system is gone, while the service runs.

use super::*;
use crate::limits::{hard, limit};

/// How many descriptors are open.
fn descriptors(running: &Running) -> usize {
    fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("it runs").count()
}

/// Full minutes since the epoch: at each, qosd writes rows of its own.
fn minutes() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the host's clock is set");
    now.as_secs() / 60
}

/// (S9)
#[test]
fn a_folder_that_is_removed_is_made_anew_and_every_row_that_went_with_it_is_counted() {
    let bed = Bed::new();
    let (began, mut running) = (minutes(), bed.start());
    bed.measured(SERIES as u64);
    let open = descriptors(&running);
    for _ in 0..short_or_long(2, 20) {
        fs::remove_dir_all(bed.data()).expect("it is ours");
        let since = Instant::now();
        eventually(RECOVERED, || bed.data().join("journal.sqlite3").exists().then_some(()).ok_or_else(|| "no new journal".to_owned()));
        bed.recovers(since);
    }
    assert!(descriptors(&running) <= open + 1, "{} descriptors, {open} before", descriptors(&running));

    // Without a descriptor for it there is no new file, until there is one.
    limit(&running, "nofile", "8");
    fs::remove_dir_all(bed.data()).expect("it is ours");
    let tried = || bed.data().exists().then_some(()).ok_or_else(|| "not tried yet".to_owned());
    eventually(RECOVERED, tried);
    assert!(!bed.data().join("journal.lock").exists());
    limit(&running, "nofile", &hard(&running, "Max open files"));
    bed.recovers(Instant::now());

    // From here on no slot comes due, so that all can be counted.
    bed.home.configure("");
    running.reload();
    let number = |pointer: &str| bed.status().pointer(pointer).and_then(Value::as_u64).expect("a number");
    eventually(RECOVERED, || {
        let open = number("/slots/scheduled") - number("/slots/rows") + number("/journal/waiting");
        if open == 0 { Ok(()) } else { Err(format!("{open} slots without a durable row")) }
    });
    let (scheduled, gone) = (number("/slots/scheduled"), number("/journal/dropped_gone"));
    let own = bed.status()["actors"].as_array().expect("a list").len() as u64 + 1;
    running.stop();
    let rows = bed.home.rows().len() as u64;
    let mut expected = (0..=minutes() - began).map(|minutes| scheduled + own * minutes);
    assert!(
        gone > 0 && expected.any(|expected| rows + gone == expected),
        "{rows} rows, {gone} gone, {scheduled} scheduled, {own} a minute"
    );
}

/// (S9)
#[test]
fn a_state_socket_in_the_folder_is_there_again_when_the_folder_is() {
    let namespace = Namespace::new();
    let home = Home::new("[ping.one]\ntargets = [\"127.0.0.1\"]\ninterval = \"1s\"\ncount = 1\ntimeout = \"500ms\"\n");
    let answers = || {
        let (status, said) = home.finished(&["status"]);
        if status.success() { Ok(()) } else { Err(said) }
    };
    let running = home.start_in(&namespace);
    eventually(RECOVERED, answers);
    fs::remove_dir_all(home.path("data")).expect("it is ours");
    eventually(RECOVERED + NOTICED, answers);
    running.stop();
    assert!(!home.socket().exists(), "it goes with the process");
}

/// A file system in a file.
fn make(image: &Path) {
    fs::File::create(image).and_then(|file| file.set_len(16 << 20)).expect("the folder is ours");
    run(text(&tool("mkfs.ext4")), &["-q", "-F", text(image)]);
}

/// (S8, S9)
#[test]
fn a_file_system_that_turns_read_only_and_is_unmounted_is_waited_for_and_has_every_row_when_it_is_back() {
    let mut bed = Bed::new();
    let (image, data) = (bed.home.path("image"), bed.data());
    make(&image);
    let mount = || run("mount", &["-o", "loop,errors=remount-ro", text(&image), text(&data)]);
    mount();
    bed.mounted.push(data.clone());
    let running = bed.start();
    bed.measured(SERIES as u64);
    // As the kernel does by itself after an error of the disk.
    run("mount", &["-o", "remount,abort", text(&data)]);
    bed.fails();
    run("umount", &["-l", text(&data)]);
    bed.measured(3 * SERIES as u64);
    assert!(bed.journal("failing").as_str().is_some_and(|why| why.ends_with("is not mounted")), "{}", bed.status()["journal"]);
    assert_eq!(fs::read_dir(&data).expect("it is there").count(), 0, "what is below is not ours to fill");
    let checked = Command::new("e2fsck").args(["-p", text(&image)]).status().expect("it is there");
    assert!(checked.code().is_some_and(|code| code <= 1), "errors were put right, if any: {checked}");
    mount();
    bed.recovers(Instant::now());
    assert_all_ok(&bed.ends_whole(running));
}
