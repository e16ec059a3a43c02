//! Which bytes may stand where: one table of 256 entries, and a scan by eight bytes for field values.

/// `tchar` (RFC 9110 §5.6.2): methods, field names, connection options.
pub(crate) const TOKEN: u8 = 1;
/// A `tchar` that CGI-like servers fold into `_`, so that the name may come out as another one.
pub(crate) const FOLDED: u8 = 2;
/// What a request target may hold: visible ASCII but `#`, which no client sends (RFC 3986 §3.5).
pub(crate) const TARGET: u8 = 4;
/// What a host name may hold. RFC 3986 also lets sub-delims and percent codes into a `reg-name`; no host that
/// is found by DNS has any, and `,` or `%` in a Host are read in several ways, so they are refused.
pub(crate) const HOST: u8 = 8;
/// What a request id may hold: nothing that a log, a shell or a JSON text would have to escape.
pub(crate) const ID: u8 = 16;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let c = byte as u8;
        let mut class = 0;
        if c != b'#' {
            class |= TARGET;
        }
        if c.is_ascii_alphanumeric() {
            class |= TOKEN | HOST | ID;
        }
        if among(c, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
            if c != b'-' {
                class |= FOLDED;
            }
        }
        if among(c, b"-._~") {
            class |= HOST;
        }
        if among(c, b"-._~+/=:@") {
            class |= ID;
        }
        classes[byte] = class;
        byte += 1;
    }
    classes
}

const fn among(c: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == c {
            return true;
        }
        i += 1;
    }
    false
}

/// The classes of a byte, as bits.
#[inline]
pub(crate) fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

/// Whether the bytes are all of that class, and there are some.
pub(crate) fn all(bytes: &[u8], wanted: u8) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| class(b) & wanted != 0)
}

/// Where the first byte at or after `at` stands that is not of that class; the length if there is none.
#[inline]
pub(crate) fn end_of(bytes: &[u8], mut at: usize, wanted: u8) -> usize {
    while at < bytes.len() && class(bytes[at]) & wanted != 0 {
        at += 1;
    }
    at
}

/// Where the first byte at or after `at` stands that no field value holds: a control byte other than HTAB
/// (RFC 9110 §5.5). Bytes from 0x80 up are opaque and pass. The length if there is none.
#[inline]
pub(crate) fn end_of_value(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let stops = control_bytes(u64::from_le_bytes(*word));
        if stops == 0 {
            at += 8;
            continue;
        }
        at += stops.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    while at < bytes.len() && is_value(bytes[at]) {
        at += 1;
    }
    at
}

/// Whether a field value may hold the byte.
#[inline]
pub(crate) fn is_value(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

/// The high bit of every byte that is below 0x20 or is 0x7f. A borrow can set bits above the lowest such byte
/// wrongly, never below it: only the lowest set bit counts.
#[inline]
fn control_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let delete = word ^ (ONES * 0x7f);
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    let equal = delete.wrapping_sub(ONES) & !delete;
    (below | equal) & HIGH
}

/// Bytes that a class has vouched for, as text.
#[inline]
pub(crate) fn text(ascii: &[u8]) -> &str {
    str::from_utf8(ascii).unwrap_or_default()
}

/// Without the spaces and tabs around it (OWS, RFC 9110 §5.6.3).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_by_words_agrees_with_the_definition_for_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[place] = byte;
                for neighbour in [b'a', 0xff, 0x80, b'\t', b' '] {
                    if place + 1 < 20 {
                        bytes[place + 1] = neighbour;
                    }
                    let naive = bytes.iter().position(|&b| !is_value(b)).unwrap_or(20);
                    assert_eq!(end_of_value(&bytes, 0), naive, "{byte:#x} at {place}");
                }
            }
        }
    }
}
