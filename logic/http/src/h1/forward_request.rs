use std::io::Write as _;
use std::net::IpAddr;

use super::field;
use super::framing::Framing;
use super::known::Known;
use super::request::Request;
use crate::trace::TraceParent;

/// What the proxy knows of a request beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ForwardRequest<'a> {
    /// The peer's address.
    pub client: IpAddr,
    /// The peer is one whose own claims about the client are believed (a proxy in front of us).
    pub trusted: bool,
    /// The protocol that the client uses: `http` or `https`.
    pub proto: &'a str,
    /// The certificate that the client proved to be its own, in Base64 of its DER form.
    pub client_cert: Option<&'a str>,
    /// The id we give the request, unless a trusted peer has given it one ([`Request::id`]).
    pub request_id: &'a [u8],
    /// Host for an HTTP/1.0 request that names none, such as the instance's address. HTTP/1.1 must have one, and
    /// many origins refuse an empty one.
    pub default_host: &'a [u8],
    /// Pass [`Request::upgrade`] on.
    pub upgrade: bool,
    /// What becomes of the fields that say which trace it belongs to.
    pub trace: Trace<'a>,
    /// What is written in another way than it came.
    pub changed: Changed<'a>,
}

/// What becomes of `traceparent` and `tracestate`.
#[derive(Clone, Copy, Debug, Default)]
pub enum Trace<'a> {
    /// They are passed on as they came.
    #[default]
    Kept,
    /// They are left out: nobody believes them.
    Removed,
    /// They are written anew.
    Written {
        /// Which trace, and which span is the parent of what the instance does.
        parent: TraceParent,
        /// What others along the way keep there, as [`trace::state`](crate::trace::state) read it.
        state: Option<&'a str>,
    },
}

/// What a request is to have in the place of its own. The default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changed<'a> {
    /// The target, path and query; visible ASCII.
    pub target: Option<&'a [u8]>,
    /// The Host; an authority.
    pub host: Option<&'a [u8]>,
    /// Further field lines, each with its CR LF.
    pub fields: &'a [u8],
}

/// Fields that are never copied: those of this connection (RFC 9110 §7.6.1), those that are written anew, and those that
/// only serve to be taken for others. A shadow is dropped even from a trusted peer: an origin that folds it
/// into the real field would prefer either, and no peer sends one by intent.
const NEVER: u32 = Known::ClientCert.bit()
    | Known::Connection.bit()
    | Known::ContentLength.bit()
    | Known::Forwarded.bit()
    | Known::HopByHop.bit()
    | Known::Host.bit()
    | Known::Proxy.bit()
    | Known::Shadow.bit()
    | Known::Te.bit()
    | Known::TransferEncoding.bit()
    | Known::XForwardedFor.bit();

/// Claims about the client that only a trusted peer may make.
const CLAIMS: u32 = Known::Claim.bit() | Known::XForwardedHost.bit() | Known::XForwardedProto.bit();

const TRACE: u32 = Known::TraceParent.bit() | Known::TraceState.bit();

/// Appends the request's head as it goes to an origin: HTTP/1.1 on a persistent connection, the path as target, Host from
/// [`Request::authority`], this connection's fields left out, the forwarding fields added (RFC 7239 and their older
/// kin), the framing written from what was understood. The body follows in [`Request::framing`].
///
/// Returns where a `traceparent` that was written stands in `out`: each attempt is a span of its own.
pub fn write_request(
    request: &Request<'_>,
    forward: &ForwardRequest<'_>,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let changed = &forward.changed;
    let host = match (changed.host, request.authority) {
        (Some(host), _) => host,
        (None, b"") => forward.default_host,
        (None, authority) => authority,
    };
    // The head may grow by the fields below, twice the authority among them, and by a space per field.
    out.reserve(request.head_len + 3 * host.len() + forward.request_id.len() + 512);
    out.extend_from_slice(request.method);
    out.push(b' ');
    match changed.target {
        None => request.target.write(request.kind, out),
        Some(target) => out.extend_from_slice(target),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    let upgrade = request.upgrade.filter(|_| forward.upgrade);
    let id = request.id().filter(|_| forward.trusted);
    request.fields.write(
        !dropped(request, forward, upgrade.is_some(), id.is_some()),
        out,
    );
    write_framing(request.framing, out);
    write_connection(upgrade.is_some(), takes_trailers(request), out);
    write_client(request, forward, out);
    if let Some(certificate) = forward.client_cert {
        write_client_cert(certificate, out);
    }
    if id.is_none() {
        field::write(b"X-Request-Id", forward.request_id, out);
    }
    let traced = write_trace(&forward.trace, out);
    out.extend_from_slice(changed.fields);
    out.extend_from_slice(b"\r\n");
    traced
}

fn write_trace(trace: &Trace<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let Trace::Written { parent, state } = trace else {
        return None;
    };
    out.extend_from_slice(b"traceparent: ");
    let at = out.len();
    out.extend_from_slice(&parent.text());
    out.extend_from_slice(b"\r\n");
    if let Some(state) = state {
        field::write(b"tracestate", state.as_bytes(), out);
    }
    Some(at)
}

fn dropped(request: &Request<'_>, forward: &ForwardRequest<'_>, upgrade: bool, id: bool) -> u32 {
    let unless = |kept: bool, known: Known| if kept { 0 } else { known.bit() };
    let claims = if forward.trusted { 0 } else { CLAIMS };
    let trace = match forward.trace {
        Trace::Kept => 0,
        Trace::Removed | Trace::Written { .. } => TRACE,
    };
    NEVER
        | claims
        | trace
        | unless(request.expects_continue, Known::Expect)
        // Trailers can only follow chunks.
        | unless(request.framing == Framing::Chunked, Known::Trailer)
        | unless(upgrade, Known::Upgrade)
        | unless(id, Known::XRequestId)
}

/// Appends the field that says how the body is delimited, if there is one.
pub(super) fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            field::write(b"Content-Length", digits.format(length).as_bytes(), out);
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// Whether the client takes trailers: the one thing in TE that a proxy may repeat to the next (RFC 9110 §10.1.4).
fn takes_trailers(request: &Request<'_>) -> bool {
    let mut codings = request
        .fields
        .all(Known::Te)
        .flat_map(|te| te.split(|&b| b == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn write_connection(upgrade: bool, trailers: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(match (upgrade, trailers) {
        (false, false) => b"",
        (true, false) => b"Connection: upgrade\r\n".as_slice(),
        (false, true) => b"TE: trailers\r\nConnection: te\r\n",
        (true, true) => b"TE: trailers\r\nConnection: upgrade, te\r\n",
    });
}

/// Appends who the client is and what it asked for, behind what a trusted peer says of that.
fn write_client(request: &Request<'_>, forward: &ForwardRequest<'_>, out: &mut Vec<u8>) {
    let believed = |known| forward.trusted && request.fields.has(known);
    let authority = request.authority;
    // IPv4 behind an IPv6 socket is written as what it is.
    let client = forward.client.to_canonical();
    let client_text = IpText::of(client);
    let client_text = client_text.as_bytes();

    out.extend_from_slice(b"X-Forwarded-For: ");
    write_earlier(request, Known::XForwardedFor, forward, out);
    out.extend_from_slice(client_text);
    out.extend_from_slice(b"\r\n");
    if !believed(Known::XForwardedProto) {
        field::write(b"X-Forwarded-Proto", forward.proto.as_bytes(), out);
    }
    if !believed(Known::XForwardedHost) && !authority.is_empty() {
        field::write(b"X-Forwarded-Host", authority, out);
    }

    out.extend_from_slice(b"Forwarded: ");
    write_earlier(request, Known::Forwarded, forward, out);
    // RFC 7239 §6: a bare colon would end the token.
    let (open, close): (&[u8], &[u8]) = match client.is_ipv6() {
        true => (b"for=\"[", b"]\""),
        false => (b"for=", b""),
    };
    out.extend_from_slice(open);
    out.extend_from_slice(client_text);
    out.extend_from_slice(close);
    if !authority.is_empty() {
        // An authority has neither quotes nor backslashes.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(authority);
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(forward.proto.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends who the client proved to be: a byte sequence of structured fields (RFC 9440 §2.2, RFC 8941 §3.3.5).
fn write_client_cert(certificate: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Client-Cert: :");
    out.extend_from_slice(certificate.as_bytes());
    out.extend_from_slice(b":\r\n");
}

/// Appends the list that a trusted peer sent, in one line, to be continued.
fn write_earlier(
    request: &Request<'_>,
    known: Known,
    forward: &ForwardRequest<'_>,
    out: &mut Vec<u8>,
) {
    if !forward.trusted {
        return;
    }
    for value in request.fields.all(known).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// An address in its text form.
struct IpText {
    bytes: [u8; 48],
    len: u8,
}

impl IpText {
    #[inline]
    fn of(ip: IpAddr) -> Self {
        let mut text = Self {
            bytes: [0; 48],
            len: 0,
        };
        let IpAddr::V4(v4) = ip else {
            return Self::v6(ip);
        };
        for octet in v4.octets() {
            let at = usize::from(text.len);
            // Four bytes whatever the octet's length: the next one goes over what is too much.
            text.bytes[at..at + 4].copy_from_slice(&OCTETS[usize::from(octet)]);
            text.len += 2 + u8::from(octet >= 10) + u8::from(octet >= 100);
        }
        text.len -= 1;
        text
    }

    #[cold]
    fn v6(ip: IpAddr) -> Self {
        let mut bytes = [0; 48];
        let mut rest = &mut bytes[..];
        // The longest form has 45 bytes, so that there is room.
        let _ = write!(rest, "{ip}");
        let len = 48 - rest.len() as u8;
        Self { bytes, len }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The octets of an IPv4 address in decimal, each with the dot behind it: every request writes two addresses.
static OCTETS: [[u8; 4]; 256] = octets();

const fn octets() -> [[u8; 4]; 256] {
    let mut octets = [[b'.'; 4]; 256];
    let mut n = 0;
    while n < 256 {
        let digits = [n / 100, n / 10 % 10, n % 10];
        let mut from = (n < 100) as usize + (n < 10) as usize;
        let mut to = 0;
        while from < 3 {
            octets[n][to] = b'0' + digits[from] as u8;
            from += 1;
            to += 1;
        }
        n += 1;
    }
    octets
}
