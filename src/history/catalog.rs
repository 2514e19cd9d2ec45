//! As which series rows are shown. Pure.
//!
//! A row of a probe is shown as its own series. A row of measurement `Ping` is shown as the one in which a collector writes
//! down that a result of the same hosts did not come: kind `ping`, probe `mesh`. It does not say of which family it is; that is
//! known from rows that do, and `auto` until there is one, or where there are two. While whole rows of the same results come, as
//! on a host that is an agent, too, `Ping` tells nothing new and is left out.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::measurement::{QOS_METRICS, Series};
use crate::mesh::collector::rows::PING;
use crate::probe::Naming;

/// The probe of the mesh's rows.
const MESH: &str = "mesh";
/// Of a family that nobody told.
const AUTO: &str = "auto";
/// A row of `Ping` that comes so soon after a whole row is of the same results: three rounds, of which a usual one is 5 minutes.
const NEAR: Duration = Duration::from_mins(15);

/// Source and target.
type Pair = (String, String);

/// The series of a pair of hosts.
#[derive(Clone, Debug, Default)]
struct Hosts {
    /// That of which no family is known.
    auto: Option<i64>,
    /// Those that tell it.
    told: Vec<i64>,
}

/// Where a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the series as which it is shown.
    pub(super) number: i64,
    /// Whether something of this series is to be written down: it is new, has another name, or a later whole row.
    pub(super) is_changed: bool,
}

/// The series, each with its number in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    numbers: HashMap<Series, i64>,
    names: HashMap<i64, Series>,
    /// Hosts of a mesh: the series in which they are.
    pairs: HashMap<Pair, Hosts>,
    /// When the last whole row of a series of a mesh was, where there is one.
    whole: HashMap<i64, Timestamp>,
    last: i64,
}

impl Hosts {
    /// The series as which `Ping` is shown; none if it is still to be made.
    fn of_ping(&self) -> Option<i64> {
        self.auto.or_else(|| self.told.first().copied().filter(|_| self.told.len() == 1))
    }

    fn all(&self) -> impl Iterator<Item = i64> {
        self.auto.into_iter().chain(self.told.iter().copied())
    }

    fn forget(&mut self, number: i64) {
        self.auto.take_if(|auto| *auto == number);
        self.told.retain(|told| *told != number);
    }
}

impl Catalog {
    /// A series that is in the file. To be called in the order of numbers.
    pub(super) fn know(&mut self, number: i64, series: Series, whole: Option<Timestamp>) {
        if let Some(before) = self.names.insert(number, series.clone()) {
            self.numbers.remove(&before);
        }
        if let Some(pair) = pair(&series) {
            let hosts = self.pairs.entry(pair).or_default();
            hosts.forget(number);
            match series.tag("family") {
                Some(AUTO) => hosts.auto = Some(number),
                _ => hosts.told.push(number),
            }
            if let Some(whole) = whole {
                self.whole.insert(number, whole);
            }
        }
        self.numbers.insert(series, number);
        self.last = self.last.max(number);
    }

    /// Where a row is shown, of which `measured` says whether it has figures; nowhere, if it is left out.
    pub(super) fn place(&mut self, row: &Series, time: Timestamp, measured: bool) -> Option<Place> {
        if row.measurement() == PING { self.place_ping(row, time) } else { Some(self.place_own(row, time, measured)) }
    }

    fn place_own(&mut self, row: &Series, time: Timestamp, measured: bool) -> Place {
        let (number, is_new) = match self.numbers.get(row) {
            Some(number) => (*number, false),
            None => (self.untold(row).unwrap_or(self.last + 1), true),
        };
        if is_new {
            self.know(number, row.clone(), None);
        }
        let is_later = measured && is_mesh(row) && self.whole.get(&number).is_none_or(|whole| *whole < time);
        if is_later {
            self.whole.insert(number, time);
        }
        Place { number, is_changed: is_new || is_later }
    }

    fn place_ping(&mut self, row: &Series, time: Timestamp) -> Option<Place> {
        let pair = pair_of(row)?;
        if self.whole(&pair).is_some_and(|whole| time <= whole.plus(NEAR)) {
            return None;
        }
        if let Some(number) = self.pairs.get(&pair).and_then(Hosts::of_ping) {
            return Some(Place { number, is_changed: false });
        }
        let number = self.last + 1;
        self.know(number, named(&pair), None);
        Some(Place { number, is_changed: true })
    }

    /// The series of the same hosts, if no family was known until now.
    fn untold(&self, row: &Series) -> Option<i64> {
        self.pairs.get(&pair(row)?).filter(|hosts| hosts.told.is_empty())?.auto
    }

    /// When the last whole row of these hosts was.
    fn whole(&self, pair: &Pair) -> Option<Timestamp> {
        self.pairs.get(pair)?.all().filter_map(|number| self.whole.get(&number)).max().copied()
    }

    /// The number of a series.
    pub(super) fn number(&self, series: &Series) -> Option<i64> {
        self.numbers.get(series).copied()
    }

    /// A series, with when its last whole row was.
    pub(super) fn known(&self, number: i64) -> Option<(&Series, Option<Timestamp>)> {
        Some((self.names.get(&number)?, self.whole.get(&number).copied()))
    }

    /// All series.
    pub(super) fn names(&self) -> impl Iterator<Item = (i64, &Series)> {
        self.names.iter().map(|(number, series)| (*number, series))
    }

    /// Only those that are wanted: all series of a pair of hosts, or none.
    pub(super) fn some(&self, wanted: impl Fn(&Series) -> bool) -> Self {
        self.only(self.names().filter(|(_, series)| wanted(series)).map(|(number, _)| number))
    }

    /// Only this one, with those of the same hosts.
    pub(super) fn around(&self, series: &Series) -> Self {
        let hosts = pair(series).and_then(|pair| self.pairs.get(&pair));
        self.only(hosts.into_iter().flat_map(Hosts::all).chain(self.number(series)))
    }

    fn only(&self, numbers: impl Iterator<Item = i64>) -> Self {
        let mut only = Self { last: self.last, ..Self::default() };
        for number in numbers.collect::<BTreeSet<_>>() {
            if let Some((series, whole)) = self.known(number) {
                only.know(number, series.clone(), whole);
            }
        }
        only
    }

    /// No such series any more.
    pub(super) fn forget(&mut self, number: i64) {
        if let Some(series) = self.names.remove(&number) {
            self.numbers.remove(&series);
        }
        self.pairs.values_mut().for_each(|hosts| hosts.forget(number));
        self.pairs.retain(|_, hosts| hosts.all().next().is_some());
        self.whole.remove(&number);
    }
}

/// Whether rows of this series are ever shown: those in which qosd speaks of itself are not.
pub(super) fn is_shown(series: &Series) -> bool {
    [QOS_METRICS, PING].contains(&series.measurement())
}

/// As which a row is shown whose hosts nobody told more of.
pub(super) fn alone(row: &Series) -> Option<Series> {
    if row.measurement() == PING { pair_of(row).map(|pair| named(&pair)) } else { Some(row.clone()) }
}

/// Whether rows of this series have a say in what is shown as the other.
pub(super) fn concerns(row: &Series, shown: &Series) -> bool {
    row == shown || pair(shown).is_some_and(|hosts| may_come_late(row) && pair_of(row) == Some(hosts))
}

/// Whether its rows may come from another host, days after their time.
pub(super) fn may_come_late(series: &Series) -> bool {
    series.measurement() == PING || is_mesh(series)
}

fn is_mesh(series: &Series) -> bool {
    series.measurement() == QOS_METRICS && series.tag("probe") == Some(MESH) && series.tag("kind") == Some("ping")
}

fn pair(series: &Series) -> Option<Pair> {
    is_mesh(series).then(|| pair_of(series))?
}

fn pair_of(series: &Series) -> Option<Pair> {
    Some((series.tag("source")?.to_owned(), series.tag("target")?.to_owned()))
}

fn named((source, target): &Pair) -> Series {
    let naming = Naming { agent: source.clone(), kind: "ping", probe: MESH.to_owned() };
    naming.series(target, AUTO, &std::collections::BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(source: &str, target: &str) -> Series {
        Series::new(PING, [("source", source), ("target", target), ("status", "ok")])
    }

    fn mesh(source: &str, target: &str, family: &str) -> Series {
        let naming = Naming { agent: source.into(), kind: "ping", probe: MESH.into() };
        naming.series(target, family, &std::collections::BTreeMap::new())
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_nanos(minute * 60_000_000_000)
    }

    const fn at_place(number: i64, is_changed: bool) -> Place {
        Place { number, is_changed }
    }

    #[test]
    fn results_of_others_are_shown_with_those_that_did_not_come() {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.place(&mesh("a", "b", "ipv6"), at(0), false), Some(at_place(1, true)));
        assert_eq!(catalog.place(&ping("a", "b"), at(1), true), Some(at_place(1, false)));
        assert!(concerns(&ping("a", "b"), &mesh("a", "b", "ipv6")));
        assert!(!concerns(&ping("b", "a"), &mesh("a", "b", "ipv6")));
    }

    #[test]
    fn a_family_that_is_told_later_names_what_was_there_before() {
        let mut catalog = Catalog::default();
        let auto = mesh("a", "b", AUTO);
        assert_eq!(catalog.place(&ping("a", "b"), at(0), true), Some(at_place(1, true)));
        assert_eq!(catalog.known(1), Some((&auto, None)));
        let told = mesh("a", "b", "ipv4");
        assert_eq!(catalog.place(&told, at(1), false), Some(at_place(1, true)));
        assert_eq!((catalog.number(&told), catalog.number(&auto)), (Some(1), None));
        assert_eq!(catalog.place(&ping("a", "b"), at(2), true), Some(at_place(1, false)));
    }

    #[test]
    fn where_two_families_are_told_ping_is_of_none_of_them() {
        let mut catalog = Catalog::default();
        for (number, family) in [(1, "ipv4"), (2, "ipv6")] {
            assert_eq!(catalog.place(&mesh("a", "b", family), at(0), false), Some(at_place(number, true)));
        }
        assert_eq!(catalog.place(&ping("a", "b"), at(1), true), Some(at_place(3, true)));
        assert_eq!(catalog.known(3), Some((&mesh("a", "b", AUTO), None)));
        let mut reopened = catalog.around(&mesh("a", "b", "ipv4"));
        for catalog in [&mut catalog, &mut reopened] {
            assert_eq!(catalog.place(&ping("a", "b"), at(2), true), Some(at_place(3, false)));
            assert_eq!(catalog.place(&mesh("a", "b", "ipv6"), at(2), false), Some(at_place(2, false)));
        }
        catalog.forget(2);
        assert_eq!(catalog.place(&mesh("a", "b", "ipv6"), at(3), false), Some(at_place(4, true)), "what is of both is not of one now");
    }

    #[test]
    fn ping_is_left_out_while_whole_rows_come_and_not_after() {
        let mut catalog = Catalog::default();
        let own = mesh("a", "b", "ipv4");
        assert_eq!(catalog.place(&own, at(100), true), Some(at_place(1, true)));
        assert_eq!(catalog.place(&own, at(101), true), Some(at_place(1, true)));
        assert_eq!(catalog.place(&own, at(101), true), Some(at_place(1, false)));
        let mut reopened = Catalog::default();
        reopened.know(1, own, Some(at(101)));
        for catalog in [&mut catalog, &mut reopened] {
            assert_eq!(catalog.place(&ping("a", "b"), at(102), true), None);
            assert_eq!(catalog.place(&ping("a", "b"), at(117), true), Some(at_place(1, false)));
        }
    }

    #[test]
    fn a_series_that_went_gets_a_new_number() {
        let mut catalog = Catalog::default();
        let own = Series::new(QOS_METRICS, [("target", "x")]);
        assert_eq!(catalog.place(&own, at(0), true), Some(at_place(1, true)));
        assert_eq!(catalog.place(&own, at(1), true), Some(at_place(1, false)));
        catalog.forget(1);
        assert_eq!(catalog.place(&own, at(2), true), Some(at_place(2, true)));
    }
}
