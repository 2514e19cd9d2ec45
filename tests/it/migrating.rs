//! docs/migrating.md and docs/mesh.md keep their word: every config on them can be used as it stands, and the fields that they
//! name exist.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use qosd::config::{self, Config, Env};
use qosd::probe::KINDS;
use qosd::vitals;

const PAGE: &str = include_str!("../../docs/migrating.md");
const MESH: &str = include_str!("../../docs/mesh.md");

const WRITTEN_BY_THE_SCRIPTS: [&str; 14] = [
    "ping_avg_ms",
    "ping_min_ms",
    "ping_max_ms",
    "ping_jitter_ms",
    "ping_packet_loss_pct",
    "iperf_bandwidth_mbps",
    "iperf_jitter_ms",
    "http_ping_ms",
    "http_status_code",
    "http_download_ms",
    "http_download_bytes",
    "http_download_status",
    "http_upload_ms",
    "http_upload_status",
];

/// The blocks of TOML on the page of the scripts, also those within lists.
fn configs() -> Vec<String> {
    blocks(PAGE, "toml")
}

/// The blocks of a language on a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let fence = line.trim_start();
        if fence.strip_prefix("```") == Some(language) {
            let indent = line.len() - fence.len();
            let inside = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks.push(inside.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect());
        }
    }
    blocks
}

/// A config in a folder that has the files which the pages name.
fn load(dir: &Path, text: &str) -> Config {
    let signed = rcgen::generate_simple_self_signed(["192.0.2.10".to_owned()]).unwrap();
    let (chain, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let secrets = ["influx_token", "influx_password", "api_key", "mesh_key"].map(|name| (name, "secret\n"));
    let [list, schedule] = &blocks(MESH, "json")[..] else { panic!("a list and a schedule") };
    let files = [("collector.pem", &*chain), ("collector.key", &*key), ("probes.json", list), ("schedule.json", schedule)];
    for (name, text) in secrets.into_iter().chain(files) {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let path = dir.join("qosd.toml");
    std::fs::write(&path, text.replace("/etc/qosd/", "").replace("/etc/ixpqos/", "")).unwrap();
    let env = Env::from([("QOSD__AGENT__NAME".to_owned(), "rome-1".to_owned())]);
    config::load(&path, KINDS, &env).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn every_config_of_the_pages_can_be_used_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs();
    assert!(configs.len() > 4 && configs.len() == PAGE.matches("```toml").count(), "{configs:?}");
    for text in configs.into_iter().chain(blocks(MESH, "toml")) {
        load(dir.path(), &text);
    }
    assert!(blocks(MESH, "toml").len() > 2);
}

#[test]
fn the_first_config_of_the_page_measures_the_scripts_target_in_three_ways() {
    let dir = tempfile::tempdir().unwrap();
    let effective = load(dir.path(), &configs()[0]).effective.to_string();
    for kind in ["ping", "iperf3", "http"] {
        assert!(effective.contains(&format!("[{kind}.scripts]")), "{effective}");
    }
    // What the scripts have as constants and qosd as defaults is written out, and means the same.
    let short = configs().into_iter().nth(4).unwrap();
    let ping_and_http = |text: &str| {
        let effective = load(dir.path(), text).effective;
        (effective["ping"].clone(), effective["http"].clone())
    };
    assert_eq!(ping_and_http(&short), ping_and_http(&configs()[0]));
}

#[test]
fn every_field_that_the_page_names_exists() {
    let kinds = KINDS.iter().flat_map(|kind| kind.fields());
    let known: BTreeSet<_> = kinds.chain(vitals::FIELDS).map(|field| field.name).collect();
    let words = PAGE.split('`').skip(1).step_by(2);
    let fields: Vec<_> = words.filter(|word| ["ping_", "iperf_", "http_"].iter().any(|start| word.starts_with(start))).collect();
    let scripts = ["ping_test.py", "iperf_test.py", "http_test.py"];
    for field in &fields {
        assert!(known.contains(field) || scripts.contains(field), "{field}");
    }
    for field in WRITTEN_BY_THE_SCRIPTS {
        assert!(fields.contains(&field) && known.contains(field), "{field}");
    }
}
