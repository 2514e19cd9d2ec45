//! `[influxdb.NAME]`: a database, which of its two APIs, and how to send.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::secret::{Folders, Secret};
use crate::settings::{self, KeyProblem, out_of_range, units};

/// The keys that hold a secret in the config itself.
pub const INLINE_SECRETS: &[&str] = &["token", "password"];

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the API begins.
    pub url: Url,
    /// Which API, and as whom.
    pub api: Api,
    /// The file that the secret came from, if it came from one. A reload reads it again.
    pub secret_file: Option<PathBuf>,
    /// The most rows in a request.
    pub batch_size: usize,
    /// The longest that a row waits for others to go with it.
    pub flush_interval: Duration,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How far back a new output starts; none = now.
    pub replay: Option<Duration>,
}

/// The two write APIs.
#[derive(Clone, Debug, PartialEq)]
pub enum Api {
    /// `/api/v2/write`, of versions 2 and 3.
    V2 {
        /// Organisation.
        org: String,
        /// Bucket.
        bucket: String,
        /// Token.
        token: Secret,
    },
    /// `/write`, of version 1.
    V1 {
        /// Database.
        database: String,
        /// Retention policy; none = the database's default.
        retention_policy: Option<String>,
        /// User and password.
        credentials: Option<(String, Secret)>,
    },
}

/// The table as it stands in the config.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    org: Option<String>,
    bucket: Option<String>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    database: Option<String>,
    retention_policy: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    #[serde(default = "batch_size")]
    batch_size: u32,
    #[serde(default = "flush_interval", with = "units::duration")]
    flush_interval: Duration,
    #[serde(default = "timeout", with = "units::duration")]
    timeout: Duration,
    #[serde(default = "gzip")]
    gzip: bool,
    #[serde(default, with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    replay: Option<Duration>,
}

fn batch_size() -> u32 {
    5000
}

fn flush_interval() -> Duration {
    Duration::from_secs(1)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn gzip() -> bool {
    true
}

impl Settings {
    /// Reads a table with the secret that it names, and gives it back with every default filled in.
    pub fn read(table: config::Value, folders: &Folders) -> Result<(Self, toml::Table), Vec<KeyProblem>> {
        let written: Written = settings::typed(table)?;
        let mut problems = ranges(&written);
        let url = url(&written.url).map_err(|message| problems.push(KeyProblem::new("url", message)));
        let api = api(&written, folders).map_err(|more| problems.extend(more));
        let (Ok(url), Ok((api, secret_file)), true) = (url, api, problems.is_empty()) else { return Err(problems) };
        let effective = toml::Table::try_from(&written).map_err(|error| vec![KeyProblem::new("", error.to_string())])?;
        let Written { batch_size, flush_interval, timeout, gzip, replay, .. } = written;
        Ok((Self { url, api, secret_file, batch_size: batch_size as usize, flush_interval, timeout, gzip, replay }, effective))
    }
}

fn ranges(written: &Written) -> Vec<KeyProblem> {
    let (millis, seconds) = (Duration::from_millis, Duration::from_secs);
    let problems = [
        out_of_range("batch_size", &written.batch_size, &(1..=50_000), u32::to_string),
        out_of_range("flush_interval", &written.flush_interval, &(millis(10)..=seconds(3600)), units::show_duration),
        out_of_range("timeout", &written.timeout, &(millis(100)..=seconds(300)), units::show_duration),
    ];
    problems.into_iter().flatten().collect()
}

/// What is wrong is said without the address, which may hold a password.
fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}), expected one such as \"http://localhost:8086\""))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password; use token_file, or username and password_file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the path, without ? and #".to_owned());
    }
    Ok(url)
}

/// Keys of one API, with whether they are there.
fn present(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter().filter(|(_, there)| *there).map(|(key, _)| *key).collect()
}

fn api(written: &Written, folders: &Folders) -> Result<(Api, Option<PathBuf>), Vec<KeyProblem>> {
    let v2 = present(&[
        ("org", written.org.is_some()),
        ("bucket", written.bucket.is_some()),
        ("token", written.token.is_some()),
        ("token_file", written.token_file.is_some()),
    ]);
    let v1 = present(&[
        ("database", written.database.is_some()),
        ("retention_policy", written.retention_policy.is_some()),
        ("username", written.username.is_some()),
        ("password", written.password.is_some()),
        ("password_file", written.password_file.is_some()),
    ]);
    match (v2.is_empty(), v1.is_empty()) {
        (false, true) => version_2(written, folders),
        (true, false) => version_1(written, folders),
        (true, true) => Err(vec![KeyProblem::new("", "needs org, bucket and token_file (version 2 and 3), or database (version 1)")]),
        (false, false) => {
            let message =
                format!("{} and {} do not go together: use org, bucket and token_file, or database", v2.join(", "), v1.join(", "));
            Err(vec![KeyProblem::new("", message)])
        }
    }
}

fn version_2(written: &Written, folders: &Folders) -> Result<(Api, Option<PathBuf>), Vec<KeyProblem>> {
    let mut problems = Vec::new();
    let org = name("org", written.org.as_deref(), &mut problems);
    let bucket = name("bucket", written.bucket.as_deref(), &mut problems);
    let token = secret("token", written.token.as_ref(), written.token_file.as_deref(), folders, &mut problems);
    match (org, bucket, token) {
        (Some(org), Some(bucket), Some((token, file))) if problems.is_empty() => Ok((Api::V2 { org, bucket, token }, file)),
        _ => Err(problems),
    }
}

fn version_1(written: &Written, folders: &Folders) -> Result<(Api, Option<PathBuf>), Vec<KeyProblem>> {
    let mut problems = Vec::new();
    let database = name("database", written.database.as_deref(), &mut problems);
    let policy = written.retention_policy.as_deref();
    let retention_policy = policy.and_then(|policy| name("retention_policy", Some(policy), &mut problems));
    let login = written.username.is_some() || written.password.is_some() || written.password_file.is_some();
    let (credentials, file) = if login { login_of(written, folders, &mut problems) } else { (None, None) };
    match database {
        Some(database) if problems.is_empty() => Ok((Api::V1 { database, retention_policy, credentials }, file)),
        _ => Err(problems),
    }
}

fn login_of(written: &Written, folders: &Folders, problems: &mut Vec<KeyProblem>) -> (Option<(String, Secret)>, Option<PathBuf>) {
    let username = name("username", written.username.as_deref(), problems);
    let password = secret("password", written.password.as_ref(), written.password_file.as_deref(), folders, problems);
    match (username, password) {
        (Some(username), Some((password, file))) => (Some((username, password)), file),
        _ => (None, None),
    }
}

fn name(key: &str, value: Option<&str>, problems: &mut Vec<KeyProblem>) -> Option<String> {
    let problem = match value {
        None => KeyProblem::new("", format!("`{key}` is missing")),
        Some("") => KeyProblem::new(key, "is empty"),
        Some(value) if value.contains(char::is_control) => KeyProblem::new(key, "contains a control character"),
        Some(value) => return Some(value.to_owned()),
    };
    problems.push(problem);
    None
}

fn secret(
    key: &str,
    inline: Option<&Secret>,
    file: Option<&Path>,
    folders: &Folders,
    problems: &mut Vec<KeyProblem>,
) -> Option<(Secret, Option<PathBuf>)> {
    let file_key = format!("{key}_file");
    let problem = match (inline, file) {
        (Some(secret), None) => return Some((secret.clone(), None)),
        (Some(_), Some(_)) => KeyProblem::new(file_key, format!("{key} is there too; use one of them")),
        (None, None) => KeyProblem::new("", format!("`{file_key}` is missing")),
        (None, Some(file)) => {
            let path = folders.find(file);
            match Secret::read(&path) {
                Ok(secret) => return Some((secret, Some(path))),
                Err(error) => KeyProblem::new(file_key, settings::explain(&error)),
            }
        }
    };
    problems.push(problem);
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use config::{File, FileFormat, Source};

    use super::*;

    fn read(text: &str) -> Result<(Settings, toml::Table), Vec<KeyProblem>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "c4n4ry\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let table = File::from_str(text, FileFormat::Toml).collect().unwrap();
        Settings::read(table.into(), &Folders { credentials: None, config: dir.path().to_owned() })
    }

    fn problems(text: &str) -> Vec<String> {
        read(text).unwrap_err().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    }

    const V2: &str = "url = \"http://localhost:8086\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = \"secret\"\n";

    #[test]
    fn version_2_takes_organisation_bucket_and_token() {
        let (settings, effective) = read(V2).unwrap();
        assert_eq!(settings.api, Api::V2 { org: "o".into(), bucket: "b".into(), token: Secret::new("c4n4ry").unwrap() });
        assert!(settings.secret_file.unwrap().ends_with("secret"));
        assert_eq!((settings.batch_size, settings.gzip, settings.replay), (5000, true, None));
        assert_eq!(effective["flush_interval"].as_str(), Some("1s"));
    }

    #[test]
    fn version_1_takes_a_database_and_perhaps_a_login() {
        let text = "url = \"http://h\"\ndatabase = \"d\"\n";
        let api = |database: &str| Api::V1 { database: database.into(), retention_policy: None, credentials: None };
        assert_eq!(read(text).unwrap().0.api, api("d"));
        let (settings, effective) = read(&format!("{text}username = \"u\"\npassword = \"c4n4ry\"\nreplay = \"7d\"")).unwrap();
        let Api::V1 { credentials: Some((user, password)), .. } = &settings.api else { panic!("{settings:?}") };
        assert_eq!((user.as_str(), password.expose()), ("u", "c4n4ry"));
        assert_eq!(settings.replay, Some(Duration::from_hours(168)));
        assert!(!format!("{settings:?}{effective}").contains("c4n4ry"));
    }

    #[test]
    fn mixing_and_lacking_are_problems() {
        let both = "org, bucket, token_file and database do not go together: use org, bucket and token_file, or database";
        assert_eq!(problems(&format!("{V2}database = \"d\"")), [format!(": {both}")]);
        let neither = ": needs org, bucket and token_file (version 2 and 3), or database (version 1)";
        assert_eq!(problems("url = \"http://h\""), [neither]);
        assert_eq!(problems("url = \"http://h\"\norg = \"\""), ["org: is empty", ": `bucket` is missing", ": `token_file` is missing"]);
        assert_eq!(problems("url = \"http://h\"\nusername = \"u\""), [": `database` is missing", ": `password_file` is missing"]);
        assert_eq!(problems(&format!("{V2}token = \"x\"")), ["token_file: token is there too; use one of them"]);
    }

    #[test]
    fn a_url_must_be_plain_and_is_never_shown() {
        for url in ["ftp://h", "http://c4n4ry@h", "http://u:c4n4ry@h", "http://h/?p=c4n4ry", "http://h/#c4n4ry", "http://", "c4n4ry"] {
            let problems = problems(&V2.replace("http://localhost:8086", url));
            assert_eq!(problems.len(), 1, "{url}");
            assert!(problems[0].starts_with("url: ") && !problems[0].contains("c4n4ry"), "{problems:?}");
        }
        assert!(read(&V2.replace("http://localhost:8086", "https://[2001:db8::1]:8086/influx")).is_ok());
    }

    #[test]
    fn impossible_values_are_told_with_their_range() {
        let text = format!("{V2}batch_size = 0\nflush_interval = \"1ms\"\ntimeout = \"1h\"");
        assert_eq!(
            problems(&text),
            [
                "batch_size: 0 is out of range, allowed is 1 to 50000",
                "flush_interval: 1ms is out of range, allowed is 10ms to 1h",
                "timeout: 1h is out of range, allowed is 100ms to 5m",
            ]
        );
    }
}
