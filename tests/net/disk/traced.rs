//! A disk that answers as strace has it answer: errors of single calls, and slowness.

use super::*;

/// A tracer that changes what calls of the service on one file do. Ends with the test.
struct Tracer {
    process: Process,
    trace: PathBuf,
}

impl Tracer {
    /// From here on.
    fn start(bed: &Bed, running: &Running, calls: &str, how: &str) -> Self {
        let (trace, pid) = (bed.home.path("trace"), running.pid().to_string());
        let (traced, inject) = (format!("trace={calls},openat,close"), format!("inject={calls}:{how}"));
        let mut command = Command::new(tool("strace"));
        command.args(["-f", "-y", "-o", text(&trace), "-e", &traced, "-e", "signal=none", "-e", &inject, "-p", &pid]);
        let process = Process::start(&mut command);
        process.said("attached", NOTICED);
        Self { process, trace }
    }

    /// The calls so far, oldest first, each with the thread's number.
    fn calls(&self) -> Vec<String> {
        fs::read_to_string(&self.trace).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Waits until that many calls were made to fail.
    fn injected(&self, many: usize) {
        eventually(Duration::from_secs(30), || {
            let there = self.calls().iter().filter(|call| call.contains("(INJECTED)")).count();
            if there >= many { Ok(()) } else { Err(format!("{there} of {many}")) }
        });
    }

    /// Lets the service go on untraced.
    fn end(mut self) -> Vec<String> {
        self.process.signal(Signal::SIGTERM);
        self.process.ended(Instant::now(), NOTICED);
        self.calls()
    }
}

/// The journal fails while calls do, and has everything soon after.
fn survives(calls: &str, how: &str) {
    let bed = Bed::new();
    let running = bed.start();
    bed.measured(SERIES as u64);
    let tracer = Tracer::start(&bed, &running, calls, how);
    tracer.injected(1);
    bed.fails();
    tracer.end();
    bed.recovers(Instant::now());
    assert_all_ok(&bed.ends_whole(running));
}

/// (S3)
#[test]
fn a_sync_that_failed_is_not_made_good_by_one_that_succeeds_on_the_same_handle() {
    let bed = Bed::new();
    let running = bed.start();
    bed.measured(SERIES as u64);
    // The third sync of a thread fails, and each eighth from there: those in between succeed.
    let tracer = Tracer::start(&bed, &running, "fdatasync,fsync", "error=EIO:when=3+8");
    tracer.injected(short_or_long(3, 20));
    let calls = tracer.end();
    bed.recovers(Instant::now());
    let mut distrusted = 0;
    // A call during which another thread made one is written in two halves, of which the second names no file.
    let failed = |call: &str| call.contains("(INJECTED)") && !call.contains("resumed");
    for (at, failed) in calls.iter().enumerate().filter(|(_, call)| failed(call)) {
        let file = failed.split_once('<').and_then(|(_, rest)| rest.split_once('>')).expect("-y tells the file").0;
        let later = calls[at + 1..].iter().filter(|call| call.contains(file));
        // Whatever follows on this file begins with closing it, or opening it anew.
        let Some(next) = later.into_iter().find(|call| !call.contains("resumed")) else { continue };
        assert!(next.contains("close(") || next.contains("openat("), "after {failed}: {next}");
        distrusted += 1;
    }
    assert!(distrusted > 1, "{calls:?}");
    assert!(running.times_said(FAILS) > 1);
    assert_all_ok(&bed.ends_whole(running));
}

/// (S3)
#[test]
fn a_disk_that_is_found_full_only_at_the_sync_costs_no_row() {
    survives("fdatasync,fsync", "error=ENOSPC");
}

/// (S2)
#[test]
fn a_disk_that_cannot_be_written_costs_no_row() {
    survives("pwrite64", "error=EIO");
}

/// (S14)
#[test]
fn a_quota_that_is_used_up_costs_no_row() {
    survives("pwrite64,fallocate,ftruncate", "error=EDQUOT");
}

/// (S4)
#[test]
fn a_disk_that_cannot_be_read_costs_no_row() {
    let bed = Bed::new();
    let running = bed.start();
    bed.measured(SERIES as u64);
    let tracer = Tracer::start(&bed, &running, "pread64", "error=EIO");
    bed.measured(3 * SERIES as u64);
    tracer.end();
    bed.recovers(Instant::now());
    assert_all_ok(&bed.ends_whole(running));
}

/// (S13)
#[test]
fn a_disk_that_takes_two_seconds_for_a_sync_does_not_slow_measuring() {
    let bed = Bed::new();
    let running = bed.start();
    bed.measured(SERIES as u64);
    let tracer = Tracer::start(&bed, &running, "fdatasync,fsync", "delay_enter=2000000");
    let before = Instant::now();
    bed.measured(short_or_long(5, 30) * SERIES as u64);
    let (took, expected) = (before.elapsed(), Duration::from_secs(short_or_long(5, 30)));
    assert!(took < expected + Duration::from_secs(2), "{took:?}");
    assert!(bed.journal("failing").is_null());
    tracer.end();
    bed.recovers(Instant::now());
    assert_all_ok(&bed.ends_whole(running));
}
