use super::class::{self, TOKEN, is_value};
use super::field;
use super::forward_request::write_framing;
use super::forward_response::{write_persistence, write_status_line};
use super::framing::Framing;
use super::head::Version;
use super::request::MethodKind;

/// An answer of our own: an error, a redirect, a fixed text.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Further fields, without Content-Length, Connection and Date. One whose name or value is no valid field is left
    /// out: values may be made from what a client sent, and must never split the response.
    pub fields: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
    /// The time now, as `Date` has it (IMF-fixdate, RFC 9110 §5.6.7).
    pub date: &'a str,
    /// The method that is answered: HEAD gets the head alone.
    pub to: MethodKind,
    /// The client's version.
    pub version: Version,
    /// The connection ends after this answer.
    pub close: bool,
}

/// Appends the whole answer.
pub fn write_answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    write_status_line(answer.status, reason(answer.status).as_bytes(), out);
    field::write(b"Date", answer.date.as_bytes(), out);
    for (name, value) in answer.fields {
        if class::all(name.as_bytes(), TOKEN) && value.bytes().all(is_value) {
            field::write(name.as_bytes(), value.as_bytes(), out);
        }
    }
    let bodiless = matches!(answer.status, 204 | 304);
    if !bodiless {
        write_framing(Framing::Length(answer.body.len() as u64), out);
    }
    write_persistence(answer.version, answer.close, out);
    out.extend_from_slice(b"\r\n");
    if !bodiless && answer.to != MethodKind::Head {
        out.extend_from_slice(answer.body);
    }
}

/// The phrase that the specification has for a status; empty where it has none.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
