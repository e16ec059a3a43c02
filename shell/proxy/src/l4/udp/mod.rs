//! UDP: sessions by the client's address and port.
//!
//! Each session has a socket of its own that is connected to its instance: answers then come from nobody else, and an
//! ICMP error says whose instance is gone. A task per session waits for answers; one task per listener receives for
//! all of its sessions, many packets a call, and sends all their answers, many packets a call.

mod outbox;
mod port;
mod session;

pub(crate) use port::serve;
