//! Which series a page or a chart is of.

use super::{Asked, Sight};
use crate::history::HistoryError;
use crate::measurement::Series;

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
    /// Its series, in a fixed order: those that are scheduled and those that were. `?family=` and `?source=` choose among them.
    pub async fn series(&self, sight: &Sight, asked: &Asked) -> Result<Vec<Series>, HistoryError> {
        let subject = self.clone();
        let mut found = sight.history.series_where(move |series| subject.is_of(series)).await?;
        found.extend(sight.board.scheduled());
        found.retain(|series| self.is_of(series) && chosen(series, asked));
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Those of them that are scheduled: known also while the disk does not have the others.
    pub fn scheduled(&self, sight: &Sight, asked: &Asked) -> Vec<Series> {
        sight.board.scheduled().into_iter().filter(|series| self.is_of(series) && chosen(series, asked)).collect()
    }

    fn is_of(&self, series: &Series) -> bool {
        [("kind", &self.kind), ("probe", &self.probe), ("target", &self.target)].iter().all(|(key, value)| series.tag(key) == Some(value))
    }
}

fn chosen(series: &Series, asked: &Asked) -> bool {
    ["family", "source"].iter().all(|key| asked.get(key).is_none_or(|wanted| series.tag(key) == Some(wanted)))
}
