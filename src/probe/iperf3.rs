//! iperf3: what a path carries, measured by the program that everybody else measures it with.
//!
//! The promise: a run ends within its deadline whatever the server and the program do, leaves no process behind, and never
//! overlaps another test of this host; a figure is what iperf3 measured, or not there.
//!
//! [`mod@test`] knows the command line and [`report`] what the program's output means, both pure; [`process`] runs it, [`engine`]
//! makes runs of it. [`server`] is the other side: a supervised `iperf3 -s`.

use std::sync::Arc;

use crate::measurement::FieldInfo;
use crate::probe::{Kind, Naming, Planned, Shared};
use crate::settings::KeyProblem;

pub mod engine;
pub mod process;
pub mod report;
pub mod server;
pub mod settings;
pub mod test;

/// The kind.
pub struct Iperf3;

impl Kind for Iperf3 {
    const NAME: &'static str = "iperf3";
    type Settings = settings::Settings;
    type Job = settings::Job;
    type Lent = engine::Lent;
    type Engine = engine::Iperf3Engine;

    fn fields() -> &'static [FieldInfo] {
        report::FIELDS
    }

    fn plan(settings: &Self::Settings, naming: &Naming) -> Result<Vec<Planned<Self::Job>>, Vec<KeyProblem>> {
        settings::plan(settings, naming)
    }

    fn open() -> Self::Lent {
        engine::Lent::default()
    }

    fn engine(lent: Arc<Self::Lent>, shared: Shared) -> Result<Self::Engine, String> {
        Ok(engine::Iperf3Engine::new(lent, shared))
    }
}
