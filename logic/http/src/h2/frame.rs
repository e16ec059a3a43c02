//! Frames: their heads, and those that we send (RFC 9113 §4, §6).

use super::code::Code;

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;

/// The largest payload that we take, and the largest that we send: the one that every peer takes (RFC 9113 §4.2).
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// What a frame is. Others exist; they are passed over (§5.5).
pub(super) mod kind {
    pub(in crate::h2) const DATA: u8 = 0;
    pub(in crate::h2) const HEADERS: u8 = 1;
    pub(in crate::h2) const PRIORITY: u8 = 2;
    pub(in crate::h2) const RST_STREAM: u8 = 3;
    pub(in crate::h2) const SETTINGS: u8 = 4;
    pub(in crate::h2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::h2) const PING: u8 = 6;
    pub(in crate::h2) const GOAWAY: u8 = 7;
    pub(in crate::h2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::h2) const CONTINUATION: u8 = 9;
}

/// Flags.
pub(super) mod flag {
    pub(in crate::h2) const END_STREAM: u8 = 0x1;
    pub(in crate::h2) const ACK: u8 = 0x1;
    pub(in crate::h2) const END_HEADERS: u8 = 0x4;
    pub(in crate::h2) const PADDED: u8 = 0x8;
    pub(in crate::h2) const PRIORITY: u8 = 0x20;
}

/// Settings (§6.5.2; the last one is RFC 8441's).
pub(super) mod setting {
    pub(in crate::h2) const ENABLE_PUSH: u16 = 0x2;
    pub(in crate::h2) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(in crate::h2) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(in crate::h2) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(in crate::h2) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(in crate::h2) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0: the connection's own.
    pub(super) stream: u32,
}

impl Frame {
    /// The head at the front of `input`, if it is all there.
    #[inline]
    pub(super) fn parse(input: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, e, f, g, h] = input.first_chunk()?;
        Some(Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The first bit is reserved, and to be ignored.
            stream: u32::from_be_bytes([e, f, g, h]) & 0x7fff_ffff,
        })
    }

    #[inline]
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What is in it, without padding (§6.1).
    #[inline]
    pub(super) fn unpadded(self, payload: &[u8]) -> Result<&[u8], Code> {
        if !self.has(flag::PADDED) {
            return Ok(payload);
        }
        let (&padding, rest) = payload.split_first().ok_or(Code::FrameSize)?;
        let len = rest.len().checked_sub(usize::from(padding));
        len.map(|len| &rest[..len]).ok_or(Code::Protocol)
    }
}

/// Appends a frame's head; `len` bytes must follow.
#[inline]
pub(super) fn write_head(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [e, f, g, h] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, e, f, g, h]);
}

pub(super) fn write_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    write_head(4, kind::RST_STREAM, 0, stream, out);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(super) fn write_window(stream: u32, more: u32, out: &mut Vec<u8>) {
    write_head(4, kind::WINDOW_UPDATE, 0, stream, out);
    out.extend_from_slice(&more.to_be_bytes());
}

pub(super) fn write_goaway(last: u32, code: Code, out: &mut Vec<u8>) {
    write_head(8, kind::GOAWAY, 0, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(super) fn write_ping(ack: bool, data: [u8; 8], out: &mut Vec<u8>) {
    write_head(8, kind::PING, if ack { flag::ACK } else { 0 }, 0, out);
    out.extend_from_slice(&data);
}

pub(super) fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    write_head(6 * settings.len(), kind::SETTINGS, 0, 0, out);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Reads the number at the front of a payload.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
