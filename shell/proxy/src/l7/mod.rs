//! HTTP sessions: from a client's connection to an instance's and back.
//!
//! `session` reads requests off a client's connection; `begin` decides what becomes of one; `exchange`
//! makes the attempts at instances; `respond` and `upload` carry the two messages; `tunnel` carries
//! whatever follows an upgrade.

mod begin;
mod exchange;
mod key;
mod pump;
mod respond;
mod session;
mod tunnel;
mod upload;

pub(crate) use session::serve;
