//! The mesh: hosts that measure each other. Agents fetch the list of probes from a collector, ping all others, and post
//! what they found; the collector keeps it.
//!
//! Version 1 is the protocol of `IXPQoS`, unchanged, so that either side can be replaced alone. What is promised: an agent
//! cannot be made to flood anybody by the list that it is given; a result is acknowledged only when it is durable, and
//! waits in the agent's journal until then; an expected result that does not come is a row, too.

pub mod agent;
pub mod collector;
pub mod list;
pub mod schedule;
pub mod wire;
