//! Which series a page or a chart is of, and if there is none, why.

use std::collections::BTreeSet;

use super::link::{TAG, own_tags};
use super::shown::shown;
use super::{Asked, Sight};
use crate::history::HistoryError;
use crate::measurement::Series;
use crate::mesh::agent::plan::{KIND, PROBE};
use crate::mesh::list::Proto;

/// Of a family that nobody told.
const AUTO: &str = "auto";
/// How many values are told of which one could be asked for.
const TOLD: usize = 6;

/// Why there is no series to show.
#[derive(Debug, thiserror::Error)]
pub enum NoSeries {
    /// There is no such target, of whatever family and source.
    #[error("nothing is known of {0}: neither the config nor the journal has it")]
    Unknown(String),
    /// There is, and none of its series is the one that was asked for.
    #[error("{0}")]
    NotThisOne(String),
    /// The disk does not say which series there were.
    #[error(transparent)]
    Away(#[from] HistoryError),
}

impl NoSeries {
    /// As HTTP tells it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) | Self::NotThisOne(_) => 404,
            Self::Away(_) => 503,
        }
    }
}

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
    /// Its series, in a fixed order, of which there is at least one: those that are scheduled and those that were. `?family=`,
    /// `?source=` and of each own tag `?tag.KEY=` choose among them.
    pub async fn series(&self, sight: &Sight, asked: &Asked) -> Result<Vec<Series>, NoSeries> {
        let subject = self.clone();
        let mut found = sight.history.series_where(move |series| subject.is_of(series)).await?;
        found.extend(sight.board.scheduled());
        let mut chosen = self.chosen(found, asked)?;
        // Of very many only the first are shown: those that are still measured.
        let scheduled = BTreeSet::from_iter(sight.board.scheduled());
        chosen.sort_by_key(|series| !scheduled.contains(series));
        Ok(chosen)
    }

    /// The same; while the disk does not say which there were, those that are scheduled, and why there are no others.
    pub async fn known(&self, sight: &Sight, asked: &Asked) -> Result<(Vec<Series>, Option<HistoryError>), NoSeries> {
        match self.series(sight, asked).await {
            Err(NoSeries::Away(error)) => self.without_disk(sight.board.scheduled(), asked, error),
            found => Ok((found?, None)),
        }
    }

    /// What is not scheduled may be on the disk all the same: nobody can say that it is not there.
    fn without_disk(
        &self,
        scheduled: Vec<Series>,
        asked: &Asked,
        error: HistoryError,
    ) -> Result<(Vec<Series>, Option<HistoryError>), NoSeries> {
        match self.chosen(scheduled, asked) {
            Ok(chosen) => Ok((chosen, Some(error))),
            Err(_) => Err(NoSeries::Away(error)),
        }
    }

    fn chosen(&self, mut all: Vec<Series>, asked: &Asked) -> Result<Vec<Series>, NoSeries> {
        all.retain(|series| self.is_of(series));
        all.sort();
        all.dedup();
        if all.is_empty() {
            return Err(NoSeries::Unknown(shown(&format!("{}/{}/{}", self.kind, self.probe, self.target)).to_string()));
        }
        let mut chosen = all.clone();
        self.choose(&mut chosen, asked);
        if chosen.is_empty() { Err(NoSeries::NotThisOne(instead(&all, asked))) } else { Ok(chosen) }
    }

    fn choose(&self, series: &mut Vec<Series>, asked: &Asked) {
        series.retain(|series| is_asked(series, asked, "source") && has_tags(series, asked));
        // Rows of `Ping` do not tell their family: those of a pair are all shown in one series, whichever is asked for.
        let families = [AUTO, Proto::V4.family(), Proto::V6.family()];
        let may_be_untold = self.is_mesh() && asked.get("family").is_none_or(|family| families.contains(&family));
        let is_told = |series: &Series| is_asked(series, asked, "family") || (may_be_untold && series.tag("family") == Some(AUTO));
        if !may_be_untold || series.iter().any(is_told) {
            series.retain(is_told);
        }
    }

    /// Whether its series are pairs of a mesh.
    pub(super) fn is_mesh(&self) -> bool {
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

/// What could be asked for instead, of a target that has series, but none that was asked for.
fn instead(all: &[Series], asked: &Asked) -> String {
    let choices = asked.query.iter().filter(|(_, value)| !value.is_empty());
    for (key, wanted) in choices.filter(|(key, _)| ["family", "source"].contains(&key.as_str()) || key.starts_with(TAG)) {
        let values: BTreeSet<&str> = all.iter().filter_map(|series| series.tag(key.strip_prefix(TAG).unwrap_or(key))).collect();
        if values.is_empty() {
            return format!("this target has no {}", shown(key));
        }
        if !values.contains(wanted.as_str()) {
            return format!(
                "{} is {:?}, expected one of {}",
                shown(key),
                shown(wanted).to_string(),
                told(values.into_iter().map(str::to_owned))
            );
        }
    }
    let told_of = |series: &Series| {
        let choice = super::link::choice(series).into_iter().map(|(key, value)| format!("{key}={value}"));
        choice.collect::<Vec<_>>().join("&")
    };
    format!("this target has no series with all of that, expected one of {}", told(all.iter().map(told_of)))
}

/// The first of them, and how many more there are.
fn told(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(TOLD);
    let first: Vec<_> = all.take(TOLD).map(|one| shown(&one).to_string()).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &more
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
        assert_eq!(found("mesh", &["ipv6"], "auto"), ["ipv6"], "an address that was kept from before it was told");
        assert_eq!(found("mesh", &["ipv6", "auto"], "ipv5"), Vec::<String>::new(), "this is no family");
        assert_eq!(found("core", &["auto", "ipv6"], "ipv4"), Vec::<String>::new());
    }

    fn refused(query: &[(&str, &str)]) -> String {
        let subject = Subject { kind: "ping".into(), probe: "core".into(), target: "b".into() };
        let of = |family, source: &str| {
            let tags = [("kind", "ping"), ("probe", "core"), ("target", "b"), ("family", family), ("source", source), ("site", "milan")];
            Series::new(QOS_METRICS, tags)
        };
        let all = vec![of("ipv4", "rome"), of("ipv6", "rome"), of("ipv6", "oslo")];
        subject.chosen(all, &asked(query)).unwrap_err().to_string()
    }

    #[test]
    fn who_chooses_what_there_is_not_is_told_what_there_is() {
        assert_eq!(refused(&[("family", "ipv5")]), r#"family is "ipv5", expected one of ipv4, ipv6"#);
        assert_eq!(refused(&[("source", "x"), ("family", "ipv4")]), r#"source is "x", expected one of oslo, rome"#);
        assert_eq!(refused(&[("tag.site", "x")]), r#"tag.site is "x", expected one of milan"#);
        assert_eq!(refused(&[("tag.rack", "7")]), "this target has no tag.rack");
        let none = refused(&[("source", "oslo"), ("family", "ipv4")]);
        let those =
            "family=ipv4&source=rome&tag.site=milan, family=ipv6&source=oslo&tag.site=milan, family=ipv6&source=rome&tag.site=milan";
        assert_eq!(none, format!("this target has no series with all of that, expected one of {those}"));
    }

    #[test]
    fn a_target_that_nobody_knows_is_told_from_one_that_has_no_such_series() {
        let subject = Subject { kind: "ping".into(), probe: "core".into(), target: "z".into() };
        let of = |target| Series::new(QOS_METRICS, [("kind", "ping"), ("probe", "core"), ("target", target), ("family", "ipv4")]);
        let why = subject.chosen(vec![of("b")], &Asked::default()).unwrap_err();
        assert_eq!(
            (why.status(), why.to_string().as_str()),
            (404, "nothing is known of ping/core/z: neither the config nor the journal has it")
        );
    }

    #[test]
    fn while_the_disk_does_not_say_what_there_was_nothing_is_called_unknown() {
        let subject = Subject { kind: "ping".into(), probe: "core".into(), target: "b".into() };
        let of = |target| Series::new(QOS_METRICS, [("kind", "ping"), ("probe", "core"), ("target", target), ("family", "ipv4")]);
        let found = |target, query: &[(&str, &str)]| {
            let error = HistoryError::Failing("no disk".to_owned());
            subject
                .without_disk(vec![of(target)], &asked(query), error)
                .map(|(found, why)| (found, why.map(|why| why.to_string())))
                .map_err(|why| (why.status(), why.to_string()))
        };
        let sentence = "the history cannot be read: no disk".to_owned();
        let away = (503, sentence.clone());
        assert_eq!(found("z", &[]), Err(away.clone()));
        assert_eq!(found("b", &[("family", "ipv6")]), Err(away));
        assert_eq!(found("b", &[]), Ok((vec![of("b")], Some(sentence))));
    }

    #[test]
    fn of_very_many_values_the_first_are_told_and_each_is_fit_to_be_seen() {
        let all = (0..1_000).map(|n| format!("p{n:03}\u{202e}"));
        assert_eq!(told(all).matches("⟨U+202E⟩").count(), TOLD);
        assert!(told((0..1_000).map(|n| n.to_string())).ends_with(", 5 and 994 more"));
    }
}
