//! Requests: parsing never hangs on how the bytes were cut, and what is passed on is what was understood.

use std::net::Ipv4Addr;

use http::h1::{Fault, ForwardRequest, Limits, MAX_FIELDS, Request, parse_request, write_request};

use crate::heads;

/// Pieces of requests.
pub const TOKENS: &[&str] = &[
    "\r\n", "\n", "\r", "\r\n\r\n", "\0", "\t", " ", ":", ",", "/", "?", "#", "*", "@", "[::1]", " HTTP/1.1\r\n",
    " HTTP/1.0\r\n", " HTTP/2.0\r\n", "GET ", "HEAD ", "POST ", "CONNECT ", "OPTIONS ", "http://a", "Host: h\r\n",
    "Host:", "Content-Length: 5\r\n", "Content-Length:", "Content_Length: 5\r\n", "+5", "5, 5",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:", "Transfer_Encoding: x\r\n", "chunked", ",chunked",
    "Connection: upgrade\r\n", "Connection: close, host\r\n", "Connection: ", "keep-alive", "Upgrade: websocket\r\n",
    "Upgrade: h2c\r\n", "Expect: 100-continue\r\n", "TE: trailers\r\n", "Trailer: x\r\n", "X-Forwarded-For: 1\r\n",
    "X_Forwarded_For: 1\r\n", "Forwarded: for=1\r\n", "X-Forwarded-Host: a\r\n", "X-Forwarded-Proto: https\r\n",
    "X-Real-IP: 1\r\n", "X-Request-Id: 1\r\n", "Proxy: x\r\n", "X: y\r\n", "\r\n ", "\u{e9}",
];

/// Fields that may be there once at most, whatever name an origin folds to them; framing counts as one.
const ONCE: [&[&str]; 6] = [
    &["content_length", "transfer_encoding"],
    &["connection"],
    &["x_forwarded_for"],
    &["forwarded"],
    &["x_request_id"],
    &["expect"],
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let tight = Limits { head: 96, fields: 4 };
    for limits in [Limits::default(), tight] {
        let whole = parse_request(data, &mut 0, &limits);
        let verdict = summary(&whole);
        assert_eq!(drip(data, 0, &limits), verdict, "byte by byte");
        assert_eq!(drip(data, data.len() / 2, &limits), verdict, "in two parts");
        if let Ok(Some(request)) = whole {
            assert!(request.head_len <= limits.head && request.fields.len() <= limits.fields);
            passed_on(&request, false);
            passed_on(&request, true);
        }
    }
}

type Summary = Result<Option<(usize, usize)>, Fault>;

fn summary(parsed: &Result<Option<Request<'_>>, Fault>) -> Summary {
    match parsed {
        Ok(request) => Ok(request.as_ref().map(|r| (r.head_len, r.fields.len()))),
        Err(fault) => Err(*fault),
    }
}

/// Parses after the first piece, and then after every further byte.
fn drip(data: &[u8], first: usize, limits: &Limits) -> Summary {
    let mut scanned = 0;
    let verdict = |end: usize| summary(&parse_request(&data[..end], &mut scanned, limits));
    let mut verdicts = (first..=data.len()).map(verdict);
    verdicts.find(|v| *v != Ok(None)).unwrap_or(Ok(None))
}

fn passed_on(request: &Request<'_>, trusted: bool) {
    let forward = ForwardRequest {
        client: Ipv4Addr::LOCALHOST.into(),
        trusted,
        proto: "http",
        client_cert: None,
        request_id: b"id",
        default_host: b"default",
        upgrade: true,
        trace: Default::default(),
        changed: Default::default(),
    };
    let mut out = Vec::new();
    write_request(request, &forward, &mut out);

    let lines = heads::lines(&out);
    assert_eq!(heads::count(&lines, &["host"]), 1);
    for names in ONCE {
        assert!(heads::count(&lines, names) <= 1, "{names:?} twice: {}", out.escape_ascii());
    }
    assert_eq!(heads::count(&lines, &["proxy", "keep_alive", "proxy_connection"]), 0);
    let claims = ["x_real_ip", "x_forwarded_port", "x_forwarded_server"];
    assert!(trusted || heads::count(&lines, &claims) == 0);

    let roomy = Limits { head: 65_535, fields: MAX_FIELDS };
    let again = parse_request(&out, &mut 0, &roomy);
    let Ok(Some(again)) = again else {
        panic!("not read back: {again:?}: {}", out.escape_ascii());
    };
    assert_eq!(again.head_len, out.len());
    assert_eq!((again.method, again.framing), (request.method, request.framing));
    let authority = if request.authority.is_empty() { b"default" } else { request.authority };
    assert_eq!(again.authority, authority);
    assert_eq!(again.target.query(), request.target.query());
    assert_eq!(again.expects_continue, request.expects_continue);
    assert_eq!(again.upgrade, request.upgrade);
    assert!(again.keep_alive);
}
