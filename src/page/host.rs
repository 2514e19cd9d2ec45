//! By which names the page may be called. Pure.
//!
//! A browser can be led to a server of this host under any name: its owner lets the name lead here, and scripts of that
//! name then read what is here (DNS rebinding). So only names that are known to be ours are answered. An address needs no
//! such check: nobody owns it but who has it.

use std::net::IpAddr;

/// The names that are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Those of the config, `localhost`, and the name of this host, with its domain and without.
    pub fn new(configured: &[String], own: Option<&str>) -> Self {
        let short = own.and_then(|name| name.split('.').next());
        let ours = configured.iter().map(String::as_str).chain(["localhost"]).chain(own).chain(short);
        Self(ours.map(plain).collect())
    }

    /// Whether a `Host`, or what stands there in a whole URL, is us: an address, or a name that is known. The port does not matter.
    pub fn know(&self, authority: &str) -> bool {
        let Some(host) = host(authority) else { return false };
        host.parse::<IpAddr>().is_ok() || self.0.contains(&plain(host))
    }
}

/// As names are compared: without case, and without the dot at the end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The host of an authority, without its port.
pub(super) fn host(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = if rest.is_empty() { rest } else { rest.strip_prefix(':')? };
    (port.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty()).then_some(host)
}

/// Whether this can be a name of a host.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_only_names_that_are_ours_are_known() {
        let hosts = Hosts::new(&["qos.Example.org".to_owned()], Some("rome-1.example.net"));
        let table = [
            ("127.0.0.1:9876", true),
            ("192.0.2.7", true),
            ("[::1]:9876", true),
            ("[2001:db8::1]", true),
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("localhost.", true),
            ("qos.example.org", true),
            ("rome-1:9876", true),
            ("rome-1.example.net", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example:9876", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example@127.0.0.1", false),
            ("localhost:x", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[localhost]x:1", false),
            ("", false),
            (":80", false),
            ("[]", false),
        ];
        for (authority, known) in table {
            assert_eq!(hosts.know(authority), known, "{authority}");
        }
    }

    #[test]
    fn without_a_name_of_its_own_a_host_is_localhost() {
        let hosts = Hosts::new(&[], None);
        assert!(hosts.know("localhost:1") && !hosts.know("rome-1"));
    }
}
