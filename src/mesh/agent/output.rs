//! The output `mesh`: what was measured of the others, as posts to the collector. A post is about one slot;
//! a slot may be several posts, as those who did not answer are known later.
//!
//! A request of this output is one post a line: the slot's time in nanoseconds, a space, the body. The same rows make the
//! same lines. Posts go out in turn; the first that is not accepted decides the verdict, and those before it are not
//! posted again, as a collector that does not know of slots would keep them twice.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::answer::{Answered, Lost};
use super::client::Client;
use super::plan::{KIND, PROBE};
use super::settings::Settings;
use crate::clock::{Clock, Timestamp};
use crate::journal::Stored;
use crate::measurement::{QOS_METRICS, Row, Value};
use crate::mesh::list::{MOST, Name, Proto};
use crate::mesh::wire::{Item, Post};
use crate::probe::{ADDRESS, Outcome, RESULT};
use crate::writer::{Destination, Output, OutputSpec, Verdict};

/// The name of the output.
pub const NAME: &str = "mesh";
/// How long a row waits for the others of its slot.
const FLUSH: Duration = Duration::from_secs(1);
/// Results that are no measurement of ours: a collector on this host writes them into the same journal.
const NOT_OURS: [Outcome; 2] = [Outcome::PeerAbsent, Outcome::ToolError];

/// Items that the collector said it will never take. Clones share it; outlives the writer.
#[derive(Clone, Default)]
pub struct Losses(Arc<(AtomicU64, Mutex<Option<String>>)>);

impl Losses {
    /// How many, and the last reason.
    pub fn told(&self) -> (u64, Option<String>) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn add(&self, Lost { items, why }: Lost) {
        let before = self.0.0.fetch_add(items, Ordering::Relaxed);
        let mut last = self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        if before == 0 || last.as_ref() != Some(&why) {
            tracing::error!(items, reason = why, "collector does not take some results, they are lost");
        }
        *last = Some(why);
    }
}

/// The output that `[mesh]` asks for.
pub fn output(settings: Settings, losses: Losses) -> OutputSpec {
    let destination = Arc::new(Collector { settings, losses });
    OutputSpec { name: NAME.to_owned(), batch_size: MOST, flush_interval: FLUSH, replay: None, destination }
}

struct Collector {
    settings: Settings,
    losses: Losses,
}

impl Destination for Collector {
    fn connect(&self, clock: &Clock) -> Result<Box<dyn Output>, String> {
        let client = Client::new(&self.settings, clock.clone()).map_err(|error| error.to_string())?;
        let (name, losses) = (self.settings.name.clone(), self.losses.clone());
        Ok(Box::new(Poster { client, name, losses, posted: RefCell::default() }))
    }

    fn same(&self, other: &dyn Destination) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.settings == self.settings)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Poster {
    client: Client,
    name: Name,
    losses: Losses,
    /// Of the last request: how many of its bytes were accepted.
    posted: RefCell<(Bytes, usize)>,
}

impl Output for Poster {
    fn encode(&self, rows: &[Stored]) -> Option<Bytes> {
        encode(rows.iter().map(|stored| &stored.row), &self.name)
    }

    fn send(&self, body: Bytes) -> LocalBoxFuture<'_, Verdict> {
        Box::pin(self.post_all(body))
    }
}

impl Poster {
    async fn post_all(&self, body: Bytes) -> Verdict {
        if self.posted.borrow().0 != body {
            self.posted.replace((body.clone(), 0));
        }
        let mut from = self.posted.borrow().1;
        while let Some((slot, post, next)) = post_at(&body, from) {
            let Answered { verdict, lost } = self.client.post(slot, post).await;
            if let Some(lost) = lost {
                self.losses.add(lost);
            }
            if verdict != Verdict::Accepted {
                return verdict;
            }
            from = next;
            self.posted.borrow_mut().1 = from;
        }
        Verdict::Accepted
    }
}

/// The posts of these rows, a line each; none if no row is a result of this agent.
pub fn encode<'a>(rows: impl IntoIterator<Item = &'a Row>, name: &Name) -> Option<Bytes> {
    let mut slots: BTreeMap<Timestamp, Vec<Item>> = BTreeMap::new();
    for row in rows {
        if let Some(item) = item(row) {
            slots.entry(row.time).or_default().push(item);
        }
    }
    let mut lines = Vec::new();
    for (slot, items) in slots {
        for probes in items.chunks(MOST) {
            let post = Post { source: name.clone(), probes: probes.to_vec() };
            let text = serde_json::to_string(&post).ok()?;
            lines.extend_from_slice(format!("{} {text}\n", slot.nanos()).as_bytes());
        }
    }
    (!lines.is_empty()).then(|| lines.into())
}

/// The post that begins at this byte: its slot, its body, and where the next begins.
fn post_at(lines: &Bytes, from: usize) -> Option<(Timestamp, Bytes, usize)> {
    let rest = lines.get(from..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let space = rest[..end].iter().position(|byte| *byte == b' ')?;
    let slot = str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    Some((Timestamp::from_nanos(slot), lines.slice(from + space + 1..from + end), from + end + 1))
}

/// What a row says of a peer; none if it is not of this agent's mesh. Whatever the agent was called when it measured: what it
/// kept under another name is still its own.
fn item(row: &Row) -> Option<Item> {
    let tag = |key| row.series.tag(key);
    let ours = tag("probe") == Some(PROBE) && tag("kind") == Some(KIND);
    let result = text(row, RESULT.info().name);
    if row.series.measurement() != QOS_METRICS || !ours || NOT_OURS.iter().any(|not| result == Some(not.name())) {
        return None;
    }
    let name = Name::new(tag("target")?)?;
    let (proto, nobody) = match tag("family")? {
        "ipv4" => (Proto::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "ipv6" => (Proto::V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => return None,
    };
    // A slot that was not run has no address, and none may be made up.
    let address = text(row, ADDRESS.info().name).and_then(|address| address.parse().ok()).unwrap_or(nobody);
    let ms = |field: &str| float(row, field);
    let ping_loss = ms("ping_packet_loss_pct").map(|percent| percent / 100.0);
    let pinged = ping_loss.is_some_and(|loss| loss < 1.0);
    let rtt = |field: &str| if pinged { ms(field) } else { None };
    Some(Item {
        name,
        proto,
        address,
        pinged,
        ping_min: rtt("ping_min_ms"),
        ping_max: rtt("ping_max_ms"),
        ping_avg: rtt("ping_avg_ms"),
        ping_jitter: rtt("ping_stddev_ms"),
        ping_loss,
    })
}

fn float(row: &Row, field: &str) -> Option<f64> {
    match row.fields.get(field)? {
        Value::Float(value) => Some(*value),
        Value::Integer(_) | Value::Text(_) => None,
    }
}

fn text<'a>(row: &'a Row, field: &str) -> Option<&'a str> {
    match row.fields.get(field)? {
        Value::Text(text) => Some(text),
        Value::Float(_) | Value::Integer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mesh::wire::{Received, Rtt, Said};
    use crate::probe::ping::report::finding;
    use crate::probe::ping::run::Tally;
    use crate::probe::{Finding, Naming, Skip};

    fn row(probe: &str, target: &str, family: &str, slot: i64, finding: Finding) -> Row {
        let naming = Naming { agent: "rome-1".to_owned(), kind: "ping", probe: probe.to_owned() };
        let series = naming.series(target, family, &BTreeMap::new());
        Row { series, time: Timestamp::from_nanos(slot), fields: finding.into_fields(None) }
    }

    fn pinged(sent: u64, rtts: &[u64]) -> Finding {
        let rtts: Vec<_> = rtts.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let silent = sent - rtts.len() as u64;
        finding("10.0.0.2".parse().unwrap(), &Tally { sent, rtts, silent, ..Tally::default() })
    }

    fn posts(rows: &[Row]) -> Vec<(i64, String)> {
        let Some(lines) = encode(rows, &Name::new("p1").unwrap()) else { return Vec::new() };
        let mut all = Vec::new();
        let mut from = 0;
        while let Some((slot, body, next)) = post_at(&lines, from) {
            all.push((slot.nanos(), String::from_utf8(body.to_vec()).unwrap()));
            from = next;
        }
        assert_eq!(from, lines.len());
        all
    }

    #[test]
    fn the_results_of_a_slot_are_one_post_and_every_key_is_there() {
        let rows = [
            row("mesh", "b", "ipv4", 2, pinged(10, &[10, 20])),
            row("mesh", "a", "ipv4", 1, pinged(10, &[])),
            row("mesh", "c", "ipv6", 2, Finding::skipped(Skip::Restart)),
        ];
        assert_eq!(
            posts(&rows),
            [
                (1, r#"{"source":"p1","probes":[{"name":"a","proto":4,"address":"10.0.0.2","pinged":false,"ping_min":null,"ping_max":null,"ping_avg":null,"ping_jitter":null,"ping_loss":1.0}]}"#.to_owned()),
                (2, r#"{"source":"p1","probes":[{"name":"b","proto":4,"address":"10.0.0.2","pinged":true,"ping_min":10.0,"ping_max":20.0,"ping_avg":15.0,"ping_jitter":5.0,"ping_loss":0.8},{"name":"c","proto":6,"address":"::","pinged":false,"ping_min":null,"ping_max":null,"ping_avg":null,"ping_jitter":null,"ping_loss":null}]}"#.to_owned()),
            ]
        );
        assert_eq!(posts(&rows), posts(&rows), "the same rows, the same bytes");
    }

    #[test]
    fn what_is_posted_is_what_a_collector_reads() {
        let rows = [
            row("mesh", "b", "ipv4", 1, pinged(3, &[10, 20, 40])),
            row("mesh", "c", "ipv4", 1, pinged(3, &[])),
            row("mesh", "d", "ipv4", 1, Finding::failed(Outcome::LocalError, "no route")),
        ];
        let received = Received::read(posts(&rows)[0].1.as_bytes()).unwrap();
        let said: Vec<_> = received.items.into_iter().map(|item| item.unwrap().1).collect();
        assert!(matches!(said[0], Said::Measured { loss: 0.0, rtt: Some(Rtt { min: 10.0, max: 40.0, .. }) }), "{said:?}");
        assert_eq!(said[1..], [Said::Measured { loss: 1.0, rtt: None }, Said::Nothing]);
    }

    #[test]
    fn rows_of_other_probes_and_of_a_collector_on_this_host_are_not_posted() {
        let rows = [
            row("core", "b", "ipv4", 1, pinged(1, &[1])),
            row("mesh", "b", "ipv4", 1, Finding::failed(Outcome::PeerAbsent, "")),
            row("mesh", "b", "ipv4", 1, Finding::failed(Outcome::ToolError, "what was posted says nothing")),
        ];
        assert_eq!(posts(&rows), []);
    }

    #[test]
    fn what_was_kept_under_another_name_is_posted_under_the_present_one() {
        let before = row("mesh", "b", "ipv4", 1, pinged(1, &[1]));
        let tags = before.series.tags().map(|(key, value)| (key, if key == "source" { "old" } else { value }));
        let renamed = Row { series: crate::measurement::Series::new(QOS_METRICS, tags), ..before.clone() };
        assert_eq!(posts(&[renamed]), posts(&[before]));
    }

    #[test]
    fn a_slot_with_more_results_than_a_post_may_have_is_several_posts() {
        let rows: Vec<_> = (0..=MOST).map(|n| row("mesh", &format!("p{n}"), "ipv4", 1, pinged(1, &[1]))).collect();
        let posts = posts(&rows);
        assert_eq!(posts.len(), 2);
        assert!(posts.iter().all(|(slot, body)| *slot == 1 && body.len() <= crate::mesh::wire::LARGEST));
    }
}
