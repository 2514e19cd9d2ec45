//! The config as operators meet it: files on disk, an environment, and what `qosd check` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use qosd::cli::check::{BAD_CONFIG, GOOD, check};
use qosd::config::{self, Config, Env, Problems, RestartNeeded};
use qosd::influxdb::settings::Api;
use qosd::probe::{AnyKind, Member};
use tempfile::TempDir;

mod stand_in;

static KINDS: &[&dyn AnyKind] = &[&Member::<stand_in::Ping>::NEW];

/// A folder with files that everybody can read.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        mode(&path, 0o644);
    }
    dir
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An environment that sets the agent's name, so that the host's does not matter.
fn env(more: &[(&str, &str)]) -> Env {
    [("QOSD__AGENT__NAME", "rome-1")].iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(dir: &TempDir, more: &[(&str, &str)]) -> Result<Config, Problems> {
    config::load(&dir.path().join("qosd.toml"), KINDS, &env(more))
}

/// What `qosd check` says of a file, without the name of the folder.
fn checked(path: &Path, show: bool) -> (u8, String) {
    checked_in(&env(&[]), path, show)
}

fn checked_in(env: &Env, path: &Path, show: bool) -> (u8, String) {
    let mut out = Vec::new();
    let status = check(path, KINDS, env, show, &mut out);
    let folder = format!("{}/", path.parent().unwrap().display());
    (status, String::from_utf8(out).unwrap().replace(&folder, ""))
}

/// What is wrong, without the name of the folder.
fn problems(dir: &TempDir, more: &[(&str, &str)]) -> Vec<String> {
    let problems = load(dir, more).unwrap_err();
    problems.iter().map(|problem| problem.to_string().replace(&format!("{}/", dir.path().display()), "")).collect()
}

fn corpus(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/data/config").join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn each_bad_config_of_the_corpus_says_what_its_text_file_says() {
    let mut wrong = Vec::new();
    for path in corpus("bad") {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(path.file_name().unwrap());
        fs::copy(&path, &copy).unwrap();
        mode(&copy, 0o644);
        let (status, said) = checked_in(&Env::new(), &copy, false);
        assert_eq!(status, BAD_CONFIG, "{}", path.display());
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "another text than expected:\n{}", wrong.join("\n"));
}

#[test]
fn each_good_config_passes_and_what_show_prints_passes_and_means_the_same() {
    for path in corpus("good") {
        let (status, shown) = checked(&path, true);
        assert_eq!(status, GOOD, "{shown}");
        let dir = folder(&[("qosd.toml", &shown)]);
        let again = load(&dir, &[]).unwrap_or_else(|problems| panic!("{}: {problems}\n{shown}", path.display()));
        let first = config::load(&path, KINDS, &env(&[])).unwrap();
        assert_eq!(again.effective, first.effective, "{}", path.display());
        assert_eq!(again.assignments, first.assignments, "{}", path.display());
    }
}

#[test]
fn the_check_says_what_a_config_costs() {
    let dir = folder(&[("qosd.toml", "[ping.a]\ntargets = [\"192.0.2.1\", \"192.0.2.2\"]\ninterval = \"10s\"\ncount = 5\n")]);
    let (status, said) = checked(&dir.path().join("qosd.toml"), false);
    assert_eq!(status, GOOD);
    assert_eq!(
        said,
        "qosd.toml: ok, agent rome-1\n\
         1 probe, 2 series; no output: rows stay in the journal\n\
         1.00 packets/s, 14.5 MB a day on the network, 17280 rows/day and 4320 of qosd's own; the journal (1GiB) holds 221.9 days, delivered rows for at most 30d\n"
    );
    let (status, said) = checked(&folder(&[("qosd.toml", "")]).path().join("qosd.toml"), false);
    assert_eq!((status, said.as_str()), (GOOD, "qosd.toml: ok, agent rome-1\nno probes: nothing will be measured\n"));
}

#[test]
fn what_is_no_config_file_is_refused_at_once() {
    let dir = folder(&[]);
    let at = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
    std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
    let cases = [
        ("fifo", "is a FIFO, not a file"),
        ("folder", "is a folder, not a file"),
        ("huge", "is larger than 1MiB"),
        ("loop", "cannot be read: Too many levels of symbolic links (os error 40)"),
        ("link", "is a device, not a file"),
        ("missing", "cannot be read: No such file or directory (os error 2)"),
    ];
    for (name, expected) in cases {
        assert_eq!(checked(&at(name), false), (BAD_CONFIG, format!("{name}: {expected}\n")));
    }
    assert_eq!(checked(Path::new("/dev/zero"), false), (BAD_CONFIG, "zero: is a device, not a file\n".to_owned()));
}

const GOOD_CONFIG: &str = include_str!("../data/config/good/full.toml");

#[test]
fn a_config_cut_off_anywhere_never_panics() {
    let dir = folder(&[("qosd.toml", "")]);
    for end in 0..GOOD_CONFIG.len() {
        fs::write(dir.path().join("qosd.toml"), &GOOD_CONFIG.as_bytes()[..end]).unwrap();
        if let Err(problems) = load(&dir, &[]) {
            assert!(problems.iter().len() > 0, "cut off at byte {end}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_check_panic(bytes: Vec<u8>) {
        let dir = folder(&[("qosd.toml", "")]);
        fs::write(dir.path().join("qosd.toml"), bytes).unwrap();
        let _ = load(&dir, &[]);
    }

    #[test]
    fn no_change_of_a_byte_makes_the_check_panic(at in 0..GOOD_CONFIG.len(), byte: u8) {
        let dir = folder(&[("qosd.toml", "")]);
        let mut bytes = GOOD_CONFIG.as_bytes().to_vec();
        bytes[at] = byte;
        fs::write(dir.path().join("qosd.toml"), bytes).unwrap();
        let _ = load(&dir, &[]);
    }

    #[test]
    fn no_variable_makes_the_check_panic(name in "QOSD__[A-Za-z0-9_.\\[\\]-]{0,30}", value in ".{0,30}") {
        let dir = folder(&[("qosd.toml", "")]);
        let _ = load(&dir, &[(name.as_str(), value.as_str())]);
    }
}

#[test]
fn later_layers_win_and_tables_merge_while_lists_are_replaced() {
    let dir = folder(&[
        ("qosd.toml", "[log]\nlevel = \"warn\"\nformat = \"text\"\n[ping.a]\ntargets = [\"192.0.2.1\"]\ncount = 1\n"),
        ("conf.d/20-more.toml", "[ping.a]\ntargets = [\"192.0.2.3\"]\n"),
        ("conf.d/10-more.toml", "[ping.a]\ntargets = [\"192.0.2.2\"]\ncount = 2\n[ping.b]\ntargets = [\"192.0.2.4\"]\n"),
        ("conf.d/.30-hidden.toml", "rubbish"),
        ("conf.d/40-other.txt", "rubbish"),
    ]);
    let config = load(&dir, &[("QOSD__LOG__LEVEL", "debug"), ("QOSD__PING__A__COUNT", "7")]).unwrap();
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.effective["log"]["format"].as_str(), Some("text"));
    let a = &config.effective["ping"]["a"];
    assert_eq!(a["targets"].as_array().unwrap()[0].as_str(), Some("192.0.2.3"));
    assert_eq!(a["count"].as_integer(), Some(7));
    assert_eq!(config.probes, 2);
}

#[test]
fn each_problem_is_at_the_layer_that_sets_the_key() {
    let dir = folder(&[
        ("qosd.toml", "[ping.a]\ntargets = [\"192.0.2.1\"]\ncount = \"five\"\nspacing = 3\n"),
        ("conf.d/10.toml", "\n[ping.a]\ncount = true\n[ping.b]\n[influxdb.x]\n"),
    ]);
    let variables = [("QOSD__PING__A__SIZE", "many"), ("QOSD__WEBB__LISTEN", "x"), ("QOSD__INFLUXDB__Y__BATCH_SIZE", "5")];
    assert_eq!(
        problems(&dir, &variables),
        [
            "qosd.toml:4:1: ping.a.spacing: is the number 3, expected a duration such as \"250ms\", \"60s\", \"1m30s\" or \"30d\"",
            "conf.d/10.toml:3:1: ping.a.count: is true, expected a whole number",
            "conf.d/10.toml:4:7: ping.b: `targets` is missing",
            "conf.d/10.toml:5:11: influxdb.x: `url` is missing",
            "environment QOSD__INFLUXDB__Y__BATCH_SIZE: influxdb.y: `url` is missing",
            "environment QOSD__PING__A__SIZE: ping.a.size: is the text \"many\", expected a whole number",
            "environment QOSD__WEBB__LISTEN: webb: unknown key, allowed are agent, log, web, journal, influxdb, iperf3_server, responder, mesh, collector, ping",
        ]
    );
}

#[test]
fn every_file_with_a_mistake_of_form_is_told() {
    let dir = folder(&[("qosd.toml", "[agent\n"), ("conf.d/a.toml", "x ="), ("conf.d/b.toml", "[log]")]);
    fs::create_dir(dir.path().join("conf.d/c.toml")).unwrap();
    let said = problems(&dir, &[("QOSD__AGENT__", "x")]);
    let starts = ["qosd.toml:1:7: ", "conf.d/a.toml:1:", "conf.d/c.toml: is a folder", "environment QOSD__AGENT__: "];
    assert_eq!(said.len(), starts.len(), "{said:?}");
    assert!(said.iter().zip(starts).all(|(said, start)| said.starts_with(start)), "{said:?}");
}

#[test]
fn a_file_full_of_probes_and_one_full_of_mistakes_are_read_to_their_end() {
    let file =
        |target: &str| -> String { (0..20_000).map(|n| ["[ping.p", &n.to_string(), "]\ntargets=[", target, "]\n"].concat()).collect() };
    let dir = folder(&[("qosd.toml", &file("\"192.0.2.1\""))]);
    assert_eq!(load(&dir, &[]).unwrap().assignments.len(), 20_000);
    let dir = folder(&[("qosd.toml", &file("1"))]);
    assert_eq!(load(&dir, &[]).unwrap_err().iter().len(), 20_000);
}

const TOKEN: &str = "c4n4ry-t0k3n";
const OUTPUT: &str = "[influxdb.main]\nurl = \"http://localhost:8086\"\norg = \"o\"\nbucket = \"b\"\n";

fn token(config: &Config) -> &str {
    let Api::V2 { token, .. } = &config.influxdb["main"].api else { panic!("another API") };
    token.expose()
}

#[test]
fn a_secret_file_is_found_in_the_credentials_then_beside_the_config() {
    let dir = folder(&[
        ("qosd.toml", &format!("{OUTPUT}token_file = \"influx_token\"\n")),
        ("influx_token", "beside\n"),
        ("credentials/influx_token", TOKEN),
    ]);
    let credentials = dir.path().join("credentials");
    mode(&dir.path().join("influx_token"), 0o640);
    mode(&credentials.join("influx_token"), 0o400);
    assert_eq!(token(&load(&dir, &[]).unwrap()), "beside");
    let config = load(&dir, &[("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())]).unwrap();
    assert_eq!(token(&config), TOKEN);
    assert_eq!(config.influxdb["main"].secret_file, Some(credentials.join("influx_token")));
    assert!(!format!("{config:?}").contains(TOKEN));
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_fix() {
    let dir = folder(&[("qosd.toml", &format!("{OUTPUT}token_file = \"influx_token\"\n")), ("influx_token", TOKEN)]);
    let path = dir.path().join("influx_token");
    let said = problems(&dir, &[]).join("\n");
    assert_eq!(
        said,
        "qosd.toml:5:1: influxdb.main.token_file: secret file influx_token can be read by others; run: chmod o-rwx influx_token"
    );
    mode(&path, 0o640);
    assert_eq!(token(&load(&dir, &[]).unwrap()), TOKEN);
}

#[test]
fn a_secret_in_the_config_is_taken_only_from_a_file_closed_to_others() {
    let dir = folder(&[("qosd.toml", OUTPUT), ("conf.d/secret.toml", &format!("[influxdb.main]\ntoken = \"{TOKEN}\"\n"))]);
    assert_eq!(
        problems(&dir, &[]),
        ["conf.d/secret.toml:2:1: influxdb.main.token: a secret in a file that others can read; \
          run: chmod o-rwx conf.d/secret.toml, or put it in a file of its own and set token_file"]
    );
    mode(&dir.path().join("conf.d/secret.toml"), 0o600);
    assert_eq!(token(&load(&dir, &[]).unwrap()), TOKEN);
    let (status, shown) = checked(&dir.path().join("qosd.toml"), true);
    assert_eq!(status, GOOD);
    assert!(shown.contains("token = \"<redacted>\"") && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn a_secret_in_the_environment_is_always_refused() {
    let dir = folder(&[("qosd.toml", OUTPUT)]);
    mode(&dir.path().join("qosd.toml"), 0o600);
    assert_eq!(
        problems(&dir, &[("QOSD__INFLUXDB__MAIN__TOKEN", TOKEN)]),
        ["environment QOSD__INFLUXDB__MAIN__TOKEN: influxdb.main.token: a secret in the environment is seen by others; \
          put it in a file that only qosd can read, and set token_file"]
    );
}

#[test]
fn no_problem_shows_a_secret() {
    let lines = [
        format!("token = \"{TOKEN}\\n\""),
        format!("token = [\"{TOKEN}\"]"),
        format!("token = {{ {TOKEN} = 1 }}"),
        format!("token = \"{TOKEN}\"\ntoken_file = \"x\""),
        format!("token = \"{TOKEN}\"\ndatabase = \"d\""),
        format!("token = \"{TOKEN}"),
        format!("token = {TOKEN}"),
        format!("tokn = \"{TOKEN}\""),
    ];
    for line in lines {
        let dir = folder(&[("qosd.toml", &format!("{OUTPUT}{line}\n"))]);
        let said = problems(&dir, &[]).join("\n");
        // The name of a key is no secret, even if it is an odd one.
        assert!(!said.contains(TOKEN) || line.contains("{ "), "{line}: {said}");
    }
    let dir = folder(&[("qosd.toml", "")]);
    for name in ["QOSD__INFLUXDB", "QOSD__INFLUXDB__MAIN", "QOSD__INFLUXDB__MAIN__TOKEN", "QOSD__INFLUXDB__MAIN__URL"] {
        let said = problems(&dir, &[(name, &format!("http://u:{TOKEN}@h"))]).join("\n");
        assert!(!said.contains(TOKEN), "{name}: {said}");
    }
}

#[test]
fn folders_come_from_systemd_unless_they_are_set() {
    let dir = folder(&[("qosd.toml", "")]);
    let config = load(&dir, &[("STATE_DIRECTORY", "/var/lib/private/qosd:/other"), ("RUNTIME_DIRECTORY", "/run/qosd")]).unwrap();
    assert_eq!(config.agent.data_dir, Path::new("/var/lib/private/qosd"));
    assert_eq!(config.socket_path(), Path::new("/run/qosd/qosd.sock"));
    let config = load(&dir, &[("QOSD__AGENT__DATA_DIR", "target/x")]).unwrap();
    assert_eq!(config.socket_path(), Path::new("target/x/qosd.sock"));
}

#[test]
fn without_an_argument_the_config_is_never_in_the_working_directory() {
    let path = |more: &[(&str, &str)]| config::default_path(&env(more));
    assert_eq!(path(&[]), Path::new("/etc/qosd/qosd.toml"));
    assert_eq!(path(&[("QOSD_CONFIG", "")]), Path::new("/etc/qosd/qosd.toml"));
    assert_eq!(path(&[("QOSD_CONFIG", "/opt/q.toml")]), Path::new("/opt/q.toml"));
}

#[test]
fn a_reload_knows_what_changed() {
    let text = "[journal]\nmax_age = \"7d\"\n[ping.a]\ntargets = [\"192.0.2.1\", \"192.0.2.2\"]\n";
    let old = load(&folder(&[("qosd.toml", text)]), &[]).unwrap();
    let change = |new: &str| config::diff(&old, &load(&folder(&[("qosd.toml", new)]), &[]).unwrap()).unwrap();
    assert!(change(text).is_empty());
    assert!(change("[journal]\nmax_age = \"7d\"\n[ping.a]\ntargets = [\"192.0.2.1\", \"192.0.2.2\"] # the same").is_empty());
    let journal = change(&text.replace("7d", "8d"));
    assert!(journal.journal && !journal.assignments && !journal.log && !journal.influxdb);
    let probe = change(&text.replace("192.0.2.2", "192.0.2.3"));
    assert!(probe.assignments && !probe.journal);
    assert_eq!([change(text), journal, probe].map(|change| change.to_string()), ["nothing", "journal", "probes"]);
    assert!(change(&format!("{text}[log]\nlevel = \"warn\"\n")).log);
    assert!(change(&format!("{text}[responder]\n")).responder);
    assert!(change(&format!("{text}[influxdb.x]\nurl = \"http://h\"\ndatabase = \"d\"\n")).influxdb);
}

#[test]
fn an_unchanged_series_beside_a_new_one_is_equal() {
    let one = load(&folder(&[("qosd.toml", "[ping.a]\ntargets = [\"192.0.2.1\"]\n")]), &[]).unwrap();
    let two = load(&folder(&[("qosd.toml", "[ping.a]\ntargets = [\"192.0.2.9\", \"192.0.2.1\"]\n")]), &[]).unwrap();
    assert!(two.assignments.iter().any(|assignment| Arc::as_ref(assignment) == Arc::as_ref(&one.assignments[0])));
}

#[test]
fn name_and_folder_stay_until_restart() {
    let dir = folder(&[("qosd.toml", "")]);
    let old = load(&dir, &[]).unwrap();
    let mut new = old.clone();
    new.agent.name = "rome-2".into();
    let refused = config::diff(&old, &new).unwrap_err();
    assert_eq!(refused.to_string(), "agent.name changed from rome-1 to rome-2, which is refused until restart");
    new = old.clone();
    new.agent.data_dir = "/elsewhere".into();
    assert!(matches!(config::diff(&old, &new), Err(RestartNeeded::DataDir { .. })));
}
