//! Which instance gets the next request or connection.
//!
//! Two stages: [`standing`] says of every endpoint whether it may be chosen at all, and a policy chooses
//! among those that may. State that a policy keeps (whose turn it is) lives in a [`Balancer`], one per
//! worker and service; what is known of an endpoint lives in its [`model::EndpointStats`], shared by all
//! workers.

mod balancer;
mod flows;
mod random;
mod sources;
mod standing;

#[cfg(test)]
mod tests;

pub use balancer::{Balancer, Tried, Unavailable};
pub use flows::{Bounds, FlowId, Flows};
pub use random::Random;
pub use sources::{Excess, Sources, holder};
pub use standing::{Standing, standing};
