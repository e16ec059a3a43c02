//! Bodies in chunks that servers have read in two ways.

use super::Payload;
use super::Reading::{No, Perhaps, Yes};

/// A payload of this body in chunks.
macro_rules! body {
    ($class:literal, $body:literal, $reading:expr) => {
        (
            $class,
            concat_bytes(concat!(
                "POST /~~~a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                $body
            )),
            $reading,
        )
    };
}

const fn concat_bytes(text: &'static str) -> &'static [u8] {
    text.as_bytes()
}

pub(super) const ALL: &[Payload] = &[
    body!(
        "what it should be",
        "5\r\nhello\r\n0\r\n\r\n",
        Yes(b"hello")
    ),
    body!(
        "a size in capitals",
        "A\r\n0123456789\r\n0\r\n\r\n",
        Yes(b"0123456789")
    ),
    body!(
        "a size with noughts",
        "00005\r\nhello\r\n0\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!("a size with underscore", "0_2e\r\n\r\n", No),
    body!("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", No),
    body!("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n", No),
    body!("a negative size", "-5\r\nhello\r\n0\r\n\r\n", No),
    body!("a size of minus nothing", "-0\r\n\r\n", No),
    body!("a size of minus nothing with 0x", "-0x0\r\n\r\n", No),
    body!(
        "a size that begins like one",
        "5z\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a size with words behind it",
        "1these-bytes\r\nZ\r\n0\r\n\r\n",
        No
    ),
    body!("a size that is none", "Z\r\nZZ\r\nZZZ\r\n\r\n", No),
    body!("a size that is not there", "\r\n\r\n", No),
    body!(
        "a size that is not there before an extension",
        ";a=b\r\n\r\n",
        No
    ),
    body!(
        "a size beyond 64 bits",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a size beyond 32 bits",
        "100000005\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "the largest size",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!("a blank before the size", " 5\r\nhello\r\n0\r\n\r\n", No),
    body!(
        "many blanks before the last size",
        "           0\r\n\r\n",
        No
    ),
    body!(
        "a blank behind the size",
        "5 \r\nhello\r\n0\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "an extension",
        "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "an extension with a quoted line end",
        "5;a=\"\r\nhello\r\n0\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "an extension with a bare line end",
        "5;a\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "carriage returns before an extension",
        "5\r\r;ABCD\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "carriage returns behind an extension",
        "5;a=b\r\rXhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a carriage return in an extension",
        "5;\ra=b\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!("NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n", No),
    body!("a bare line end of a size", "5\nhello\r\n0\r\n\r\n", No),
    body!("a bare line end of a chunk", "5\r\nhello\n0\r\n\r\n", No),
    body!(
        "a carriage return for the end of a size",
        "5\rhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a carriage return for the end of a chunk",
        "1\r\nZ\r0\r\n\r\n",
        No
    ),
    body!(
        "a chunk that is longer than it says",
        "2\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a chunk that is shorter than it says",
        "7\r\nhello\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a chunk that ends with two other bytes",
        "5\r\nhelloXX0\r\n\r\n",
        No
    ),
    body!(
        "a line end too many before the last chunk",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        No
    ),
    body!(
        "a body that looks like a request",
        "24\r\n0\r\n\r\nGET /~~~y HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Yes(b"0\r\n\r\nGET /~~~y HTTP/1.1\r\nHost: a\r\n\r\n")
    ),
    body!("a bare line end of the body", "5\r\nhello\r\n0\r\n\n", No),
    body!(
        "a bare line end of the last chunk",
        "5\r\nhello\r\n0\n\r\n",
        No
    ),
    body!("two other bytes for the end of the body", "0\r\nXX", No),
    body!(
        "trailers that look like a request",
        "0\r\nX:POST /~~~y HTTP/1.1\r\n\r\n",
        Perhaps(b"")
    ),
    body!(
        "a length among the trailers",
        "5\r\nhello\r\n0\r\nContent-Length: 33\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "a coding among the trailers",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "a host among the trailers",
        "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
        Perhaps(b"hello")
    ),
    body!(
        "a trailer without a colon",
        "5\r\nhello\r\n0\r\nGET /~~~y HTTP/1.1\r\n\r\n",
        No
    ),
    body!(
        "a trailer on two lines",
        "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        No
    ),
    body!(
        "a trailer with a blank before its colon",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        No
    ),
    body!(
        "a trailer with a bare line end",
        "5\r\nhello\r\n0\r\nX: y\nZ: z\r\n\r\n",
        No
    ),
    body!("NUL in a trailer", "5\r\nhello\r\n0\r\nX: \0\r\n\r\n", No),
    body!(
        "a chunk that is none, and a request",
        "INVALID!!!\r\nGET /~~~y HTTP/1.1\r\nHost: a\r\n\r\n",
        No
    ),
];
