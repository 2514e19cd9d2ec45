//! The supervisor: starts the actors, sees every death, and starts them again.
//!
//! Promise: whatever happens in an actor, be it a panic, a hang or the end of its thread, touches that actor alone; it
//! comes back fresh from its factory, at once the first time, later and later while it keeps failing.
//!
//! actix's own supervision does not survive a panic, so this is ours: [`guard`] turns every end of an actor into an
//! [`Exit`], [`policy`] says what follows, [`roster`] is what people see, [`actor`] does it. The supervisor knows names,
//! factories and exits, and nothing of networks.

use std::fmt;
use std::time::Duration;

use actix::Message;

pub mod actor;
pub mod child;
pub mod guard;
pub mod policy;
pub mod roster;

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Stopped,
    /// By a panic.
    Panicked {
        /// What it said.
        message: String,
        /// Where, as `file:line:column`.
        at: String,
    },
    /// Its thread ended.
    Cancelled,
    /// Its factory failed.
    StartFailed(String),
    /// It lived, but did nothing.
    Stuck(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Panicked { message, at } => write!(f, "panicked at {at}: {message}"),
            Self::Cancelled => f.write_str("its thread ended"),
            Self::StartFailed(why) => write!(f, "could not start: {why}"),
            Self::Stuck(why) => write!(f, "stuck: {why}"),
        }
    }
}

/// Asks an actor for its health: `Err` says why it makes no progress. One that does not answer is stuck.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct Check;

/// A fault to be injected, for tests: see [`Provoke`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A panic in the handler.
    Panic,
    /// The thread is blocked.
    Block,
    /// The actor lives on, but nothing moves.
    Freeze,
}

/// Injects a fault into an actor. Only the test hook sends it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Provoke(pub Fault);

impl Fault {
    /// Makes it happen on this thread; says whether the actor has to freeze itself.
    pub fn strike(self) -> bool {
        match self {
            Self::Panic => panic!("provoked by a test"),
            Self::Block => {
                std::thread::sleep(Duration::from_hours(1));
                false
            }
            Self::Freeze => true,
        }
    }
}
