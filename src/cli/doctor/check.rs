//! One check: its name, how it is, what was found, and the way out. Pure.
//!
//! What is not as it should be cannot be said without its fix.

use std::fmt::Write;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Worth knowing, and nothing to be done.
    Note,
    /// It works, but worse than it could, or not for long.
    Warn,
    /// It does not work.
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What came of looking at one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    name: String,
    state: State,
    found: String,
    fix: Option<String>,
}

impl Check {
    /// As it should be.
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), fix: None }
    }

    /// Nothing to be done.
    pub(super) fn note(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::ok(name, found) }
    }

    /// Something should be done: a command, or a line of the config.
    pub(super) fn warn(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Warn, fix: Some(fix.into()), ..Self::ok(name, found) }
    }

    /// Something must be done: a command, or a line of the config.
    pub(super) fn fail(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(name, found, fix) }
    }

    /// The same, as what nothing is to be done about.
    pub(super) fn noted(self) -> Self {
        Self { state: State::Note, ..self }
    }

    /// How it is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// What was found.
    #[cfg(test)]
    pub(super) fn found(&self) -> &str {
        &self.found
    }

    /// What to do.
    #[cfg(test)]
    pub(super) fn fix(&self) -> &str {
        self.fix.as_deref().unwrap_or_default()
    }
}

/// One line a check, for programs.
pub(super) fn plain(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, state, found, fix } in checks {
        let fix = fix.as_ref().map(|fix| format!("; fix: {fix}")).unwrap_or_default();
        line(&mut text, &format!("{} {name}: {found}{fix}", state.word()));
    }
    text
}

/// In columns, each fix below what it is for, and a last line that counts.
pub(super) fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, state, found, fix } in checks {
        line(&mut text, &format!("{:<4}  {name:<width$}  {found}", state.word()));
        if let Some(fix) = fix {
            line(&mut text, &format!("{:<4}  {:<width$}  fix: {fix}", "", ""));
        }
    }
    let count = |wanted| checks.iter().filter(|check| check.state == wanted).count();
    let summary = match (count(State::Fail), count(State::Warn)) {
        (0, 0) => "nothing failed".to_owned(),
        (failed, warned) => format!("{failed} failed, {warned} could be better"),
    };
    line(&mut text, &format!("{} checks, {summary}", checks.len()));
    text
}

/// One line, whatever others wrote into it.
fn line(text: &mut String, line: &str) {
    for c in line.chars() {
        if c.is_control() {
            // Writing into memory cannot fail.
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> [Check; 3] {
        [Check::ok("clock", "set"), Check::fail("dns.x", "no\nanswer", "correct it"), Check::note("a", "b")]
    }

    #[test]
    fn in_a_pipe_a_check_is_one_line_whatever_was_found() {
        assert_eq!(plain(&checks()), "ok clock: set\nfail dns.x: no\\nanswer; fix: correct it\nnote a: b\n");
    }

    #[test]
    fn on_a_terminal_columns_are_aligned_and_a_fix_stands_below() {
        let expected = "ok    clock  set\nfail  dns.x  no\\nanswer\n             fix: correct it\nnote  a      b\n3 checks, 1 failed, 0 could be better\n";
        assert_eq!(table(&checks()), expected);
        assert_eq!(table(&checks()[..1]), "ok    clock  set\n1 checks, nothing failed\n");
    }
}
