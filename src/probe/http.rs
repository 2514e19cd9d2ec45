//! HTTP: a GET as users feel it, a download, and an upload.
//!
//! The promise: each phase of a request is measured where it happens, and the phases add up to the whole; a server can
//! neither hold up a run beyond its time-outs, nor make it read more than the cap, nor send it into the operator's own
//! network.
//!
//! [`timing`], [`destination`], [`failure`] and [`report`] decide, [`engine`] does; [`client`] and its [`hooks`] know the
//! HTTP library, [`headers`] the secrets.

use std::sync::Arc;

use crate::measurement::FieldInfo;
use crate::probe::{Kind, Naming, Planned, Shared};
use crate::settings::KeyProblem;

pub mod client;
pub mod destination;
pub mod engine;
pub mod failure;
pub mod headers;
pub mod hooks;
pub mod report;
pub mod settings;
pub mod timing;

/// The kind.
pub struct Http;

impl Kind for Http {
    const NAME: &'static str = "http";
    const SECRET_FILES: &'static [&'static str] = &["headers_file"];
    type Settings = settings::Settings;
    type Job = settings::Job;
    type Lent = ();
    type Engine = engine::HttpEngine;

    fn fields() -> &'static [FieldInfo] {
        report::FIELDS
    }

    fn plan(settings: &Self::Settings, naming: &Naming) -> Result<Vec<Planned<Self::Job>>, Vec<KeyProblem>> {
        settings::plan(settings, naming)
    }

    fn open() -> Self::Lent {}

    fn engine(_lent: Arc<Self::Lent>, shared: Shared) -> Result<Self::Engine, String> {
        Ok(engine::HttpEngine::new(shared))
    }
}
