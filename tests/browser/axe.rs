//! axe-core, which tells what a page makes hard for those who do not see, hear or move as others do.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::driver::Browser;

/// A rule that a page breaks.
#[derive(Debug, Deserialize)]
pub(crate) struct Violation {
    /// The rule.
    pub(crate) id: String,
    /// How much it keeps people from.
    pub(crate) impact: String,
    /// Why, and at which elements.
    pub(crate) nodes: Vec<String>,
}

impl Violation {
    /// For whoever has to mend it.
    pub(crate) fn told(&self) -> String {
        format!("{} ({}):\n  {}", self.id, self.impact, self.nodes.join("\n  "))
    }
}

/// What keeps people from using the page: rules broken with the impact `serious` or `critical`.
pub(crate) fn serious(browser: &Browser) -> Vec<Violation> {
    let mut found = violations(browser);
    found.retain(|violation| ["serious", "critical"].contains(&violation.impact.as_str()));
    found
}

/// Every rule that the page breaks.
pub(crate) fn violations(browser: &Browser) -> Vec<Violation> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/axe-core/axe.min.js");
    let axe =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}: run tests/tools.sh browser first", path.display()));
    let run = "return axe.run(document, arguments[0]).then(found => found.violations.map(rule => ({
        id: rule.id, impact: rule.impact || '', nodes: rule.nodes.map(node => node.target + ': ' + node.failureSummary) })));";
    let found: Value = browser.run(&format!("{axe};{run}"), &[json!({ "resultTypes": ["violations"], "preload": false })]);
    serde_json::from_value(found).expect("axe gives what it was asked for")
}
