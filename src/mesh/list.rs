//! The list of probes: `{"probes": [{"name", "proto", "address"}, …]}`, as `probes.json` and the wire have it. Pure.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use serde::de::{self, Deserializer, Unexpected};
use serde::{Deserialize, Serialize, Serializer};

/// The most probes of a mesh.
pub const MOST: usize = 1000;
/// The largest list that is read, in bytes.
pub const LARGEST: u64 = 1 << 20;
/// The longest name.
const LONGEST_NAME: usize = 64;
/// The most refused entries that are told one by one.
const MOST_TOLD: usize = 20;

/// The name of a probe: 1 to 64 of `A-Z a-z 0-9 . _ -`, so that it is safe as a tag, in a path, and in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// A name, if it may be one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let short: String = text.chars().take(LONGEST_NAME + 1).collect();
        Self::new(&text).ok_or_else(|| de::Error::invalid_value(Unexpected::Str(&short), &"1 to 64 of A-Z a-z 0-9 . _ -"))
    }
}

/// Which protocol a probe is pinged with: the number 4 or 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Proto {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The tag `family`.
    pub fn family(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The protocol of a tag `family`, if it tells one.
    pub fn of_family(family: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|proto| proto.family() == family)
    }
}

impl Serialize for Proto {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(if *self == Self::V4 { 4 } else { 6 })
    }
}

impl<'de> Deserialize<'de> for Proto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            other => Err(de::Error::invalid_value(Unexpected::Unsigned(other), &"4 or 6")),
        }
    }
}

/// A probe of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name: tag `source` of what it finds, tag `target` of what others find of it.
    pub name: Name,
    /// IPv4 or IPv6.
    pub proto: Proto,
    /// Where it is.
    pub address: IpAddr,
}

/// The probes of a mesh. A name with both protocols stands there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct List {
    /// In the order of the file.
    pub probes: Vec<Peer>,
}

/// Why a list is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadList(String);

/// What an agent takes of a list that it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The entries that are in order.
    pub list: List,
    /// What is wrong with others, the first of them.
    pub refused: Vec<String>,
    /// How many others there are.
    pub refused_count: usize,
}

impl List {
    /// Reads an operator's list: one bad entry makes it a bad list.
    pub fn read(bytes: &[u8]) -> Result<Self, BadList> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            probes: Vec<Peer>,
        }
        let Whole { probes } = serde_json::from_slice(bytes).map_err(|error| BadList(error.to_string()))?;
        within(probes.len())?;
        let mut known = HashSet::new();
        for (index, peer) in probes.iter().enumerate() {
            check(peer, &mut known).map_err(|problem| BadList(format!("probes[{index}]: {problem}")))?;
        }
        Ok(Self { probes })
    }

    /// Reads a list that came over the network: entries that are wrong are left out, and told.
    pub fn take(bytes: &[u8]) -> Result<Taken, BadList> {
        #[derive(Deserialize)]
        struct Whole {
            probes: Vec<serde_json::Value>,
        }
        let Whole { probes } = serde_json::from_slice(bytes).map_err(|error| BadList(error.to_string()))?;
        within(probes.len())?;
        let (mut taken, mut known) = (Taken::default(), HashSet::new());
        for (index, entry) in probes.into_iter().enumerate() {
            let peer = serde_json::from_value::<Peer>(entry).map_err(|error| error.to_string());
            match peer.and_then(|peer| check(&peer, &mut known).map(|()| peer)) {
                Ok(peer) => taken.list.probes.push(peer),
                Err(problem) => taken.refuse(format!("probes[{index}]: {problem}")),
            }
        }
        Ok(taken)
    }

    /// Whether a name is in it.
    pub fn has(&self, name: &Name) -> bool {
        self.probes.iter().any(|peer| peer.name == *name)
    }
}

impl Taken {
    /// Notes an entry that is left out.
    pub fn refuse(&mut self, problem: String) {
        self.refused_count += 1;
        if self.refused.len() < MOST_TOLD {
            self.refused.push(problem);
        }
    }
}

fn within(probes: usize) -> Result<(), BadList> {
    if probes <= MOST { Ok(()) } else { Err(BadList(format!("has {probes} probes, allowed are {MOST}"))) }
}

fn check(peer: &Peer, known: &mut HashSet<(Name, Proto)>) -> Result<(), String> {
    let Peer { name, proto, address } = peer;
    if Proto::of(*address) != *proto {
        return Err(format!("{name}: {address} is not an address of the proto beside it"));
    }
    if let Some(what) = crate::probe::ping::packet::refused_destination(*address) {
        return Err(format!("{name}: {address} is {what}, allowed are unicast addresses"));
    }
    if known.insert((name.clone(), *proto)) { Ok(()) } else { Err(format!("{name} stands there twice with the same proto")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> String {
        format!("{{\"probes\":[{}]}}", entries.join(","))
    }

    fn entry(name: &str, proto: u8, address: &str) -> String {
        serde_json::json!({ "name": name, "proto": proto, "address": address }).to_string()
    }

    #[test]
    fn a_list_reads_back_as_it_stands() {
        let text = list(&[&entry("p1-ixpqos", 4, "10.0.0.1"), &entry("p1-ixpqos", 6, "2001:db8::1")]);
        let read = List::read(text.as_bytes()).unwrap();
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            text.replace(r#""address":"10.0.0.1","name":"p1-ixpqos","proto":4"#, r#""name":"p1-ixpqos","proto":4,"address":"10.0.0.1""#)
                .replace(
                    r#""address":"2001:db8::1","name":"p1-ixpqos","proto":6"#,
                    r#""name":"p1-ixpqos","proto":6,"address":"2001:db8::1""#
                )
        );
        assert_eq!(List::take(text.as_bytes()).unwrap(), Taken { list: read, ..Taken::default() });
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_and_costs_an_agent_that_entry_alone() {
        let good = entry("a", 4, "10.0.0.1");
        for (bad, said) in [
            (entry("x\ny v=1", 4, "10.0.0.2"), "expected 1 to 64 of A-Z a-z 0-9 . _ -"),
            (entry(&"n".repeat(65), 4, "10.0.0.2"), "expected 1 to 64 of"),
            (entry("b", 5, "10.0.0.2"), "expected 4 or 6"),
            (entry("b", 6, "10.0.0.2"), "10.0.0.2 is not an address of the proto"),
            (entry("b", 4, "p1.example"), "invalid IP address"),
            (entry("b", 4, "224.0.0.1"), "224.0.0.1 is a multicast"),
            (entry("b", 4, "0.0.0.0"), "0.0.0.0 is"),
            (entry("b", 4, "255.255.255.255"), "255.255.255.255 is"),
            (entry("b", 6, "::"), ":: is"),
            (entry("b", 6, "ff02::1"), "ff02::1 is"),
            (entry("a", 4, "10.0.0.2"), "a stands there twice"),
            ("{\"name\":\"b\",\"proto\":4}".to_owned(), "missing field `address`"),
            ("7".to_owned(), "invalid type"),
        ] {
            let text = list(&[&good, &bad]);
            let problem = List::read(text.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains(said), "{bad}: {problem}");
            let taken = List::take(text.as_bytes()).unwrap();
            assert_eq!((taken.list.probes.len(), taken.refused_count), (1, 1), "{bad}");
            assert!(taken.refused[0].starts_with("probes[1]: ") && taken.refused[0].contains(said), "{:?}", taken.refused);
        }
    }

    #[test]
    fn what_is_no_list_or_too_long_a_one_is_refused_whole() {
        let many: Vec<String> = (0..=MOST).map(|n| entry(&format!("p{n}"), 4, "10.0.0.1")).collect();
        let many = list(&many.iter().map(String::as_str).collect::<Vec<_>>());
        for bad in ["", "[]", "{}", "{\"probes\":1}", &"[".repeat(100_000), "{\"probes\":[],\"probes\":[]}", &many] {
            assert!(List::read(bad.as_bytes()).is_err() && List::take(bad.as_bytes()).is_err(), "{}", bad.get(..20).unwrap_or(bad));
        }
    }
}
