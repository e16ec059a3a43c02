//! ZooKeeper's protocol, as of 3.9: frames with a length in front, integers big-endian, texts and buffers with a
//! length of 32 bits in which −1 stands for null. Bytes are read in place.

mod codes;
mod connect;
mod field;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use codes::{ErrorCode, EventType, OpCode, xid};
pub use connect::{ConnectRequest, ConnectResponse, PASSWORD};
pub use field::{Fields, Malformed};
pub use reply::{AclLine, MultiResult, Out, StatFields};
pub use request::{AuthPacket, Create, MultiOps, Request, Watches};

/// The longest body of a frame, in bytes: ZooKeeper's default of `jute.maxbuffer`, which clients are built with too.
pub const MAX_FRAME: usize = 0xf_ffff;

/// What the first bytes of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A body, and how many bytes it took with its length.
    Whole(&'a [u8], usize),
    /// The beginning of a frame.
    Partial,
    /// A length that no frame has.
    Bad(i32),
}

/// Takes a frame off the front of `bytes`.
pub fn frame(bytes: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Frame::Partial;
    };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(len) if len <= MAX_FRAME => match rest.get(..len) {
            Some(body) => Frame::Whole(body, 4 + len),
            None => Frame::Partial,
        },
        _ => Frame::Bad(length),
    }
}
