//! gRPC-Web, which browsers speak, to gRPC and back, piece by piece
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Kind;
use crate::h1::{Known, Response};
use crate::h2::fields_of;

/// The first byte of a frame that has trailers in it.
const TRAILERS: u8 = 0x80;

/// Reads Base64 that comes in pieces, and may be made of several texts with padding at the end of each.
#[derive(Clone, Debug, Default)]
pub struct TextDecoder {
    /// The last character's six bits.
    left: u16,
    /// Characters of a group of four.
    count: u8,
    /// Whether padding has begun.
    padded: bool,
}

/// What came is no Base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadText;

impl TextDecoder {
    /// Decodes a piece in its own place; how many bytes it comes to.
    ///
    /// # Errors
    /// When it is no Base64; nothing after it can be read.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, BadText> {
        let mut to = 0;
        for from in 0..bytes.len() {
            let value = match bytes[from] {
                byte @ b'A'..=b'Z' => byte - b'A',
                byte @ b'a'..=b'z' => byte - b'a' + 26,
                byte @ b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.count >= 2 => {
                    self.padded = true;
                    self.count = (self.count + 1) % 4;
                    self.padded &= self.count != 0;
                    continue;
                }
                _ => return Err(BadText),
            };
            if self.padded {
                return Err(BadText);
            }
            // A byte is whole with its second character, and never before: there is room where they stood.
            let bits = self.left << 6 | u16::from(value);
            if let Some(shift) = [0, 4, 2, 0]
                .get(usize::from(self.count))
                .filter(|_| self.count != 0)
            {
                bytes[to] = (bits >> shift) as u8;
                to += 1;
            }
            self.left = bits & 0x3f;
            self.count = (self.count + 1) % 4;
        }
        Ok(to)
    }

    /// Whether the text may end here.
    pub const fn is_whole(&self) -> bool {
        self.count == 0
    }
}

/// Appends the head of an answer as a client of that kind gets it, in HTTP/1.1's form.
pub fn write_head(response: &Response<'_>, kind: Kind, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(response.status).as_bytes());
    out.extend_from_slice(b" \r\n");
    for field in response.fields.iter() {
        let name = field.name.as_bytes();
        let empty = field.known == Known::ContentLength && field.value == b"0";
        if name.eq_ignore_ascii_case(b"content-type") {
            let is = Kind::of(field.value).is_some();
            let value = is.then(|| kind.instead_of(field.value));
            let value = value.as_deref().unwrap_or(field.value);
            crate::h1::field::write(name, value, out);
        } else if field.known != Known::ContentLength || empty {
            crate::h1::field::write(name, field.value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a piece of an answer's body.
pub fn write_data(data: &[u8], kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::WebText => {
            // Each piece is a text of its own, or what is left of it would have to wait for the next.
            let mut text = String::new();
            STANDARD.encode_string(data, &mut text);
            out.extend_from_slice(text.as_bytes());
        }
        Kind::Web | Kind::Plain => out.extend_from_slice(data),
    }
}

/// Appends what the body ends with: trailers (lines), in a frame.
pub fn write_trailers(lines: &[u8], kind: Kind, out: &mut Vec<u8>) {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in fields_of(lines) {
        frame.extend(name.iter().map(u8::to_ascii_lowercase));
        frame.push(b':');
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
    }
    let len = (frame.len() - 5) as u32;
    frame[1..5].copy_from_slice(&len.to_be_bytes());
    write_data(&frame, kind, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, MethodKind, parse_response};

    fn decoded(text: &str, size: usize) -> Result<Vec<u8>, BadText> {
        let mut decoder = TextDecoder::default();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let mut piece = piece.to_vec();
            let n = decoder.decode(&mut piece)?;
            out.extend_from_slice(&piece[..n]);
        }
        decoder.is_whole().then_some(out).ok_or(BadText)
    }

    #[test]
    fn text_is_read_in_pieces_of_any_size() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..40 {
            let one = STANDARD.encode(&bytes[..len]);
            let two = format!("{one}{}", STANDARD.encode(&bytes[200..]));
            for size in 1..10 {
                assert_eq!(decoded(&one, size).unwrap(), &bytes[..len]);
                let both = [&bytes[..len], &bytes[200..]].concat();
                assert_eq!(decoded(&two, size).unwrap(), both);
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_told() {
        for odd in ["=", "A===", "AA=A", "A", "AAA", "AA\nA", "AA==A", "A-AA"] {
            assert_eq!(decoded(odd, 2), Err(BadText), "{odd:?}");
        }
    }

    #[test]
    fn an_answer_changes_its_type_and_its_trailers_go_into_its_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc+proto\r\nContent-Length: 9\r\nX: y\r\n\r\n";
        let limits = Limits {
            head: 1_000,
            fields: 10,
        };
        let response = parse_response(text, &mut 0, &limits, MethodKind::Post);
        let response = response.unwrap().unwrap();
        let mut out = Vec::new();
        write_head(&response, Kind::WebText, &mut out);
        let out = String::from_utf8(out).unwrap().to_lowercase();
        let expected =
            "http/1.1 200 \r\ncontent-type: application/grpc-web-text+proto\r\nx: y\r\n\r\n";
        assert_eq!(out, expected);
        let mut out = Vec::new();
        write_trailers(b"Grpc-Status: 0\r\nX: y\r\n", Kind::Web, &mut out);
        assert_eq!(out, b"\x80\0\0\0\x14grpc-status:0\r\nx:y\r\n");
        let mut out = Vec::new();
        write_trailers(b"", Kind::WebText, &mut out);
        assert_eq!(out, b"gAAAAAA=");
    }
}
