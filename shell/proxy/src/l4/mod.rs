//! Connections and packets that are passed on whatever they mean.
//!
//! `session` takes a client's connection, reads what stands before its own bytes (`preface`), finds its route and connects it to an instance; `carry` moves bytes both ways,
//! copied while they are few and spliced while they are many; `lasting` tells connections that their instance or
//! listener has gone; `gate` keeps the limits by the client's address; `udp` is all of that for packets.

mod carry;
mod gate;
mod lasting;
mod pipes;
mod preface;
mod session;
mod udp;

pub(crate) use carry::{End, Limits, Pair};
pub(crate) use gate::Gate;
pub(crate) use lasting::{Lasting, Rest, Standing, Surplus, Upstream};
pub(crate) use pipes::Pipes;
pub(crate) use preface::{Introduced, NoPreface, header, introduced, secure};
pub(crate) use session::{is_ours, serve, turn};
pub(crate) use udp::serve as serve_udp;
