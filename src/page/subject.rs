//! Which series a page or a chart is of.

use std::collections::BTreeSet;

use super::link::{TAG, own_tags};
use super::{Asked, Sight};
use crate::history::HistoryError;
use crate::measurement::Series;
use crate::mesh::agent::plan::{KIND, PROBE};

/// Of a family that nobody told.
const AUTO: &str = "auto";

/// The decoded parts of a path. There is one series of each family and of each source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The kind of probe.
    pub kind: String,
    /// The probe's name.
    pub probe: String,
    /// The target, as in the rows.
    pub target: String,
}

impl Subject {
    /// Its series, in a fixed order: those that are scheduled and those that were. `?family=`, `?source=` and of each own tag
    /// `?tag.KEY=` choose among them.
    pub async fn series(&self, sight: &Sight, asked: &Asked) -> Result<Vec<Series>, HistoryError> {
        let subject = self.clone();
        let mut found = sight.history.series_where(move |series| subject.is_of(series)).await?;
        found.extend(sight.board.scheduled());
        self.choose(&mut found, asked);
        found.sort();
        found.dedup();
        // Of very many only the first are shown: those that are still measured.
        let scheduled = BTreeSet::from_iter(sight.board.scheduled());
        found.sort_by_key(|series| !scheduled.contains(series));
        Ok(found)
    }

    /// Those of them that are scheduled: known also while the disk does not have the others.
    pub fn scheduled(&self, sight: &Sight, asked: &Asked) -> Vec<Series> {
        let mut scheduled = sight.board.scheduled();
        self.choose(&mut scheduled, asked);
        scheduled
    }

    fn choose(&self, series: &mut Vec<Series>, asked: &Asked) {
        series.retain(|series| self.is_of(series) && is_asked(series, asked, "source") && has_tags(series, asked));
        let is_told = |series: &Series| is_asked(series, asked, "family") || (self.is_mesh() && series.tag("family") == Some(AUTO));
        // Rows of `Ping` do not tell their family: those of a pair are all shown in one series, whichever is asked for.
        if !self.is_mesh() || series.iter().any(is_told) {
            series.retain(is_told);
        }
    }

    fn is_mesh(&self) -> bool {
        self.kind == KIND && self.probe == PROBE
    }

    fn is_of(&self, series: &Series) -> bool {
        [("kind", &self.kind), ("probe", &self.probe), ("target", &self.target)].iter().all(|(key, value)| series.tag(key) == Some(value))
    }
}

/// Leaves the series whose own address this is, if it is one's: an address with the family, the source and each own tag of a
/// series, as the page writes it, is of that series, also beside others that have a tag more.
pub(super) fn keep_addressed(found: &mut Vec<Series>, asked: &Asked) {
    let tags = asked.query.iter().filter(|(key, value)| key.starts_with(TAG) && !value.is_empty()).count();
    let is_whole = tags > 0 || (asked.get("family").is_some() && asked.get("source").is_some());
    let is_addressed = |series: &Series| own_tags(series).count() == tags;
    if is_whole && found.iter().any(is_addressed) {
        found.retain(is_addressed);
    }
}

fn is_asked(series: &Series, asked: &Asked, key: &str) -> bool {
    asked.get(key).is_none_or(|wanted| series.tag(key) == Some(wanted))
}

fn has_tags(series: &Series, asked: &Asked) -> bool {
    let mut tags = asked.query.iter().filter_map(|(key, value)| Some((key.strip_prefix(TAG)?, value)));
    tags.all(|(key, value)| value.is_empty() || series.tag(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::QOS_METRICS;
    use crate::page::testing::asked;

    fn found(probe: &str, families: &[&str], wanted: &str) -> Vec<String> {
        let subject = Subject { kind: "ping".into(), probe: probe.into(), target: "b".into() };
        let of =
            |family| Series::new(QOS_METRICS, [("kind", "ping"), ("probe", probe), ("target", "b"), ("source", "a"), ("family", family)]);
        let mut series: Vec<Series> = families.iter().map(|family| of(*family)).collect();
        subject.choose(&mut series, &asked(&[("family", wanted), ("source", "a")]));
        series.iter().map(|series| series.tag("family").unwrap().to_owned()).collect()
    }

    #[test]
    fn series_that_differ_in_their_own_tags_can_be_chosen() {
        let subject = Subject { kind: "ping".into(), probe: "core".into(), target: "b".into() };
        let of = |site| Series::new(QOS_METRICS, [("kind", "ping"), ("probe", "core"), ("target", "b"), ("site", site)]);
        let mut series = vec![of("milan"), of("rome")];
        subject.choose(&mut series, &asked(&[("tag.site", "rome")]));
        assert_eq!(series, [of("rome")]);
    }

    #[test]
    fn the_address_of_each_series_leads_to_it_also_beside_others_that_have_a_tag_more() {
        let fixed = [("kind", "ping"), ("probe", "core"), ("target", "b"), ("family", "ipv4"), ("source", "a")];
        let of = |own: &[(&str, &str)]| Series::new(QOS_METRICS, fixed.into_iter().chain(own.iter().copied()));
        let all = [of(&[]), of(&[("site", "milan")]), of(&[("site", "rome")]), of(&[("rack", "7"), ("site", "milan")])];
        let subject = Subject { kind: "ping".into(), probe: "core".into(), target: "b".into() };
        let found = |query: &[(String, String)]| {
            let asked = Asked { query: query.iter().cloned().collect() };
            let mut found = all.to_vec();
            subject.choose(&mut found, &asked);
            keep_addressed(&mut found, &asked);
            found
        };
        for series in &all {
            assert_eq!(found(&crate::page::link::choice(series)), std::slice::from_ref(series));
        }
        let source = ("source".to_owned(), "a".to_owned());
        assert_eq!(found(&[source]).len(), 4, "what names no series alone chooses as before");
    }

    #[test]
    fn of_a_pair_of_a_mesh_the_family_may_not_be_told_by_its_rows() {
        assert_eq!(found("mesh", &["auto"], "ipv4"), ["auto"], "nobody told it yet");
        assert_eq!(found("mesh", &["ipv6"], "ipv4"), ["ipv6"], "it was told by an absence over the other one");
        assert_eq!(found("mesh", &["ipv4", "ipv6"], "ipv4"), ["ipv4"]);
        assert_eq!(found("core", &["auto", "ipv6"], "ipv4"), Vec::<String>::new());
    }
}
