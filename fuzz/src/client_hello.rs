//! ClientHellos: the verdict does not hang on how the bytes came in, nor on how the message was cut into records.

use wire::client_hello::{ClientHello, Fault, MAX_WIRE, Parser};

/// Pieces of hellos.
pub const TOKENS: &[&str] = &[
    "\u{16}\u{3}\u{1}\0\u{1}", "\u{16}\u{3}\u{1}\u{2}\0", "\u{16}\u{3}\u{1}\u{40}\0", "\u{16}\u{3}\u{3}\0\0", "\u{1}\0\u{1}\0",
    "\u{1}\0\0\u{4}", "\u{3}\u{3}", "\0\0", "\0\u{b}\0\u{9}\0\0\u{6}a.test", "\0\0\0\u{9}\0\u{7}\0\0\u{4}host",
    "\0\u{10}\0\u{5}\0\u{3}\u{2}h2", "\0\u{10}", "\u{8}http/1.1", "example.com", "\0", "\u{1}", "\u{2}", "\u{10}", "\u{20}", "\u{7f}",
    "GET / HTTP/1.1\r\n", "SSH-2.0-", "\u{15}\u{3}\u{1}\0\u{2}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let whole = check(data);
    if let (Ok(Some(hello)), Some(message)) = (whole, one_record(data)) {
        for size in [1, 5, 1 + data.len() % 64] {
            let cut = records(message, size);
            assert!(cut.len() > MAX_WIRE || check(&cut) == Ok(Some(hello.clone())), "in records of {size}");
        }
    }
}

fn check(data: &[u8]) -> Result<Option<ClientHello>, Fault> {
    let whole = Parser::default().parse(data);
    let mut parser = Parser::default();
    let drip = (0..=data.len()).map(|end| parser.parse(&data[..end])).find(|v| *v != Ok(None));
    assert_eq!(drip.unwrap_or(Ok(None)), whole, "byte by byte");
    assert!(whole != Ok(None) || data.len() < MAX_WIRE);
    if let Ok(Some(hello)) = &whole {
        let name = hello.server_name.as_deref().unwrap_or("x");
        assert!(name.is_ascii() && name.len() <= 253 && *name == name.to_ascii_lowercase());
        assert!(hello.alpn.iter().all(|p| (1..=255).contains(&p.len())));
    }
    whole
}

/// The message, if one record holds it all.
fn one_record(data: &[u8]) -> Option<&[u8]> {
    let record = usize::from(u16::from_be_bytes([*data.get(3)?, *data.get(4)?]));
    let payload = data.get(5..)?;
    let length = 4 + u32::from_be_bytes([0, *payload.get(1)?, *payload.get(2)?, *payload.get(3)?]) as usize;
    payload.get(..length).filter(|_| length <= record)
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let head = |piece: &[u8]| [&[22, 3, 1][..], &(piece.len() as u16).to_be_bytes()].concat();
    message.chunks(size).flat_map(|piece| [head(piece), piece.to_vec()].concat()).collect()
}
