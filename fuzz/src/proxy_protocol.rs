//! PROXY headers: the verdict does not hang on how the bytes came in, and what is read is written and read back.

use wire::proxy_protocol::{Fault, Header, MAX_V2, Origin, Transport, Version, parse, write};

/// Pieces of headers.
pub const TOKENS: &[&str] = &[
    "PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "\r\n", "\n", " ", "0", "080", "+1", "65535", "65536", "192.0.2.1 ", "256.1.1.1 ",
    "::1 ", "2001:db8::1 ", "::ffff:192.0.2.1 ", "\r\n\r\n\0\r\nQUIT\n", "\u{20}\0\0\0", "!\u{11}\0\u{c}", "!!\0$", "!1\0\u{d8}",
    "\u{1}\0\u{2}h2", "\u{2}\0\u{1}a", "\u{3}\0\u{4}\0\0\0\0", "\u{4}\0\0", "\u{5}\0\u{2}id", "\u{20}\0\u{5}\u{1}\0\0\0\0",
    "\u{21}\0\u{7}TLSv1.3", "\u{22}\0\u{1}c", "\u{23}\0\u{1}x", "\0", "\u{7f}", "\u{e9}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    check(data);
    // Random changes hardly ever survive a checksum; so the same again without.
    let unchecked: Vec<u8> = data.iter().map(|&b| if b == 3 { 4 } else { b }).collect();
    check(&unchecked);
}

fn check(data: &[u8]) {
    let whole = parse(data);
    let drip = (0..=data.len()).map(|end| parse(&data[..end])).find(|v| *v != Ok(None));
    assert_eq!(drip.unwrap_or(Ok(None)), whole, "byte by byte");
    assert!(whole != Ok(None) || data.len() < MAX_V2);
    let Ok(Some((header, used))) = whole else {
        return;
    };
    assert!(used <= data.len());
    for checksum in [false, true] {
        assert_eq!(written(&header, Version::V2 { checksum }), Ok(Some(in_one_family(&header))));
    }
    let line = written(&header, Version::V1).map(|header| header.map(|header| header.origin));
    let streams = matches!(header.origin, Origin::Proxied { transport: Transport::Stream, .. });
    let origin = in_one_family(&header).origin;
    assert_eq!(line, Ok(Some(if streams { origin } else { Origin::Unknown })));
}

/// Reads back what is written.
fn written(header: &Header, version: Version) -> Result<Option<Header>, Fault> {
    let mut out = b"before".to_vec();
    write(header, version, &mut out);
    let used = out.len() - 6;
    out.extend_from_slice(b"after");
    let read = parse(&out[6..])?;
    assert!(read.as_ref().is_none_or(|(_, n)| *n == used));
    Ok(read.map(|(header, _)| header))
}

/// Headers that were read have both addresses of one family already.
fn in_one_family(header: &Header) -> Header {
    if let Origin::Proxied { source, destination, .. } = header.origin {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
    }
    header.clone()
}
