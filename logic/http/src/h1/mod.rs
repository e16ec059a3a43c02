//! The HTTP/1.1 codec (RFC 9110, RFC 9112) for both sides of a reverse proxy.
//!
//! A head is parsed in place and borrowed, never copied; nothing is allocated but for trailers. Whatever two
//! servers have been seen to read in two ways is refused, not repaired (request smuggling lives in such
//! repairs), and whatever is passed on is written anew from what was understood, never echoed.

mod answer;
pub(crate) mod authority;
mod body;
mod chunk;
pub(crate) mod class;
mod connection;
mod fault;
pub(crate) mod field;
mod forward_request;
pub(crate) mod forward_response;
pub(crate) mod framing;
mod head;
mod known;
pub(crate) mod request;
mod response;
mod target;
pub(crate) mod trailer;

#[cfg(test)]
mod tests;

pub use answer::{Answer, write_answer};
pub use body::{BodyDecoder, Decoded};
pub use chunk::{LAST_CHUNK, chunk_head, write_last_chunk};
pub use fault::Fault;
pub use field::{Field, Fields, MAX_FIELDS};
pub use forward_request::{Changed, ForwardRequest, Trace, write_request};
pub use forward_response::{ForwardResponse, write_response};
pub use framing::Framing;
pub use head::{Limits, Version};
pub use known::Known;
pub use request::{MethodKind, Request, parse_request};
pub use response::{Response, parse_response};
pub use target::Target;
