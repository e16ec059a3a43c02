//! The registry's state machine: commands in, state and events out. Deterministic: every time, id and expiry
//! is *in* the command, so that replaying a log, or applying it on another node, gives the same state.
//!
//! [`Registry`] is what is replicated; [`History`] is the recent past, for resumable watches; [`Leases`]
//! decides, on the node that leads, which leases ran out, and asks the [`leases::MassLoss`] limits first.

mod codec;
mod command;
mod event;
mod history;
pub mod leases;
mod record;
mod registry;
pub mod replication;
mod service;
pub mod snapshot;
mod sorted;
#[cfg(test)]
mod tests;
pub mod tree;

pub use codec::DecodeError;
pub use command::{Command, FORMAT, LeaseRef, MAX_BATCH, MAX_COMMAND, Patch, Verdict};
pub use event::{Applied, Change, Committed, Event, Heartbeat, Registration, Reply};
pub use history::{Compacted, History};
pub use leases::Leases;
pub use record::Record;
pub use registry::Registry;
pub use service::{Counts, Service};
pub(crate) use sorted::{Keyed, Sorted};
