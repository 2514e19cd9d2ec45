//! Hours of load in minutes: descriptors and threads stay as they are, and memory does not grow (R8).

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::daemon::{Home, Running};
use crate::bed::flapping::Flapping;
use crate::bed::net::Namespace;
use crate::bed::{eventually, need_root, short_or_long, told};

/// Rows a second. A usual host has a hundred a minute: a second here is two minutes there.
const SERIES: usize = 200;
/// What may be added to memory for each day of a usual host.
const GROWTH_A_DAY: f64 = 1024.0;
/// How soon a small journal is full of rows that nobody takes.
const FULL_WITHIN: Duration = Duration::from_mins(5);
/// From look to look.
const LOOKS_EVERY: Duration = Duration::from_secs(2);

/// What the kernel says of a process, once.
#[derive(Clone, Copy, Debug)]
struct Look {
    seconds: f64,
    /// Without what is read of the program's file as it is needed.
    own_kib: f64,
    descriptors: usize,
    threads: usize,
}

impl Look {
    fn at(running: &Running, since: Instant) -> Self {
        let place = format!("/proc/{}", running.pid());
        let status = fs::read_to_string(format!("{place}/status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("proc(5)");
            line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok()).expect("proc(5)")
        };
        let descriptors = fs::read_dir(format!("{place}/fd")).expect("it runs").count();
        let own_kib = number("RssAnon:") as f64;
        Self { seconds: since.elapsed().as_secs_f64(), own_kib, descriptors, threads: number("Threads:") }
    }
}

/// What stays between one busy moment and the next: the lowest of each minute. What a batch needs while the machine is
/// busy with others comes and goes, and says nothing of growth.
fn floors(looks: &[Look]) -> Vec<Look> {
    let minute = |look: &Look| (look.seconds / 60.0) as u64;
    let of_minutes = looks.chunk_by(|one, next| minute(one) == minute(next));
    of_minutes.filter_map(|looks| looks.iter().min_by(|one, other| one.own_kib.total_cmp(&other.own_kib)).copied()).collect()
}

/// How much memory is added in a second: the line of least squares.
fn slope(looks: &[Look]) -> f64 {
    let mean = |of: fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / looks.len() as f64;
    let (time, memory) = (mean(|look| look.seconds), mean(|look| look.own_kib));
    let (mut both, mut square) = (0.0, 0.0);
    for look in looks {
        both += (look.seconds - time) * (look.own_kib - memory);
        square += (look.seconds - time).powi(2);
    }
    both / square
}

#[test]
fn r8_memory_descriptors_and_threads_do_not_grow() {
    need_root();
    let namespace = Namespace::new();
    let database = namespace.enter(Flapping::start);
    namespace.sysctl("net/ipv4/ip_local_reserved_ports", &database.port().to_string());
    let targets: Vec<_> = (1..=SERIES).map(|host| format!("\"127.0.1.{host}\"")).collect();
    let ping = format!("[ping.many]\ntargets = [{}]\ninterval = \"1s\"\ncount = 1\ntimeout = \"500ms\"\n", targets.join(", "));
    // Small and young enough that retention and checkpoints are at work all the time.
    let journal = "[journal]\nmax_size = \"4MiB\"\nmax_age = \"1m\"\n";
    let home = Home::new(&format!("{journal}{}{ping}", database.output()));
    let running = home.start_in(&namespace);
    let since = Instant::now();
    if short_or_long(false, true) {
        // As much waits to be delivered as ever can: whatever comes later is no more, and needs no more.
        database.refuses(true);
        eventually(FULL_WITHIN, || if running.times_said("journal is full") > 0 { Ok(()) } else { Err("there is room left".to_owned()) });
        database.refuses(false);
    }
    database.flaps(true);
    let (warm, whole) = short_or_long((6.0, 14), (600.0, 1800));
    let mut looks = Vec::new();
    while since.elapsed() < Duration::from_secs(whole) {
        thread::sleep(LOOKS_EVERY);
        looks.push(Look::at(&running, since));
    }
    database.flaps(false);
    let (warming, warmed): (Vec<_>, Vec<_>) = looks.into_iter().partition(|look| look.seconds <= warm);
    // Whatever is open for a moment, such as a new connection, is closed again.
    let most = |of: fn(&Look) -> usize| warming.iter().map(of).max().expect("it was looked at");
    let (descriptors, threads) = (most(|look| look.descriptors), most(|look| look.threads));
    let last = eventually(Duration::from_secs(90), || match Look::at(&running, since) {
        look if look.descriptors <= descriptors && look.threads <= threads => Ok(look),
        look => Err(format!("{look:?} now, {descriptors} and {threads} at first")),
    });
    let floors = floors(&warmed);
    let day = slope(&floors) * 86_400.0 * 100.0 / 60.0 / SERIES as f64;
    let minutes: Vec<_> = floors.iter().map(|look| look.own_kib).collect();
    told(&format!(
        "{whole} s of {SERIES} rows a second: {day:.0} KiB a day of a usual host; least KiB of each minute {minutes:?}; {last:?}"
    ));
    // Caches fill in the first minutes.
    assert!(short_or_long(true, day < GROWTH_A_DAY), "{day:.0} KiB a day");
    running.stop();
}
