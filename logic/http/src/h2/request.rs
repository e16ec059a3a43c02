//! Requests as header blocks.

use super::hpack::{write_field, write_target};
use super::response::fields_of;

/// Appends a header block for a request whose head is `head`, as [`h1::write_request`](crate::h1::write_request) has written
/// it. What only concerns HTTP/1.1 is left out (RFC 9113 §8.2.2). `told` may have another value for a field, by its name
/// in lower case, or none at all; `more` come behind.
pub fn write_request<'v>(
    head: &'v [u8],
    scheme: &str,
    told: impl Fn(&[u8], &'v [u8]) -> Option<&'v [u8]>,
    more: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let (line, lines) = head.split_at(end);
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    out.reserve(head.len() + 64);
    // It is the first, so that this looks at one.
    let host = fields_of(lines).find(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    let authority = host.map_or(&b""[..], |(_, host)| host);
    write_target(method, scheme, authority, target, out);
    for (name, value) in fields_of(lines) {
        if is_of_connection(name) {
            continue;
        }
        if let Some(value) = told(name, value) {
            write_field(name, value, out);
        }
    }
    for (name, value) in more {
        write_field(name.as_bytes(), value.as_bytes(), out);
    }
}

fn is_of_connection(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        4 => is(b"host"),
        7 => is(b"upgrade"),
        10 => is(b"connection") || is(b"keep-alive"),
        17 => is(b"transfer-encoding"),
        _ => false,
    }
}
