//! HTTP/2 (RFC 9113) with its field compression (RFC 7541), on both sides: a machine without I/O.
//!
//! [`Connection`] takes in what a peer sends and says what came of it. A client's requests come out in the form of an
//! [`h1::Request`](crate::h1::Request), and a server's answers as the bytes that it would have sent in HTTP/1.1, so that
//! everything behind speaks one language, and what cannot be said in HTTP/1.1 without a doubt is refused here (that is where
//! smuggling through a change of versions begins). What it wants to send gathers in one output. Windows are opened as bytes
//! are taken away, so that nothing is kept that has no room.

mod answer;
mod ask;
mod budget;
mod code;
mod connection;
mod frame;
mod head;
mod hpack;
mod pace;
mod receive;
mod request;
mod response;
mod send;
mod stream;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use connection::{Closing, Connection, Event, Settings};
pub use head::Head;
pub use request::write_request;
pub(crate) use response::fields_of;
pub use response::{write_answer, write_response};
pub use stream::{Key, Lost, Taken};

/// What a client's connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
