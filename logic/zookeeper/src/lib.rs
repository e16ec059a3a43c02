//! What a server of ZooKeeper's protocol does with its clients: sessions, requests, watches, and what is sent to
//! whom in which order. Pure: bytes and times come in, bytes and commands go out.
//!
//! [`Clients`] are the connections that one thread of the front serves. The order of answers and events rests on
//! two things. Answers to reads are made while the registry is being read, and events while it is being changed, and
//! the two exclude each other: so the order in which both are appended to a connection's output is the order of
//! the transactions that they show. And a connection's reads wait for its writes.

mod access;
mod clients;
mod connection;
pub mod layout;
mod reply;
mod requests;
mod sasl;
mod spread;
#[cfg(test)]
mod tests;
mod watches;
mod words;

pub use access::digest;
pub use clients::{Clients, Counters, Key, Standing, Take};
pub use connection::{Limits, World};
pub use requests::Ticket;
pub use spread::{Candidate, Sendings};
pub use watches::WatchCounts;
pub use words::{ConnectionFacts, Ensemble, Facts, Member, figures, release, text};
