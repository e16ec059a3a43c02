//! The one code for strings (RFC 7541 §5.2, Appendix B).

/// Bits of every symbol's code, the last one being the end of a string. The code is canonical: codes of one length
/// follow each other in the order of their symbols, so the lengths are all there is to know.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The symbol that ends a string; a string that has it in it is none.
const END: u16 = 256;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits that are looked up at once: everything that is common in fields.
const SHORT: u32 = 10;

/// What the code comes to.
struct Code {
    /// By the next [`SHORT`] bits: the symbol and the bits of its code, or 0 bits where the code is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first code, aligned to the left of 32 bits, that is longer than this.
    limit: [u32; LONGEST + 1],
    /// By length: the first code, and where its symbol stands in `symbols`.
    first: [(u32, u16); LONGEST + 1],
    /// In the order of their codes.
    symbols: [u16; 257],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut built = Code {
        short: [(0, 0); 1 << SHORT],
        limit: [0; LONGEST + 1],
        first: [(0, 0); LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut next, mut place, mut len) = (0u32, 0u16, 1);
    while len <= LONGEST {
        next <<= 1;
        built.first[len] = (next, place);
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol as usize] as usize == len {
                built.symbols[place as usize] = symbol;
                place += 1;
                if len <= SHORT as usize {
                    let spare = SHORT - len as u32;
                    let mut tail = 0;
                    while tail < 1 << spare {
                        let at = (next << spare) as usize + tail;
                        built.short[at] = (symbol as u8, len as u8);
                        tail += 1;
                    }
                }
                next += 1;
            }
            symbol += 1;
        }
        // After the last code of all, this is 2 to the 30: as far as it goes.
        built.limit[len] = ((next as u64) << (32 - len)) as u32;
        if (next as u64) << (32 - len) > u32::MAX as u64 {
            built.limit[len] = u32::MAX;
        }
        len += 1;
    }
    built
}

/// Appends the string that `coded` stands for; false if it stands for none, or for one that does not fit into `room`.
#[must_use]
pub(super) fn decode(coded: &[u8], room: usize, out: &mut Vec<u8>) -> bool {
    let end = out.len() + room;
    let mut rest = coded;
    // The next bits, from the left, and how many of them are there.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        while have <= 56 {
            let Some((&byte, more)) = rest.split_first() else {
                break;
            };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
            rest = more;
        }
        let (symbol, len) = CODE.short[(bits >> (64 - SHORT)) as usize];
        let (symbol, len) = match len {
            0 => long((bits >> 32) as u32),
            _ => (u16::from(symbol), u32::from(len)),
        };
        if len > have {
            break;
        }
        if symbol == END || out.len() == end {
            return false;
        }
        out.push(symbol as u8);
        bits <<= len;
        have -= len;
    }
    // What is left must be the beginning of the end: less than a byte of ones (§5.2).
    have < 8 && bits >> (64 - have.max(1)) == (1 << have.max(1)) - 1 || have == 0
}

/// A code longer than [`SHORT`] at the left end of `bits`.
#[cold]
fn long(bits: u32) -> (u16, u32) {
    for len in SHORT as usize + 1..=LONGEST {
        if bits < CODE.limit[len] || len == LONGEST {
            let (first, place) = CODE.first[len];
            let at = usize::from(place) + ((bits >> (32 - len)) - first) as usize;
            return (CODE.symbols[at.min(256)], len as u32);
        }
    }
    (END, LONGEST as u32)
}

/// Appends the code of a string.
#[cfg(test)]
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for &byte in string {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        let (first, place) = CODE.first[len as usize];
        let at = CODE.symbols.iter().position(|&s| s == u16::from(byte));
        let code = first + at.unwrap_or_default() as u32 - u32::from(place);
        bits = bits << len | u64::from(code);
        have += len;
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        let spare = 8 - have;
        out.push((bits << spare) as u8 | ((1u16 << spare) - 1) as u8);
    }
}
