//! Whole HTTP sessions: clients, the proxy, instances.
//!
//! * `scene`: what a seed decides before anything runs
//! * `ask`, `message`, `verify`: requests, the one right answer to each, and a strict reader
//! * `client`, `rude`, `instance`, `misdeed`, `tunnel`: the parties
//! * `world`: puts them on a network around the proxy
//! * `ledger`, `check`: what happened, and the properties it must have

pub mod ask;
mod check;
pub mod client;
pub mod instance;
pub mod ledger;
pub mod message;
mod misdeed;
mod rude;
pub mod scene;
mod tunnel;
mod verify;
pub mod world;

pub use world::{Report, run};
