//! Kinds without their types, so that all of them stand in one list.
//!
//! [`Member`] gives [`AnyKind`] to every [`Kind`]; nobody implements the traits of this file by hand.

use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use super::{Assignment, Engine, Finding, Kind, Naming, Outcome, Shared, Slot};
use crate::measurement::{Counter, FieldInfo};
use crate::settings::{self, KeyProblem};

/// A kind without its types, as listed in [`super::KINDS`].
pub trait AnyKind: Send + Sync {
    /// The config table and the value of the tag `kind`.
    fn name(&self) -> &'static str;
    /// Every field of its rows beyond [`super::COMMON_FIELDS`].
    fn fields(&self) -> &'static [FieldInfo];
    /// Keys of a table that name files with secrets: whole paths by the time that it is read.
    fn secret_files(&self) -> &'static [&'static str];
    /// Reads one `[kind.name]` table.
    fn read(&self, agent: &str, probe: &str, table: config::Value) -> Result<Reading, Vec<KeyProblem>>;
    /// Opens what engines are lent, once.
    fn open(&self) -> Box<dyn EngineSource>;
}

/// A probe's table, read.
pub struct Reading {
    /// The table with every default filled in, for `qosd check --show`.
    pub effective: toml::Table,
    /// Its series.
    pub assignments: Vec<Arc<Assignment>>,
}

/// Makes engines from what was opened.
pub trait EngineSource: Send + Sync {
    /// A fresh engine, on the thread that calls.
    fn engine(&self, shared: Shared) -> Result<Box<dyn AnyEngine>, String>;
    /// See [`Kind::counters`].
    fn counters(&self) -> Vec<Counter>;
}

/// An engine without its types.
pub trait AnyEngine {
    /// One run of an assignment of this engine's kind.
    fn run(&self, assignment: &Assignment, slot: Slot) -> LocalBoxFuture<'static, Finding>;
    /// See [`Engine::drive`].
    fn drive(&self) -> Option<LocalBoxFuture<'static, ()>>;
}

/// A kind in the list: gives [`AnyKind`] to every [`Kind`].
pub struct Member<K>(PhantomData<fn(K)>);

impl<K> Member<K> {
    /// For the list.
    pub const NEW: Self = Self(PhantomData);
}

impl<K: Kind> AnyKind for Member<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn fields(&self) -> &'static [FieldInfo] {
        K::fields()
    }

    fn secret_files(&self) -> &'static [&'static str] {
        K::SECRET_FILES
    }

    fn read(&self, agent: &str, probe: &str, table: config::Value) -> Result<Reading, Vec<KeyProblem>> {
        let naming = Naming { agent: agent.to_owned(), kind: K::NAME, probe: probe.to_owned() };
        let (settings, planned) = settings::typed_into(table, |settings: &K::Settings| K::plan(settings, &naming))?;
        let assignments = planned.into_iter().map(|planned| Arc::new(Assignment::new(K::NAME, planned))).collect();
        let effective = toml::Table::try_from(&settings).map_err(|error| vec![KeyProblem::new("", error.to_string())])?;
        Ok(Reading { effective, assignments })
    }

    fn open(&self) -> Box<dyn EngineSource> {
        Box::new(Opened::<K>(Arc::new(K::open())))
    }
}

struct Opened<K: Kind>(Arc<K::Lent>);

impl<K: Kind> EngineSource for Opened<K> {
    fn engine(&self, shared: Shared) -> Result<Box<dyn AnyEngine>, String> {
        Ok(Box::new(Running::<K>(K::engine(Arc::clone(&self.0), shared)?)))
    }

    fn counters(&self) -> Vec<Counter> {
        K::counters(&self.0)
    }
}

struct Running<K: Kind>(K::Engine);

impl<K: Kind> AnyEngine for Running<K> {
    fn run(&self, assignment: &Assignment, slot: Slot) -> LocalBoxFuture<'static, Finding> {
        match assignment.job() {
            Some(job) => Box::pin(self.0.run(job, slot)),
            None => Box::pin(async { Finding::failed(Outcome::LocalError, "assignment of another kind") }),
        }
    }

    fn drive(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.0.drive()
    }
}
