//! The pictures in `docs/screenshots`: made by `make screenshots`, else into a folder that goes away, so that it is known to work.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::demo::{Demo, PAGE, of_target};
use crate::driver::{Browser, Scheme, Scripts};

/// The largest that is kept: pictures come with every clone.
const MOST: usize = 150 * 1024;
/// As long as the demo has run, about.
const SHOWN: Duration = Duration::from_secs(95);
const WIDE: (u32, u32) = (1100, 760);
const PHONE: (u32, u32) = (390, 844);

/// The page of a target, of the last minutes.
fn lately(kind: &str, probe: &str, target: &str) -> String {
    let rfc3339 = |time| humantime::format_rfc3339_seconds(time).to_string();
    let (from, to) = (rfc3339(SystemTime::now() - SHOWN), rfc3339(SystemTime::now()));
    format!("{}?from={from}&to={to}", of_target(kind, probe, target))
}

fn shoot(browser: &Browser, folder: &Path, name: &str, page: &str, (width, height): (u32, u32), scheme: Scheme) {
    browser.sized(width, height);
    browser.prefers(scheme);
    browser.open(page);
    browser.run("document.querySelector('figure.chart')?.scrollIntoView()", &[]);
    let picture = browser.picture();
    assert!(picture.len() <= MOST, "{name} has {} bytes", picture.len());
    std::fs::write(folder.join(format!("{name}.png")), picture).expect("the folder can be written to");
}

#[test]
fn screenshots_are_small_and_of_every_page() {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let wanted = std::env::var_os("QOSD_SCREENSHOTS").map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let folder = wanted.unwrap_or_else(|| PathBuf::from(folder.path()));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    Demo::start_with_absent().look(Scripts::Run, |browser| {
        let ping = lately("ping", "core", "oslo");
        let pages = [
            ("overview", format!("{PAGE}/"), WIDE, Scheme::Light),
            ("overview-dark", format!("{PAGE}/"), WIDE, Scheme::Dark),
            ("overview-phone", format!("{PAGE}/"), PHONE, Scheme::Light),
            ("ping", ping.clone(), WIDE, Scheme::Light),
            ("ping-dark", ping.clone(), WIDE, Scheme::Dark),
            ("ping-phone", ping, PHONE, Scheme::Dark),
            ("http", lately("http", "portal", "127.0.0.1"), WIDE, Scheme::Light),
            ("iperf3", lately("iperf3", "backbone", "127.0.0.1"), WIDE, Scheme::Light),
            ("mesh", format!("{PAGE}/mesh"), WIDE, Scheme::Light),
            ("status", format!("{PAGE}/status"), WIDE, Scheme::Light),
        ];
        for (name, page, size, scheme) in pages {
            shoot(browser, &folder, name, &page, size, scheme);
        }
    });
}
