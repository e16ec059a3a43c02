//! HTTP sessions: from a client's connection to an instance's and back.
//!
//! `session` reads requests off a client's connection, `h2` off one that carries many at a time, as `link` is to an
//! instance (`carrier` moves the bytes of both); `begin` decides what becomes of one; `exchange` makes the attempts at
//! instances, `share` those on such a connection; `respond` and `upload` carry the two messages; `grpc` has what a call adds;
//! `tunnel` carries whatever follows an upgrade; `trace` and `tries` keep what is told of a request afterwards.

// An `async fn` keeps its arguments twice, as they came and as it uses them. Where that makes every request or every idle
// connection larger, the same is written as a block, which keeps them once.
#![expect(clippy::manual_async_fn, reason = "a block keeps its arguments once")]

mod admit;
mod aside;
mod begin;
mod carrier;
mod circuit;
mod compress;
mod deadline;
mod errand;
mod exchange;
mod filter;
mod grpc;
mod h2;
mod hedge;
mod key;
mod link;
mod mirror;
mod persist;
mod pump;
mod respond;
mod retry;
mod session;
mod share;
mod throttle;
mod trace;
mod tries;
mod tunnel;
mod upload;

pub(crate) use admit::Waiters;
pub use aside::split_key;
pub use key::hash_key;
pub(crate) use link::Links;
pub(crate) use session::serve;
