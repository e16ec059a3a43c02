use super::authority;
use super::class::{self, ID, TARGET, TOKEN, text};
use super::fault::Fault;
use super::field::Fields;
use super::framing::Framing;
use super::head::{self, Limits, Section, Version, crlf};
use super::known::Known;
use super::target::Target;

/// The longest blank before a request line that is passed over: clients that end a body with a CR LF of their own
/// send one (RFC 9112 §2.2).
const BLANK: usize = 4;

/// The longest `X-Request-Id` taken over from a trusted peer.
const LONGEST_ID: usize = 128;

/// A request's head.
#[derive(Clone, Debug)]
pub struct Request<'b> {
    /// The method as sent.
    pub method: &'b [u8],
    /// The method, if it is one of the standard ones.
    pub kind: MethodKind,
    /// What the request is about.
    pub target: Target<'b>,
    /// The client's version.
    pub version: Version,
    /// `host` or `host:port` that the request is for: the target's, else the Host field's (RFC 9112 §3.2.2). Empty
    /// only for HTTP/1.0 without Host.
    pub authority: &'b [u8],
    /// All fields.
    pub fields: Fields<'b>,
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The client may send another request on the connection afterwards.
    pub keep_alive: bool,
    /// The one protocol the client wants to change to. Set only when it may be passed on: HTTP/1.1, no body, not
    /// a version of HTTP.
    pub upgrade: Option<&'b str>,
    /// The client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Bytes of the input that the head takes; the body begins there.
    pub head_len: usize,
}

/// The standard methods (RFC 9110 §9, RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Any other; methods are case-sensitive, so `get` is one.
    Other,
}

impl MethodKind {
    /// The kind of that method.
    #[inline]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110 §9.2.2): it may be sent again when the answer
    /// was lost.
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch | Self::Connect | Self::Other)
    }
}

impl<'b> Request<'b> {
    /// The request's own id, if it brought exactly one that is safe to write into logs and headers. Only to be believed
    /// of a trusted peer.
    pub fn id(&self) -> Option<&'b str> {
        let mut ids = self.fields.all(Known::XRequestId);
        match (ids.next(), ids.next()) {
            (Some(id), None) if id.len() <= LONGEST_ID && class::all(id, ID) => Some(text(id)),
            _ => None,
        }
    }
}

/// Reads a request's head from the front of `input`; `Ok(None)`: more bytes are needed.
///
/// `scanned` is the caller's memory of how far earlier calls have looked into the same message (0 for a new one; set back
/// to 0 with the head), so that a head that drips in costs no more than one that comes whole. How the input was cut
/// up never changes the result.
///
/// # Errors
/// A [`Fault`], after which the connection cannot be read further.
#[inline]
pub fn parse_request<'b>(
    input: &'b [u8],
    scanned: &mut usize,
    limits: &Limits,
) -> Result<Option<Request<'b>>, Fault> {
    if *scanned == 0 {
        // Nearly always the head is there whole. A fault is not reported from here: the head may not be complete, and
        // then the verdict would hang on where the network cut it.
        let (window, _) = limits.window(input);
        if let Ok(request) = whole(window, limits) {
            return Ok(Some(request));
        }
    }
    resume(input, scanned, limits)
}

#[inline(never)]
fn resume<'b>(
    input: &'b [u8],
    scanned: &mut usize,
    limits: &Limits,
) -> Result<Option<Request<'b>>, Fault> {
    let (window, full) = limits.window(input);
    let start = after_blank(window)?;
    match window.get(start) {
        Some(&first) if class::class(first) & TOKEN == 0 => return Err(Fault::NotHttp),
        _ => {}
    }
    match head::end(window, start, scanned)? {
        Some(end) => {
            *scanned = 0;
            whole(&window[..end], limits).map(Some)
        }
        None if !full => Ok(None),
        None if memchr::memchr(b'\n', &window[start..]).is_none() => Err(Fault::TargetTooLong),
        None => Err(Fault::HeadTooLarge),
    }
}

/// Reads a head; [`Fault::Truncated`] if it is not complete.
#[inline]
fn whole<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Request<'b>, Fault> {
    let start = after_blank(bytes)?;
    let line = RequestLine::parse(bytes, start)?;
    let mut fields = Fields::new(bytes);
    let section = head::section(&mut fields, line.end, limits)?;
    let authority = authority_of(&line, &fields)?;
    let framing = framing(&section, line.version)?;
    let expects_continue = expects_continue(&fields, line.version, framing)?;
    Ok(Request {
        method: line.method,
        kind: line.kind,
        target: line.target,
        version: line.version,
        authority,
        framing,
        keep_alive: section.options.persists(line.version == Version::Http11),
        upgrade: upgrade(&fields, line.version, framing).filter(|_| section.options.upgrade),
        expects_continue,
        head_len: section.end,
        fields,
    })
}

/// The position behind the empty lines that a request may begin with.
#[inline]
fn after_blank(bytes: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    while let Some(b'\r' | b'\n') = bytes.get(at) {
        if at == BLANK {
            return Err(Fault::NotHttp);
        }
        match crlf(bytes, at, Fault::BareCr) {
            Ok(next) => at = next,
            // The LF may be still on its way.
            Err(Fault::Truncated) => return Ok(bytes.len()),
            Err(fault) => return Err(fault),
        }
    }
    Ok(at)
}

struct RequestLine<'b> {
    method: &'b [u8],
    kind: MethodKind,
    target: Target<'b>,
    version: Version,
    end: usize,
}

impl<'b> RequestLine<'b> {
    /// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3). Single spaces only: where there are more, servers
    /// disagree on what belongs to the target.
    #[inline]
    fn parse(bytes: &'b [u8], start: usize) -> Result<Self, Fault> {
        let method_end = class::end_of(bytes, start, TOKEN);
        let method = &bytes[start..method_end];
        space(bytes, method_end, Fault::RequestLine)?;
        if method.is_empty() {
            return Err(Fault::RequestLine);
        }
        let target_start = method_end + 1;
        let target_end = class::end_of(bytes, target_start, TARGET);
        space(bytes, target_end, Fault::TargetByte)?;
        if target_end == target_start {
            return Err(Fault::RequestLine);
        }
        let kind = MethodKind::of(method);
        let (version, end) = Version::parse(bytes, target_end + 1, Fault::RequestLine)?;
        Ok(Self {
            method,
            kind,
            target: Target::parse(&bytes[target_start..target_end], kind)?,
            version,
            end: crlf(bytes, end, Fault::RequestLine)?,
        })
    }
}

#[inline]
fn space(bytes: &[u8], at: usize, otherwise: Fault) -> Result<(), Fault> {
    match bytes.get(at) {
        Some(b' ') => Ok(()),
        None => Err(Fault::Truncated),
        Some(b'\n') => Err(Fault::BareLf),
        // The line ends without a version: HTTP/0.9, spoken by nobody.
        Some(b'\r') => Err(Fault::RequestLine),
        Some(_) => Err(otherwise),
    }
}

/// RFC 9112 §3.2: one valid Host, whatever the target says; the target's own host wins.
#[inline]
fn authority_of<'b>(line: &RequestLine<'b>, fields: &Fields<'b>) -> Result<&'b [u8], Fault> {
    let mut hosts = fields.all(Known::Host);
    let host = match hosts.next() {
        Some(host) => authority::parse(host)?,
        None if line.version == Version::Http11 => return Err(Fault::HostMissing),
        None => b"",
    };
    if hosts.next().is_some() {
        return Err(Fault::HostTwice);
    }
    Ok(match line.target {
        Target::Absolute { authority, .. } | Target::Authority(authority) => authority,
        Target::Origin { .. } | Target::Asterisk => host,
    })
}

/// RFC 9112 §6.3, the half for requests.
#[inline]
fn framing(section: &Section, version: Version) -> Result<Framing, Fault> {
    if section.declared.chunked {
        // §6.1: a proxy from the days of 1.0 may have passed it on without understanding it.
        return match version {
            Version::Http10 => Err(Fault::CodingInHttp10),
            Version::Http11 | Version::Http2 => Ok(Framing::Chunked),
        };
    }
    Ok(section
        .declared
        .length
        .map_or(Framing::None, Framing::Length))
}

/// RFC 9110 §10.1.1. Odd expectations (`Expect: y 100-continue`) have been used to make a proxy and an origin disagree on
/// whether a body follows at once, so they are not passed on. Without a body there is nothing to wait for, and
/// HTTP/1.0 has no 100.
#[inline]
pub(crate) fn expects_continue(
    fields: &Fields<'_>,
    version: Version,
    framing: Framing,
) -> Result<bool, Fault> {
    let mut values = fields.all(Known::Expect);
    let Some(value) = values.next() else {
        return Ok(false);
    };
    if !value.eq_ignore_ascii_case(b"100-continue") || values.next().is_some() {
        return Err(Fault::Expectation);
    }
    let body = !matches!(framing, Framing::None | Framing::Length(0));
    Ok(body && version >= Version::Http11)
}

/// RFC 9110 §7.8. An offer that is not passed on is no fault: the origin just answers in HTTP/1.1. `h2c` never is, for
/// behind its 101 a client would talk to the origin past every route and rule (h2c smuggling); with a body, the
/// two sides could disagree on where the new protocol begins.
#[inline]
fn upgrade<'b>(fields: &Fields<'b>, version: Version, framing: Framing) -> Option<&'b str> {
    if version != Version::Http11 || framing != Framing::None {
        return None;
    }
    let mut offers = fields.all(Known::Upgrade);
    let (Some(offer), None) = (offers.next(), offers.next()) else {
        return None;
    };
    let name = offer.split(|&b| b == b'/').next().unwrap_or_default();
    let http = ["http", "h2", "h2c"];
    let of_http = http.iter().any(|h| name.eq_ignore_ascii_case(h.as_bytes()));
    let single = offer
        .iter()
        .all(|&b| b == b'/' || class::class(b) & TOKEN != 0);
    (single && !of_http && !name.is_empty()).then(|| text(offer))
}
