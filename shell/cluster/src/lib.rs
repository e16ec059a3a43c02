//! A node of the registry: commands go through one log, are on disk before they are acknowledged, and are then
//! applied, in order, to the state that everybody reads. A single node is a cluster of one.

mod apply;
mod card;
mod company;
#[cfg(test)]
mod crash_tests;
mod crowd;
mod error;
mod export;
mod ground;
mod hub;
mod intake;
mod journal;
mod keeper;
pub mod log;
mod member;
mod node;
mod options;
mod peers;
mod pending;
mod queue;
mod raft;
pub mod rescue;
mod sessions;
#[cfg(test)]
mod simulation;
mod snapshot;
mod stats;
mod status;
mod storage;
mod store;

pub use company::{ChangeError, ReadError};
pub use crowd::Neighbour;
pub use error::{OpenError, SubmitError};
pub use export::Pieces;
pub use hub::{Closed, ServiceWatch};
pub use node::{Node, Probe, Recovery};
pub use options::{ClusterOptions, Durability, Options, PeerTls, node_number};
pub use queue::Done;
pub use registry::leases::MassLoss;
pub use stats::Stats;
pub use status::{NodeStatus, Status};
