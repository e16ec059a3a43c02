//! Answers that are compressed.

use std::io::Read as _;

use super::{Ask, BOTH, all, before};
use crate::harness::{Answer, Connection, Origin, Reply};

fn decoded(answer: &Answer) -> Vec<u8> {
    let (mut out, body) = (Vec::new(), &*answer.body);
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
        Some("br") => brotli::Decompressor::new(body, 4_096).read_to_end(&mut out),
        Some("zstd") => zstd::stream::read::Decoder::new(body)
            .unwrap()
            .read_to_end(&mut out),
        other => panic!("{other:?}"),
    }
    .expect("it is whole");
    out
}

/// So many bytes of text that repeats itself, and not quite.
fn text(len: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|n: u64| format!("line {n} of {}\n", n * n % 977).into_bytes());
    lines.take(len).collect()
}

/// `/LEN`, with the fields that are asked for in `x-fields`.
fn texts() -> Origin {
    Origin::answering(|heard| {
        let more = heard
            .header("x-fields")
            .map(|f| f.replace('|', "\r\n") + "\r\n");
        Reply {
            fields: format!(
                "Content-Type: text/plain\r\nETag: \"e\"\r\nAccept-Ranges: bytes\r\n{}",
                more.unwrap_or_default()
            ),
            body: text(heard.path()[1..].parse().unwrap()),
            ..Reply::text("")
        }
    })
}

#[test]
fn answers_are_compressed_as_clients_like_it() {
    let origin = texts();
    let node = before(&origin, "filters.compress = {}");
    for speaks in BOTH {
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("gzip, br", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
        ] {
            // What comes at once, what comes with its head, and what comes in many pieces.
            for len in [1_024, 20_000, 3_000_000] {
                let path = format!("/{len}");
                let fields = [("accept-encoding", accept)];
                let answer = Ask::get(&path).with(&fields).of(&node, speaks);
                assert_eq!(answer.status, 200);
                assert_eq!(
                    all(&answer, "content-encoding"),
                    [coding],
                    "{len} {speaks:?}"
                );
                assert_eq!(all(&answer, "vary"), ["Accept-Encoding"]);
                assert_eq!(all(&answer, "etag"), ["W/\"e\""]);
                assert_eq!(all(&answer, "accept-ranges"), [""; 0]);
                assert_eq!(all(&answer, "content-length"), [""; 0]);
                assert!(decoded(&answer) == text(len), "{coding} {len} {speaks:?}");
                assert!(
                    answer.body.len() < len / 2,
                    "{coding} {len}: {}",
                    answer.body.len()
                );
            }
        }
        let head = Ask {
            method: "HEAD",
            ..Ask::get("/2000").with(&[("accept-encoding", "gzip")])
        };
        let head = head.of(&node, speaks);
        assert_eq!(
            (head.body.len(), all(&head, "content-encoding")),
            (0, vec!["gzip"])
        );
        // A connection goes on after it.
    }
    let mut client = Connection::open(node.web());
    for _ in 0..3 {
        client.send("GET /5000 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
        assert!(decoded(&client.answer()) == text(5_000));
    }
    let mut old = Connection::open(node.web());
    old.send("GET /5000 HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(decoded(&old.answer()) == text(5_000));
}

#[test]
fn what_must_not_be_changed_is_not() {
    let origin = texts();
    let node = before(&origin, "filters.compress = { codings = [\"gzip\"] }");
    for speaks in BOTH {
        for (len, accept, more, varies) in [
            (5_000, "br", "X: y", true),
            (5_000, "gzip;q=0", "X: y", true),
            (1_000, "gzip", "X: y", false),
            (5_000, "gzip", "Cache-Control: no-transform", false),
            (5_000, "gzip", "Content-Encoding: br", false),
            (5_000, "gzip", "Content-Range: bytes 0-4999/10000", false),
        ] {
            let path = format!("/{len}");
            let fields = [("accept-encoding", accept), ("x-fields", more)];
            let answer = Ask::get(&path).with(&fields).of(&node, speaks);
            assert!(answer.body == text(len), "{more}");
            assert_eq!(all(&answer, "etag"), ["\"e\""], "{more}");
            assert_eq!(!all(&answer, "vary").is_empty(), varies, "{accept} {more}");
        }
    }
}

#[test]
fn a_stream_stays_a_stream() {
    let origin = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = connection.try_send(format!("{head}5\r\ndata1\r\n"));
        // It goes on when the client has seen that.
        let _ = connection.take(1);
    });
    let node = before(&origin, "filters.compress = { codings = [\"gzip\"] }");
    let mut client = Connection::open(node.web());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.try_head().unwrap();
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    let mut stream = Vec::new();
    let mut event = [0; 5];
    while flate2::read::GzDecoder::new(&*stream)
        .read_exact(&mut event)
        .is_err()
    {
        let size = usize::from_str_radix(&client.line().unwrap(), 16).unwrap();
        stream.extend(client.take(size).unwrap());
        client.take(2).unwrap();
    }
    assert_eq!(&event, b"data1");
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let origin = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
        let _ = connection.try_send([head.as_bytes(), &text(50_000)].concat());
    });
    let node = before(&origin, "filters.compress = {}");
    let mut client = Connection::open(node.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.try_answer().is_err());
}
