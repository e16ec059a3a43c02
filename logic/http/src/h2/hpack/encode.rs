//! Fields as we write them: nothing is put into the client's table, so that no connection owns one here, and a block can be
//! written without knowing to which it goes.

use super::fixed::index_of;

/// What our first block begins with: the table that the client keeps for us may be empty (RFC 7541 §6.3). So whatever
/// size it announces later, there is nothing to shrink.
pub(in crate::h2) const NO_TABLE: u8 = 0x20;

/// Appends `:status`.
#[inline]
pub(in crate::h2) fn write_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digit = |n: u16| b'0' + (n % 10) as u8;
            let digits = [digit(status / 100), digit(status / 10), digit(status)];
            // A literal, its name the one at index 8.
            out.extend_from_slice(&[0x08, 3]);
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Appends what a request asks for, as pseudo-fields (RFC 9113 §8.3.1).
pub(in crate::h2) fn write_target(
    method: &[u8],
    scheme: &str,
    authority: &[u8],
    path: &[u8],
    out: &mut Vec<u8>,
) {
    match method {
        b"GET" => out.push(0x82),
        b"POST" => out.push(0x83),
        _ => write_indexed(2, method, out),
    }
    out.push(if scheme == "https" { 0x87 } else { 0x86 });
    if !authority.is_empty() {
        write_indexed(1, authority, out);
    }
    match path {
        b"/" => out.push(0x84),
        _ => write_indexed(4, path, out),
    }
}

/// Appends a literal whose name is in the table that nobody changes.
fn write_indexed(index: usize, value: &[u8], out: &mut Vec<u8>) {
    write_number(index, 4, 0, out);
    write_length(value.len(), out);
    out.extend_from_slice(value);
}

/// Appends a field as a literal that is not to be kept (§6.2.2), its name in lower case.
#[inline]
pub(in crate::h2) fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let mut lower = [0; 64];
    let start = out.len();
    if let Some(lower) = lower.get_mut(..name.len()) {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let index = index_of(lower);
        if index == 0 {
            out.push(0);
            write_length(lower.len(), out);
            out.extend_from_slice(lower);
        } else {
            write_number(usize::from(index), 4, 0, out);
        }
    } else {
        out.push(0);
        write_length(name.len(), out);
        let at = out.len();
        out.extend_from_slice(name);
        out[at..].make_ascii_lowercase();
    }
    debug_assert!(out.len() > start);
    write_length(value.len(), out);
    out.extend_from_slice(value);
}

/// Appends the length of a string that is not coded further.
#[inline]
fn write_length(len: usize, out: &mut Vec<u8>) {
    write_number(len, 7, 0, out);
}

/// Appends a number whose first byte has room for `bits` of it, below the bits of `first` (§5.1).
#[inline]
fn write_number(number: usize, bits: u32, first: u8, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if number < most {
        out.push(first | number as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
