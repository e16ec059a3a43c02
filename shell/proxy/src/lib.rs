//! The data plane.
pub mod rt;
