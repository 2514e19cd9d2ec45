//! What the right to send ICMP rests on: sockets, capabilities, the group range, the kernel's stamps. Pure.

use super::check::Check;
use crate::probe::ping::packet::Family;

/// How datagram ICMP is opened, at once and for good.
pub(super) const OPEN_GROUPS: &str = "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"; to keep it: echo \"net.ipv4.ping_group_range = 0 2147483647\" > /etc/sysctl.d/60-qosd.conf";

/// Whether this process gets a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It does.
    Open,
    /// It may not.
    Denied,
    /// The host cannot: for example, IPv6 is switched off.
    Unavailable(String),
}

/// The sockets of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sockets {
    /// Which.
    pub(super) family: Family,
    /// Raw, which needs a capability.
    pub(super) raw: Access,
    /// Datagram, which needs a group.
    pub(super) datagram: Access,
}

impl Sockets {
    fn any(&self) -> bool {
        self.raw == Access::Open || self.datagram == Access::Open
    }
}

/// The word for a family in names of checks.
pub(super) fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// How this program gets its capability without the unit.
fn grant(program: &str) -> String {
    format!("run it by its unit (systemctl start qosd), or: setcap cap_net_raw=ep {program}")
}

/// A check for each kind of socket and family.
pub(super) fn sockets(families: &[Sockets], program: &str) -> Vec<Check> {
    let other_works = |family| families.iter().any(|sockets| sockets.family != family && sockets.any());
    families.iter().flat_map(|sockets| of_family(sockets, other_works(sockets.family), program)).collect()
}

fn of_family(sockets: &Sockets, other_works: bool, program: &str) -> [Check; 2] {
    let family = word(sockets.family);
    let (raw, datagram) = (format!("icmp_raw_{family}"), format!("icmp_datagram_{family}"));
    let unavailable = |name: &str, why: &str| {
        let found = format!("this host has no {family}: {why}");
        let fix = match sockets.family {
            Family::V4 => "let the process have IPv4 sockets: look at RestrictAddressFamilies and SystemCallFilter of what starts it",
            Family::V6 => "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or boot without ipv6.disable=1",
        };
        if other_works { Check::note(name, found) } else { Check::fail(name, found, fix) }
    };
    let raw = match &sockets.raw {
        Access::Open => Check::ok(raw, "a socket opens"),
        Access::Unavailable(why) => unavailable(&raw, why),
        Access::Denied if sockets.any() => Check::note(raw, "not permitted without CAP_NET_RAW; datagram sockets are used instead"),
        Access::Denied => Check::fail(raw, "not permitted: CAP_NET_RAW is missing", grant(program)),
    };
    let datagram = match &sockets.datagram {
        Access::Open => Check::ok(datagram, "a socket opens"),
        Access::Unavailable(why) => unavailable(&datagram, why),
        Access::Denied if sockets.any() => Check::note(datagram, "not permitted by net.ipv4.ping_group_range; raw sockets are used"),
        Access::Denied => Check::fail(datagram, "not permitted: no group of this process is within net.ipv4.ping_group_range", OPEN_GROUPS),
    };
    [raw, datagram]
}

/// What this process may: its effective capabilities by name.
pub(super) fn capabilities(effective: Result<&[String], &str>, families: &[Sockets], program: &str) -> Check {
    const NAME: &str = "capabilities";
    let held = match effective {
        Err(why) => return Check::note(NAME, format!("cannot be read: {why}")),
        Ok(held) => held,
    };
    if held.iter().any(|name| name == "CAP_NET_RAW") {
        return Check::ok(NAME, "this process has CAP_NET_RAW");
    }
    let datagram = families.iter().any(|sockets| sockets.datagram == Access::Open);
    let have = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
    if datagram {
        Check::note(NAME, format!("this process has no CAP_NET_RAW (it has {have}); datagram ICMP works without"))
    } else {
        Check::fail(NAME, format!("this process has no CAP_NET_RAW (it has {have}), and datagram ICMP is closed"), grant(program))
    }
}

/// The groups that may open datagram sockets, and who is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    /// From and to, as the kernel has them; `1 0` is nobody. None if it cannot be read.
    pub(super) range: Option<(u32, u32)>,
    /// Those of this process.
    pub(super) ours: Vec<u32>,
    /// That of the unit, if there is one.
    pub(super) unit: Option<u32>,
}

impl Groups {
    /// Whether the unit's user may open them; without a unit, whether this process may.
    pub(super) fn open_to_the_unit(&self) -> bool {
        let within = |group: &u32| self.range.is_some_and(|(from, to)| (from..=to).contains(group));
        self.unit.as_ref().map_or_else(|| self.ours.iter().any(within), within)
    }
}

/// Reads the kernel's two numbers.
pub(super) fn range(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(from)), Some(Ok(to)), None) => Some((from, to)),
        _ => None,
    }
}

/// Whether datagram ICMP is open to whom it should be.
pub(super) fn ping_group_range(groups: &Groups, families: &[Sockets]) -> Check {
    const NAME: &str = "ping_group_range";
    let Some((from, to)) = groups.range else {
        return Check::note(NAME, "net.ipv4.ping_group_range cannot be read");
    };
    let within = |group: &u32| (from..=to).contains(group);
    let who = |open: &str| format!("net.ipv4.ping_group_range is \"{from} {to}\": {open}");
    let raw = families.iter().any(|sockets| sockets.raw == Access::Open);
    match (groups.ours.iter().any(within), groups.unit.as_ref().is_none_or(within)) {
        (true, true) if groups.unit.is_some() => Check::ok(NAME, who("open to this process and to the unit")),
        (true, true) => Check::ok(NAME, who("open to this process")),
        _ if raw => Check::note(NAME, who("not open to all that may run qosd, and not needed with raw sockets")),
        (true, false) => Check::warn(NAME, who("open to this process, closed to the group of the unit"), OPEN_GROUPS),
        (false, _) if from > to => Check::fail(NAME, who("closed to everybody"), OPEN_GROUPS),
        (false, _) => Check::fail(NAME, who("closed to every group of this process"), OPEN_GROUPS),
    }
}

/// What the engine found when it pinged this very host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    /// It was answered; which clocks made the round-trip time.
    Made(String),
    /// There is no socket.
    NoSocket,
    /// It was not answered.
    Failed(String),
}

/// Whether the kernel stamps packets when they leave.
pub(super) fn time_stamps(family: Family, stamps: &Stamps) -> Check {
    let (name, address) = match family {
        Family::V4 => ("time_stamps_ipv4", "127.0.0.1"),
        Family::V6 => ("time_stamps_ipv6", "::1"),
    };
    match stamps {
        Stamps::Made(clocks) if clocks == "kernel" => {
            Check::ok(name, format!("{address} answers, and the kernel stamps packets at both ends"))
        }
        Stamps::Made(clocks) => Check::warn(
            name,
            format!(
                "{address} answers, but round trips are timed by {clocks}, not by the kernel at both ends: this host's own delays are in them"
            ),
            "try again, as a wall clock that is being set spoils the stamps; then look whether loopback makes them: ethtool -T lo (software-transmit)",
        ),
        Stamps::NoSocket => Check::note(name, "not tested: there is no ICMP socket"),
        Stamps::Failed(why) => Check::warn(
            name,
            format!("{address} does not answer: {why}"),
            "ip link set lo up; look for firewall rules on loopback (nft list ruleset) and for net.ipv4.icmp_echo_ignore_all",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    fn both(raw: &Access, datagram: &Access) -> [Sockets; 2] {
        [Family::V4, Family::V6].map(|family| Sockets { family, raw: raw.clone(), datagram: datagram.clone() })
    }

    fn states(checks: &[Check]) -> Vec<State> {
        checks.iter().map(Check::state).collect()
    }

    #[test]
    fn one_kind_of_socket_is_enough_and_without_any_both_ways_out_are_said() {
        use Access::{Denied, Open};
        use State::{Fail, Note, Ok};
        for (raw, datagram, expected) in
            [(Open, Open, [Ok, Ok]), (Open, Denied, [Ok, Note]), (Denied, Open, [Note, Ok]), (Denied, Denied, [Fail, Fail])]
        {
            let checks = sockets(&both(&raw, &datagram), "/usr/bin/qosd");
            assert_eq!(states(&checks), [expected, expected].concat(), "{raw:?} {datagram:?}");
        }
        let checks = sockets(&both(&Denied, &Denied), "/usr/bin/qosd");
        assert!(checks[0].fix().contains("setcap cap_net_raw=ep /usr/bin/qosd"), "{checks:?}");
        assert!(checks[1].fix().contains("sysctl -w net.ipv4.ping_group_range"), "{checks:?}");
    }

    #[test]
    fn a_host_without_ipv6_is_not_ill() {
        let mut families = both(&Access::Open, &Access::Open);
        let why = || Access::Unavailable("Address family not supported by protocol".to_owned());
        (families[1].raw, families[1].datagram) = (why(), why());
        assert_eq!(states(&sockets(&families, "q")), [State::Ok, State::Ok, State::Note, State::Note]);
        (families[0].raw, families[0].datagram) = (why(), why());
        assert_eq!(states(&sockets(&families, "q")), [State::Fail; 4]);
    }

    #[test]
    fn a_missing_capability_matters_only_without_datagram_sockets() {
        use Access::{Denied, Open};
        let held = ["CAP_NET_RAW".to_owned()];
        let of = |held: &[String], datagram| capabilities(Ok(held), &both(&Denied, &datagram), "q").state();
        assert_eq!([of(&held, Denied), of(&[], Open), of(&[], Denied)], [State::Ok, State::Note, State::Fail]);
    }

    #[test]
    fn the_group_range_is_judged_for_this_process_and_for_the_unit() {
        use Access::{Denied, Open};
        let check = |range, ours: &[u32], unit, raw| {
            let groups = Groups { range, ours: ours.to_vec(), unit };
            ping_group_range(&groups, &both(&raw, &Denied)).state()
        };
        let (all, none, some) = (Some((0, 2_147_483_647)), Some((1, 0)), Some((0, 10)));
        assert_eq!(check(all, &[0], Some(999), Denied), State::Ok);
        assert_eq!(check(none, &[0], None, Open), State::Note);
        assert_eq!(check(none, &[0, 65534], None, Denied), State::Fail);
        assert_eq!(check(some, &[11], None, Denied), State::Fail);
        assert_eq!(check(some, &[11, 10], Some(999), Denied), State::Warn);
        assert_eq!(check(None, &[0], None, Denied), State::Note);
    }

    #[test]
    fn the_kernel_s_range_is_two_numbers() {
        assert_eq!(range("1\t0\n"), Some((1, 0)));
        assert_eq!(range("0 4294967294"), Some((0, 4_294_967_294)));
        for text in ["", "1", "1 2 3", "a b", "-1 2"] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn only_stamps_at_both_ends_are_good() {
        for (stamps, state) in [
            (Stamps::Made("kernel".to_owned()), State::Ok),
            (Stamps::Made("kernel_rx".to_owned()), State::Warn),
            (Stamps::Made("user".to_owned()), State::Warn),
            (Stamps::NoSocket, State::Note),
            (Stamps::Failed("timeout".to_owned()), State::Warn),
        ] {
            assert_eq!(time_stamps(Family::V6, &stamps).state(), state, "{stamps:?}");
        }
    }
}
