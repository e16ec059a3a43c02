use super::fault::Fault;
use super::field;
use super::head;
use super::known::Known;

/// The longest trailer section, in bytes as sent. Trailers are the one thing that is kept in memory while a body passes.
pub(crate) const TRAILERS: usize = 8 << 10;

/// Fields that change how a message is framed, routed, authorised or cached, and which therefore must not come after the
/// body was already acted upon (RFC 9110 §6.5.1); those that the parser knows are left out too, and all that begin
/// with `Content-`.
const NOT_IN_TRAILERS: [&str; 23] = [
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "cookie2",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "vary",
    "warning",
    "www-authenticate",
];

/// The trailers of a body, as they come in.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailers {
    /// The lines kept so far, and behind them the part of a line that has come in.
    bytes: Vec<u8>,
    /// How many of them are lines kept.
    kept: usize,
    /// Bytes of the section so far.
    read: usize,
}

impl Trailers {
    /// Trailers that were read elsewhere, as lines.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let kept = bytes.len();
        Self {
            bytes,
            kept,
            read: kept,
        }
    }

    /// The lines kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.bytes[..self.kept]
    }

    /// Takes in bytes up to the end of a line or of the input: how many, and whether the line has ended.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, bool), Fault> {
        let end = memchr::memchr(b'\n', input).map(|at| at + 1);
        let taken = end.unwrap_or(input.len());
        self.read += taken;
        if self.read > TRAILERS {
            return Err(Fault::Trailers);
        }
        self.bytes.extend_from_slice(&input[..taken]);
        if end.is_some() {
            self.end_line()?;
        }
        Ok((taken, end.is_some()))
    }

    fn end_line(&mut self) -> Result<(), Fault> {
        let sent = self.bytes.split_off(self.kept);
        let line = head::line(&sent, 0)?;
        head::line_end(&sent, line)?;
        let name = &sent[line.name()];
        if line.known() == Known::Other && may_trail(name) {
            field::write(name, &sent[line.value()], &mut self.bytes);
        }
        self.kept = self.bytes.len();
        Ok(())
    }
}

/// Whether a field that we do not know otherwise may stand behind a body.
pub(crate) fn may_trail(name: &[u8]) -> bool {
    let content = name
        .get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
    let listed = |forbidden: &&str| name.eq_ignore_ascii_case(forbidden.as_bytes());
    !content && !NOT_IN_TRAILERS.iter().any(listed)
}
