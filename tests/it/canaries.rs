//! What is secret beside a config. Whoever ends a service that a test ran looks whether it told any of it, in whatever test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Shorter words may stand in a log by chance.
const SHORTEST: usize = 8;
/// What nobody else may read either, and is no secret.
const NO_SECRETS: [&str; 6] = ["toml", "json", "pem", "sock", "sqlite3", "new"];

/// The words of the files in a folder that their owner alone may read.
fn secrets(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.filter_map(Result::ok).filter(|entry| {
        let extension = entry.path().extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
        let own = entry.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode().trailing_zeros() >= 6);
        own && !NO_SECRETS.contains(&&*extension)
    });
    let texts = files.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    // Of a header its name is none.
    let words = texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.len() >= SHORTEST && !word.ends_with(':')).collect()
}

/// Fails if a service with a config in this folder wrote a secret, or shows it in the list of processes.
pub(crate) fn are_untold(folder: &Path, pid: u32, log: &str) {
    let secrets = secrets(folder);
    let of_process = ["cmdline", "environ"].map(|file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
    let listed = String::from_utf8_lossy(&of_process.concat()).into_owned();
    for line in log.lines().chain([&*listed]) {
        let told = secrets.iter().find(|secret| line.contains(secret.as_str()));
        assert_eq!(told, None, "a secret is told: {line}");
    }
}
