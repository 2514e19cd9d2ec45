//! Charts: from a range of columns to SVG, to CSV, and to words for who does not see it. Pure but for `answer`.

use super::{Answer, Asked, Sight, Subject};
use crate::history::range::Range;

/// The charts of a kind. A chart is named by the field it is about, in the address and in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chart {
    /// As in the address: `?field=`.
    pub field: &'static str,
    /// For people.
    pub title: &'static str,
    /// Of the vertical axis.
    pub unit: &'static str,
}

/// A chart, ready to be put into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// An `svg` element, with title, description and role, safe to be put into HTML as it is.
    pub svg: String,
    /// What it shows, in sentences: the text alternative, and what stands below it.
    pub words: String,
}

/// The charts of a kind of probe, the most telling first; none for a kind that is not known.
pub fn charts(_kind: &str) -> &'static [Chart] {
    &[]
}

/// Draws. `name` says of what: for the title.
pub fn draw(_chart: &Chart, _name: &str, _range: &Range) -> Drawn {
    Drawn { svg: String::new(), words: String::new() }
}

/// A line of the last values, for a row of the overview: an `svg` element without axes. None = no value in that slot.
pub fn sparkline(_values: &[Option<f32>]) -> String {
    String::new()
}

/// A chart at its own address, as SVG.
pub async fn svg(_sight: &Sight, _subject: &Subject, _asked: &Asked) -> Answer {
    Answer::refused(501, "")
}

/// What a chart is drawn of, as CSV.
pub async fn csv(_sight: &Sight, _subject: &Subject, _asked: &Asked) -> Answer {
    Answer::refused(501, "")
}
