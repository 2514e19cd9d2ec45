//! What a v1 agent posts: types, and what may stand in them. Pure.
//!
//! The existing server indexes every key, so all of them are always written, `null` where there is nothing; the existing
//! client leaves some out, so both are read alike.

use std::fmt;
use std::net::IpAddr;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::list::{MOST, Name, Proto};

/// The header that carries the key.
pub const KEY_HEADER: &str = "x-api-key";
/// A header of ours: the scheduled time of the round, in nanoseconds since the Unix epoch. With it a result that is posted
/// again is known as the same; servers and clients that do not know it lose nothing.
pub const SLOT_HEADER: &str = "qosd-slot";
/// The largest post that is read, in bytes.
pub const LARGEST: usize = 1 << 20;
/// The longest RTT that is possible, in ms.
const LONGEST_MS: f64 = 3_600_000.0;
/// Means and deviations are rounded by whoever computed them.
const ROUNDING: f64 = 1e-6;

/// `POST {base}/api/v1/data/probe-result`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Post {
    /// Who found this.
    pub source: Name,
    /// What it found of each.
    pub probes: Vec<Item>,
}

/// What was found of one probe, in ms and in 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct Item {
    pub name: Name,
    pub proto: Proto,
    pub address: IpAddr,
    pub pinged: bool,
    #[serde(default)]
    pub ping_min: Option<f64>,
    #[serde(default)]
    pub ping_max: Option<f64>,
    #[serde(default)]
    pub ping_avg: Option<f64>,
    #[serde(default)]
    pub ping_jitter: Option<f64>,
    #[serde(default)]
    pub ping_loss: Option<f64>,
}

/// What an item says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    /// Figures.
    Measured {
        /// Lost share, 0 to 1.
        loss: f64,
        /// None if all was lost.
        rtt: Option<Rtt>,
    },
    /// The existing client says so whenever any packet was lost: it measured, and cannot tell what.
    Nothing,
}

/// Figures of the replies, in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rtt {
    /// Shortest.
    pub min: f64,
    /// Mean.
    pub avg: f64,
    /// Longest.
    pub max: f64,
    /// Population standard deviation.
    pub jitter: Option<f64>,
}

/// A post as it came: the items that can be read, and what is wrong with the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Who found this.
    pub source: Name,
    /// Items with what they say, or the field and what is wrong with it.
    pub items: Vec<Result<(Item, Said), String>>,
}

/// Why a post is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPost {
    /// Not JSON, or not of this form.
    #[error("{0}")]
    Form(String),
    /// More items than a mesh has probes.
    #[error("probes: {0} items, allowed are {MOST}")]
    TooMany(usize),
}

impl Received {
    /// Reads a post.
    pub fn read(bytes: &[u8]) -> Result<Self, BadPost> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope<'a> {
            source: Name,
            #[serde(borrow)]
            probes: Items<'a>,
        }
        let Envelope { source, probes } = serde_json::from_slice(bytes).map_err(|error| BadPost::Form(error.to_string()))?;
        if probes.count > MOST {
            return Err(BadPost::TooMany(probes.count));
        }
        let items = probes.first.into_iter().enumerate().map(|(index, item)| read_item(index, item)).collect();
        Ok(Self { source, items })
    }
}

/// The items as text. Those that are too many are counted and not kept: they may be a million.
struct Items<'a> {
    first: Vec<&'a serde_json::value::RawValue>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of results")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut first = Vec::new();
                while first.len() < MOST {
                    match items.next_element()? {
                        Some(item) => first.push(item),
                        None => break,
                    }
                }
                let mut count = first.len();
                while count >= MOST && items.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Items { first, count })
            }
        }

        deserializer.deserialize_seq(Each)
    }
}

fn read_item(index: usize, text: &serde_json::value::RawValue) -> Result<(Item, Said), String> {
    let at = |problem: String| format!("probes[{index}].{problem}");
    let item: Item = serde_json::from_str(text.get()).map_err(|error| format!("probes[{index}]: {error}"))?;
    let said = item.said().map_err(|(field, problem)| at(format!("{field}: {problem}")))?;
    Ok((item, said))
}

type FieldProblem = (&'static str, String);

impl Item {
    /// What it says, or which field cannot be and why.
    pub fn said(&self) -> Result<Said, FieldProblem> {
        if Proto::of(self.address) != self.proto {
            return Err(("address", format!("{} is not an address of the proto beside it", self.address)));
        }
        let longest = |field, value: Option<f64>| within(field, value, LONGEST_MS);
        let min = longest("ping_min", self.ping_min)?;
        let avg = longest("ping_avg", self.ping_avg)?;
        let max = longest("ping_max", self.ping_max)?;
        let jitter = longest("ping_jitter", self.ping_jitter)?;
        let Some(loss) = within("ping_loss", self.ping_loss, 1.0)? else {
            return if self.pinged { Err(("ping_loss", "is missing although pinged is true".to_owned())) } else { Ok(Said::Nothing) };
        };
        if loss >= 1.0 {
            let given = [("ping_min", min), ("ping_avg", avg), ("ping_max", max), ("ping_jitter", jitter)];
            return match given.into_iter().find(|(_, value)| value.is_some()) {
                Some((field, _)) => Err((field, "is given although all was lost".to_owned())),
                None => Ok(Said::Measured { loss, rtt: None }),
            };
        }
        let missing = |field| (field, "is missing although not all was lost".to_owned());
        let rtt = Rtt {
            min: min.ok_or_else(|| missing("ping_min"))?,
            avg: avg.ok_or_else(|| missing("ping_avg"))?,
            max: max.ok_or_else(|| missing("ping_max"))?,
            jitter,
        };
        rtt.check()?;
        Ok(Said::Measured { loss, rtt: Some(rtt) })
    }
}

impl Rtt {
    fn check(&self) -> Result<(), FieldProblem> {
        let slack = ROUNDING * self.max.max(1.0);
        if self.min > self.max {
            return Err(("ping_min", format!("{} is more than ping_max, which is {}", self.min, self.max)));
        }
        if self.avg < self.min - slack || self.avg > self.max + slack {
            return Err(("ping_avg", format!("{} is not between ping_min and ping_max", self.avg)));
        }
        match self.jitter {
            Some(jitter) if jitter > self.max - self.min + slack => {
                Err(("ping_jitter", format!("{jitter} is more than ping_max less ping_min")))
            }
            _ => Ok(()),
        }
    }
}

fn within(field: &'static str, value: Option<f64>, most: f64) -> Result<Option<f64>, FieldProblem> {
    match value {
        Some(value) if !(0.0..=most).contains(&value) => Err((field, format!("{value:?} is out of range, allowed is 0 to {most}"))),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn item(change: Value) -> Value {
        let mut item = json!({
            "name": "b", "proto": 4, "address": "10.0.0.2", "pinged": true,
            "ping_min": 1.0, "ping_max": 3.0, "ping_avg": 2.0, "ping_jitter": 0.5, "ping_loss": 0.0,
        });
        let (Some(item_map), Value::Object(change)) = (item.as_object_mut(), change) else { panic!() };
        for (key, value) in change {
            // A key set to "absent" is taken out.
            if value == json!("absent") {
                item_map.remove(&key)
            } else {
                item_map.insert(key, value)
            };
        }
        item
    }

    fn read(change: Value) -> Result<(Item, Said), String> {
        let post = json!({ "source": "a", "probes": [item(change)] }).to_string();
        Received::read(post.as_bytes()).unwrap().items.remove(0)
    }

    #[test]
    fn figures_are_read_as_they_stand() {
        let rtt = Rtt { min: 1.0, avg: 2.0, max: 3.0, jitter: Some(0.5) };
        assert_eq!(read(json!({})).unwrap().1, Said::Measured { loss: 0.0, rtt: Some(rtt) });
        assert_eq!(read(json!({ "ping_loss": 0.5 })).unwrap().1, Said::Measured { loss: 0.5, rtt: Some(rtt) });
    }

    #[test]
    fn null_and_absent_mean_the_same() {
        for nothing in [json!(null), json!("absent")] {
            let none = json!({ "pinged": false, "ping_min": nothing, "ping_max": nothing, "ping_avg": nothing, "ping_jitter": nothing });
            let mut all_lost = none.clone();
            all_lost["ping_loss"] = json!(1);
            assert_eq!(read(all_lost).unwrap().1, Said::Measured { loss: 1.0, rtt: None });
            let mut unknown = none;
            unknown["ping_loss"] = nothing;
            assert_eq!(read(unknown).unwrap().1, Said::Nothing);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_fields_name() {
        for (change, said) in [
            (json!({ "ping_loss": 7 }), "probes[0].ping_loss: 7.0 is out of range, allowed is 0 to 1"),
            (json!({ "ping_loss": -0.1 }), "probes[0].ping_loss: -0.1"),
            (json!({ "ping_loss": null }), "probes[0].ping_loss: is missing"),
            (json!({ "ping_min": -1 }), "probes[0].ping_min: -1.0 is out of range"),
            (json!({ "ping_max": 1e308 }), "probes[0].ping_max: 1e308 is out"),
            (json!({ "ping_min": 4 }), "probes[0].ping_min: 4 is more than ping_max"),
            (json!({ "ping_avg": 5 }), "probes[0].ping_avg: 5 is not between"),
            (json!({ "ping_jitter": 2.5 }), "probes[0].ping_jitter: 2.5 is more than"),
            (json!({ "ping_avg": null }), "probes[0].ping_avg: is missing"),
            (json!({ "ping_loss": 1 }), "probes[0].ping_min: is given although all was lost"),
            (json!({ "name": "x\ny v=1" }), "probes[0]: invalid value: string \"x\\ny v=1\", expected 1 to 64 of"),
            (json!({ "name": "n".repeat(10_000) }), "probes[0]: invalid value"),
            (json!({ "address": "host" }), "probes[0]: "),
            (json!({ "proto": 6 }), "probes[0].address: 10.0.0.2 is not"),
            (json!({ "pinged": "yes" }), "probes[0]: invalid type"),
            (json!({ "extra": 1 }), "probes[0]: unknown field `extra`"),
        ] {
            let problem = read(change.clone()).unwrap_err();
            assert!(problem.starts_with(said), "{change}: {problem}");
            assert!(problem.len() < 400, "{}", problem.len());
        }
    }

    #[test]
    fn one_bad_item_leaves_the_others() {
        let post = json!({ "source": "a", "probes": [item(json!({})), item(json!({ "ping_loss": 9 })), 7, item(json!({}))] }).to_string();
        let items = Received::read(post.as_bytes()).unwrap().items;
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
    }

    #[test]
    fn what_is_no_post_is_refused_whole() {
        let many = json!({ "source": "a", "probes": vec![1; MOST + 1] }).to_string();
        let twice = r#"{"source":"a","source":"b","probes":[]}"#;
        for bad in ["", "7", "{}", r#"{"source":"a b","probes":[]}"#, r#"{"source":"a","probes":[],"x":1}"#, twice, &many] {
            assert!(Received::read(bad.as_bytes()).is_err(), "{}", bad.get(..20).unwrap_or(bad));
        }
        let exactly = |items: usize| Received::read(json!({ "source": "a", "probes": vec![1; items] }).to_string().as_bytes());
        assert_eq!(exactly(MOST).unwrap().items.len(), MOST);
        assert_eq!(exactly(500_000), Err(BadPost::TooMany(500_000)));
        assert!(Received::read(&[0xff, 0xfe]).is_err());
        assert!(Received::read("[".repeat(100_000).as_bytes()).is_err());
        let deep = format!(r#"{{"source":"a","probes":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(Received::read(deep.as_bytes()).unwrap().items[0].is_err());
    }

    #[test]
    fn every_key_is_always_written() {
        let Value::Object(mut bare) = item(json!({})) else { panic!() };
        bare.retain(|key, _| !key.starts_with("ping_"));
        let item: Item = serde_json::from_value(bare.into()).unwrap();
        let post = Post { source: Name::new("a").unwrap(), probes: vec![item] };
        assert_eq!(
            serde_json::to_string(&post).unwrap(),
            r#"{"source":"a","probes":[{"name":"b","proto":4,"address":"10.0.0.2","pinged":true,"ping_min":null,"ping_max":null,"ping_avg":null,"ping_jitter":null,"ping_loss":null}]}"#
        );
    }
}
