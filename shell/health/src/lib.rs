//! Active checks: probes instances and reports what changes.
//!
//! [`Schedule`] is the pure part: which probe is due when, and what a row of outcomes amounts to.
//! [`Prober`] drives it on tokio and does the probing.

mod exchange;
mod grpc;
mod probe;
mod prober;
mod schedule;

pub use prober::{Prober, Reports};
pub use schedule::{Outcome, Schedule, Target};

pub use probe::{Tls, probe};
