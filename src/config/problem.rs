//! What is wrong with a config, and where.

use std::fmt;
use std::path::PathBuf;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Line and column from 1, if it is not the file as a whole.
        position: Option<(usize, usize)>,
    },
    /// In a variable of the environment.
    Environment(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, such as `ping.core.targets[1].host`; empty if it is about no key.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
    /// The order of its layer, by which problems are sorted.
    pub(super) layer: usize,
}

/// Everything that is wrong with a config, in the order of files and lines. Displays one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts them.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.layer, a.place.order(), &a.key).cmp(&(b.layer, b.place.order(), &b.key)));
        Self(problems)
    }

    /// Each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.0.iter()
    }
}

impl Place {
    fn order(&self) -> ((usize, usize), &str) {
        match self {
            Self::File { position, .. } => (position.unwrap_or_default(), ""),
            Self::Environment(name) => ((0, 0), name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, position: Some((line, column)) } => write!(f, "{}:{line}:{column}", path.display()),
            Self::File { path, position: None } => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        let line = format!("{}: {}{separator}{}", self.place, self.key, self.message);
        // One problem is one line on a terminal, whatever names and values contain.
        line.chars().try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, problem)| write!(f, "{}{problem}", if n == 0 { "" } else { "\n" }))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_it_is_about() {
        let place = Place::File { path: "/etc/a\nb".into(), position: Some((3, 1)) };
        let problem = Problem { place, key: "x".into(), message: "is \u{1b}[0m".into(), layer: 0 };
        assert_eq!(problem.to_string(), "/etc/a\\nb:3:1: x: is \\u{1b}[0m");
    }

    #[test]
    fn problems_are_sorted_by_layer_and_line() {
        let at = |layer, line, key: &str| Problem {
            place: Place::File { path: "f".into(), position: Some((line, 1)) },
            key: key.into(),
            message: String::new(),
            layer,
        };
        let problems = Problems::new(vec![at(1, 1, "d"), at(0, 10, "c"), at(0, 9, "b"), at(0, 9, "a")]);
        assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
