//! Responses: as for requests, to clients of both versions and in answer to several methods.

use http::h1::{
    Fault, ForwardResponse, Framing, Limits, MAX_FIELDS, MethodKind, Response, Version, parse_response,
    write_response,
};
use http::load_report;

use crate::heads;

/// Pieces of responses.
pub const TOKENS: &[&str] = &[
    "\r\n", "\n", "\r", "\r\n\r\n", "\0", "\t", " ", ":", ",", "HTTP/1.1 ", "HTTP/1.0 ", "HTTP/2 ", "100", "101", "103",
    "200", "204", "304", "426", "599", "600", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length:", "+5",
    "5, 5", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:", "chunked", ",chunked", "Connection: close\r\n",
    "Connection: upgrade\r\n", "Connection: x, date\r\n", "keep-alive", "Upgrade: websocket\r\n", "Trailer: x\r\n",
    "endpoint-load-metrics: ", "TEXT a=1,", "JSON {\"a\":1}", "Date: x\r\n", "X: y\r\n", "X_Y: z\r\n", "Keep-Alive: 5\r\n", "\r\n ", "\u{e9}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let tight = Limits { head: 64, fields: 3 };
    for limits in [Limits::default(), tight] {
        for to in [MethodKind::Get, MethodKind::Head, MethodKind::Connect] {
            let whole = parse_response(data, &mut 0, &limits, to);
            let verdict = summary(&whole);
            assert_eq!(drip(data, 0, &limits, to), verdict, "byte by byte");
            assert_eq!(drip(data, data.len() / 2, &limits, to), verdict, "in two parts");
            if let Ok(Some(response)) = whole {
                if let Some(report) = response.fields.find(load_report::FIELD) {
                    load_report::metric(report, "a");
                }
                for version in [Version::Http10, Version::Http11] {
                    passed_on(&response, version, to);
                }
            }
        }
    }
}

type Summary = Result<Option<(usize, usize)>, Fault>;

fn summary(parsed: &Result<Option<Response<'_>>, Fault>) -> Summary {
    match parsed {
        Ok(response) => Ok(response.as_ref().map(|r| (r.head_len, r.fields.len()))),
        Err(fault) => Err(*fault),
    }
}

/// Parses after the first piece, and then after every further byte.
fn drip(data: &[u8], first: usize, limits: &Limits, to: MethodKind) -> Summary {
    let mut scanned = 0;
    let verdict = |end: usize| summary(&parse_response(&data[..end], &mut scanned, limits, to));
    (first..=data.len()).map(verdict).find(|v| *v != Ok(None)).unwrap_or(Ok(None))
}

fn passed_on(response: &Response<'_>, version: Version, to: MethodKind) {
    let mut out = Vec::new();
    let forward = ForwardResponse { version, close: false, date: "now", fields: &[] };
    let framing = write_response(response, &forward, &mut out);
    if response.is_interim() && version == Version::Http10 {
        assert!(out.is_empty());
        return;
    }
    assert!(version == Version::Http11 || framing != Framing::Chunked);

    let lines = heads::lines(&out);
    let once: [&[&str]; 2] = [&["connection"], &["upgrade"]];
    for names in once {
        assert!(heads::count(&lines, names) <= 1 || response.upgrade.is_none());
    }
    // The shadows of a name pass in responses: clients do not fold names.
    let framings = out.split(|&b| b == b'\n').filter(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with(b"content-length:") || line.starts_with(b"transfer-encoding:")
    });
    assert!(framings.count() <= 1, "{}", out.escape_ascii());

    let roomy = Limits { head: 65_535, fields: MAX_FIELDS };
    let again = parse_response(&out, &mut 0, &roomy, to);
    let Ok(Some(again)) = again else {
        panic!("not read back: {again:?}: {}", out.escape_ascii());
    };
    assert_eq!(again.head_len, out.len());
    assert_eq!((again.status, again.reason), (response.status, response.reason));
    assert_eq!(again.framing, framing);
    // What has no known end ends with the connection, and says so.
    assert!(framing != Framing::UntilClose || out.windows(17).any(|w| w == b"Connection: close"));
}
