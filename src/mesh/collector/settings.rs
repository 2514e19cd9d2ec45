//! `[collector]`: where it listens, whom it trusts, and the files with the probes and their schedule.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mesh::list::{self, List};
use crate::mesh::schedule::{self, Schedule};
use crate::secret::{Folders, Secret};
use crate::settings::network::Network;
use crate::settings::{self, KeyProblem, explain, file};

/// The largest file with a certificate or a key.
const LARGEST_PEM: u64 = 1 << 20;

/// `[collector]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// What stands before `/api/v1`: nothing, or `/backend`.
    pub base_path: String,
    /// The probes of the mesh.
    pub probes: List,
    /// When they measure; none = an agent's defaults.
    pub schedule: Option<Schedule>,
    /// The shared key.
    pub api_key: Secret,
    /// Certificate chain and key, both in PEM.
    pub tls: Option<Tls>,
    /// Whose word on an address is taken.
    pub trusted_proxies: Vec<Network>,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain.
    pub chain: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address with its port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// The table as it stands in the config.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    listen: Listen,
    #[serde(default = "base_path")]
    base_path: String,
    #[serde(default = "probes")]
    probes: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<PathBuf>,
    api_key_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    #[serde(default)]
    trusted_proxies: Vec<Network>,
}

fn base_path() -> String {
    "/".to_owned()
}

fn probes() -> PathBuf {
    PathBuf::from("/etc/qosd/probes.json")
}

impl Settings {
    /// Reads the table with the files that it names, and gives it back with every default filled in.
    pub fn read(table: config::Value, folders: &Folders) -> Result<(Self, toml::Table), Vec<KeyProblem>> {
        let written: Written = settings::typed(table)?;
        let mut problems = Vec::new();
        let mut failed = |key: &str, message: String| problems.push(KeyProblem::new(key, message));
        let base = base(&written.base_path).map_err(|message| failed("base_path", message)).ok();
        let probes = contents(&folders.config.join(&written.probes), list::LARGEST, |bytes| List::read(bytes).map_err(|e| e.to_string()));
        let probes = probes.map_err(|message| failed("probes", message)).ok();
        let read_schedule = |bytes: &[u8]| Schedule::read(bytes).map_err(|error| error.to_string());
        let schedule = written.schedule.as_ref().map(|path| contents(&folders.config.join(path), schedule::LARGEST, read_schedule));
        let schedule = schedule.transpose().map_err(|message| failed("schedule", message)).ok();
        let api_key = Secret::read(&folders.find(&written.api_key_file)).map_err(|error| failed("api_key_file", explain(&error))).ok();
        let tls = tls(&written, folders).map_err(|(key, message)| failed(key, message)).ok();
        if written.tls_cert.is_none() && !written.listen.is_local() {
            failed("listen", format!("{} is not of this host alone, and without tls_cert others would see the key", written.listen));
        }
        match (base, probes, schedule, api_key, tls) {
            (Some(base_path), Some(probes), Some(schedule), Some(api_key), Some(tls)) if problems.is_empty() => {
                let effective = toml::Table::try_from(&written).map_err(|error| vec![KeyProblem::new("", error.to_string())])?;
                let Written { listen, trusted_proxies, .. } = written;
                Ok((Self { listen, base_path, probes, schedule, api_key, tls, trusted_proxies }, effective))
            }
            _ => Err(problems),
        }
    }

    /// Whether an address may speak for others.
    pub fn trusts(&self, proxy: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(proxy))
    }
}

fn base(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(plain) || text.contains("//") || text.split('/').any(|part| part == "." || part == "..")
    {
        return Err(format!("{text:?} is no path, expected one such as \"/\" or \"/backend\""));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn contents<T>(path: &Path, largest: u64, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    let contents = file::read(path, largest).map_err(|error| explain(&error));
    contents.and_then(|contents| read(&contents.bytes)).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn tls(written: &Written, folders: &Folders) -> Result<Option<Tls>, (&'static str, String)> {
    let (cert, key) = match (&written.tls_cert, &written.tls_key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (folders.find(cert), folders.find(key)),
        (Some(_), None) => return Err(("tls_cert", "needs tls_key beside it".to_owned())),
        (None, Some(_)) => return Err(("tls_key", "needs tls_cert beside it".to_owned())),
    };
    let read =
        |name, path: &Path| file::read(path, LARGEST_PEM).map_err(|error| (name, format!("{}: {}", path.display(), explain(&error))));
    let (chain, key_file) = (read("tls_cert", &cert)?, read("tls_key", &key)?);
    if key_file.open_to_others {
        return Err(("tls_key", format!("{path} can be read by others; run: chmod o-rwx {path}", path = key.display())));
    }
    let tls = Tls { chain: chain.bytes, key: key_file.bytes };
    tls.server_config().map_err(|message| ("tls_cert", format!("{} with {}: {message}", cert.display(), key.display())))?;
    Ok(Some(tls))
}

impl Tls {
    /// What a server of TLS needs.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, String> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        crate::tls::install_provider();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain).collect();
        let chain = chain.map_err(|_| "the chain is not PEM".to_owned())?;
        let Some(own) = chain.first() else { return Err("the chain has no certificate".to_owned()) };
        if is_authority(own) {
            return Err("the certificate is one of an authority (CA:TRUE), which clients refuse from a server".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| "the key is not one in PEM".to_owned())?;
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        builder.with_single_cert(chain, key).map_err(|error| error.to_string())
    }
}

/// Whether a certificate is meant to sign others.
fn is_authority(certificate: &[u8]) -> bool {
    use x509_cert::der::Decode;
    use x509_cert::ext::pkix::BasicConstraints;
    let read = x509_cert::Certificate::from_der(certificate).ok();
    let constraints = read.and_then(|read| read.tbs_certificate.get::<BasicConstraints>().ok().flatten());
    constraints.is_some_and(|(_, constraints)| constraints.ca)
}

impl Listen {
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 9878)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let listen = match text.strip_prefix("unix:") {
            Some(path) => path.starts_with('/').then(|| Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        };
        let form = "an address with a port such as \"127.0.0.1:9878\", or \"unix:/path\"";
        listen.ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &form))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PROBES: &str = r#"{"probes":[{"name":"a","proto":4,"address":"10.0.0.1"}]}"#;

    fn read(files: &[(&str, &str)], toml: &str) -> Result<(Settings, toml::Table), Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let identity = rcgen::generate_simple_self_signed(["collector".to_owned()]).unwrap();
        let (cert, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
        let own = [("probes.json", PROBES), ("api_key", "s3cret-of-all"), ("cert.pem", &cert), ("key.pem", &key)];
        for (name, text) in own.iter().chain(files) {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(if name.contains("open") { 0o644 } else { 0o600 })).unwrap();
        }
        let table = config::Source::collect(&config::File::from_str(toml, config::FileFormat::Toml)).unwrap().into();
        let folders = Folders { credentials: None, config: dir.path().to_owned() };
        let said =
            |problems: Vec<KeyProblem>| problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        Settings::read(table, &folders).map_err(said)
    }

    const GOOD: &str = "probes = 'probes.json'\napi_key_file = 'api_key'\n";

    #[test]
    fn the_files_are_read_with_the_table() {
        let more = "schedule = 'schedule.json'\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'\nbase_path = '/backend/'\ntrusted_proxies = ['127.0.0.1']\nlisten = 'unix:/run/qosd/collector.sock'\n";
        let (settings, effective) = read(&[("schedule.json", r#"{"ping":{"interval":"1m"}}"#)], &format!("{GOOD}{more}")).unwrap();
        assert_eq!((settings.base_path.as_str(), settings.probes.probes.len()), ("/backend", 1));
        assert_eq!(settings.schedule.unwrap().ping.interval, std::time::Duration::from_mins(1));
        assert!(settings.trusts("127.0.0.1".parse().unwrap()) && !settings.trusts("127.0.0.2".parse().unwrap()));
        assert!(settings.tls.is_some() && !effective.to_string().contains("s3cret"));
        let (settings, _) = read(&[], GOOD).unwrap();
        assert_eq!((settings.listen.to_string().as_str(), settings.base_path.as_str(), settings.schedule), ("127.0.0.1:9878", "", None));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let mut parameters = rcgen::CertificateParams::new(["collector".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertifiedKey { cert: parameters.self_signed(&signing_key).unwrap(), signing_key };
        for (files, toml, said) in [
            (&[("probes.json", "{}")][..], GOOD.to_owned(), "probes: "),
            (&[("schedule.json", "{\"ping\":1}")], format!("{GOOD}schedule = 'schedule.json'"), "schedule: "),
            (&[], format!("{GOOD}schedule = 'none.json'"), "schedule: "),
            (&[("open_key", "k")], "probes = 'probes.json'\napi_key_file = 'open_key'".to_owned(), "api_key_file: "),
            (&[], format!("{GOOD}base_path = 'backend'"), "base_path: "),
            (&[], format!("{GOOD}base_path = '/a/../b'"), "base_path: "),
            (&[], format!("{GOOD}listen = 'localhost'"), "listen: "),
            (&[], format!("{GOOD}listen = 'unix:relative'"), "listen: "),
            (&[], format!("{GOOD}listen = '192.0.2.1:9878'"), "listen: 192.0.2.1:9878 is not of this host alone"),
            (&[], format!("{GOOD}tls_cert = 'cert.pem'"), "tls_cert: needs tls_key"),
            (&[("bad.pem", "x")], format!("{GOOD}tls_cert = 'cert.pem'\ntls_key = 'bad.pem'"), "tls_cert: "),
            (
                &[("ca.pem", authority.cert.pem().as_str()), ("ca.key", &authority.signing_key.serialize_pem())],
                format!("{GOOD}tls_cert = 'ca.pem'\ntls_key = 'ca.key'"),
                "tls_cert: ",
            ),
            (&[("open.pem", "x")], format!("{GOOD}tls_cert = 'cert.pem'\ntls_key = 'open.pem'"), "tls_key: "),
            (&[], format!("{GOOD}trusted_proxies = ['nginx']"), "trusted_proxies[0]: "),
            (&[], "probes = 'probes.json'".to_owned(), ": `api_key_file` is missing"),
        ] {
            let problems = read(files, &toml).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(said), "{toml}: {problems:?}");
        }
    }
}
