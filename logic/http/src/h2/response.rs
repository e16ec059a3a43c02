//! Answers as header blocks.

use super::hpack::{write_field, write_status};
use crate::h1::class::{self, TOKEN, is_value};
use crate::h1::forward_response::{NEVER, described};
use crate::h1::{Answer, Framing, Known, Response};

/// Appends a header block for the answer: as [`h1::write_response`](crate::h1::write_response) does, but for what only
/// concerns HTTP/1.1. A 101, with which an instance agrees to WebSocket, is a 200 here (RFC 8441 §5).
///
/// `fields` are further fields, fit for a message.
pub fn write_response(
    response: &Response<'_>,
    date: &str,
    fields: &[(Box<str>, Box<str>)],
    out: &mut Vec<u8>,
) {
    let websocket = response.status == 101;
    out.reserve(response.head_len + date.len() + 64);
    write_status(if websocket { 200 } else { response.status }, out);
    let dropped = NEVER
        | Known::Upgrade.bit()
        | match response.framing {
            Framing::Chunked => 0,
            _ => Known::Trailer.bit(),
        };
    for field in response.fields.iter() {
        let name = field.name.as_bytes();
        // It answers a key that the client has not sent.
        let key = websocket && name.eq_ignore_ascii_case(b"sec-websocket-accept");
        if dropped & field.known.bit() == 0 && !key {
            write_field(name, field.value, out);
        }
    }
    if websocket || response.is_interim() {
        return;
    }
    if let Framing::Length(length) = described(response, response.framing) {
        write_length(length, out);
    }
    if !response.fields.has(Known::Date) {
        write_field(b"date", date.as_bytes(), out);
    }
    for (name, value) in fields {
        write_field(name.as_bytes(), value.as_bytes(), out);
    }
}

/// Appends a header block for an answer of our own. Its body, if it has one, follows.
pub fn write_answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    write_status(answer.status, out);
    write_field(b"date", answer.date.as_bytes(), out);
    for (name, value) in answer.fields {
        if class::all(name.as_bytes(), TOKEN) && value.bytes().all(is_value) {
            write_field(name.as_bytes(), value.as_bytes(), out);
        }
    }
    if !matches!(answer.status, 204 | 304) {
        write_length(answer.body.len() as u64, out);
    }
}

fn write_length(length: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    write_field(b"content-length", digits.format(length).as_bytes(), out);
}

/// Appends a header block for trailers that stand in lines.
pub(super) fn write_trailers(lines: &[u8], out: &mut Vec<u8>) {
    for (name, value) in fields_of(lines) {
        write_field(name, value, out);
    }
}

/// The names and values in lines.
pub(crate) fn fields_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        loop {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if let Some(colon) = memchr::memchr(b':', line) {
                return Some((&line[..colon], line[colon + 1..].trim_ascii()));
            }
        }
    })
}
