use super::class::trim;
use super::fault::Fault;
use super::field::Fields;
use super::known::Known;

/// The most fields that `Connection` may name. Real ones name one or two; every one is searched for among all the
/// fields, so a head full of names would buy a lot of work for little.
pub(super) const NOMINATIONS: usize = 16;

/// What the `Connection` fields say (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// Fields are named: see [`nominate`].
    named: bool,
}

impl Options {
    #[inline]
    pub(super) fn note(&mut self, value: &[u8]) {
        // The two that nearly every message has, without the walk through a list.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if value.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else {
            self.note_list(value);
        }
    }

    fn note_list(&mut self, value: &[u8]) {
        for option in value.split(|&b| b == b',').map(trim) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.is_empty() {
                self.named = true;
            }
        }
    }

    /// Whether the connection outlives the message. `close` wins over `keep-alive`.
    pub(super) fn persists(self, by_default: bool) -> bool {
        !self.close && (by_default || self.keep_alive)
    }

    /// Marks the fields that `Connection` names as ending here.
    ///
    /// Naming a field that we know is ignored, not refused. We write Host, the framing and the forwarding fields from
    /// what we understood, so naming them can take nothing away (which was the attack: have one proxy strip what
    /// the next relies on); and refusing would hit the old clients that list more than they should.
    pub(super) fn nominate(self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        if !self.named {
            return Ok(());
        }
        let mut left = NOMINATIONS;
        for at in 0..fields.lines.len() {
            let line = fields.lines[at];
            if line.known() != Known::Connection {
                continue;
            }
            for option in fields.head[line.value()].split(|&b| b == b',').map(trim) {
                let standard: [&[u8]; 4] = [b"", b"close", b"keep-alive", b"upgrade"];
                if standard.iter().any(|s| option.eq_ignore_ascii_case(s)) {
                    continue;
                }
                left = left.checked_sub(1).ok_or(Fault::Nominations)?;
                mark(fields, option);
            }
        }
        Ok(())
    }
}

fn mark(fields: &mut Fields<'_>, option: &[u8]) {
    for at in 0..fields.lines.len() {
        let line = fields.lines[at];
        if line.known() == Known::Other && fields.head[line.name()].eq_ignore_ascii_case(option) {
            fields.nominate(at);
        }
    }
}
