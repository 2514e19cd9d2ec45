//! What a post becomes: rows of measurement `Ping`, as the server of `IXPQoS` wrote them, and rows that say why there is none. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::journal;
use crate::measurement::{Field, FieldInfo, Fields, Row, Series};
use crate::mesh::list::{Name, Proto};
use crate::mesh::wire::{Item, Received, Said};
use crate::probe::ping::Ping;
use crate::probe::{Finding, Kind, Naming, Outcome, RESULT, RESULT_CODE};

/// Measurement of the results of a mesh.
pub const PING: &str = "Ping";
/// Tag `probe` of the mesh's rows in `qos_metrics`.
const PROBE: &str = "mesh";
/// Tag `status` of every `Ping` row.
const STATUS: &str = "ok";

const MIN: Field<f64> = Field::float("min");
const MAX: Field<f64> = Field::float("max");
const AVG: Field<f64> = Field::float("avg");
const JITTER: Field<f64> = Field::float("jitter");
const LOSS: Field<f64> = Field::float("loss");

/// Every field of measurement `Ping`.
pub const FIELDS: &[FieldInfo] = &[MIN.info(), MAX.info(), AVG.info(), JITTER.info(), LOSS.info()];

/// What the row of an item without figures says.
const UNTOLD: &str = "the client told no loss";

/// An item that is not stored although it could be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its place in the post.
    pub index: usize,
    /// Why.
    pub error: String,
}

/// A post, sorted.
#[derive(Debug, Default, PartialEq)]
pub struct Sorted {
    /// What can be stored, each with its row.
    pub accepted: Vec<(Item, Row)>,
    /// Whose target is not in the list.
    pub rejected: Vec<Rejected>,
    /// How many could not be read; whoever read the post tells what is wrong with them.
    pub unreadable: usize,
}

/// Makes the rows of a post that came at `time`. Where a series comes again, its time is 1 ns later: so no row is more
/// nanoseconds after `time` than the post has items.
pub fn sort(received: Received, is_listed: impl Fn(&Name) -> bool, time: Timestamp) -> Sorted {
    let Received { source, items } = received;
    let mut sorted = Sorted::default();
    let mut used: HashMap<Name, Timestamp> = HashMap::new();
    for (index, item) in items.into_iter().enumerate() {
        let Ok((item, said)) = item else {
            sorted.unreadable += 1;
            continue;
        };
        if !is_listed(&item.name) {
            sorted.rejected.push(Rejected { index, error: format!("{} is not in the list of probes", item.name) });
            continue;
        }
        let next = used.get(&item.name).map_or(time, |last| last.plus(Duration::from_nanos(1)));
        used.insert(item.name.clone(), next);
        let row = row(&source, &item, said, next);
        sorted.accepted.push((item, row));
    }
    sorted
}

fn row(source: &Name, item: &Item, said: Said, time: Timestamp) -> Row {
    let Said::Measured { loss, rtt } = said else {
        let fields = Finding::failed(Outcome::ToolError, UNTOLD).into_fields(None);
        return Row { series: series(source, &item.name, item.proto), time, fields };
    };
    let mut fields = Fields::new();
    if let Some(rtt) = rtt {
        fields.float(MIN, rtt.min).float(MAX, rtt.max).float(AVG, rtt.avg);
        rtt.jitter.map(|jitter| fields.float(JITTER, jitter));
    }
    fields.float(LOSS, loss);
    let tags = [("source", source.as_str()), ("target", item.name.as_str()), ("status", STATUS)];
    Row { series: Series::new(PING, tags), time, fields }
}

/// What tells a result that was sent again from a new one.
pub fn receipt(source: &Name, item: &Item, slot: Timestamp) -> journal::Receipt {
    journal::Receipt::new(&[source.as_str(), item.name.as_str(), item.proto.family()], slot)
}

/// The row of a result that did not come. It says no more, as the agent itself may know better.
pub fn absent(source: &Name, target: &Name, proto: Proto, time: Timestamp) -> Row {
    let mut fields = Fields::new();
    fields.text(RESULT, Outcome::PeerAbsent.name()).integer(RESULT_CODE, Outcome::PeerAbsent.code());
    Row { series: series(source, target, proto), time, fields }
}

/// The series in which an agent keeps what it finds itself.
fn series(source: &Name, target: &Name, proto: Proto) -> Series {
    let naming = Naming { agent: source.to_string(), kind: Ping::NAME, probe: PROBE.to_owned() };
    naming.series(target.as_str(), proto.family(), &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::influxdb::line::line;

    /// What the rows of a post from `a` are in line protocol; `b` and `c` are in the list.
    fn lines(items: &Value) -> (Vec<String>, Vec<Rejected>, usize) {
        let post = json!({ "source": "a", "probes": items }).to_string();
        let received = Received::read(post.as_bytes()).unwrap();
        let sorted = sort(received, |name| ["b", "c"].contains(&name.as_str()), Timestamp::from_nanos(7));
        let lines = sorted.accepted.iter().map(|(_, row)| line(row).unwrap()).collect();
        (lines, sorted.rejected, sorted.unreadable)
    }

    fn item(name: &str, figures: &Value) -> Value {
        let mut item = json!({ "name": name, "proto": 4, "address": "10.0.0.2", "pinged": true });
        item.as_object_mut().unwrap().extend(figures.as_object().unwrap().clone());
        item
    }

    fn good() -> Value {
        json!({ "ping_min": 1.0, "ping_max": 3.0, "ping_avg": 2.0, "ping_jitter": 0.5, "ping_loss": 0.25 })
    }

    #[test]
    fn every_form_of_an_item_becomes_its_row() {
        let null = json!({ "pinged": false, "ping_min": null, "ping_max": null, "ping_avg": null, "ping_jitter": null, "ping_loss": null });
        let untold = "qos_metrics,family=ipv4,kind=ping,probe=mesh,source=a,target=b \
             result=\"tool_error\",result_code=14i,loaded=0i,error=\"the client told no loss\" 7";
        for (figures, expected) in [
            (good(), "Ping,source=a,status=ok,target=b min=1,max=3,avg=2,jitter=0.5,loss=0.25 7"),
            (
                json!({ "ping_min": 1, "ping_max": 1, "ping_avg": 1, "ping_loss": 0 }),
                "Ping,source=a,status=ok,target=b min=1,max=1,avg=1,loss=0 7",
            ),
            (json!({ "pinged": false, "ping_loss": 1 }), "Ping,source=a,status=ok,target=b loss=1 7"),
            (null, untold),
            (json!({ "pinged": false }), untold),
        ] {
            assert_eq!(lines(&json!([item("b", &figures)])), (vec![expected.to_owned()], vec![], 0), "{figures}");
        }
    }

    #[test]
    fn an_item_whose_target_is_not_listed_costs_that_item_alone() {
        let (lines, rejected, unreadable) = lines(&json!([item("b", &good()), item("x", &good()), 7, item("c", &good())]));
        assert_eq!((lines.len(), unreadable), (2, 1));
        assert_eq!(rejected, [Rejected { index: 1, error: "x is not in the list of probes".to_owned() }]);
    }

    #[test]
    fn a_series_that_comes_twice_is_used_a_nanosecond_later() {
        let mut six = item("b", &good());
        six["proto"] = json!(6);
        six["address"] = json!("2001:db8::2");
        let (lines, ..) = lines(&json!([item("b", &good()), item("c", &good()), six, item("b", &good())]));
        let times: Vec<_> = lines.iter().map(|line| &line[line.len() - 1..]).collect();
        assert_eq!(times, ["7", "7", "8", "9"]);
    }

    #[test]
    fn a_result_that_did_not_come_has_the_series_of_the_agent_and_no_more_than_the_result() {
        let name = |text| Name::new(text).unwrap();
        let row = absent(&name("a"), &name("b"), Proto::V6, Timestamp::from_nanos(9));
        let expected = "qos_metrics,family=ipv6,kind=ping,probe=mesh,source=a,target=b result=\"peer_absent\",result_code=18i 9";
        assert_eq!(line(&row).unwrap(), expected);
    }
}
