use super::class;
use super::fault::Fault;
use super::field::Fields;
use super::framing::Framing;
use super::head::{self, Limits, Section, Version, crlf};
use super::known::Known;
use super::request::MethodKind;

/// A response's head.
#[derive(Clone, Debug)]
pub struct Response<'b> {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase, often empty; for people only.
    pub reason: &'b [u8],
    /// The origin's version.
    pub version: Version,
    /// All fields.
    pub fields: Fields<'b>,
    /// How the body is delimited. [`Framing::None`] for an answer to HEAD and for 1xx, 204 and 304.
    pub framing: Framing,
    /// The Content-Length, which describes the body that is *not* there in an answer to HEAD and in a 304.
    pub length: Option<u64>,
    /// The origin takes another request on the connection afterwards.
    pub keep_alive: bool,
    /// The one protocol that is named with the connection option `upgrade`; in a 101, the one now spoken.
    pub upgrade: Option<&'b [u8]>,
    /// Bytes of the input that the head takes; the body begins there.
    pub head_len: usize,
}

impl Response<'_> {
    /// Whether another response to the same request follows (RFC 9110 §15.2). A 101 is not one of these: after it, the
    /// connection speaks another protocol.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a response's head from the front of `input`; `Ok(None)`: more bytes are needed. `scanned` as for
/// [`parse_request`](super::parse_request); `to` is the method of the request that is answered.
///
/// # Errors
/// A [`Fault`], after which the connection cannot be read further.
#[inline]
pub fn parse_response<'b>(
    input: &'b [u8],
    scanned: &mut usize,
    limits: &Limits,
    to: MethodKind,
) -> Result<Option<Response<'b>>, Fault> {
    if *scanned == 0 {
        // As in parse_request: faults are reported only where the network's cuts cannot matter.
        let (window, _) = limits.window(input);
        if let Ok(response) = whole(window, limits, to) {
            return Ok(Some(response));
        }
    }
    resume(input, scanned, limits, to)
}

#[inline(never)]
fn resume<'b>(
    input: &'b [u8],
    scanned: &mut usize,
    limits: &Limits,
    to: MethodKind,
) -> Result<Option<Response<'b>>, Fault> {
    let (window, full) = limits.window(input);
    // An origin that speaks first, or TLS, is found out without waiting for a line's end.
    if window.iter().zip(b"HTTP/").any(|(is, must)| is != must) {
        return Err(Fault::NotHttp);
    }
    match head::end(window, 0, scanned)? {
        Some(end) => {
            *scanned = 0;
            whole(&window[..end], limits, to).map(Some)
        }
        None if full => Err(Fault::HeadTooLarge),
        None => Ok(None),
    }
}

/// Reads a head; [`Fault::Truncated`] if it is not complete.
#[inline]
fn whole<'b>(bytes: &'b [u8], limits: &Limits, to: MethodKind) -> Result<Response<'b>, Fault> {
    let line = StatusLine::parse(bytes)?;
    let mut fields = Fields::new(bytes);
    let section = head::section(&mut fields, line.end, limits)?;
    let framing = framing(&section, &line, to)?;
    // No body may follow these, so a framing on them says that the origin and we do not agree on where the next
    // response begins. That response is not waited for.
    let odd = (line.status < 200 || line.status == 204)
        && (section.declared.chunked || section.declared.length.is_some_and(|n| n > 0));
    let persists = section.options.persists(line.version == Version::Http11);
    Ok(Response {
        status: line.status,
        reason: line.reason,
        version: line.version,
        framing,
        length: section.declared.length,
        keep_alive: persists && !odd && framing != Framing::UntilClose,
        upgrade: upgrade(&fields).filter(|_| section.options.upgrade),
        head_len: section.end,
        fields,
    })
}

struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b [u8],
    end: usize,
}

impl<'b> StatusLine<'b> {
    /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF` (RFC 9112 §4). The second space may be missing with the
    /// reason, as many servers have it.
    #[inline]
    fn parse(bytes: &'b [u8]) -> Result<Self, Fault> {
        let (version, at) = Version::parse(bytes, 0, Fault::StatusLine)?;
        let code = bytes.get(at..at + 4).ok_or(Fault::StatusLine)?;
        let &[
            b' ',
            hundreds @ b'0'..=b'9',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
        ] = code
        else {
            return Err(Fault::StatusLine);
        };
        let digit = |d: u8| u16::from(d - b'0');
        let status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        if !(100..=599).contains(&status) {
            return Err(Fault::Status);
        }
        let mut start = at + 4;
        match bytes.get(start) {
            Some(b' ') => start += 1,
            Some(b'\r' | b'\n') | None => {}
            Some(_) => return Err(Fault::StatusLine),
        }
        let end = class::end_of_value(bytes, start);
        Ok(Self {
            version,
            status,
            reason: &bytes[start..end],
            end: crlf(bytes, end, Fault::StatusLine)?,
        })
    }
}

/// RFC 9112 §6.3, the half for responses.
#[inline]
fn framing(section: &Section, line: &StatusLine<'_>, to: MethodKind) -> Result<Framing, Fault> {
    let declared = section.declared;
    if declared.chunked && line.version == Version::Http10 {
        return Err(Fault::CodingInHttp10);
    }
    let bodiless = to == MethodKind::Head
        || matches!(line.status, 100..=199 | 204 | 304)
        || (to == MethodKind::Connect && line.status < 300);
    Ok(match declared.length {
        _ if bodiless => Framing::None,
        _ if declared.chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    })
}

fn upgrade<'b>(fields: &Fields<'b>) -> Option<&'b [u8]> {
    let mut named = fields.all(Known::Upgrade);
    match (named.next(), named.next()) {
        (Some(protocol), None) => Some(protocol),
        _ => None,
    }
}
