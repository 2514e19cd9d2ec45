//! Canaries: a token, a password, the key of a mesh and a header, with servers that say back whatever they are told. None shows in
//! anything that qosd writes, answers or keeps.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Home, qosd, run};
use crate::scripted_server::{Reply, ScriptedServer};

const TOKEN: &str = "c4n4ry-t0ken-of-influxdb";
const PASSWORD: &str = "c4n4ry-passw0rd";
/// `me` and the password, as a header carries them.
const LOGIN: &str = "bWU6YzRuNHJ5LXBhc3N3MHJk";
const KEY: &str = "c4n4ry-key-of-the-mesh-32-characters";
const HEADER: &str = "c4n4ry-h3ader";
/// Stands in a URL, where it is refused.
const USERINFO: &str = "c4n4ry-in-a-url";

fn secret(home: &Home, name: &str, text: &str) {
    let path = home.config().with_file_name(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn config(server: &ScriptedServer) -> String {
    let url = server.url();
    format!(
        "[log]\nlevel = \"trace\"\n\
         [influxdb.token]\nurl = \"{url}\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = \"token\"\nflush_interval = \"50ms\"\n\
         [influxdb.login]\nurl = \"{url}\"\ndatabase = \"d\"\nusername = \"me\"\npassword_file = \"password\"\nflush_interval = \"50ms\"\n\
         [mesh]\nname = \"me\"\ncollector = \"{url}\"\nkey_file = \"key\"\nprotocol = \"v1\"\n\
         [http.portal]\ntargets = [\"{url}/\"]\ninterval = \"1s\"\nheaders_file = \"headers\"\n"
    )
}

/// Whatever it is asked, it says back what it was told: as rows that are refused, as a wrong key, as trouble, as a redirect, and
/// in places where nothing like it belongs.
fn parrot() -> ScriptedServer {
    let raw = |text: String| Reply::Raw(text.into_bytes());
    let all = [TOKEN, PASSWORD, KEY, HEADER].join(" ");
    let script = (0..40).map(|n| match n % 8 {
        0 => Reply::Echo(400),
        1 => Reply::Echo(503),
        2 => Reply::Echo(401),
        3 => Reply::Echo(200),
        4 => raw(format!("HTTP/1.1 200 {all}\r\n{all}\r\n\r\n")),
        5 => Reply::with(302, "location", format!("http://{HEADER}.invalid/{TOKEN}{PASSWORD}{KEY}")),
        6 => raw(format!("{all}\r\n\r\n")),
        _ => Reply::Echo(422),
    });
    ScriptedServer::start(script, Reply::Echo(400))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let regular = entries.filter(|path| path.is_dir() || path.is_file());
    regular.flat_map(|path| if path.is_dir() { files(&path) } else { fs::read(path).unwrap() }).collect()
}

/// What anybody can be shown of the running service, and what it keeps; each with a name.
fn everything(home: &Home, daemon: &Daemon) -> Vec<(String, Vec<u8>)> {
    let mut shown = vec![("the log".to_owned(), daemon.log().into_bytes()), ("the journal".to_owned(), files(&home.data_dir()))];
    let series = "http/portal/127.0.0.1";
    let of_series =
        [format!("/probe/{series}"), format!("/chart/{series}.svg?field=http_ping_ms"), format!("/chart/{series}.csv?field=http_ping_ms")];
    let range = format!("/api/v1/range/{series}?range=1h");
    let fixed = ["/", "/status", "/mesh", "/metrics", "/healthz", "/readyz", "/api/v1/series", "/nothing", "/style.css", "/page.js"];
    for path in fixed.map(str::to_owned).into_iter().chain(of_series).chain(["/api/v1/status".to_owned(), range]) {
        let path = path.as_str();
        shown.push((path.to_owned(), daemon.ask("GET", path).1.into_bytes()));
    }
    for file in ["cmdline", "environ"] {
        shown.push((file.to_owned(), fs::read(format!("/proc/{}/{file}", daemon.pid())).unwrap()));
    }
    let formats = ["json", "csv", "line"].map(|format| ["export", "--since", "1h", "--format", format].to_vec());
    let letters = ["export", "--since", "1h", "--dead-letters", "--format", "json"].to_vec();
    let others = [["check", "--show"].to_vec(), ["status"].to_vec(), ["status", "--json"].to_vec(), letters];
    for arguments in formats.into_iter().chain(others) {
        let output = run(&mut home.command(&arguments));
        shown.push((arguments.join(" "), [output.stdout, output.stderr].concat()));
    }
    shown
}

/// (X1, X2, X3)
#[test]
fn x1_x2_x3_no_secret_shows_in_anything_that_is_written_answered_or_kept() {
    let server = parrot();
    let good = config(&server);
    let home = Home::new(&good);
    for (name, text) in [("token", TOKEN), ("password", PASSWORD), ("key", KEY), ("headers", &format!("Authorization: Bearer {HEADER}\n"))]
    {
        secret(&home, name, text);
    }
    let daemon = home.start_with_hooks(Duration::from_millis(50));
    let dead = |name: &str| {
        let status = daemon.status();
        status["outputs"].as_array().unwrap().iter().any(|output| output["name"] == name && output["dead"].as_u64() > Some(0))
    };
    daemon.until(|| server.requests().len() > 40 && dead("token") && dead("login"));
    for actor in ["writer", "http", "mesh"] {
        daemon.panic(actor);
    }
    daemon.signal(Signal::SIGUSR1);
    daemon.said("abandoned_threads");
    home.replace(&good.replace("http://127", &format!("http://me:{USERINFO}@127")));
    daemon.signal(Signal::SIGHUP);
    daemon.said("reload refused");
    home.replace(&good);

    let told =
        server.requests().iter().flat_map(|request| request.headers.values().cloned().collect::<Vec<_>>()).collect::<Vec<_>>().join("\n");
    for canary in [TOKEN, LOGIN, KEY, HEADER] {
        assert!(told.contains(canary), "{canary} was never sent");
    }
    let shown = everything(&home, &daemon);
    for there in ["the log", "/api/v1/status", "export --since 1h --dead-letters --format json"] {
        let text = &shown.iter().find(|(name, _)| name == there).unwrap().1;
        assert!(String::from_utf8_lossy(text).contains("<redacted>"), "{there} has no word of what servers said");
    }
    for (name, bytes) in &shown {
        let text = String::from_utf8_lossy(bytes);
        for canary in [TOKEN, PASSWORD, LOGIN, KEY, HEADER, USERINFO] {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{name} shows {canary}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "a core file would hold all of them");
    daemon.stop();
}

/// (X1) There is nothing to write one after.
#[test]
fn x1_no_command_has_an_option_that_takes_a_secret() {
    for command in ["run", "check", "ping", "http", "iperf3", "status", "export", "requeue", "mesh"] {
        let help = String::from_utf8(run(&mut qosd(&[command, "--help"])).stdout).unwrap();
        for word in ["token", "password", "secret", "key", "user", "header"] {
            let option = help.split_whitespace().find(|text| text.starts_with("--") && text.contains(word) && *text != "--headers-file");
            assert_eq!(option, None, "qosd {command}");
        }
    }
    let output = run(&mut qosd(&["http", &format!("http://me:{USERINFO}@127.0.0.1:1/")]));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.code() == Some(2) && !said.contains(USERINFO), "{said}");
}
