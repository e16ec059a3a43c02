//! Request heads: from fields, one by one, to what HTTP/1.1 would have said (RFC 9113 §8.2, §8.3).

use std::ops::Range;

use base64::Engine as _;

use crate::h1::authority;
use crate::h1::class::{self, TARGET, TOKEN};
use crate::h1::field::{Fields, Line};
use crate::h1::framing::Declared;
use crate::h1::request::expects_continue;
use crate::h1::trailer::{TRAILERS, may_trail};
use crate::h1::{Framing, Known, Limits, MAX_FIELDS, MethodKind, Request, Target, Version};

/// What a field costs beside its bytes, by the measure of SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
pub(super) const OVERHEAD: usize = 32;

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Of all that is wrong with it, this must not be repaired (RFC 9113 §8.1.1).
    Malformed,
    /// It is larger than the limits allow.
    TooLarge,
}

/// A request's head while it is read, and until the next one is. One serves all connections of a thread: it is large, and
/// never needed twice at a time.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The pseudo-fields' values, then the fields as lines.
    text: Vec<u8>,
    lines: Vec<Line>,
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    path: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    protocol: Option<Range<usize>>,
    host: Option<Range<usize>>,
    /// The crumbs of `cookie`, joined (§8.2.3).
    cookies: Vec<u8>,
    declared: Declared,
    /// Whether a field came that is no pseudo-field.
    regular: bool,
    size: usize,
    count: usize,
    limits: Limits,
    refusal: Option<Refusal>,
    framing: Option<Framing>,
    expects_continue: bool,
    scratch: Vec<u8>,
}

impl Head {
    /// Forgets the last request.
    pub(super) fn clear(&mut self, limits: Limits) {
        self.text.clear();
        self.lines.clear();
        self.cookies.clear();
        *self = Self {
            text: std::mem::take(&mut self.text),
            lines: std::mem::take(&mut self.lines),
            cookies: std::mem::take(&mut self.cookies),
            scratch: std::mem::take(&mut self.scratch),
            limits,
            ..Self::default()
        };
    }

    /// Room for strings that are decoded, to be given back.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(super) fn give_back(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    /// Takes in the next field.
    #[inline]
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.refusal.is_some() {
            return;
        }
        self.size += name.len() + value.len() + OVERHEAD;
        self.count += 1;
        // Crumbs count as fields, each of them: else a byte a crumb would buy memory for many (CVE-2026-49975).
        let most = self.limits.fields.min(MAX_FIELDS) + PSEUDO;
        if self.size > self.limits.head || self.count > most {
            self.refusal = Some(Refusal::TooLarge);
            return;
        }
        let taken = match name.first() {
            Some(b':') => self.pseudo(name, value),
            _ => self.regular(name, value),
        };
        if taken.is_none() {
            self.refusal = Some(Refusal::Malformed);
        }
    }

    /// §8.3: each once, and all before the others.
    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if self.regular {
            return None;
        }
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":protocol" => &mut self.protocol,
            _ => return None,
        };
        if place.is_some() {
            return None;
        }
        let start = self.text.len();
        *place = Some(start..start + value.len());
        self.text.extend_from_slice(value);
        Some(())
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.regular = true;
        let known = check(name, value)?;
        match known {
            Known::ContentLength => self.declared.note_length(value).ok()?,
            // One, or the request could be for either.
            Known::Host if self.host.is_some() => return None,
            _ if name == b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Some(());
            }
            _ => {}
        }
        let value = self.push(name, value, known)?;
        if known == Known::Host {
            self.host = Some(value);
        }
        Some(())
    }

    /// Appends a field as a line, and says where its value is.
    fn push(&mut self, name: &[u8], value: &[u8], known: Known) -> Option<Range<usize>> {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        let at = self.text.len();
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        let value = at..at + value.len();
        let line = Line::new(start..start + name.len(), value.clone(), known)?;
        self.lines.push(line);
        Some(value)
    }

    /// All fields are here; `ended` if no body follows.
    pub(super) fn finish(&mut self, ended: bool) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if !self.cookies.is_empty() {
            let cookies = std::mem::take(&mut self.cookies);
            let pushed = self.push(b"cookie", &cookies, Known::Other);
            self.cookies = cookies;
            pushed.ok_or(Refusal::TooLarge)?;
        }
        self.settle(ended).ok_or(Refusal::Malformed)
    }

    fn settle(&mut self, ended: bool) -> Option<()> {
        let method = self.of(self.method.as_ref())?;
        if !class::all(method, TOKEN) {
            return None;
        }
        let kind = MethodKind::of(method);
        let connect = kind == MethodKind::Connect;
        // CONNECT has neither scheme nor path (§8.5), unless it says which protocol it wants (RFC 8441 §4).
        if connect && self.protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() {
                return None;
            }
        } else {
            let scheme = self.of(self.scheme.as_ref())?;
            let path = self.of(self.path.as_ref())?;
            let begins = path.first() == Some(&b'/') || path == b"*" && kind == MethodKind::Options;
            let known = scheme == b"http" || scheme == b"https";
            if !begins || !known || !class::all(path, TARGET) {
                return None;
            }
        }
        if self.protocol.is_some() && (!connect || ended || self.declared.length.is_some()) {
            return None;
        }
        let authority = self.of(self.authority.as_ref());
        let host = self.of(self.host.as_ref());
        match (authority, host) {
            // Two hosts, and two readers who take one each: how requests get past rules.
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return None,
            (Some(host), _) | (None, Some(host)) => authority::parse(host).ok()?,
            (None, None) => return None,
        };
        match self.protocol {
            Some(_) => Target::parse(self.of(self.path.as_ref())?, MethodKind::Get).ok()?,
            None => Target::parse(self.target(kind), kind).ok()?,
        };
        let framing = match (self.declared.length, ended) {
            (Some(length), true) if length != 0 => return None,
            (Some(length), _) => Framing::Length(length),
            (None, true) => Framing::None,
            (None, false) if connect => Framing::None,
            (None, false) => Framing::Chunked,
        };
        let fields = self.fields();
        self.expects_continue = expects_continue(&fields, Version::Http2, framing).ok()?;
        self.framing = Some(framing);
        Some(())
    }

    fn of(&self, range: Option<&Range<usize>>) -> Option<&[u8]> {
        range.map(|range| &self.text[range.clone()])
    }

    fn fields(&self) -> Fields<'_> {
        let mut fields = Fields::new(&self.text);
        for line in &self.lines {
            // There is room: they were counted.
            let _ = fields.push(*line);
        }
        fields
    }

    /// Who is asked.
    fn host(&self) -> &[u8] {
        let host = self.authority.as_ref().or(self.host.as_ref());
        self.of(host).unwrap_or_default()
    }

    fn target(&self, kind: MethodKind) -> &[u8] {
        match kind {
            MethodKind::Connect if !self.is_websocket() => self.host(),
            _ => self.of(self.path.as_ref()).unwrap_or_default(),
        }
    }

    /// Whether it asks for WebSocket over its stream (RFC 8441).
    pub fn is_websocket(&self) -> bool {
        let protocol = self.of(self.protocol.as_ref());
        protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    }

    /// Gives a request for WebSocket what it needs in HTTP/1.1, and does not have in HTTP/2 (RFC 6455 §4.1): the upgrade, and
    /// a key of 16 random bytes.
    pub fn upgrade(&mut self, random: [u64; 2]) {
        let random = random.map(u64::to_ne_bytes);
        let key = base64::engine::general_purpose::STANDARD.encode(random.as_flattened());
        let name = b"sec-websocket-key";
        self.lines.retain(|line| &self.text[line.name()] != name);
        self.push(name, key.as_bytes(), Known::Other);
        self.push(b"upgrade", b"websocket", Known::Upgrade);
    }

    /// The request, as HTTP/1.1 would have it: a body without known length comes in chunks there, and an extended CONNECT
    /// for WebSocket is a GET that asks for an upgrade.
    pub fn request(&self) -> Request<'_> {
        let websocket = self.is_websocket();
        let method: &[u8] = match websocket {
            true => b"GET",
            false => self.of(self.method.as_ref()).unwrap_or_default(),
        };
        let kind = MethodKind::of(method);
        let target = Target::parse(self.target(kind), kind);
        Request {
            method,
            kind,
            // It was read before; but an extended CONNECT for something else than WebSocket need not name a port.
            target: target.unwrap_or(Target::Authority(self.host())),
            version: Version::Http2,
            authority: self.host(),
            framing: self.framing.unwrap_or(Framing::None),
            keep_alive: true,
            upgrade: websocket.then_some("websocket"),
            expects_continue: self.expects_continue,
            head_len: self.text.len(),
            fields: self.fields(),
        }
    }

    /// Bytes that are kept of it.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.cookies.len()
    }

    /// The length of the body, if it was announced.
    pub(super) fn length(&self) -> Option<u64> {
        self.declared.length
    }
}

/// Pseudo-fields that do not count against the limit.
const PSEUDO: usize = 5;

/// What the field is, if it may be one (§8.2.1, §8.2.2).
#[inline]
pub(super) fn check(name: &[u8], value: &[u8]) -> Option<Known> {
    let (mut classes, mut common) = (0, TOKEN);
    for &byte in name {
        let class = class::class(byte);
        common &= class;
        classes |= class;
        if byte.is_ascii_uppercase() {
            return None;
        }
    }
    let spaced = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let valid = common & TOKEN != 0
        && !name.is_empty()
        && name.len() <= 0xff
        && class::end_of_value(value, 0) == value.len()
        && !spaced(value.first())
        && !spaced(value.last());
    if !valid {
        return None;
    }
    let known = Known::of(name, classes);
    match known {
        Known::Connection | Known::TransferEncoding | Known::Upgrade => None,
        Known::HopByHop if name != b"http2-settings" => None,
        Known::Te if !value.eq_ignore_ascii_case(b"trailers") => None,
        _ => Some(known),
    }
}

/// The fields behind a body, as lines.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    lines: Vec<u8>,
    size: usize,
    refused: bool,
}

impl Trailers {
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        match check(name, value) {
            Some(known) if self.size <= TRAILERS => {
                // As in HTTP/1.1: what must not come after a body is left out.
                if known == Known::Other && may_trail(name) {
                    crate::h1::field::write(name, value, &mut self.lines);
                }
            }
            _ => self.refused = true,
        }
    }

    /// The lines that are kept, if all of them may be there.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (!self.refused).then_some(self.lines)
    }
}
