//! What the tests on real packets stand on: namespaces, the program itself, real databases, and rows as everyone can read them.
//!
//! Everything that a test starts ends with it, also when it fails; nothing on the host is changed, no fixed port is used.

pub(crate) mod bridge;
#[path = "../it/canaries.rs"]
pub(crate) mod canaries;
pub(crate) mod daemon;
pub(crate) mod dns;
pub(crate) mod flapping;
pub(crate) mod http;
pub(crate) mod influx;
pub(crate) mod line;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod oracle;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod responder;
pub(crate) mod rows;
pub(crate) mod victoria;
pub(crate) mod witness;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Whether the long versions are wanted.
pub(crate) fn proving() -> bool {
    std::env::var_os("QOSD_PROVE").is_some_and(|value| value == "1")
}

/// The short version's figure, or the long version's.
pub(crate) fn short_or_long<T>(short: T, long: T) -> T {
    if proving() { long } else { short }
}

/// Says a figure that was measured, to those who run a test with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a proof is worth its figures")]
pub(crate) fn told(figure: &str) {
    eprintln!("{figure}");
}

/// Where `tests/tools.sh` puts programs.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin")
}

/// A program that `tests/tools.sh` provides.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = tools().join(name);
    assert!(path.exists(), "{} is missing: run tests/tools.sh first", path.display());
    path
}

/// Fails the test, with the way out, unless it runs as root.
pub(crate) fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the tests on real packets make network namespaces and need root: run them as root, or the others alone with `cargo test --lib --test it`"
    );
}

/// Asks until there is an answer; fails with the last reason when the time is up.
pub(crate) fn eventually<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > limit => panic!("not within {limit:?}: {reason}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
