//! gRPC: text of browsers reads the same however it is cut, and as another decoder reads it; deadlines only shrink; whatever a
//! server says of its health is judged.

use http::grpc::{Kind, TextDecoder, health, parse_timeout, write_data, write_head, write_timeout, write_trailers};
use http::h1::{Limits, MethodKind, parse_response};

/// Texts, timeouts, and what answers have in them.
pub const TOKENS: &[&str] = &[
    "AAAAAAA=", "gAAAAAA=", "==", "=", "99999999H", "1S", "250m", "0n", "application/grpc-web-text+proto",
    "HTTP/1.1 200 \r\n", "grpc-status: 0\r\n", "content-type: application/grpc\r\n", "\r\n\r\n", "\0\0\0\0\u{2}\u{8}\u{1}",
    "\n", "\u{12}\u{1}x", "content-length: 0\r\n",
];

const LIMITS: Limits = Limits {
    head: 4_096,
    fields: 40,
};

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    text(data);
    if let Some(timeout) = parse_timeout(data) {
        let mut out = Vec::new();
        write_timeout(timeout, &mut out);
        let again = parse_timeout(&out).expect("what we write can be read");
        assert!(again <= timeout && out.len() <= 9);
    }
    let kind = Kind::of(data).unwrap_or(Kind::Web);
    assert_eq!(Kind::of(&kind.instead_of(data)), Some(kind));
    if let Ok(Some(response)) = parse_response(data, &mut 0, &LIMITS, MethodKind::Post) {
        let body = &data[response.head_len..];
        let _ = health::verdict(&response, body, body);
        let _ = health::verdict(&response, body, b"grpc-status: 0\r\n");
        let mut head = Vec::new();
        write_head(&response, Kind::WebText, &mut head);
        let again = parse_response(&head, &mut 0, &LIMITS, MethodKind::Post);
        let again = again.expect("it is HTTP").expect("it is whole");
        assert_eq!((again.status, again.head_len), (response.status, head.len()));
    }
    let mut frame = Vec::new();
    write_trailers(data, Kind::Web, &mut frame);
    let len = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
    assert_eq!((frame[0], len), (0x80, frame.len() - 5));
}

fn text(data: &[u8]) {
    let whole = decoded(data, data.len());
    for size in [1, 3, 7] {
        assert_eq!(decoded(data, size).is_some(), whole.is_some(), "in pieces of {size}");
        assert_eq!(decoded(data, size), whole, "in pieces of {size}");
    }
    let mut encoded = Vec::new();
    for piece in data.chunks(11) {
        write_data(piece, Kind::WebText, &mut encoded);
    }
    assert_eq!(decoded(&encoded, 5).as_deref(), Some(data), "what we write can be read");
}

fn decoded(text: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut decoder = TextDecoder::default();
    let mut out = Vec::new();
    for piece in text.chunks(size.max(1)) {
        let mut piece = piece.to_vec();
        let n = decoder.decode(&mut piece).ok()?;
        out.extend_from_slice(&piece[..n]);
    }
    decoder.is_whole().then_some(out)
}
