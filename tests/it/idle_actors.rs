//! Who has nothing to do is shown as idle, and no longer once the config has something for it.

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Home, run};

/// Nothing listens there; the runs fail at once, which is as good here.
const HTTP: &str = "[http.x]\ntargets = [\"http://127.0.0.1:1/\"]\ninterval = \"1s\"\ntimeout = \"500ms\"\n";

fn state(daemon: &Daemon, name: &str) -> String {
    let status = daemon.status();
    let actor = status["actors"].as_array().unwrap().iter().find(|actor| actor["name"] == name).unwrap();
    actor["state"].as_str().unwrap().to_owned()
}

#[test]
fn an_actor_for_which_nothing_is_configured_is_idle_until_a_reload_brings_something() {
    let home = Home::new(HTTP);
    let daemon = home.start();
    for (name, expected) in [
        ("writer", "running"),
        ("http", "running"),
        ("ping", "idle"),
        ("iperf3", "idle"),
        ("iperf3_server", "idle"),
        ("responder", "idle"),
        ("collector", "idle"),
        ("mesh", "idle"),
        ("web", "idle"),
    ] {
        assert_eq!(state(&daemon, name), expected, "{name}");
    }
    let shown = String::from_utf8(run(&mut home.command(&["status"])).stdout).unwrap();
    assert!(shown.contains("actor mesh: idle (nothing configured), 0 restarts\n"), "{shown}");
    let (_, page) = daemon.ask("GET", "/status");
    assert!(page.contains(r#"<td class="state idle">idle"#), "{page}");
    assert!(!page.contains("mesh is idle"), "that is no notice: {page}");
    assert_eq!(daemon.ask("GET", "/readyz").0, 200);
    home.replace("[ping.x]\ntargets = [\"127.0.0.1\"]\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until(|| (state(&daemon, "ping"), state(&daemon, "http")) == ("running".to_owned(), "idle".to_owned()));
    daemon.stop();
}
