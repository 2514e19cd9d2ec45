//! The collector: keeps the list of probes, takes what they find, and tells who is silent.
//!
//! Whoever has no key gets nothing, and costs little: the key is looked at before the body, guessing it is slow, and nobody
//! can take all connections or all memory. [`call`] is the way of a call, [`limits`], [`capacity`] and [`mentions`] are
//! what bounds it, [`store`] is where results go, [`actor`] keeps the [`server`] running.

pub mod actor;
mod answer;
pub mod call;
pub mod capacity;
pub mod counts;
pub mod key;
pub mod limits;
pub mod mentions;
pub mod origin;
pub mod presence;
pub mod route;
pub mod rows;
pub mod server;
pub mod settings;
pub mod status;
pub mod store;
pub mod surface;

pub use actor::{Collector, CollectorParts};
pub use settings::Settings;
pub use store::Store;
pub use surface::Surface;
