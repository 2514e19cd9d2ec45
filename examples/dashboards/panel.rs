//! Panels, sections and boards, in neither language.

use super::ask::{Aggregate, Ask, Over};

/// A dashboard.
pub(crate) struct Board {
    /// Its file, and part of what Grafana knows it by: for ever.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) variables: Vec<Variable>,
    pub(crate) sections: Vec<Section>,
}

/// What a viewer chooses: values of a tag.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// Of series of all these.
    pub(crate) measurements: &'static [&'static str],
    pub(crate) tag: &'static str,
    /// Of series alone that have no such tag, or this value of it.
    pub(crate) only: Option<(&'static str, &'static str)>,
    /// Among those of what was chosen before.
    pub(crate) chosen: &'static [(&'static str, &'static str)],
    /// Not shown: only panels are repeated by it.
    pub(crate) hidden: bool,
}

/// Panels below a heading.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Asks nothing of the database until it is opened.
    pub(crate) closed: bool,
    pub(crate) panels: Vec<Panel>,
}

/// How a panel looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Lines,
    /// Lines that add up.
    Stacked,
    Bars,
    /// The band from `min` to `max`, with lines in it.
    Smoke,
    /// A colour for each result, over time.
    Results,
    /// A row for each series, with its result in words.
    Table,
    /// Sources down, targets across.
    Matrix,
}

/// A panel.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) shape: Shape,
    /// As Grafana names units.
    pub(crate) unit: &'static str,
    pub(crate) asks: Vec<Ask>,
    /// From which value on it is yellow, and red; downwards if the first is greater.
    pub(crate) thresholds: Option<(f64, f64)>,
    /// How long nothing may come before a line breaks, in ms.
    pub(crate) hole: u32,
    /// In 24ths.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Once for each value of this variable.
    pub(crate) repeat: Option<&'static str>,
}

/// Where the figures of a panel come from: what all of its questions share.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) measurement: &'static str,
    pub(crate) by: &'static [&'static str],
    pub(crate) chosen: &'static [(&'static str, &'static str)],
}

impl Origin {
    /// The same, with other series told apart.
    pub(crate) fn by(self, by: &'static [&'static str]) -> Self {
        Self { by, ..self }
    }

    fn ask(self, over: Over, field: &'static str, shown: &'static str) -> Ask {
        Ask { measurement: self.measurement, field, shown, over, by: self.by, chosen: self.chosen, only: None }
    }

    /// The mean of a field in each step.
    pub(crate) fn mean(self, field: &'static str, shown: &'static str) -> Ask {
        self.steps(Aggregate::Mean, field, shown)
    }

    /// Another aggregate of a field in each step.
    pub(crate) fn steps(self, aggregate: Aggregate, field: &'static str, shown: &'static str) -> Ask {
        self.ask(Over::Steps(aggregate), field, shown)
    }

    /// How much a counter grew in each step.
    pub(crate) fn growth(self, field: &'static str, shown: &'static str) -> Ask {
        self.ask(Over::Growth, field, shown)
    }

    /// One value of all that is looked at.
    pub(crate) fn whole(self, aggregate: Aggregate, field: &'static str, shown: &'static str) -> Ask {
        self.ask(Over::Whole(aggregate), field, shown)
    }

    /// How often an integer field had this value, in each step.
    pub(crate) fn times(self, field: &'static str, value: i64, shown: &'static str) -> Ask {
        Ask { only: Some(value), ..self.ask(Over::Steps(Aggregate::Count), field, shown) }
    }
}

/// Five minutes: rows that come once a minute are one line.
const HOLE: u32 = 5 * 60 * 1000;

impl Panel {
    /// A third of the width.
    pub(crate) fn new(shape: Shape, title: &'static str, unit: &'static str, description: &'static str, asks: Vec<Ask>) -> Self {
        let (thresholds, repeat) = (None, None);
        Self { title, description, shape, unit, asks, thresholds, hole: HOLE, width: 8, height: 8, repeat }
    }

    /// As wide and high as this.
    pub(crate) fn sized(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    /// Yellow and red from these values on.
    pub(crate) fn warns(self, yellow: f64, red: f64) -> Self {
        Self { thresholds: Some((yellow, red)), ..self }
    }

    /// Rows that come once an hour are one line.
    pub(crate) fn hourly(self) -> Self {
        Self { hole: 150 * 60 * 1000, ..self }
    }

    /// Once for each value of a variable.
    pub(crate) fn repeated(self, variable: &'static str) -> Self {
        Self { repeat: Some(variable), ..self }
    }
}
