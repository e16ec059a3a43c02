//! The chunked coding as we write it (RFC 9112 §7.1): no extensions.

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line in front of a chunk of `len` bytes; CR LF must follow the bytes. Nothing for no bytes: a chunk of size 0
/// would end the body.
pub fn chunk_head(len: usize, out: &mut [u8; 18]) -> &[u8] {
    if len == 0 {
        return &[];
    }
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4) as usize;
    for (place, byte) in out[..digits].iter_mut().rev().enumerate() {
        *byte = b"0123456789abcdef"[len >> (4 * place) & 0xf];
    }
    out[digits..digits + 2].copy_from_slice(b"\r\n");
    &out[..digits + 2]
}

/// Appends the end of a chunked body with the trailers that a [`BodyDecoder`](super::BodyDecoder) kept.
pub fn write_last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_written_in_hexadecimal() {
        for len in [1, 9, 15, 16, 255, 256, 0x1234, 65_536, usize::MAX] {
            let mut out = [0; 18];
            assert_eq!(chunk_head(len, &mut out), format!("{len:x}\r\n").as_bytes());
        }
        assert!(chunk_head(0, &mut [0; 18]).is_empty());
    }
}
