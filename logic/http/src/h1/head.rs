//! What request and response heads have in common: their end, their lines, and what their fields say.

use super::class::{self, TOKEN};
use super::connection::Options;
use super::fault::Fault;
use super::field::{Fields, Line, MAX_FIELDS};
use super::framing::Declared;
use super::known::Known;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, up to 65,535. 16 KiB by default: twice what Apache takes for a line, and room
    /// for the cookies that browsers send.
    pub head: usize,
    /// Fields, up to [`MAX_FIELDS`]. 100 by default.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 << 10,
            fields: 100,
        }
    }
}

impl Limits {
    /// The part of the input that a head must end in, and whether that is all that it may ever be.
    #[inline]
    pub(super) fn window<'b>(&self, input: &'b [u8]) -> (&'b [u8], bool) {
        // Positions within a head are kept in 16 bits.
        let most = self.head.min(usize::from(u16::MAX));
        (&input[..input.len().min(most)], input.len() >= most)
    }
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2; of messages that [`h2`](crate::h2) understood
    Http2,
}

impl Version {
    /// Reads `HTTP/1.1`; the position behind it.
    #[inline]
    pub(super) fn parse(head: &[u8], at: usize, otherwise: Fault) -> Result<(Self, usize), Fault> {
        match head.get(at..).and_then(<[u8]>::first_chunk) {
            Some(b"HTTP/1.1") => Ok((Self::Http11, at + 8)),
            Some(b"HTTP/1.0") => Ok((Self::Http10, at + 8)),
            _ => Err(odd_version(head, at, otherwise)),
        }
    }
}

#[cold]
fn odd_version(head: &[u8], at: usize, otherwise: Fault) -> Fault {
    match head.get(at..).unwrap_or_default() {
        // HTTP/2 has no minor version, in curl's status lines for instance.
        [b'H', b'T', b'T', b'P', b'/', major, rest @ ..] if major.is_ascii_digit() => match rest {
            [b'.', minor, ..] if minor.is_ascii_digit() => Fault::Version,
            [b' ' | b'\r', ..] => Fault::Version,
            _ => otherwise,
        },
        _ => otherwise,
    }
}

/// Finds the end of a head that began at `start`, looking only at bytes not looked at before. Every line must end in
/// CR LF: a bare LF is found here, so that nobody waits for the rest of a head that will never be accepted.
pub(super) fn end(
    window: &[u8],
    start: usize,
    scanned: &mut usize,
) -> Result<Option<usize>, Fault> {
    let from = (*scanned).clamp(start, window.len());
    for lf in memchr::memchr_iter(b'\n', &window[from..]).map(|i| from + i) {
        match &window[start..lf] {
            [.., b'\n', b'\r'] => return Ok(Some(lf + 1)),
            [.., b'\r'] => {}
            _ => return Err(Fault::BareLf),
        }
    }
    *scanned = window.len();
    Ok(None)
}

/// What the fields of a head say.
#[derive(Default)]
pub(super) struct Section {
    pub(super) declared: Declared,
    pub(super) options: Options,
    pub(super) end: usize,
}

/// Reads field lines from `at` to the empty line into `fields`. [`Fault::Truncated`] if that is not there yet.
#[inline]
pub(super) fn section(
    fields: &mut Fields<'_>,
    mut at: usize,
    limits: &Limits,
) -> Result<Section, Fault> {
    let head = fields.head;
    let mut section = Section::default();
    let most = limits.fields.min(MAX_FIELDS);
    while head.get(at) != Some(&b'\r') {
        let line = line(head, at)?;
        at = line_end(head, line)?;
        if fields.lines.len() >= most || !fields.push(line) {
            return Err(Fault::TooManyFields);
        }
        let value = &head[line.value()];
        match line.known() {
            Known::ContentLength => section.declared.note_length(value)?,
            Known::TransferEncoding => section.declared.note_coding(value)?,
            Known::Connection => section.options.note(value),
            _ => {}
        }
    }
    section.end = crlf(head, at, Fault::BareCr)?;
    section.options.nominate(fields)?;
    Ok(section)
}

/// Reads `name ":" OWS value OWS` (RFC 9112 §5), leaving the line's end to the caller.
#[inline]
pub(super) fn line(head: &[u8], start: usize) -> Result<Line, Fault> {
    let mut classes = 0;
    let mut at = start;
    for &byte in head.get(start..).unwrap_or_default() {
        let class = class::class(byte);
        if class & TOKEN == 0 {
            break;
        }
        classes |= class;
        at += 1;
    }
    if head.get(at) != Some(&b':') || at == start {
        return Err(odd_name(head, start, at));
    }
    let name = start..at;
    at += 1;
    while let Some(b' ' | b'\t') = head.get(at) {
        at += 1;
    }
    let value = at;
    let mut end = class::end_of_value(head, at);
    while end > value && matches!(head[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    let known = Known::of(&head[name.clone()], classes);
    Line::new(name, value..end, known).ok_or(Fault::NameTooLong)
}

#[cold]
fn odd_name(head: &[u8], start: usize, at: usize) -> Fault {
    match head.get(at) {
        None => Fault::Truncated,
        Some(b' ' | b'\t') if at == start => Fault::Folded,
        Some(b' ' | b'\t') => Fault::SpaceBeforeColon,
        Some(b'\n') => Fault::BareLf,
        Some(_) => Fault::Name,
    }
}

/// The position behind the line: past its trailing whitespace and CR LF.
#[inline]
pub(super) fn line_end(head: &[u8], line: Line) -> Result<usize, Fault> {
    let mut at = line.value().end;
    while let Some(b' ' | b'\t') = head.get(at) {
        at += 1;
    }
    crlf(head, at, Fault::ValueByte)
}

/// The position behind the CR LF that must stand at `at`.
#[inline]
pub(super) fn crlf(head: &[u8], at: usize, otherwise: Fault) -> Result<usize, Fault> {
    match (head.get(at), head.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(at + 2),
        (None, _) | (Some(b'\r'), None) => Err(Fault::Truncated),
        (Some(b'\r'), _) => Err(Fault::BareCr),
        (Some(b'\n'), _) => Err(Fault::BareLf),
        _ => Err(otherwise),
    }
}
