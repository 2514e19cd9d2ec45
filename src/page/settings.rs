//! `[web]`: where the page is served beside the state socket, and by which names it may be called.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::host;
use crate::settings::KeyProblem;
use crate::settings::network::Endpoint;

/// `[web]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The addresses and ports to listen on.
    pub listen: Vec<Endpoint>,
    /// By which names the page may be called, beside addresses, `localhost` and this host's own name.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: vec![Endpoint(SocketAddr::from(([127, 0, 0, 1], 9876)))], hosts: Vec::new() }
    }
}

impl Settings {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<KeyProblem> {
        let empty = self.listen.is_empty().then(|| {
            KeyProblem::new("listen", "is empty, expected an address and port; without [web] the page is on the state socket alone")
        });
        let names = self.hosts.iter().enumerate().filter(|(_, name)| !host::is_name(name)).map(|(index, name)| {
            let expected = "expected a name without scheme and port such as \"qos.example.org\"";
            KeyProblem::new(format!("hosts[{index}]"), format!("is the text {name:?}, {expected}"))
        });
        let nowhere = self.listen.iter().enumerate().filter(|(_, place)| place.0.port() == 0).map(|(index, _)| {
            KeyProblem::new(format!("listen[{index}]"), "has the port 0, with which nobody would find it, allowed is 1 to 65535")
        });
        empty.into_iter().chain(nowhere).chain(names).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::typed;

    fn read(toml: &str) -> Result<Settings, Vec<KeyProblem>> {
        typed(config::Source::collect(&config::File::from_str(toml, config::FileFormat::Toml)).unwrap().into())
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let settings = read("").unwrap();
        assert_eq!(toml::to_string(&settings).unwrap(), "listen = [\"127.0.0.1:9876\"]\nhosts = []\n");
        assert_eq!(read(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("listen = []", "listen: is empty, expected an address and port; without [web] the page is on the state socket alone"),
            ("listen = ['[::1]:0']", "listen[0]: has the port 0, with which nobody would find it, allowed is 1 to 65535"),
            (
                "hosts = ['qos.example.org', 'http://x']",
                "hosts[1]: is the text \"http://x\", expected a name without scheme and port such as \"qos.example.org\"",
            ),
        ];
        for (toml, expected) in table {
            let said: Vec<_> =
                read(toml).unwrap().problems().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
            assert_eq!(said, [expected]);
        }
        assert_eq!(read("listen = ['localhost:80']").unwrap_err()[0].key, "listen[0]");
    }
}
