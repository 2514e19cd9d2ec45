//! How an actor is started: its factory, run on its own thread, and what the supervisor holds of it then.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient};
use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::guard::{Guarded, explain_panic, guarded};
use super::policy::Policy;
use super::{Check, Exit, Provoke};

/// How long a factory may take.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// What every supervised actor is.
pub trait Supervised: Actor<Context = Context<Self>> + Handler<Check> + Handler<Provoke> {}

impl<A: Actor<Context = Context<A>> + Handler<Check> + Handler<Provoke>> Supervised for A {}

/// Where an actor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On a thread of its own.
    OwnThread,
    /// On the supervisor's thread: for tests in virtual time.
    Here,
}

/// An actor to be supervised.
#[derive(Clone)]
pub struct Child {
    /// Its name in logs and status.
    pub name: String,
    /// When it is started again.
    pub policy: Policy,
    /// Where it lives.
    pub placement: Placement,
    factory: Arc<dyn Fn() -> Result<Started, String> + Send + Sync>,
}

/// A living actor.
pub struct Started {
    /// Resolves when it ends.
    pub task: JoinHandle<Exit>,
    /// Asks for its health.
    pub check: Recipient<Check>,
    /// Injects faults.
    pub provoke: Recipient<Provoke>,
}

impl Child {
    /// An actor made by `factory`, which runs on the actor's thread and makes a fresh one at every start.
    pub fn new<A>(name: &str, policy: Policy, placement: Placement, factory: impl Fn() -> Result<A, String> + Send + Sync + 'static) -> Self
    where
        A: Supervised,
        A::Context: ToEnvelope<A, Check> + ToEnvelope<A, Provoke>,
    {
        let span_name = name.to_owned();
        let factory = move || {
            let actor = factory()?;
            let context = Context::new();
            let address: Addr<A> = context.address();
            let guarded = Guarded::new(context, actor).instrument(tracing::info_span!("actor", name = %span_name));
            Ok(Started { task: actix_rt::spawn(guarded), check: address.clone().recipient(), provoke: address.recipient() })
        };
        Self { name: name.to_owned(), policy, placement, factory: Arc::new(factory) }
    }

    /// Starts it. The thread it lives on comes with it, if it has one.
    pub async fn start(&self) -> (Result<Started, Exit>, Option<Arbiter>) {
        match self.placement {
            Placement::Here => (make(&self.factory), None),
            Placement::OwnThread => {
                // Fails when the host has no thread or descriptor left; that may pass.
                match Arbiter::try_new() {
                    Ok(arbiter) => (self.start_on(&arbiter.handle()).await, Some(arbiter)),
                    Err(error) => (Err(Exit::StartFailed(format!("no thread: {error}"))), None),
                }
            }
        }
    }

    async fn start_on(&self, thread: &ArbiterHandle) -> Result<Started, Exit> {
        let (reply, started) = oneshot::channel();
        let factory = Arc::clone(&self.factory);
        let spawned = thread.spawn_fn(move || {
            // If nobody waits any more the actor is dropped at once, as it should be.
            let _ = reply.send(make(&factory));
        });
        if !spawned {
            return Err(Exit::Cancelled);
        }
        match tokio::time::timeout(START_TIMEOUT, started).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Exit::Cancelled),
            Err(_) => Err(Exit::Stuck(format!("not started within {START_TIMEOUT:?}"))),
        }
    }
}

fn make(factory: &Arc<dyn Fn() -> Result<Started, String> + Send + Sync>) -> Result<Started, Exit> {
    match guarded(|| factory()) {
        Ok(outcome) => outcome.map_err(Exit::StartFailed),
        Err(panic) => {
            let (message, at) = explain_panic(&*panic);
            Err(Exit::Panicked { message, at })
        }
    }
}
