//! The part of the environment that is config: `QOSD__SECTION__KEY`.

use config::Environment;

use super::Names;
use super::document::Step;
use crate::config::Env;
use crate::settings::is_plain;

const PREFIX: &str = "QOSD";
const SEPARATOR: &str = "__";

/// The variables that set keys.
pub(super) struct Variables {
    names: Names,
    values: config::Map<String, String>,
}

impl Variables {
    /// Takes those out of the environment, with what is wrong with their names.
    ///
    /// Names become keys in lower case. The `config` crate would take brackets in them for indices and make lists of any
    /// length; so only plain names get to it.
    pub(super) fn new(env: &Env) -> (Self, Vec<(String, String)>) {
        let mut variables = Self { names: Names::new(), values: config::Map::new() };
        let mut problems = Vec::new();
        for (name, value) in env {
            let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(SEPARATOR)) else { continue };
            let keys: Vec<String> = rest.split(SEPARATOR).map(str::to_lowercase).collect();
            if !keys.iter().all(|key| is_plain(key)) {
                problems.push((name.clone(), "is no key, expected a name such as QOSD__AGENT__NAME".to_owned()));
            } else if let Some(other) = variables.conflict(&keys) {
                problems.push((name.clone(), format!("sets what {other} sets")));
            } else {
                variables.values.insert(name.clone(), value.clone());
                variables.names.insert(keys, name.clone());
            }
        }
        (variables, problems)
    }

    /// A variable that sets the same key, or a table around or below it.
    fn conflict(&self, keys: &[String]) -> Option<&String> {
        let around = (1..=keys.len()).find_map(|end| self.names.get(&keys[..end]));
        around.or_else(|| self.below(keys))
    }

    /// For the `config` crate. Values stay texts: parsing them here would make `7` of a secret `007`.
    pub(super) fn source(&self) -> Environment {
        let environment = Environment::with_prefix(PREFIX).prefix_separator(SEPARATOR).separator(SEPARATOR);
        environment.try_parsing(false).source(Some(self.values.clone()))
    }

    /// The variable that stands for a path of which the files have the first `known` steps: it sets the key or what is
    /// around it, or it alone makes a table on the way.
    pub(super) fn find(&self, steps: &[Step], known: usize) -> Option<&str> {
        let plain: Vec<String> = steps.iter().map_while(Step::key).map(str::to_owned).collect();
        let around = (1..=plain.len()).rev().find_map(|end| self.names.get(&plain[..end]));
        let inside = || (known + 1..=plain.len()).rev().find_map(|end| self.below(&plain[..end]));
        around.or_else(inside).map(String::as_str)
    }

    fn below(&self, keys: &[String]) -> Option<&String> {
        self.names.range(keys.to_vec()..).next().filter(|(other, _)| other.starts_with(keys)).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(names: &[&str]) -> Vec<String> {
        let env = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        Variables::new(&env).1.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn names_that_are_no_keys_are_refused() {
        let wrong = ["QOSD__", "QOSD__A[4000000000]", "QOSD__A____B", "QOSD__A.B", "QOSD__Ä"];
        assert_eq!(problems(&wrong).len(), wrong.len());
        assert_eq!(problems(&["QOSD_CONFIG", "QOSD", "PATH", "QOSD__AGENT__NAME", "QOSD__PING__GATE-1__COUNT"]), [""; 0]);
    }

    #[test]
    fn two_variables_for_one_key_are_refused() {
        assert_eq!(problems(&["QOSD__AGENT__NAME", "QOSD__agent__name"]), ["QOSD__agent__name"]);
        assert_eq!(problems(&["QOSD__AGENT", "QOSD__AGENT__NAME"]), ["QOSD__AGENT__NAME"]);
        assert_eq!(problems(&["QOSD__AGENT__NAME", "QOSD__agent"]), ["QOSD__agent"]);
    }
}
