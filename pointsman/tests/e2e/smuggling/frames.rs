//! What HTTP/2 can say that HTTP/1.1 has no words for: fields and bodies that would become something else when they are written down in it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::Reading::{self, Late, No, Perhaps, Yes};

/// A part of a request behind its head.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Data(&'static [u8]),
    Trailers(&'static [Field]),
    /// Trailers that do not end the request.
    TrailersAndMore(&'static [Field]),
}

type Field = (&'static [u8], &'static [u8]);

/// What kind of smuggling it is, the fields, what follows, and how it is to be read: nothing follows on a stream.
pub(super) type Asked = (&'static str, &'static [Field], &'static [Part], Reading);

use Part::{Data, Trailers, TrailersAndMore};

const GET: Field = (b":method", b"GET");
const POST: Field = (b":method", b"POST");
const HTTP: Field = (b":scheme", b"http");
const PATH: Field = (b":path", b"/~~~a");
const HOST: Field = (b":authority", b"a");
const HELLO: &[Part] = &[Data(b"hello")];

/// A request with this field.
macro_rules! with {
    ($class:literal, $name:literal, $value:literal, $reading:expr) => {
        (
            $class,
            &[POST, HTTP, PATH, HOST, ($name, $value)],
            HELLO,
            $reading,
        )
    };
}

pub(super) const ALL: &[Asked] = &[
    ("what it should be", &[GET, HTTP, PATH, HOST], &[], Yes(b"")),
    with!("a plain field", b"x-a", b"b", Yes(b"hello")),
    // Text that would end its line.
    with!(
        "a field in a value",
        b"x-a",
        b"b\r\ntransfer-encoding: chunked",
        No
    ),
    with!(
        "a request in a value",
        b"x-a",
        b"b\r\n\r\nGET /~~~y HTTP/1.1\r\nhost: a\r\n\r\n",
        No
    ),
    with!("a line end in a value", b"x-a", b"b\nc: d", No),
    with!("a carriage return in a value", b"x-a", b"b\rc: d", No),
    with!("NUL in a value", b"x-a", b"b\0c", No),
    with!("a line end at a value's end", b"x-a", b"b\r\n", No),
    with!("a blank before a value", b"x-a", b" b", No),
    with!("a tab behind a value", b"x-a", b"b\t", No),
    with!(
        "a field in a name",
        b"x-a: b\r\ntransfer-encoding",
        b"chunked",
        No
    ),
    with!("a line end in a name", b"x-a\nb", b"c", No),
    with!("a carriage return in a name", b"x-a\rb", b"c", No),
    with!("a colon in a name", b"x-a: b", b"c", No),
    with!(
        "a colon at a name's end",
        b"transfer-encoding:",
        b"chunked",
        No
    ),
    with!("a blank in a name", b"transfer-encoding ", b"chunked", No),
    with!(
        "a blank before a name",
        b" transfer-encoding",
        b"chunked",
        No
    ),
    with!("NUL in a name", b"x-a\0", b"c", No),
    with!("a letter of Latin in a name", b"x-a\xa0", b"c", No),
    with!("a name that is not there", b"", b"c", No),
    with!("a name in capitals", b"X-A", b"c", No),
    with!("a coding in capitals", b"Transfer-Encoding", b"chunked", No),
    with!("a crumb with a line end", b"cookie", b"a=b\r\nx: y", No),
    // What frames a message of HTTP/1.1, and fields of its connection.
    with!("a coding", b"transfer-encoding", b"chunked", No),
    with!(
        "a coding that is none",
        b"transfer-encoding",
        b"identity",
        No
    ),
    with!(
        "a coding in disguise",
        b"transfer_encoding",
        b"chunked",
        Perhaps(b"hello")
    ),
    with!("a connection's field", b"connection", b"close", No),
    with!(
        "a length that the connection names",
        b"connection",
        b"content-length",
        No
    ),
    with!("keep-alive", b"keep-alive", b"timeout=5", No),
    with!("proxy-connection", b"proxy-connection", b"keep-alive", No),
    with!("an upgrade", b"upgrade", b"h2c", No),
    with!("te that is not of trailers", b"te", b"chunked", No),
    with!("te of trailers", b"te", b"trailers", Perhaps(b"hello")),
    with!(
        "settings of HTTP/2",
        b"http2-settings",
        b"AAMAAABkAAQAAP__",
        Perhaps(b"hello")
    ),
    // Lengths.
    with!(
        "a length that is true",
        b"content-length",
        b"5",
        Yes(b"hello")
    ),
    with!("a length that is too short", b"content-length", b"4", No),
    with!("a length that is too long", b"content-length", b"6", No),
    with!("a length of nothing", b"content-length", b"0", Late(b"")),
    with!("a length with a sign", b"content-length", b"+5", No),
    with!("a negative length", b"content-length", b"-5", No),
    with!("a hexadecimal length", b"content-length", b"0x5", No),
    with!("a length that is not there", b"content-length", b"", No),
    with!("a length with a blank", b"content-length", b"5 ", No),
    with!("two lengths in a list", b"content-length", b"5, 6", No),
    with!(
        "the same length in a list",
        b"content-length",
        b"5,5",
        Perhaps(b"hello")
    ),
    with!(
        "a length beyond 64 bits",
        b"content-length",
        b"18446744073709551621",
        No
    ),
    with!(
        "a length that some take for octal",
        b"content-length",
        b"05",
        Perhaps(b"hello")
    ),
    (
        "two lengths",
        &[
            POST,
            HTTP,
            PATH,
            HOST,
            (b"content-length", b"5"),
            (b"content-length", b"6"),
        ],
        HELLO,
        No,
    ),
    (
        "the same length twice",
        &[
            POST,
            HTTP,
            PATH,
            HOST,
            (b"content-length", b"5"),
            (b"content-length", b"5"),
        ],
        HELLO,
        Perhaps(b"hello"),
    ),
    (
        "a length without a body",
        &[POST, HTTP, PATH, HOST, (b"content-length", b"5")],
        &[],
        No,
    ),
    (
        "a length that frames pass in pieces",
        &[POST, HTTP, PATH, HOST, (b"content-length", b"5")],
        &[Data(b"hel"), Data(b"loGET /~~~y HTTP/1.1\r\n\r\n")],
        No,
    ),
    (
        "a body that looks like an end and a request",
        &[POST, HTTP, PATH, HOST],
        &[Data(b"0\r\n\r\nGET /~~~y HTTP/1.1\r\nhost: a\r\n\r\n")],
        Yes(b"0\r\n\r\nGET /~~~y HTTP/1.1\r\nhost: a\r\n\r\n"),
    ),
    // Pseudo-fields.
    (
        "a request in the path",
        &[
            GET,
            HTTP,
            (b":path", b"/~~~a HTTP/1.1\r\nhost: a\r\n\r\nGET /~~~y"),
            HOST,
        ],
        &[],
        No,
    ),
    (
        "a blank in the path",
        &[GET, HTTP, (b":path", b"/~~~a b"), HOST],
        &[],
        No,
    ),
    (
        "a version in the path",
        &[GET, HTTP, (b":path", b"/~~~a HTTP/1.1"), HOST],
        &[],
        No,
    ),
    (
        "a line end in the path",
        &[GET, HTTP, (b":path", b"/~~~a\n"), HOST],
        &[],
        No,
    ),
    (
        "a tab in the path",
        &[GET, HTTP, (b":path", b"/~~~a\tb"), HOST],
        &[],
        No,
    ),
    (
        "a fragment in the path",
        &[GET, HTTP, (b":path", b"/~~~a#b"), HOST],
        &[],
        No,
    ),
    (
        "other letters in the path",
        &[GET, HTTP, (b":path", b"/~~~a\xff"), HOST],
        &[],
        No,
    ),
    (
        "a path that is not there",
        &[GET, HTTP, (b":path", b""), HOST],
        &[],
        No,
    ),
    (
        "a path that does not begin as one",
        &[GET, HTTP, (b":path", b"~~~a"), HOST],
        &[],
        No,
    ),
    (
        "a path that is an address",
        &[GET, HTTP, (b":path", b"http://b/~~~a"), HOST],
        &[],
        No,
    ),
    (
        "all of the server",
        &[GET, HTTP, (b":path", b"*"), HOST],
        &[],
        No,
    ),
    (
        "a request in the method",
        &[
            (b":method", b"GET /~~~y HTTP/1.1\r\nhost: a\r\n\r\nGET"),
            HTTP,
            PATH,
            HOST,
        ],
        &[],
        No,
    ),
    (
        "a blank in the method",
        &[(b":method", b"GET /~~~y"), HTTP, PATH, HOST],
        &[],
        No,
    ),
    (
        "a method that is not there",
        &[(b":method", b""), HTTP, PATH, HOST],
        &[],
        No,
    ),
    (
        "an address in the scheme",
        &[GET, (b":scheme", b"http://b/~~~y?"), PATH, HOST],
        &[],
        No,
    ),
    (
        "a line end in the scheme",
        &[GET, (b":scheme", b"http\r\nx: y"), PATH, HOST],
        &[],
        No,
    ),
    (
        "a field in the authority",
        &[GET, HTTP, PATH, (b":authority", b"a\r\nx: y")],
        &[],
        No,
    ),
    (
        "a user in the authority",
        &[GET, HTTP, PATH, (b":authority", b"b@a")],
        &[],
        No,
    ),
    (
        "a path in the authority",
        &[GET, HTTP, PATH, (b":authority", b"a/b")],
        &[],
        No,
    ),
    (
        "a blank in the authority",
        &[GET, HTTP, PATH, (b":authority", b"a b")],
        &[],
        No,
    ),
    (
        "another host",
        &[GET, HTTP, PATH, HOST, (b"host", b"b")],
        &[],
        No,
    ),
    (
        "the same host",
        &[GET, HTTP, PATH, HOST, (b"host", b"a")],
        &[],
        Perhaps(b""),
    ),
    (
        "two hosts",
        &[GET, HTTP, PATH, (b"host", b"a"), (b"host", b"b")],
        &[],
        No,
    ),
    (
        "a host alone",
        &[GET, HTTP, PATH, (b"host", b"a")],
        &[],
        Perhaps(b""),
    ),
    ("no host", &[GET, HTTP, PATH], &[], No),
    (
        "two paths",
        &[GET, HTTP, PATH, HOST, (b":path", b"/~~~y")],
        &[],
        No,
    ),
    ("two methods", &[GET, POST, HTTP, PATH, HOST], &[], No),
    (
        "two schemes",
        &[GET, HTTP, (b":scheme", b"https"), PATH, HOST],
        &[],
        No,
    ),
    (
        "two authorities",
        &[GET, HTTP, PATH, HOST, (b":authority", b"b")],
        &[],
        No,
    ),
    (
        "a pseudo-field too late",
        &[GET, HTTP, HOST, (b"x-a", b"b"), PATH],
        &[],
        No,
    ),
    ("no path", &[GET, HTTP, HOST], &[], No),
    ("no method", &[HTTP, PATH, HOST], &[], No),
    ("no scheme", &[GET, PATH, HOST], &[], No),
    (
        "a pseudo-field of answers",
        &[GET, HTTP, PATH, HOST, (b":status", b"200")],
        &[],
        No,
    ),
    (
        "a pseudo-field that nobody knows",
        &[GET, HTTP, PATH, HOST, (b":host", b"b")],
        &[],
        No,
    ),
    (
        "a colon for a name",
        &[GET, HTTP, PATH, HOST, (b":", b"b")],
        &[],
        No,
    ),
    (
        "a protocol of a request that is none of CONNECT",
        &[GET, HTTP, PATH, HOST, (b":protocol", b"websocket")],
        &[],
        No,
    ),
    (
        "CONNECT with a path",
        &[(b":method", b"CONNECT"), HTTP, PATH, HOST],
        &[],
        No,
    ),
    (
        "CONNECT",
        &[(b":method", b"CONNECT"), (b":authority", b"b:80")],
        &[],
        No,
    ),
    // Trailers.
    (
        "trailers",
        &[POST, HTTP, PATH, HOST],
        &[Data(b"hello"), Trailers(&[(b"x-a", b"b")])],
        Yes(b"hello"),
    ),
    (
        "a field in a trailer",
        &[POST, HTTP, PATH, HOST],
        &[
            Data(b"hello"),
            Trailers(&[(b"x-a", b"b\r\n\r\nGET /~~~y HTTP/1.1\r\nhost: a\r\n\r\n")]),
        ],
        No,
    ),
    (
        "a pseudo-field among the trailers",
        &[POST, HTTP, PATH, HOST],
        &[Data(b"hello"), Trailers(&[(b":path", b"/~~~y")])],
        No,
    ),
    (
        "a coding among the trailers",
        &[POST, HTTP, PATH, HOST],
        &[
            Data(b"hello"),
            Trailers(&[(b"transfer-encoding", b"chunked")]),
        ],
        No,
    ),
    (
        "a length among the trailers",
        &[POST, HTTP, PATH, HOST],
        &[Data(b"hello"), Trailers(&[(b"content-length", b"33")])],
        Perhaps(b"hello"),
    ),
    (
        "a host among the trailers",
        &[POST, HTTP, PATH, HOST],
        &[Data(b"hello"), Trailers(&[(b"host", b"b")])],
        Perhaps(b"hello"),
    ),
    (
        "a length that trailers cut short",
        &[POST, HTTP, PATH, HOST, (b"content-length", b"9")],
        &[Data(b"hello"), Trailers(&[(b"x-a", b"b")])],
        No,
    ),
    (
        "trailers that do not end it",
        &[POST, HTTP, PATH, HOST],
        &[
            Data(b"hello"),
            TrailersAndMore(&[(b"x-a", b"b")]),
            Data(b"more"),
        ],
        No,
    ),
];

/// A connection's first bytes and its one request.
pub(super) fn request(fields: &[(&[u8], &[u8])], parts: &[Part]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    let end = |last: bool| u8::from(last);
    bytes.extend(frame(1, 4 | end(parts.is_empty()), 1, &block(fields)));
    for (n, part) in parts.iter().enumerate() {
        let last = end(n + 1 == parts.len());
        bytes.extend(match part {
            Data(data) => frame(0, last, 1, data),
            Trailers(fields) => frame(1, 4 | last, 1, &block(fields)),
            TrailersAndMore(fields) => frame(1, 4, 1, &block(fields)),
        });
    }
    bytes
}

/// Fields as literals, as they are (RFC 7541 §6.2.2).
fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Shorter than what takes more than a byte to say (§5.1).
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    block
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, stream]);
    bytes.extend_from_slice(payload);
    bytes
}

/// What the request is answered with: a status, as far as it is that of success or of a failure, and a body. `None` if it is reset, or the
/// connection ended.
pub(super) fn ask(to: SocketAddr, bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            // 200 is the eighth of the table; others are spelled out, or have places of their own behind it. What comes before is the
            // table's size.
            1 if status.is_none() => {
                let first = payload.iter().find(|&&b| b & 0xe0 != 0x20);
                status = Some(if first == Some(&0x88) { 200 } else { 400 });
            }
            0 => body.extend_from_slice(&payload),
            3 | 7 => return None,
            _ => {}
        }
        if kind <= 1 && flags & 1 != 0 {
            return status.map(|status| (status, body));
        }
    }
}
