use arrayvec::ArrayVec;

use super::class;
use super::known::Known;

/// The most fields a message can have, whatever the limits say: they are kept in place, 8 bytes each, and a head
/// is moved about by value. The longest seen from browsers have about 40.
pub const MAX_FIELDS: usize = 128;

/// The fields of a head, in their order.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    pub(super) head: &'b [u8],
    pub(super) lines: ArrayVec<Line, MAX_FIELDS>,
    /// Which known ones are among them.
    seen: u32,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// Its name as sent; compare without regard to case.
    pub name: &'b str,
    /// Its value without surrounding whitespace: no control bytes but HTAB; bytes from 0x80 up are opaque.
    pub value: &'b [u8],
    /// What it is to the proxy.
    pub known: Known,
}

/// Where a field stands in its head. A head is shorter than 64 KiB and a name than 256 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) start: u16,
    pub(super) value: u16,
    /// The end of the value.
    pub(super) end: u16,
    pub(super) name_len: u8,
    pub(super) known: Known,
}

impl<'b> Fields<'b> {
    #[inline]
    pub(super) fn new(head: &'b [u8]) -> Self {
        Self {
            head,
            lines: ArrayVec::new_const(),
            seen: 0,
        }
    }

    /// False if there is no room.
    #[inline]
    #[must_use]
    pub(super) fn push(&mut self, line: Line) -> bool {
        self.seen |= line.known.bit();
        self.lines.try_push(line).is_ok()
    }

    /// Makes the field one that ends here.
    pub(super) fn nominate(&mut self, index: usize) {
        self.lines[index].known = Known::HopByHop;
        self.seen |= Known::HopByHop.bit();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Field<'b>> {
        self.lines.iter().map(|line| Field {
            name: class::text(self.name(line)),
            value: self.value(line),
            known: line.known,
        })
    }

    /// The first value of a known field.
    pub fn get(&self, known: Known) -> Option<&'b [u8]> {
        self.all(known).next()
    }

    /// The first value of the field of that name, in any case.
    pub fn find(&self, name: &str) -> Option<&'b [u8]> {
        let named = |line: &&Line| self.name(line).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().find(named).map(|line| self.value(line))
    }

    /// Whether the known field is there.
    #[inline]
    pub(super) fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// Every value of a known field.
    #[inline]
    pub(super) fn all(&self, known: Known) -> impl Iterator<Item = &'b [u8]> {
        // Most questions are about fields that are not there.
        let lines: &[Line] = if self.has(known) { &self.lines } else { &[] };
        let wanted = lines.iter().filter(move |line| line.known == known);
        wanted.map(|line| self.value(line))
    }

    #[inline]
    pub(super) fn name(&self, line: &Line) -> &'b [u8] {
        let start = usize::from(line.start);
        &self.head[start..start + usize::from(line.name_len)]
    }

    #[inline]
    pub(super) fn value(&self, line: &Line) -> &'b [u8] {
        &self.head[usize::from(line.value)..usize::from(line.end)]
    }

    /// Appends the fields whose kind is in the set `kept`, as `name: value CRLF`.
    ///
    /// Neighbours that already stand in the head in exactly that form are copied in one piece.
    #[inline]
    pub(super) fn write(&self, kept: u32, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in &self.lines {
            if kept & line.known.bit() == 0 {
                continue;
            }
            let (start, end) = (usize::from(line.start), usize::from(line.end));
            let colon = start + usize::from(line.name_len);
            let value = usize::from(line.value);
            let exact = value == colon + 2
                && self.head[value - 1] == b' '
                && self.head.get(end) == Some(&b'\r');
            if exact && start == run.end {
                run.end = end + 2;
                continue;
            }
            out.extend_from_slice(&self.head[run]);
            if exact {
                run = start..end + 2;
                continue;
            }
            run = 0..0;
            write(&self.head[start..colon], &self.head[value..end], out);
        }
        out.extend_from_slice(&self.head[run]);
    }
}

/// Appends one field line.
#[inline]
pub(super) fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
