//! A target in the config: a host, or a table with a host, a name and tags. What holds for targets of every kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{COMMON_FIELDS, FIXED_TAGS, KINDS};

/// The longest domain name.
const LONGEST_HOST: usize = 253;
/// The longest name or value of a tag, in characters.
const LONGEST_TAG: usize = 256;

/// What a probe measures: `"192.0.2.1"` or `{ host = "192.0.2.9", name = "edge", tags = { site = "milan" } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Address, domain name, or whatever else the kind takes.
    pub host: String,
    /// What the tag `target` says instead of the host.
    pub name: Option<String>,
    /// Further tags of its rows.
    pub tags: BTreeMap<String, String>,
}

/// The table form.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// Tag keys that a database refuses or takes for something else.
const RESERVED_KEYS: &[&str] = &["time", "field", "measurement"];

impl Target {
    /// A target of which only the host is known.
    pub fn host(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }

    /// The value of the tag `target`: its name, else its host.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }

    /// What is wrong with the target, whatever the kind.
    pub fn check(&self) -> Result<(), String> {
        check_host(&self.host)?;
        self.check_tags()
    }

    /// What is wrong with its name and tags, whatever its host is.
    pub fn check_tags(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            tag_safe(name).map_err(|problem| format!("name {problem}"))?;
        }
        for (key, value) in &self.tags {
            check_key(key)?;
            tag_safe(value).map_err(|problem| format!("tag {key} {problem}"))?;
        }
        Ok(())
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if host.starts_with('-') {
        // It would be an option to any program that gets it as an argument.
        return Err("host begins with \"-\"".to_owned());
    }
    if host.len() > LONGEST_HOST {
        return Err(format!("host is longer than {LONGEST_HOST} bytes"));
    }
    if host.contains(char::is_whitespace) {
        return Err("host contains white space".to_owned());
    }
    tag_safe(host).map_err(|problem| format!("host {problem}"))
}

/// What is wrong with the labels of a host name. One dot at the end is the root.
pub fn check_labels(host: &str) -> Result<(), String> {
    if host.strip_suffix('.').unwrap_or(host).split('.').any(str::is_empty) {
        return Err(format!("{host:?} is no host name: nothing stands between two of its dots, or before the first"));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    if FIXED_TAGS.contains(&key) {
        return Err(format!("tag {key} is set by qosd itself, choose another key than {}", FIXED_TAGS.join(", ")));
    }
    if RESERVED_KEYS.contains(&key) || key.starts_with('_') {
        return Err(format!(
            "tag {key} is reserved by databases, choose another key than {} and those that begin with _",
            RESERVED_KEYS.join(", ")
        ));
    }
    if KINDS.iter().flat_map(|kind| kind.fields()).chain(COMMON_FIELDS).any(|field| field.name == key) {
        return Err(format!("tag {key} is the name of a field, choose another key"));
    }
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if key.is_empty() || key.len() > LONGEST_TAG || !plain {
        return Err(format!("tag {key:?} has a key that is not allowed, allowed are letters, digits and \"_\""));
    }
    Ok(())
}

/// Whether a text can be the value of a tag: line protocol has no form for quotes, backslashes and line ends there that
/// every database reads back as they were.
pub fn tag_safe(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty".to_owned());
    }
    if value.chars().count() > LONGEST_TAG {
        return Err(format!("is longer than {LONGEST_TAG} characters"));
    }
    match value.chars().find(|c| c.is_control() || matches!(c, '"' | '\\')) {
        Some(c) if c.is_control() => Err(format!("contains the control character {}", c.escape_default())),
        Some(c) => Err(format!("contains the character {c}, which databases do not keep in tags")),
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host, or a table of host, name and tags")
            }

            fn visit_str<E: Error>(self, host: &str) -> Result<Target, E> {
                Ok(Target::host(host))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
                let Table { host, name, tags } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Target { host, name, tags })
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

/// In the shortest form that says everything.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.name.is_none() && self.tags.is_empty() {
            return serializer.serialize_str(&self.host);
        }
        let Self { host, name, tags } = self.clone();
        Table { host, name, tags }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use config::{File, FileFormat, Source};

    use super::*;
    use crate::settings::{self, KeyProblem};

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Probe {
        targets: Vec<Target>,
    }

    fn read(text: &str) -> Result<Probe, Vec<KeyProblem>> {
        settings::typed(File::from_str(text, FileFormat::Toml).collect().unwrap().into())
    }

    #[test]
    fn both_forms_read_and_read_back() {
        let probe = read(r#"targets = ["192.0.2.1", { host = "192.0.2.9", name = "edge", tags = { site = "milan" } }]"#).unwrap();
        assert_eq!(probe.targets[0], Target::host("192.0.2.1"));
        assert_eq!(probe.targets[1].label(), "edge");
        assert_eq!(probe.targets[1].tags["site"], "milan");
        assert_eq!(read(&toml::to_string(&probe).unwrap()).unwrap(), probe);
    }

    #[test]
    fn problems_name_the_place_within_the_target() {
        let text =
            r#"targets = [7, { host = "a", tags = 3 }, { host = "a", nane = "b" }, { name = "x" }, { host = "a", tags = { site = 1 } }]"#;
        let keys: Vec<_> = read(text).unwrap_err().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        assert_eq!(
            keys,
            [
                "targets[0]: is the number 7, expected a host, or a table of host, name and tags",
                "targets[1].tags: is the number 3, expected a table",
                "targets[2].nane: unknown key, allowed are host, name, tags",
                "targets[3]: `host` is missing",
                "targets[4].tags.site: is the number 1, expected a text",
            ]
        );
    }

    #[test]
    fn what_no_kind_can_measure_is_refused() {
        let named = |name: &str| Target { name: Some(name.into()), ..Target::host("h") };
        let tagged = |key: &str, value: &str| Target { tags: [(key.into(), value.into())].into(), ..Target::host("h") };
        let cases = [
            (Target::host(""), "host is empty"),
            (Target::host("-c1"), "host begins with \"-\""),
            (Target::host("a b"), "host contains white space"),
            (Target::host("a\u{1b}[0m"), "host contains the control character \\u{1b}"),
            (Target::host("a".repeat(254)), "host is longer than 253 bytes"),
            (Target::host("a\\b"), "host contains the character \\, which databases do not keep in tags"),
            (named("a\"b"), "name contains the character \", which databases do not keep in tags"),
            (named("a\nb"), "name contains the control character \\n"),
            (named(""), "name is empty"),
            (named(&"ä".repeat(257)), "name is longer than 256 characters"),
            (tagged("site", ""), "tag site is empty"),
            (tagged("a b", "x"), "tag \"a b\" has a key that is not allowed, allowed are letters, digits and \"_\""),
            (tagged("", "x"), "tag \"\" has a key that is not allowed, allowed are letters, digits and \"_\""),
            (tagged("probe", "x"), "tag probe is set by qosd itself, choose another key than target, source, probe, kind, family"),
        ];
        for (target, expected) in cases {
            assert_eq!(target.check(), Err(expected.to_owned()));
        }
        assert_eq!(named("Überwachung, Köln = ok").check(), Ok(()));
    }
}
