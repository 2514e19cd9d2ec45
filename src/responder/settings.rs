//! `[responder]`: where it listens, whom it serves, and how much it gives and takes.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::settings::network::Network;
use crate::settings::{KeyProblem, out_of_range, units};

/// `[responder]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    allow: Vec<Network>,
    /// The most that a download gives and an upload takes.
    #[serde(with = "units::bytes")]
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = [IpNet::from(IpAddr::from([127, 0, 0, 0])), IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST))];
        let v4 = IpNet::new(loopback[0].addr(), 8).unwrap_or(loopback[0]);
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9877)), allow: vec![Network(v4), Network(loopback[1])], max_bytes: 64 << 20 }
    }
}

impl Settings {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<KeyProblem> {
        out_of_range("max_bytes", &self.max_bytes, &(1..=1 << 40), units::show_bytes).into_iter().collect()
    }

    /// Whether it serves this address.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(address))
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
        assert_eq!(
            toml::to_string(&settings).unwrap(),
            "listen = \"127.0.0.1:9877\"\nallow = [\"127.0.0.0/8\", \"::1/128\"]\nmax_bytes = \"64MiB\"\n"
        );
        assert_eq!(read(&toml::to_string(&settings).unwrap()).unwrap(), settings);
    }

    #[test]
    fn only_addresses_in_its_networks_are_served() {
        let settings = read("allow = ['192.0.2.0/24', '2001:db8::5']").unwrap();
        for (address, allowed) in [
            ("192.0.2.77", true),
            ("::ffff:192.0.2.77", true),
            ("192.0.3.1", false),
            ("127.0.0.1", false),
            ("2001:db8::5", true),
            ("2001:db8::6", false),
        ] {
            assert_eq!(settings.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(!read("allow = []").unwrap().allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let all = |toml: &str| match read(toml) {
            Ok(settings) => settings.problems(),
            Err(problems) => problems,
        };
        let table = [
            (
                "allow = ['192.0.2.0/33']",
                "allow[0]: is the text \"192.0.2.0/33\", expected an address or a network such as \"192.0.2.0/24\"",
            ),
            ("max_bytes = '0B'", "max_bytes: 0B is out of range, allowed is 1B to 1TiB"),
        ];
        for (toml, expected) in table {
            let said: Vec<_> = all(toml).into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
            assert_eq!(said, [expected]);
        }
        assert_eq!(all("listen = 'localhost'")[0].key, "listen");
    }
}
