//! The server's side of HTTP/2 (RFC 9113) with its field compression (RFC 7541): a machine without I/O.
//!
//! [`Connection`] takes in what a client sends and says what came of it; requests come out in the form of an
//! [`h1::Request`](crate::h1::Request), so that everything behind speaks one language, and what cannot be said in HTTP/1.1
//! without a doubt is refused here (that is where smuggling through a change of versions begins). What it wants to send
//! gathers in one output. Windows are opened as bytes are taken away, so that nothing is kept that has no room.

mod budget;
mod code;
mod connection;
mod frame;
mod head;
mod hpack;
mod receive;
mod response;
mod send;
mod stream;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use connection::{Closing, Connection, Event, Settings};
pub use head::Head;
pub use response::{write_answer, write_response};
pub use stream::{Key, Taken};

/// What a client's connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
