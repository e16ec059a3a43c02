//! Seeded simulations: the real data plane on an in-memory network with virtual time, among clients and
//! instances that misbehave in every way there is, and properties that must hold whatever happens.
//!
//! One seed is one run, the same on every machine; a failure names its seed and prints a readable trace.

#![warn(missing_docs)]

pub mod balance;
pub mod http;
pub mod peer;
