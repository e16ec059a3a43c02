//! The runtime of one worker: an edge-triggered event loop and a single-threaded executor.
//!
//! A worker shares nothing with its siblings. Session code is straight-line `async fn`; there are no
//! wakers and no atomics: a task that waits leaves its number with the socket, and the event that
//! arrives puts that number on the run queue. Four rules keep it honest:
//!
//! * **Generations.** A task or socket slot that is used again has a new generation, so an event meant
//!   for the former occupant is dropped.
//! * **Cancellation by drop.** A future that is dropped closes its sockets; nothing else is held.
//! * **Budgets.** A task moves a bounded number of bytes per poll, then queues up behind the others.
//! * **One deadline a task**, checked lazily: moving it is a store, not a timer operation.

mod bell;
mod descriptors;
mod diag;
mod epoll;
mod executor;
mod join;
mod loopback;
mod memory;
mod mux;
mod reactor;
mod records;
mod sock;
mod splice;
mod timers;
mod tls;
mod udp;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

pub use bell::Bell;
pub use descriptors::{Descriptors, in_use};
pub use diag::Life;
pub(crate) use epoll::now;
pub use executor::{Executor, Handle};
pub use join::{Either, race, try_join, yield_now};
pub(crate) use loopback::send_at_once;
pub use memory::{Memory, Network};
pub use mux::Mux;
pub use reactor::{Reactor, TaskId};
pub use sock::{Accepted, Listener, Sock, TimedOut};
pub use splice::Pipe;
pub use tls::Secured;
pub use udp::{Batch, Offload, Outgoing, Packets, UdpSock};
