//! Which instance gets the next request or connection.
//!
//! Stages around a policy: [`standing`] says of every endpoint whether it may be chosen at all; tiers and
//! subsets narrow that down; a policy chooses among those; [`Lease::done`] tells what came of it, and
//! [`Outliers`] compares the endpoints with each other from time to time. State that a policy keeps (whose turn
//! it is) lives in a [`Balancer`], one per worker and service; what is known of an endpoint lives in its
//! [`model::EndpointStats`], shared by all workers.
//!
//! ```text
//! Balancer::pick(service, context, now) -> Lease … Lease::done(service, outcome, latency, now)
//! ```
//!
//! Time and seeds are arguments, so that a simulation runs this very code.

mod alias;
mod backoff;
mod balancer;
mod circuit;
mod eject;
mod flows;
mod gradient;
mod hedges;
mod home;
mod key;
mod learn;
mod lease;
mod limit;
mod maglev;
mod outliers;
mod persist;
mod place;
mod pool;
mod queue;
mod random;
mod rendezvous;
mod respread;
mod retries;
mod share;
mod shortlist;
mod slots;
mod sources;
mod split;
mod spread;
mod stage;
mod standing;
mod view;

#[cfg(test)]
mod tests;

pub use backoff::backoff;
pub use balancer::{Balancer, Context, Unavailable, Unit};
pub use circuit::{Fate, Passage, pass, passed};
pub use flows::{Bounds, FlowId, Flows};
pub use gradient::Gradient;
pub use hedges::Hedges;
pub use home::home;
pub use key::{identity, key};
pub use lease::{Held, Lease, Outcome, broke};
pub use limit::{Entry, Turn, enter, leave, take_turn, turn};
pub use outliers::{Outlier, Outliers};
pub use persist::{named, persistence, remember, remembered};
pub use place::place;
pub use queue::{Joined, Queue, Ticket};
pub use random::Random;
pub use respread::{Respread, Surplus};
pub use retries::Retries;
pub use sources::{Excess, Sources, holder};
pub use split::split;
pub use spread::{Orders, Served, Spread};
pub use stage::is_panicking;
pub use standing::{Standing, standing};
pub use view::Tried;
