//! Ping: ICMP echo, measured as the wire saw it.
//!
//! The promise: a round-trip time is from the kernel's stamps, at both ends where it gives them; loss is what the network
//! lost, told apart from what this host did not send or read, and from what somebody said could not be delivered.
//!
//! [`session`] with its [`run`]s of [`flight`]s decides; [`engine`] and its [`exchange`] act, at the [`pace`] that the host can
//! bear. [`packet`] and [`control`] know the bytes, [`wire`] what the kernel says with them; [`socket`] and [`port`] are the
//! sockets, [`report`] makes the row.

use std::sync::Arc;

use crate::measurement::{Counter, FieldInfo};
use crate::probe::{Kind, Naming, Planned, Shared};
use crate::settings::KeyProblem;

pub mod control;
pub mod engine;
pub mod exchange;
pub mod filter;
pub mod flight;
pub mod pace;
pub mod packet;
pub mod port;
pub mod report;
pub mod run;
pub mod session;
pub mod settings;
pub mod socket;
pub mod wire;

/// The kind.
pub struct Ping;

impl Kind for Ping {
    const NAME: &'static str = "ping";
    type Settings = settings::Settings;
    type Job = settings::Job;
    type Lent = engine::Lent;
    type Engine = engine::PingEngine;

    fn fields() -> &'static [FieldInfo] {
        report::FIELDS
    }

    fn plan(settings: &Self::Settings, naming: &Naming) -> Result<Vec<Planned<Self::Job>>, Vec<KeyProblem>> {
        settings::plan(settings, naming)
    }

    fn open() -> Self::Lent {
        engine::Lent::open()
    }

    fn counters(lent: &Self::Lent) -> Vec<Counter> {
        lent.counters()
    }

    fn engine(lent: Arc<Self::Lent>, shared: Shared) -> Result<Self::Engine, String> {
        engine::PingEngine::new(lent, shared)
    }
}
