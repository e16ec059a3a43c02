//! Connections and packets that are passed on whatever they mean.
//!
//! `session` takes a client's connection, finds its route and connects it to an instance; `carry` moves bytes both ways,
//! copied while they are few and spliced while they are many; `lasting` tells connections that their instance or
//! listener has gone; `gate` keeps the limits by the client's address.

mod carry;
mod gate;
mod lasting;
mod pipes;
mod session;

pub(crate) use gate::Gate;
pub(crate) use lasting::Lasting;
pub(crate) use pipes::Pipes;
pub(crate) use session::{serve, turn};
