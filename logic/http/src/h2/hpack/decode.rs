//! Reading header blocks.

use super::dynamic::Table;
use super::fixed;
use super::huffman;

/// The table that a peer may have here: what the specification begins with. We announce no other.
const TABLE: usize = 4_096;

/// The longest string that is decoded. A field that long is over every limit of a head, but must be decoded all the same, for
/// the sake of the table; nothing longer than a table can be in it.
const LONGEST: usize = 128 * 1024;

/// The state of a peer's compression.
#[derive(Clone, Debug)]
pub(in crate::h2) struct Decoder {
    table: Table,
}

/// The block cannot be read, and nothing that comes after it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::h2) struct Broken;

/// Where a string of a literal is.
enum Text<'b> {
    Plain(&'b [u8]),
    /// In the scratch, so far.
    Coded(std::ops::Range<usize>),
}

impl Text<'_> {
    fn bytes<'a>(&'a self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Coded(range) => &scratch[range.clone()],
        }
    }
}

impl Decoder {
    pub(in crate::h2) fn new() -> Self {
        Self {
            table: Table::new(TABLE),
        }
    }

    /// Reads a whole block and calls `field` for every field in it; `scratch` is for strings that are coded.
    ///
    /// # Errors
    /// The block is not valid; the state is lost with it.
    pub(in crate::h2) fn decode(
        &mut self,
        block: &[u8],
        scratch: &mut Vec<u8>,
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Broken> {
        let mut rest = block;
        let mut begun = false;
        while let Some(&first) = rest.first() {
            scratch.clear();
            if first & 0x80 != 0 {
                let index = number(&mut rest, 7)?;
                let (name, value) = self.at(index)?;
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                // Only in front, and at most twice (§4.2): more would be work for nothing, but harmless.
                let most = number(&mut rest, 5)?;
                if begun || most > TABLE {
                    return Err(Broken);
                }
                self.table.resize(most);
                continue;
            } else {
                let keep = first & 0xc0 == 0x40;
                self.literal(&mut rest, keep, scratch, &mut field)?;
            }
            begun = true;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        keep: bool,
        scratch: &mut Vec<u8>,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Broken> {
        let index = number(rest, if keep { 6 } else { 4 })?;
        let name = match index {
            0 => string(rest, scratch)?,
            index => {
                let (name, _) = self.at(index)?;
                // Adding an entry may drop the one that the name is taken from.
                let start = scratch.len();
                scratch.extend_from_slice(name);
                Text::Coded(start..scratch.len())
            }
        };
        let value = string(rest, scratch)?;
        let (name, value) = (name.bytes(scratch), value.bytes(scratch));
        field(name, value);
        if keep {
            self.table.insert(name, value);
        }
        Ok(())
    }

    fn at(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        let place = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = fixed::TABLE.get(place) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        self.table.at(place - fixed::TABLE.len()).ok_or(Broken)
    }
}

/// Reads a number of which the first byte has `bits` (§5.1).
#[inline]
fn number(rest: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let most = (1usize << bits) - 1;
    let (&first, mut more) = rest.split_first().ok_or(Broken)?;
    let mut number = usize::from(first) & most;
    if number == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = more.split_first().ok_or(Broken)?;
            more = after;
            // No index and no length here needs more than 28 bits.
            if shift > 21 {
                return Err(Broken);
            }
            number += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = more;
    Ok(number)
}

/// Reads a string (§5.2).
#[inline]
fn string<'b>(rest: &mut &'b [u8], scratch: &mut Vec<u8>) -> Result<Text<'b>, Broken> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let len = number(rest, 7)?;
    let (bytes, more) = rest.split_at_checked(len).ok_or(Broken)?;
    *rest = more;
    if !coded {
        return Ok(Text::Plain(bytes));
    }
    let start = scratch.len();
    match huffman::decode(bytes, LONGEST, scratch) {
        true => Ok(Text::Coded(start..scratch.len())),
        false => Err(Broken),
    }
}
