use super::field;
use super::forward_request::write_framing;
use super::framing::Framing;
use super::head::Version;
use super::known::Known;
use super::response::Response;

/// What the proxy knows of the client that a response goes to.
#[derive(Clone, Copy, Debug)]
pub struct ForwardResponse<'a> {
    /// The client's version.
    pub version: Version,
    /// The client's connection ends after this response.
    pub close: bool,
    /// The time now, as `Date` has it (IMF-fixdate, RFC 9110 §5.6.7), for a response that has none.
    pub date: &'a str,
    /// Further fields. They are fit for a message.
    pub fields: &'a [(Box<str>, Box<str>)],
}

/// Fields that are never copied: those of the origin's connection, and the framing, which is written anew.
pub(crate) const NEVER: u32 = Known::Connection.bit()
    | Known::ContentLength.bit()
    | Known::HopByHop.bit()
    | Known::Te.bit()
    | Known::TransferEncoding.bit();

/// Appends the response's head as it goes to a client, and says how the body that follows must be framed.
///
/// A body without known end goes to an HTTP/1.1 client in chunks, so that it can tell a whole body from a broken one. An
/// HTTP/1.0 client knows no chunks: to it such a body is [`Framing::UntilClose`], and the connection must be closed
/// afterwards, as the head says. Nothing at all is written for an interim response to an HTTP/1.0 client, which
/// knows none (RFC 9110 §15.2).
pub fn write_response(
    response: &Response<'_>,
    forward: &ForwardResponse<'_>,
    out: &mut Vec<u8>,
) -> Framing {
    let interim = response.is_interim();
    if interim && forward.version == Version::Http10 {
        return Framing::None;
    }
    let framing = reframed(response.framing, forward.version);
    out.reserve(response.head_len + forward.date.len() + 128);
    write_status_line(response.status, response.reason, out);
    response.fields.write(!dropped(response, framing), out);
    if response.status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    } else if !interim {
        write_framing(described(response, framing), out);
        write_persistence(
            forward.version,
            forward.close || framing == Framing::UntilClose,
            out,
        );
        if !response.fields.has(Known::Date) {
            field::write(b"Date", forward.date.as_bytes(), out);
        }
        for (name, value) in forward.fields {
            field::write(name.as_bytes(), value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
    framing
}

fn dropped(response: &Response<'_>, framing: Framing) -> u32 {
    let unless = |kept: bool, known: Known| if kept { 0 } else { known.bit() };
    NEVER
        // 426 must say which protocol is wanted (RFC 9110 §15.5.22).
        | unless(matches!(response.status, 101 | 426), Known::Upgrade)
        | unless(framing == Framing::Chunked, Known::Trailer)
}

fn reframed(framing: Framing, client: Version) -> Framing {
    match (framing, client) {
        (Framing::Chunked, Version::Http10) => Framing::UntilClose,
        (Framing::UntilClose, Version::Http11) => Framing::Chunked,
        _ => framing,
    }
}

/// The framing that the fields tell of: an answer to HEAD and a 304 describe a body that does not follow. 204 may have no
/// Content-Length, not even 0 (RFC 9110 §8.6).
pub(crate) fn described(response: &Response<'_>, framing: Framing) -> Framing {
    match response.length {
        Some(length) if framing == Framing::None && response.status != 204 => {
            Framing::Length(length)
        }
        _ => framing,
    }
}

/// Appends `HTTP/1.1 200 OK`. The version is ours, not the client's (RFC 9110 §2.5).
#[inline]
pub(super) fn write_status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends what becomes of the connection, where that is not the version's default. An HTTP/1.0 client that the caller does
/// not part with has asked to stay.
#[inline]
pub(super) fn write_persistence(client: Version, close: bool, out: &mut Vec<u8>) {
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if client == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}
