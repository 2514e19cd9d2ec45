//! `[mesh]`: whose agent this node is, and how much it may send.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mesh::list::Name;
use crate::secret::{Folders, Secret};
use crate::settings::{self, KeyProblem, explain, file};

/// The largest file of certificates.
const LARGEST_CA: u64 = 1 << 20;

/// `[mesh]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the collector's paths begin: what stands before `/api/v1`.
    pub collector: Url,
    /// The key of all calls.
    pub key: Secret,
    /// The file that the key came from.
    pub key_file: PathBuf,
    /// As whom it posts.
    pub name: Name,
    /// The most packets a second that the mesh may cost.
    pub max_rate: PacketRate,
    /// Certificates of authorities, in PEM, that are trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
}

/// The table as it stands in the config.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    collector: String,
    key_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    protocol: Protocol,
    #[serde(default)]
    max_rate: PacketRate,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    V1,
}

impl Settings {
    /// Reads the table with the files that it names, and gives it back with every default filled in. `agent` is the name of
    /// this node.
    pub fn read(table: config::Value, agent: &str, folders: &Folders) -> Result<(Self, toml::Table), Vec<KeyProblem>> {
        let written: Written = settings::typed(table)?;
        let mut problems = Vec::new();
        let mut failed = |key: &str, message: String| problems.push(KeyProblem::new(key, message));
        let url = collector(&written.collector).map_err(|message| failed("collector", message)).ok();
        let key_file = folders.find(&written.key_file);
        let key = Secret::read(&key_file).map_err(|error| failed("key_file", explain(&error))).ok();
        let name = written.name.as_deref().unwrap_or(agent);
        let message = || format!("{name:?} cannot be a name, allowed are 1 to 64 of A-Z a-z 0-9 . _ -");
        let name = Name::new(name).ok_or_else(|| failed("name", message())).ok();
        let ca = written.ca_file.as_ref().map(|path| authorities(&folders.find(path)).map_err(|message| failed("ca_file", message)));
        match (url, key, name, ca.transpose()) {
            (Some(collector), Some(key), Some(name), Ok(ca)) => {
                let effective = toml::Table::try_from(&written).map_err(|error| vec![KeyProblem::new("", error.to_string())])?;
                Ok((Self { collector, key, key_file, name, max_rate: written.max_rate, ca }, effective))
            }
            _ => Err(problems),
        }
    }
}

/// What is wrong is said without the address, which may hold a password.
fn collector(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("is not a URL ({error}), expected one such as \"https://host/backend\""))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err("must begin with https://, for the key would be seen by others; http:// is for this host alone".to_owned()),
        _ => return Err("must begin with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password; the key is in key_file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the path, without ? and #".to_owned());
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&base);
    Ok(url)
}

fn authorities(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let contents = file::read(path, LARGEST_CA).map_err(|error| format!("{}: {}", path.display(), explain(&error)))?;
    match reqwest::Certificate::from_pem_bundle(&contents.bytes) {
        Ok(certificates) if !certificates.is_empty() => Ok(contents.bytes),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// Packets a second: `1000/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketRate(pub u32);

impl Default for PacketRate {
    fn default() -> Self {
        Self(1000)
    }
}

impl fmt::Display for PacketRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl Serialize for PacketRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PacketRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_suffix("/s").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let rate = digits.and_then(|digits| digits.parse().ok()).filter(|rate| (1..=1_000_000).contains(rate));
        let form = "packets per second from \"1/s\" to \"1000000/s\"";
        rate.map(Self).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &form))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(toml: &str) -> Result<(Settings, toml::Table), Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("mesh_key");
        std::fs::write(&key, "k3y-of-the-mesh\n").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(dir.path().join("ca.pem"), "not a certificate").unwrap();
        let table = config::Source::collect(&config::File::from_str(toml, config::FileFormat::Toml)).unwrap().into();
        let folders = Folders { credentials: None, config: dir.path().to_owned() };
        let said =
            |problems: Vec<KeyProblem>| problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        Settings::read(table, "rome-1", &folders).map_err(said)
    }

    const GOOD: &str = "collector = 'https://mesh.example/backend/'\nkey_file = 'mesh_key'\nprotocol = 'v1'\n";

    #[test]
    fn what_is_not_said_comes_from_the_agent() {
        let (settings, effective) = read(GOOD).unwrap();
        assert_eq!(settings.collector.as_str(), "https://mesh.example/backend");
        assert_eq!((settings.name.as_str(), settings.max_rate, settings.ca), ("rome-1", PacketRate(1000), None));
        assert_eq!(settings.key.expose(), "k3y-of-the-mesh");
        assert!(!effective.to_string().contains("k3y"));
    }

    #[test]
    fn the_key_is_sent_over_tls_or_not_at_all() {
        for (url, good) in [
            ("http://127.0.0.1:9878", true),
            ("http://[::1]:9878/x", true),
            ("http://localhost", true),
            ("http://192.0.2.1", false),
            ("http://mesh.example", false),
            ("ftp://mesh.example", false),
            ("https://user:pw@mesh.example", false),
            ("https://mesh.example/?a", false),
            ("mesh.example", false),
        ] {
            assert_eq!(collector(url).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (change, said) in [
            ("name = 'a b'", "name: \"a b\" cannot be a name"),
            ("max_rate = '5'", "max_rate: is the text \"5\", expected packets per second"),
            ("max_rate = '0/s'", "max_rate: is the text \"0/s\""),
            ("ca_file = 'ca.pem'", "ca_file: "),
            ("ca_file = 'missing.pem'", "ca_file: "),
        ] {
            let problems = read(&format!("{GOOD}{change}\n")).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(said), "{change}: {problems:?}");
        }
        let problems = read("collector = 'http://mesh.example'\nkey_file = 'missing'\nprotocol = 'v1'").unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(read("collector = 'https://x'\nkey_file = 'mesh_key'\nprotocol = 'v2'").unwrap_err()[0].starts_with("protocol: "));
    }
}
