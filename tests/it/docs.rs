//! The documents that operators rely on say what the code does: every field, every result, every key of the config.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use qosd::clock::Timestamp;
use qosd::config::{self, Config, Env};
use qosd::influxdb::line::line;
use qosd::measurement::{FieldInfo, FieldType, Row};
use qosd::mesh::{self, collector};
use qosd::page::metrics;
use qosd::probe::ping::flight::Stamps;
use qosd::probe::ping::report::finding;
use qosd::probe::ping::run::Tally;
use qosd::probe::{COMMON_FIELDS, KINDS, Naming, Outcome, Says, Skip};
use qosd::vitals;

const DICTIONARY: &str = include_str!("../../docs/measurements.md");
const SHIPPED: &str = include_str!("../../config/qosd.toml");

/// Every field of every measurement.
fn fields() -> impl Iterator<Item = FieldInfo> {
    let kinds = KINDS.iter().flat_map(|kind| kind.fields());
    let counters = KINDS.iter().flat_map(|kind| kind.open().counters()).map(|(field, _)| field.info());
    let collector = collector::rows::FIELDS.iter().chain(collector::status::FIELDS).copied().chain(collector::counts::fields());
    let mesh = mesh::agent::standing::FIELDS.iter().copied().chain(collector);
    COMMON_FIELDS.iter().chain(kinds).chain(vitals::FIELDS).copied().chain(mesh).chain(counters)
}

fn word(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Float => "float",
        FieldType::Integer => "integer",
        FieldType::Text => "text",
    }
}

/// The cells of every line of a table in the dictionary.
fn table_lines() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = DICTIONARY.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(str::trim).collect())
}

/// What stands between backticks, if that is all.
fn name(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|name| !name.contains('`'))
}

/// The lines of the dictionary that describe a field: its name, its type, and more.
fn described() -> BTreeMap<&'static str, &'static str> {
    let types = ["float", "integer", "text"];
    let lines = table_lines().filter(|cells| cells.len() > 2 && types.contains(&cells[1]));
    let mut described = BTreeMap::new();
    for cells in lines {
        let name = name(cells[0]).unwrap_or_else(|| panic!("{cells:?} has no name in backticks"));
        assert_eq!(described.insert(name, cells[1]), None, "{name} is described twice");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{name} has an empty cell");
    }
    described
}

/// (I21)
#[test]
fn a_field_has_one_type_whoever_writes_it() {
    let mut known = BTreeMap::new();
    for FieldInfo { name, kind } in fields() {
        let before = *known.entry(name).or_insert(kind);
        assert_eq!(before, kind, "{name} has two types");
    }
}

#[test]
fn the_dictionary_describes_every_field_with_its_type_and_no_other() {
    let expected: BTreeMap<_, _> = fields().map(|FieldInfo { name, kind }| (name, word(kind))).collect();
    assert_eq!(described(), expected);
}

#[test]
fn the_dictionary_explains_every_result_with_its_code() {
    for (code, outcome) in (0..).zip(Outcome::ALL) {
        assert_eq!(outcome.code(), code, "{outcome} is not in its place");
        let explained =
            table_lines().any(|cells| cells.len() > 2 && cells[0] == code.to_string() && name(cells[1]) == Some(outcome.name()));
        assert!(explained, "{code} {outcome} is missing");
    }
}

#[test]
fn the_dictionary_explains_why_a_slot_is_skipped() {
    for reason in [Skip::Overrun, Skip::Restart, Skip::Suspended, Skip::Reload, Skip::Shutdown, Skip::Budget] {
        assert!(table_lines().any(|cells| name(cells[0]) == Some(reason.name())), "{} is missing", reason.name());
    }
}

#[test]
fn the_dictionary_lists_every_metric_with_its_type_and_no_other() {
    let lines = table_lines().filter(|cells| cells.len() > 3 && ["counter", "gauge"].contains(&cells[1]));
    let described: Vec<_> = lines.map(|cells| (name(cells[0]).unwrap().to_owned(), cells[1])).collect();
    let mut sorted = described.clone();
    sorted.sort();
    let expected: Vec<_> = metrics::documented().into_iter().map(|metric| (metric.name, metric.kind)).collect();
    assert_eq!(sorted, expected);
}

#[test]
fn the_dictionary_lists_every_reason_of_a_metric_with_its_field_and_no_other() {
    let three = |cells: Vec<&'static str>| Some((name(cells[0])?, name(cells.get(1)?)?, name(cells.get(2)?)?));
    let described: Vec<_> = table_lines().filter_map(three).filter(|(metric, ..)| metric.starts_with("qosd_")).collect();
    let expected: Vec<_> = metrics::own::reasons().collect();
    let expected: Vec<_> = expected.iter().map(|(metric, reason, field)| (metric.as_str(), *reason, *field)).collect();
    assert!(expected.contains(&("qosd_collector_refused_posts_total", "bad_post", "collector_bad_posts")));
    assert_eq!(described, expected);
}

/// What is network trouble is decided in one place; who is alerted by it has the same codes.
#[test]
fn alerts_on_a_target_are_those_of_results_that_say_something_of_it() {
    let telling =
        |code: i64| Outcome::ALL.into_iter().find(|outcome| outcome.code() == code).is_some_and(|outcome| outcome.says() != Says::Nothing);
    assert!((0..=18).all(|code| telling(code) == (code <= 10 || code == 12)), "then the alerts have to be others");
    for query in [r#"("result_code" <= 10 OR "result_code" = 12)"#, "r._value <= 10 or r._value == 12"] {
        assert_eq!(include_str!("../../docs/grafana.md").matches(query).count(), 1, "{query}");
    }
    for rule in [r#"(qosd_result_code{kind!="iperf3"} <= 12 != 11)"#, r#"(qosd_result_code{kind="iperf3"} <= 12 != 11)"#] {
        assert_eq!(include_str!("../../dashboards/prometheus/rules.yml").matches(rule).count(), 1, "{rule}");
    }
}

#[test]
fn every_field_of_qosd_is_a_metric_or_is_left_out_on_purpose() {
    let kinds: Vec<_> = KINDS.iter().flat_map(|kind| kind.fields()).chain(COMMON_FIELDS).map(|field| field.name).collect();
    let of_collector: Vec<_> = collector::rows::FIELDS.iter().map(|field| field.name).collect();
    for field in fields().filter(|field| !kinds.contains(&field.name) && !of_collector.contains(&field.name)) {
        assert!(metrics::own::tells(field.name), "{} is told nowhere: add it in page/metrics/own.rs", field.name);
    }
}

/// The agent's name is set, so that the host's does not matter.
fn load(dir: &Path, text: &str) -> Result<Config, String> {
    let path = dir.join("qosd.toml");
    std::fs::write(&path, text).unwrap();
    let env = Env::from([("QOSD__AGENT__NAME".to_owned(), "rome-1".to_owned())]);
    config::load(&path, KINDS, &env).map_err(|problems| problems.to_string())
}

/// The keys that a section takes, as the refusal of an unknown one lists them.
fn keys(dir: &Path, section: &str) -> Vec<String> {
    let refusal = load(dir, &format!("[{section}]\nno_such_key = 1\n")).unwrap_err();
    let list = refusal.lines().find_map(|line| Some(line.split_once("no_such_key: unknown key, allowed are ")?.1));
    list.unwrap_or_else(|| panic!("{refusal}")).split(", ").map(str::to_owned).collect()
}

/// A section of each kind of probe, as the shipped config has it.
fn probes() -> Vec<&'static str> {
    let of = |kind: &str| {
        let heads = SHIPPED.lines().filter_map(|line| line.trim_start_matches("# ").strip_prefix('[')?.strip_suffix(']'));
        heads.into_iter().find(|head| head.split_once('.').is_some_and(|(section, _)| section == kind))
    };
    KINDS.iter().map(|kind| of(kind.name()).unwrap_or_else(|| panic!("no [{}.NAME]", kind.name()))).collect()
}

/// The lines of a section of the shipped config, commented out or not, without the `# ` of keys that are.
fn section(name: &str) -> Vec<&'static str> {
    let head = format!("[{name}]");
    let bare = SHIPPED.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let lines = bare.skip_while(move |line| **line != *head).skip(1).take_while(|line| !line.starts_with('['));
    lines.filter(|line| line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))).collect()
}

fn key(line: &str) -> &str {
    line.split_once(" = ").unwrap().0
}

#[test]
fn the_shipped_config_has_every_key_once_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for name in
        ["agent", "log", "web", "journal", "influxdb.main", "iperf3_server", "responder", "mesh", "collector"].into_iter().chain(probes())
    {
        let mut shipped: Vec<_> = section(name).into_iter().map(key).collect();
        let mut allowed = keys(dir.path(), name);
        shipped.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(shipped, allowed, "[{name}]");
    }
}

/// What shipped configs name and cannot ship: files with secrets. Other files that they name are shipped beside them.
fn beside_shipped_configs(dir: &Path) {
    std::fs::write(dir.join("probes.json"), "{\"probes\":[]}").unwrap();
    for secret in ["mesh_key", "api_key", "influx_token"] {
        let path = dir.join(secret);
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for path in std::fs::read_dir("config").unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension != "toml") {
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn every_shipped_config_passes_and_what_show_prints_means_the_same() {
    let dir = tempfile::tempdir().unwrap();
    beside_shipped_configs(dir.path());
    let files: Vec<_> = std::fs::read_dir("config").unwrap().map(|entry| entry.unwrap().path()).collect();
    let configs = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(configs.clone().count() > 2, "{files:?}");
    for path in configs {
        let first = load(dir.path(), &std::fs::read_to_string(path).unwrap()).unwrap();
        let again = load(dir.path(), &first.effective.to_string()).unwrap();
        assert_eq!((again.effective, again.assignments), (first.effective, first.assignments), "{}", path.display());
    }
}

#[test]
fn the_shipped_config_shows_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = load(dir.path(), SHIPPED).unwrap();
    let bare = load(dir.path(), "[ping.self]\ntargets = [\"127.0.0.1\"]\n").unwrap();
    assert_eq!(shipped.effective, bare.effective);
    assert_eq!(shipped.assignments, bare.assignments);
}

/// `[influxdb.main]` as shipped, with these of its keys.
fn output(wanted: impl Fn(&str) -> bool) -> String {
    let lines: Vec<_> = section("influxdb.main").into_iter().filter(|line| wanted(key(line))).collect();
    format!("[influxdb.main]\n{}\n", lines.join("\n"))
}

#[test]
fn the_commented_keys_of_the_shipped_config_can_be_used_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["influx_token", "influx_password"] {
        let path = dir.path().join(file);
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let version_1 = ["database", "retention_policy", "username", "password_file"];
    let version_2 = ["org", "bucket", "token_file"];
    let (inline, optional) = (["token", "password"], ["replay"]);
    let common = |key: &str| ![&version_1[..], &version_2, &inline, &optional].concat().contains(&key);
    let as_shown = load(dir.path(), &output(|key| common(key) || version_2.contains(&key))).unwrap();
    let bare = load(dir.path(), &output(|key| key == "url" || version_2.contains(&key))).unwrap();
    assert_eq!(as_shown.effective, bare.effective, "the values shown are the defaults");
    load(dir.path(), &output(|key| common(key) || optional.contains(&key) || version_1.contains(&key))).unwrap();
    let ping = format!("[ping.self]\n{}\n[agent]\n{}\n", section("ping.self").join("\n"), section("agent")[1]);
    load(dir.path(), &ping).unwrap();
    for name in ["iperf3.backbone", "iperf3_server"] {
        load(dir.path(), &format!("[{name}]\n{}\n", section(name).join("\n"))).unwrap();
    }
}

#[test]
fn the_commented_probe_responder_and_web_show_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("portal_headers");
    std::fs::write(&path, "X-Key: secret\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let http = |wanted: &dyn Fn(&str) -> bool| {
        let lines: Vec<_> = section("http.portal").into_iter().filter(|line| wanted(key(line))).collect();
        load(dir.path(), &format!("[http.portal]\n{}\n", lines.join("\n"))).unwrap().effective
    };
    let own = ["targets", "download", "upload", "headers_file"];
    let optional = ["expect_status"];
    assert_eq!(http(&|key| !optional.contains(&key)), http(&|key| own.contains(&key)));
    http(&|_| true);
    let responder = |lines: &[&str]| load(dir.path(), &format!("[responder]\n{}\n", lines.join("\n"))).unwrap().effective;
    assert_eq!(responder(&section("responder")), responder(&[]));
    let web = |lines: &[&str]| load(dir.path(), &format!("[web]\n{}\n", lines.join("\n"))).unwrap().effective;
    let without_hosts: Vec<_> = section("web").into_iter().filter(|line| key(line) != "hosts").collect();
    assert_eq!(web(&without_hosts), web(&[]));
    web(&section("web"));
}

#[test]
fn the_commented_mesh_and_collector_can_be_used_as_they_stand_and_show_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["collector.example".to_owned()]).unwrap();
    let (chain, signing_key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let files = [("mesh_key", "secret"), ("api_key", "secret"), ("collector_ca.pem", &chain), ("collector.pem", &chain)];
    for (name, text) in files.into_iter().chain([("collector.key", signing_key.as_str()), ("probes.json", "{\"probes\":[]}")]) {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::write(dir.path().join("schedule.json"), r#"{"ping":{"interval":"5m","count":10,"spacing":"1s"}}"#).unwrap();
    let read = |head: &str, optional: &[&str]| {
        let lines: Vec<_> = section(head).into_iter().filter(|line| !optional.contains(&key(line))).collect();
        let text = format!("[{head}]\n{}\n", lines.join("\n")).replace("/etc/qosd/", "");
        load(dir.path(), &text).unwrap()
    };
    assert_eq!(read("mesh", &["name", "ca_file"]).effective, read("mesh", &["name", "ca_file", "max_rate"]).effective);
    read("mesh", &[]);
    let optional = ["schedule", "tls_cert", "tls_key", "trusted_proxies"];
    let bare = [&optional[..], &["listen", "base_path"]].concat();
    assert_eq!(read("collector", &optional).effective, read("collector", &bare).effective);
    let schedule = read("collector", &[]).collector.unwrap().schedule;
    assert_eq!(schedule, Some(mesh::schedule::Schedule::default()));
}

#[test]
fn the_worked_example_is_what_the_code_computes() {
    let millis = |figures: &[u64]| figures.iter().map(|ms| Duration::from_millis(*ms)).collect();
    let tally = Tally {
        sent: 6,
        rtts: millis(&[10, 20, 40, 20]),
        silent: 1,
        local_errors: vec!["ENOBUFS: No buffer space available".to_owned()],
        ttl: Some(57),
        stamps: Some(Stamps::Kernel),
        ..Tally::default()
    };
    let naming = Naming { agent: "rome-1".to_owned(), kind: "ping", probe: "core".to_owned() };
    let fields = finding("192.0.2.1".parse().unwrap(), &tally).into_fields(None);
    let time = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let row = Row { series: naming.series("192.0.2.1", "ipv4", &BTreeMap::new()), time, fields };
    let example = line(&row).unwrap();
    assert!(DICTIONARY.replace(",\n", ",").replace('\n', " ").contains(&example), "{example}");
}
