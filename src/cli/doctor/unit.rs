//! The unit by which systemd runs the service, as `systemctl show` tells of it. Pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::check::Check;

/// Its name.
pub(super) const UNIT: &str = "qosd.service";
/// What is asked of it.
pub(super) const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,User,AmbientCapabilities,MainPID,ProtectSystem,ReadWritePaths";

/// What there is of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// systemd does not run this host.
    NoSystemd,
    /// It does, and cannot be asked.
    Silent(String),
    /// It knows no such unit.
    Absent,
    /// It knows one that it will not start: `masked`, `bad-setting` and so on.
    Unusable(String),
    /// It knows the unit.
    Unit(Unit),
}

/// The unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// `active`, `failed` and so on.
    pub(super) active: String,
    /// `running`, `auto-restart` and so on.
    sub: String,
    /// Why it ended last: `success`, `exit-code` and so on.
    result: String,
    /// Its user; empty = root.
    pub(super) user: String,
    /// Whether it gives its user the capability for raw sockets.
    raw: bool,
    /// Folders beside that of its state which it may write; none = all.
    writable: Option<Vec<PathBuf>>,
}

/// Reads what `systemctl show` printed.
pub(super) fn read(text: &str) -> Found {
    let properties: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let get = |name| properties.get(name).map(|value| (*value).to_owned()).unwrap_or_default();
    match get("LoadState").as_str() {
        "loaded" => {}
        "not-found" | "" => return Found::Absent,
        other => return Found::Unusable(other.to_owned()),
    }
    let user = get("User");
    // Root has it without being given it, as long as the unit is as shipped.
    let raw = user.is_empty()
        || user == "root"
        || get("AmbientCapabilities").split_whitespace().any(|name| name.eq_ignore_ascii_case("cap_net_raw"));
    let writable = (get("ProtectSystem") == "strict")
        .then(|| get("ReadWritePaths").split_whitespace().map(|path| path.trim_start_matches(['-', '+']).into()).collect());
    Found::Unit(Unit { active: get("ActiveState"), sub: get("SubState"), result: get("Result"), user, raw, writable })
}

/// Who the unit's user is, if there is one with that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Number of the user.
    pub(super) uid: u32,
    /// Number of its group.
    pub(super) gid: u32,
}

/// Where systemd has its state.
const STATE: &str = "/var/lib/qosd";

/// Whether the unit is whole. `datagram` says whether the group of its user may open datagram sockets, `data_dir` is where its
/// journal is to be.
pub(super) fn judge(found: &Found, user: Option<User>, datagram: bool, data_dir: &Path) -> Check {
    const NAME: &str = "unit";
    let unit = match found {
        Found::NoSystemd => {
            return Check::note(NAME, "systemd does not run this host: whatever starts qosd has to give it the right to send ICMP");
        }
        Found::Silent(why) => {
            return Check::warn(NAME, format!("systemd does not tell of {UNIT}: {why}"), format!("systemctl status {UNIT}"));
        }
        Found::Absent => return Check::note(NAME, format!("there is no {UNIT}")),
        Found::Unusable(state) if state == "masked" => {
            return Check::fail(NAME, format!("{UNIT} is masked, so it cannot be started"), "systemctl unmask qosd");
        }
        Found::Unusable(state) => {
            return Check::fail(
                NAME,
                format!("{UNIT} cannot be loaded: {state}"),
                format!("systemd-analyze verify {UNIT}, and correct what it says"),
            );
        }
        Found::Unit(unit) => unit,
    };
    let as_whom = if unit.user.is_empty() { "root" } else { &unit.user };
    let state = format!("{UNIT} is {} ({}), as {as_whom}", unit.active, unit.sub);
    if user.is_none() {
        return Check::fail(NAME, format!("{state}, who does not exist"), "systemd-sysusers");
    }
    if !unit.raw && !datagram {
        return Check::fail(
            NAME,
            format!("{state}: without CAP_NET_RAW, and datagram ICMP is closed to its group"),
            "systemctl edit qosd: in [Service], AmbientCapabilities=CAP_NET_RAW and CapabilityBoundingSet=CAP_NET_RAW; or open net.ipv4.ping_group_range",
        );
    }
    let shut_out = |writable: &Vec<PathBuf>| !writable.iter().any(|folder| data_dir.starts_with(folder));
    if unit.writable.as_ref().is_some_and(shut_out) && !data_dir.starts_with(STATE) {
        let path = data_dir.display();
        let fix = format!("systemctl edit qosd: in [Service], ReadWritePaths={path}; then: systemctl restart qosd");
        return Check::fail(NAME, format!("{state}, and may not write to agent.data_dir, {path}"), fix);
    }
    let may = if unit.raw { "with CAP_NET_RAW" } else { "with datagram ICMP" };
    match (unit.active.as_str(), unit.sub.as_str()) {
        ("failed", _) => Check::warn(
            NAME,
            format!("{state}: {}", unit.result),
            "journalctl -u qosd -n 50, correct what it says, then: systemctl restart qosd",
        ),
        (_, "auto-restart") => {
            Check::warn(NAME, format!("{state}: {}; it is started again and again", unit.result), "journalctl -u qosd -n 50")
        }
        ("inactive", _) => Check::note(NAME, format!("{state}, {may}; systemctl enable --now qosd starts it")),
        _ => Check::ok(NAME, format!("{state}, {may}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    const USER: Option<User> = Some(User { uid: 998, gid: 998 });

    fn shown(active: &str, sub: &str, user: &str, ambient: &str) -> Found {
        read(&format!(
            "LoadState=loaded\nActiveState={active}\nSubState={sub}\nResult=exit-code\nUser={user}\nAmbientCapabilities={ambient}\nMainPID=7\n"
        ))
    }

    #[test]
    fn a_unit_needs_its_user_and_a_way_to_send_icmp() {
        let running = |user, ambient| shown("active", "running", user, ambient);
        assert_eq!(judge(&running("qosd", "cap_net_raw"), USER, false, Path::new(STATE)).state(), State::Ok);
        assert_eq!(judge(&running("qosd", ""), USER, true, Path::new(STATE)).state(), State::Ok);
        assert_eq!(judge(&running("", ""), USER, false, Path::new(STATE)).state(), State::Ok, "root");
        let missing = judge(&running("qosd", "cap_net_admin"), USER, false, Path::new(STATE));
        assert!(missing.state() == State::Fail && missing.fix().contains("AmbientCapabilities=CAP_NET_RAW"), "{missing:?}");
        assert_eq!(judge(&running("qosd", "cap_net_raw"), None, true, Path::new(STATE)).fix(), "systemd-sysusers");
    }

    #[test]
    fn a_unit_that_does_not_come_up_is_said() {
        for (active, sub) in [("failed", "failed"), ("activating", "auto-restart")] {
            let check = judge(&shown(active, sub, "qosd", "cap_net_raw"), USER, false, Path::new(STATE));
            assert!(check.state() == State::Warn && check.fix().starts_with("journalctl -u qosd"), "{check:?}");
        }
        assert_eq!(judge(&shown("inactive", "dead", "qosd", "cap_net_raw"), USER, false, Path::new(STATE)).state(), State::Note);
    }

    #[test]
    fn a_folder_that_the_unit_may_not_write_is_said() {
        let strict =
            |paths| read(&format!("LoadState=loaded\nAmbientCapabilities=cap_net_raw\nProtectSystem=strict\nReadWritePaths={paths}\n"));
        let at = |found: &Found, path| judge(found, USER, true, Path::new(path));
        let shut_out = at(&strict(""), "/srv/qosd");
        assert!(shut_out.state() == State::Fail && shut_out.fix().contains("ReadWritePaths=/srv/qosd"), "{shut_out:?}");
        assert_eq!(at(&strict("/tmp -/srv"), "/srv/qosd").state(), State::Ok);
        assert_eq!(at(&shown("active", "running", "qosd", "cap_net_raw"), "/srv/qosd").state(), State::Ok, "not as shipped");
    }

    #[test]
    fn a_unit_that_systemd_will_not_start_is_said() {
        for (state, fix) in [("masked", "systemctl unmask qosd"), ("bad-setting", "systemd-analyze verify")] {
            let check = judge(&read(&format!("LoadState={state}\n")), USER, true, Path::new(STATE));
            assert!(check.state() == State::Fail && check.fix().starts_with(fix), "{check:?}");
        }
    }

    #[test]
    fn no_systemd_and_no_unit_are_nothing_to_mend() {
        assert_eq!(read("LoadState=not-found\nActiveState=inactive\n"), Found::Absent);
        assert_eq!(judge(&Found::Absent, None, false, Path::new(STATE)).state(), State::Note);
        assert_eq!(judge(&Found::NoSystemd, None, false, Path::new(STATE)).state(), State::Note);
        assert_eq!(judge(&Found::Silent("no bus".to_owned()), None, false, Path::new(STATE)).state(), State::Warn);
    }
}
