//! The protocols that pointsman speaks to clients of the registry, one module each. They share the registry's
//! operations ([`Directory`]) and what is asked of the data plane ([`Traffic`]), and nothing else.

mod directory;
pub mod http;
mod names;
mod traffic;
pub mod zookeeper;

pub use directory::{
    Changes, Closed, Cluster, ClusterNode, Demand, Directory, Freshness, Home, Pending, Pieces,
    Reason, Refused,
};
pub use names::Names;
pub use traffic::{
    CertificateRefused, Choice, ExplainedRoute, Explanation, NoInstance, PassedOver, Question,
    SeenCertificate, Standing, Traffic, Unresolved,
};
