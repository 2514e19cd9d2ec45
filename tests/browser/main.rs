//! The page in a real browser: Debian's chromium without a window, led through its driver, and judged by axe-core.
//!
//! `make test-page` runs them, and nothing else does: they need what `tests/tools.sh browser` fetches, and root, as the network
//! that is looked at is made of namespaces. They fail loudly without. `make screenshots` makes the pictures in `docs/screenshots`.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

mod axe;
mod demo;
mod driver;
mod harness;
mod keyboard;
mod pages;
mod screenshots;
#[path = "../it/scripted_server.rs"]
mod scripted_server;

/// What the tests on real packets stand on.
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../net"]
mod packets {
    pub(crate) mod bed;
}
use packets::bed;
