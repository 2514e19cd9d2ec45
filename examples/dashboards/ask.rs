//! What a panel asks of the database, in neither language.

/// What becomes of several values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Mean,
    Min,
    Max,
    Sum,
    Last,
    Count,
}

impl Aggregate {
    /// Both languages have the same word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Last => "last",
            Self::Count => "count",
        }
    }
}

/// Over which time values become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Each step of the panel: a line.
    Steps(Aggregate),
    /// By how much a counter grew from step to step; a restart, which sets it back, is left out.
    Growth,
    /// All that is looked at: a row of a table.
    Whole(Aggregate),
}

/// The tags that tell the series of `qos_metrics` apart.
pub(crate) const SERIES: &[&str] = &["target", "source", "kind", "probe", "family"];

/// One question: a line, or a column, for each group of series.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) measurement: &'static str,
    pub(crate) field: &'static str,
    /// What it is called where several figures stand beside each other.
    pub(crate) shown: &'static str,
    pub(crate) over: Over,
    /// The tags whose values are told apart.
    pub(crate) by: &'static [&'static str],
    /// The tags that a viewer chooses, each with the variable that has the choice.
    pub(crate) chosen: &'static [(&'static str, &'static str)],
    /// Of an integer field, the only value that counts.
    pub(crate) only: Option<i64>,
}

impl Ask {
    /// How a line is called, of the words in which a language has the value of a tag and the name of the figure.
    pub(crate) fn legend(&self, figures: usize, tag: impl Fn(&str) -> String, figure: &str) -> String {
        let Some((first, rest)) = self.by.split_first() else { return figure.to_owned() };
        let rest: Vec<_> = rest.iter().map(|name| tag(name)).collect();
        let series = if rest.is_empty() { tag(first) } else { format!("{} ({})", tag(first), rest.join(", ")) };
        if figures > 1 { format!("{figure} {series}") } else { series }
    }
}
