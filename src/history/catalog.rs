//! As which series rows are shown. Pure.
//!
//! A row of a probe is shown as its own series. A row of measurement `Ping` is shown as the one in which a collector writes
//! down that a result of the same hosts did not come: kind `ping`, probe `mesh`. It does not say of which family it is; that is
//! known from rows that do, and `auto` until there is one. Where whole rows of the same results are there, as on a host that
//! is an agent, too, `Ping` tells nothing new and is left out.

use std::collections::{HashMap, HashSet};

use crate::measurement::{QOS_METRICS, Series};
use crate::mesh::collector::rows::PING;
use crate::probe::Naming;

/// The probe of the mesh's rows.
const MESH: &str = "mesh";
/// Of a family that nobody told.
const AUTO: &str = "auto";

/// Source and target.
type Pair = (String, String);

/// What is to be written down: a series, which is new or has another name from now on, and whether it has whole rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change(pub(super) i64, pub(super) Series, pub(super) bool);

/// The series, each with its number in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    numbers: HashMap<Series, i64>,
    names: HashMap<i64, Series>,
    /// Hosts of a mesh: the series in which `Ping` is shown.
    pairs: HashMap<Pair, i64>,
    /// Series of a mesh that have whole rows.
    whole: HashSet<i64>,
    last: i64,
}

impl Catalog {
    /// A series that is in the file. To be called in the order of numbers.
    pub(super) fn know(&mut self, number: i64, series: Series, whole: bool) {
        if let Some(before) = self.names.insert(number, series.clone()) {
            self.numbers.remove(&before);
        }
        if let Some(pair) = pair(&series) {
            self.pairs.entry(pair).or_insert(number);
            if whole {
                self.whole.insert(number);
            }
        }
        self.numbers.insert(series, number);
        self.last = self.last.max(number);
    }

    /// The number of the series as which a row is shown, and what is new. `measured` says whether it has figures.
    pub(super) fn place(&mut self, row: &Series, measured: bool) -> (Option<i64>, Option<Change>) {
        if row.measurement() == PING { self.place_ping(row) } else { self.place_own(row, measured) }
    }

    fn place_own(&mut self, row: &Series, measured: bool) -> (Option<i64>, Option<Change>) {
        let whole = measured && is_mesh(row);
        let number = match self.numbers.get(row) {
            Some(number) if !whole || self.whole.contains(number) => return (Some(*number), None),
            Some(number) => *number,
            None => self.untold(row).unwrap_or(self.last + 1),
        };
        let whole = whole || self.whole.contains(&number);
        self.know(number, row.clone(), whole);
        (Some(number), Some(Change(number, row.clone(), whole)))
    }

    fn place_ping(&mut self, row: &Series) -> (Option<i64>, Option<Change>) {
        let Some(pair) = pair_of(row) else { return (None, None) };
        if let Some(number) = self.pairs.get(&pair) {
            return ((!self.whole.contains(number)).then_some(*number), None);
        }
        let (number, name) = (self.last + 1, named(&pair));
        self.know(number, name.clone(), false);
        (Some(number), Some(Change(number, name, false)))
    }

    /// The series of the same hosts whose family was not known until now.
    fn untold(&self, row: &Series) -> Option<i64> {
        let number = self.pairs.get(&pair(row)?)?;
        (self.names.get(number)?.tag("family") == Some(AUTO)).then_some(*number)
    }

    /// The number of a series.
    pub(super) fn number(&self, series: &Series) -> Option<i64> {
        self.numbers.get(series).copied()
    }

    /// All series.
    pub(super) fn names(&self) -> impl Iterator<Item = (i64, &Series)> {
        self.names.iter().map(|(number, series)| (*number, series))
    }

    /// Whether a row of this series is shown as the other.
    pub(super) fn shows(&self, row: &Series, shown: &Series) -> bool {
        if row.measurement() != PING {
            return row == shown;
        }
        let Some(pair) = pair_of(row).filter(|hosts| pair(shown).is_some_and(|shown| shown == *hosts)) else { return false };
        match self.pairs.get(&pair) {
            Some(number) => self.names.get(number) == Some(shown) && !self.whole.contains(number),
            None => shown.tag("family") == Some(AUTO),
        }
    }

    /// No such series any more.
    pub(super) fn forget(&mut self, number: i64) {
        if let Some(series) = self.names.remove(&number) {
            self.numbers.remove(&series);
        }
        self.pairs.retain(|_, known| *known != number);
        self.whole.remove(&number);
    }
}

/// Whether rows of this series are ever shown: those in which qosd speaks of itself are not.
pub(super) fn is_shown(series: &Series) -> bool {
    [QOS_METRICS, PING].contains(&series.measurement())
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

    #[test]
    fn results_of_others_are_shown_with_those_that_did_not_come() {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.place(&mesh("a", "b", "ipv6"), false).0, Some(1));
        assert_eq!(catalog.place(&ping("a", "b"), true), (Some(1), None));
        assert!(catalog.shows(&ping("a", "b"), &mesh("a", "b", "ipv6")));
        assert!(!catalog.shows(&ping("b", "a"), &mesh("a", "b", "ipv6")));
    }

    #[test]
    fn a_family_that_is_told_later_names_what_was_there_before() {
        let mut catalog = Catalog::default();
        let auto = mesh("a", "b", AUTO);
        assert_eq!(catalog.place(&ping("a", "b"), true), (Some(1), Some(Change(1, auto.clone(), false))));
        let told = mesh("a", "b", "ipv4");
        assert_eq!(catalog.place(&told, false), (Some(1), Some(Change(1, told.clone(), false))));
        assert_eq!((catalog.number(&told), catalog.number(&auto)), (Some(1), None));
        assert_eq!(catalog.place(&mesh("a", "b", "ipv6"), false).0, Some(2));
        assert_eq!(catalog.place(&ping("a", "b"), true), (Some(1), None));
    }

    #[test]
    fn where_whole_rows_are_there_ping_is_left_out() {
        let mut catalog = Catalog::default();
        let own = mesh("a", "b", "ipv4");
        assert_eq!(catalog.place(&own, true), (Some(1), Some(Change(1, own.clone(), true))));
        assert_eq!(catalog.place(&ping("a", "b"), true), (None, None));
        assert!(!catalog.shows(&ping("a", "b"), &own));
        let mut reopened = Catalog::default();
        reopened.know(1, own, true);
        assert_eq!(reopened.place(&ping("a", "b"), true), (None, None));
    }

    #[test]
    fn a_series_that_went_gets_a_new_number() {
        let mut catalog = Catalog::default();
        let own = Series::new(QOS_METRICS, [("target", "x")]);
        assert_eq!(catalog.place(&own, true), (Some(1), Some(Change(1, own.clone(), false))));
        assert_eq!(catalog.place(&own, true), (Some(1), None));
        catalog.forget(1);
        assert_eq!(catalog.place(&own, true).0, Some(2));
    }
}
