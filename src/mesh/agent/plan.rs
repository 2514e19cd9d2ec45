//! Which series a list and a schedule make, within what the agent may send. Pure.
//!
//! What is promised: whatever the list and the schedule say, in no second are more packets sent than `max_rate` allows,
//! and none to an address that is not one host's. All series share their slots, so that a round is one post; within a
//! round each begins a little after the one before.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::settings::PacketRate;
use crate::measurement::Series;
use crate::mesh::list::{List, Name, Peer, Taken};
use crate::mesh::schedule::{Ping, WARMUP};
use crate::probe::ping::packet;
use crate::probe::schedule::Phase;
use crate::probe::{AnyKind, Assignment};
use crate::settings::units::show_duration;

/// The tag `probe` of what an agent measures.
pub const PROBE: &str = "mesh";
/// The kind that it measures with.
pub const KIND: &str = "ping";
/// The longest interval of any probe.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

/// The addresses of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Each of its addresses, with the network that it is in.
    pub networks: Vec<IpNet>,
    /// The broadcast addresses of its interfaces.
    pub broadcasts: Vec<IpAddr>,
}

/// What an agent goes by.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// The list.
    pub list: &'a List,
    /// What the schedule asks for.
    pub asked: Ping,
    /// The agent's name in the list.
    pub name: &'a Name,
    /// `agent.name`: tag `source`.
    pub agent: &'a str,
    /// The most packets a second.
    pub max_rate: PacketRate,
    /// The addresses of this host.
    pub here: &'a Here,
}

/// What is to be measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// A series for each peer and protocol.
    pub assignments: Vec<Arc<Assignment>>,
    /// As what was asked for is kept.
    pub ping: Ping,
    /// Whether the agent itself is in the list.
    pub listed: bool,
    /// The entries that are not measured, and why, the first of them.
    pub refused: Vec<String>,
    /// How many those are.
    pub refused_count: usize,
}

/// The kind of probe does not take what was planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list cannot be measured: {0}")]
pub struct Unplannable(String);

/// Plans the pings of an agent.
pub fn plan(basis: Basis<'_>, kind: &dyn AnyKind) -> Result<Plan, Unplannable> {
    let (mut told, mut peers, mut known) = (Taken::default(), Vec::new(), HashSet::new());
    for peer in basis.list.probes.iter().filter(|peer| peer.name != *basis.name) {
        let twice = || (!known.insert(peer.address)).then_some("another probe's address already");
        match refused(peer.address, basis.here).or_else(twice) {
            Some(what) => told.refuse(format!("{}: {} is {what}", peer.name, peer.address)),
            None => peers.push(peer),
        }
    }
    let (ping, gap) = fit(basis.asked, peers.len(), basis.max_rate);
    let mut assignments = read(&peers, ping, basis.agent, kind)?;
    let slots = Phase::Spread.schedule(ping.interval, &Series::new(PROBE, [("source", basis.name.as_str())]));
    for (assignment, index) in assignments.iter_mut().zip(0..) {
        let assignment = Arc::get_mut(assignment).ok_or_else(|| Unplannable("a series is in use elsewhere".to_owned()))?;
        assignment.schedule = slots;
        assignment.offset = gap * index;
        assignment.longest += assignment.offset;
    }
    let Taken { refused, refused_count, .. } = told;
    Ok(Plan { assignments, ping, listed: basis.list.has(basis.name), refused, refused_count })
}

/// What is wrong with an address as a target: it would reach nobody, many, or this host itself.
fn refused(address: IpAddr, here: &Here) -> Option<&'static str> {
    if let Some(what) = packet::refused_destination(address) {
        return Some(what);
    }
    match address {
        _ if address.is_loopback() => Some("a loopback address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("in 0.0.0.0/8, which is nobody's"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("in 240.0.0.0/4, which is reserved"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        _ if here.networks.iter().any(|network| network.addr() == address) => Some("an address of this host"),
        _ if here.broadcasts.contains(&address) || here.networks.iter().any(|network| is_broadcast(network, address)) => {
            Some("a broadcast address of this host's network")
        }
        _ => None,
    }
}

/// The first address of a network was its broadcast address once, and some hosts still take it for one.
fn is_broadcast(network: &IpNet, address: IpAddr) -> bool {
    let IpNet::V4(network) = network else { return false };
    let ends: [Ipv4Addr; 2] = [network.network(), network.broadcast()];
    network.prefix_len() <= 30 && ends.iter().any(|end| IpAddr::V4(*end) == address)
}

/// How so many peers can be pinged within the rate, as near as possible to what was asked for; and how long after one peer
/// the next begins.
///
/// Two packets are never less than the gap apart: within a spacing all peers have their turn, and a run ends a spacing
/// before the next round.
fn fit(asked: Ping, peers: usize, max_rate: PacketRate) -> (Ping, Duration) {
    let gap = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(max_rate.0.max(1))));
    let needed = gap.saturating_mul(u32::try_from(peers).unwrap_or(u32::MAX)).min(LONGEST_INTERVAL / (1 + WARMUP));
    // In whole milliseconds, for people.
    let spacing = asked.spacing.max(Duration::from_millis(needed.as_nanos().div_ceil(1_000_000) as u64));
    let most = (LONGEST_INTERVAL.as_nanos() / spacing.as_nanos().max(1)) as u32;
    let count = asked.count.min(most.saturating_sub(WARMUP)).max(1);
    let ping = Ping { spacing, count, interval: asked.interval };
    (Ping { interval: asked.interval.max(ping.duration()), ..ping }, gap)
}

/// Hands the table `[ping.mesh]` to the kind.
fn read(peers: &[&Peer], ping: Ping, agent: &str, kind: &dyn AnyKind) -> Result<Vec<Arc<Assignment>>, Unplannable> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    let mut table = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
    set("targets", peers.iter().map(|peer| entry(peer)).collect::<Vec<_>>().into());
    set("interval", show_duration(&ping.interval).into());
    set("count", i64::from(ping.count).into());
    set("warmup", i64::from(WARMUP).into());
    set("spacing", show_duration(&ping.spacing).into());
    set("timeout", "1s".into());
    let file = config::File::from_str(&table.to_string(), config::FileFormat::Toml);
    let values = config::Source::collect(&file).map_err(|error| Unplannable(error.to_string()))?;
    let reading = kind.read(agent, PROBE, config::Value::from(values)).map_err(|problems| {
        Unplannable(problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect::<Vec<_>>().join("; "))
    })?;
    Ok(reading.assignments)
}

fn entry(peer: &Peer) -> toml::Value {
    let pairs = [("host", peer.address.to_string()), ("name", peer.name.as_str().to_owned())];
    toml::Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mesh::list::Proto;
    use crate::probe::Member;
    use crate::probe::ping::Ping as PingKind;
    use crate::probe::ping::settings::Job;

    static PINGS: Member<PingKind> = Member::NEW;

    fn peer(name: &str, address: &str) -> Peer {
        let address = address.parse().unwrap();
        Peer { name: Name::new(name).unwrap(), proto: Proto::of(address), address }
    }

    fn here() -> Here {
        let networks = ["10.0.0.1/24", "10.9.0.1/31", "2001:db8::1/64", "127.0.0.1/8"];
        Here { networks: networks.map(|network| network.parse().unwrap()).to_vec(), broadcasts: vec!["10.7.7.7".parse().unwrap()] }
    }

    fn planned(probes: Vec<Peer>, asked: Ping, rate: u32) -> Plan {
        let (list, name, here) = (List { probes }, Name::new("me").unwrap(), here());
        let basis = Basis { list: &list, asked, name: &name, agent: "rome-1", max_rate: PacketRate(rate), here: &here };
        plan(basis, &PINGS).unwrap()
    }

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_other_probe_is_a_series_and_all_share_their_slots() {
        let list = vec![peer("me", "10.0.0.1"), peer("a", "10.0.0.2"), peer("a", "2001:db8::2"), peer("b", "10.0.0.3")];
        let Plan { assignments, ping, listed, refused, .. } = planned(list, Ping::default(), 1000);
        assert!(listed && refused.is_empty());
        assert_eq!(ping, Ping::default());
        let tags = |a: &Arc<Assignment>| ["source", "probe", "kind", "target", "family"].map(|key| a.series.tag(key).unwrap().to_owned());
        assert_eq!(
            assignments.iter().map(tags).collect::<Vec<_>>(),
            [["a", "ipv4"], ["a", "ipv6"], ["b", "ipv4"]].map(|[to, family]| ["rome-1", "mesh", "ping", to, family].map(str::to_owned))
        );
        assert_eq!(assignments.iter().map(|a| a.offset).collect::<Vec<_>>(), [0, 1, 2].map(millis));
        assert!(assignments.iter().all(|a| a.schedule == assignments[0].schedule));
        let job = assignments[0].job::<Job>().unwrap();
        assert_eq!((job.count, job.warmup, job.spacing, job.timeout), (10, 1, millis(1000), millis(1000)));
    }

    #[test]
    fn m16_addresses_that_are_not_another_host_s_are_refused_and_told() {
        for (address, what) in [
            ("127.0.0.2", "a loopback address"),
            ("::1", "a loopback address"),
            ("10.0.0.1", "an address of this host"),
            ("2001:db8::1", "an address of this host"),
            ("10.0.0.255", "a broadcast address of this host's network"),
            ("10.0.0.0", "a broadcast address of this host's network"),
            ("10.7.7.7", "a broadcast address of this host's network"),
            ("255.255.255.255", "the broadcast address"),
            ("224.0.0.1", "a multicast address"),
            ("ff02::1", "a multicast address"),
            ("0.0.0.0", "the unspecified address"),
            ("::", "the unspecified address"),
            ("0.1.2.3", "in 0.0.0.0/8"),
            ("240.0.0.1", "in 240.0.0.0/4"),
            ("::ffff:10.0.0.9", "an IPv4 address written as IPv6"),
            ("fe80::1", "a link-local address"),
        ] {
            let plan = planned(vec![peer("x", address), peer("b", "10.0.0.3")], Ping::default(), 1000);
            assert_eq!((plan.assignments.len(), plan.refused_count, plan.listed), (1, 1, false), "{address}");
            assert!(plan.refused[0].starts_with(&format!("x: {address} is {what}")), "{:?}", plan.refused);
        }
        let neighbour = planned(vec![peer("x", "10.9.0.0")], Ping::default(), 1000);
        assert_eq!(neighbour.refused_count, 0, "a network of two addresses has no broadcast address");
    }

    #[test]
    fn m16_an_address_is_pinged_once_under_however_many_names_it_is_listed() {
        let many = (0..100).map(|n| peer(&format!("p{n}"), "10.0.0.9")).collect();
        let Plan { assignments, refused, refused_count, .. } = planned(many, Ping::default(), 1000);
        assert_eq!((assignments.len(), refused_count), (1, 99));
        assert_eq!(refused[0], "p1: 10.0.0.9 is another probe's address already");
    }

    #[test]
    fn m16_more_peers_than_the_rate_allows_are_pinged_more_slowly() {
        let list = |n: usize| (0..n).map(|n| peer(&format!("p{n}"), &format!("10.1.{}.{}", n / 250, n % 250 + 1))).collect::<Vec<_>>();
        let asked = Ping { interval: Duration::from_secs(5), count: 4, spacing: millis(1000) };
        let fitted = |n, rate| planned(list(n), asked, rate).ping;
        assert_eq!(fitted(100, 100), asked);
        let slower = Ping { interval: millis(5050), count: 4, spacing: millis(1010) };
        assert_eq!(fitted(101, 100), slower);
        let crawling = fitted(1000, 1);
        assert_eq!(crawling, Ping { interval: Duration::from_secs(5000), count: 4, spacing: Duration::from_secs(1000) });
        let most = planned(list(1000), Ping { interval: LONGEST_INTERVAL, count: 1000, spacing: millis(10) }, 1).ping;
        assert_eq!((most.count, most.interval), (85, LONGEST_INTERVAL), "fewer packets, where a day is too short for more");
    }

    /// When every packet of three rounds is sent, after the first slot.
    fn departures(plan: &Plan) -> Vec<u64> {
        let mut all = Vec::new();
        for assignment in &plan.assignments {
            let job = assignment.job::<Job>().unwrap();
            let own = |round, packet| assignment.schedule.interval() * round + assignment.offset + job.spacing * packet;
            all.extend((0..3).flat_map(|round| (0..job.warmup + job.count).map(move |packet| own(round, packet).as_nanos() as u64)));
        }
        all.sort_unstable();
        all
    }

    fn any_peer() -> impl Strategy<Value = Peer> {
        let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(bits.into()));
        let near = any::<u8>().prop_map(|last| IpAddr::V4([10, 0, 0, last].into()));
        let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()));
        (0..2000_u32, prop_oneof![v4, near, v6]).prop_map(|(n, address)| Peer {
            name: Name::new(&format!("p{n}")).unwrap(),
            proto: Proto::of(address),
            address,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn m16_no_list_and_no_schedule_make_it_send_more_than_the_rate_in_any_second(
            probes in prop::collection::vec(any_peer(), 0..120),
            interval in 1..100_u64,
            count in 1..8_u32,
            spacing in 10..3000_u64,
            rate in prop_oneof![1..20_u32, 20..2000_u32],
        ) {
            let asked = Ping { interval: Duration::from_secs(interval), count, spacing: millis(spacing) };
            let mut known = HashSet::new();
            let probes: Vec<_> = probes.into_iter().filter(|peer| known.insert((peer.name.clone(), peer.proto))).collect();
            let plan = planned(probes, asked, rate);
            let sent = departures(&plan);
            let mut first = 0;
            for (index, at) in sent.iter().enumerate() {
                while sent[first] + 1_000_000_000 <= *at {
                    first += 1;
                }
                prop_assert!(index + 1 - first <= rate as usize, "{} packets in a second, allowed are {rate}", index + 1 - first);
            }
            prop_assert!(plan.ping.spacing >= asked.spacing && plan.ping.interval >= asked.interval && plan.ping.count <= asked.count);
            for assignment in &plan.assignments {
                prop_assert!(assignment.longest >= assignment.offset + plan.ping.duration());
            }
        }
    }
}
