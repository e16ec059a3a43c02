use std::ops::Range;

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

/// Where a field stands in its head, and what it is: five numbers in one word. (As a struct of five the compiler builds
/// it in memory, part by part, and reads it back whole, which stalls the processor at every field.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line(u64);

impl Line {
    /// `None` if the name is longer than 255 bytes, or the head than 65,535.
    #[inline]
    pub(crate) fn new(name: Range<usize>, value: Range<usize>, known: Known) -> Option<Self> {
        let len = name.len();
        if len > 0xff || value.end > 0xffff {
            return None;
        }
        let places = name.start as u64 | (value.start as u64) << 16 | (value.end as u64) << 32;
        Some(Self(places | (len as u64) << 48 | (known as u64) << 56))
    }

    #[inline]
    pub(crate) fn name(self) -> Range<usize> {
        let start = self.0 as usize & 0xffff;
        start..start + (self.0 >> 48) as usize % 0x100
    }

    #[inline]
    pub(crate) fn value(self) -> Range<usize> {
        (self.0 >> 16) as usize & 0xffff..(self.0 >> 32) as usize & 0xffff
    }

    #[inline]
    pub(crate) fn known(self) -> Known {
        Known::ALL[(self.0 >> 56) as usize]
    }

    /// The bit of its kind.
    #[inline]
    pub(crate) fn bit(self) -> u32 {
        1 << (self.0 >> 56)
    }

    fn is(self, known: Known) -> bool {
        self.0 >> 56 == known as u64
    }
}

impl<'b> Fields<'b> {
    #[inline]
    pub(crate) fn new(head: &'b [u8]) -> Self {
        Self {
            head,
            lines: ArrayVec::new_const(),
            seen: 0,
        }
    }

    /// False if there is no room.
    #[inline]
    #[must_use]
    pub(crate) fn push(&mut self, line: Line) -> bool {
        self.seen |= line.bit();
        self.lines.try_push(line).is_ok()
    }

    /// Makes the field one that ends here.
    pub(super) fn nominate(&mut self, index: usize) {
        let line = self.lines[index];
        if let Some(line) = Line::new(line.name(), line.value(), Known::HopByHop) {
            self.lines[index] = line;
            self.seen |= line.bit();
        }
    }

    /// Takes away those whose name `gone` says it of.
    pub(crate) fn drop_if(&mut self, gone: impl Fn(&str) -> bool) {
        let head = self.head;
        self.lines
            .retain(|line| !gone(class::text(&head[line.name()])));
        self.seen = self.lines.iter().fold(0, |seen, line| seen | line.bit());
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
            name: class::text(&self.head[line.name()]),
            value: &self.head[line.value()],
            known: line.known(),
        })
    }

    /// The first value of a known field.
    pub fn get(&self, known: Known) -> Option<&'b [u8]> {
        self.all(known).next()
    }

    /// The first value of the field of that name, in any case.
    pub fn find(&self, name: &str) -> Option<&'b [u8]> {
        let named = |line: &&Line| self.head[line.name()].eq_ignore_ascii_case(name.as_bytes());
        self.lines
            .iter()
            .find(named)
            .map(|line| &self.head[line.value()])
    }

    /// Whether the known field is there.
    #[inline]
    pub(crate) fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// Every value of a known field.
    #[inline]
    pub(crate) fn all(&self, known: Known) -> impl Iterator<Item = &'b [u8]> {
        // Most questions are about fields that are not there.
        let lines: &[Line] = if self.has(known) { &self.lines } else { &[] };
        let wanted = lines.iter().filter(move |line| line.is(known));
        wanted.map(|line| &self.head[line.value()])
    }

    /// Appends the fields whose kind is in the set `kept`, as `name: value CRLF`.
    ///
    /// Neighbours that already stand in the head in exactly that form are copied in one piece.
    #[inline]
    pub(crate) fn write(&self, kept: u32, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in &self.lines {
            if kept & line.bit() == 0 {
                continue;
            }
            let (name, value) = (line.name(), line.value());
            let exact = value.start == name.end + 2
                && self.head[name.end + 1] == b' '
                && self.head.get(value.end) == Some(&b'\r');
            if exact && name.start == run.end {
                run.end = value.end + 2;
                continue;
            }
            out.extend_from_slice(&self.head[run]);
            if exact {
                run = name.start..value.end + 2;
                continue;
            }
            run = 0..0;
            write(&self.head[name], &self.head[value], out);
        }
        out.extend_from_slice(&self.head[run]);
    }
}

/// Appends one field line.
#[inline]
pub(crate) fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
