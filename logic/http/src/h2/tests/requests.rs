//! What becomes of a request's fields.

use super::*;
use crate::h1::{ForwardRequest, Framing, MethodKind, write_request};

fn forwarded(client: &Client) -> String {
    let forward = ForwardRequest {
        client: [10, 0, 0, 1].into(),
        trusted: false,
        proto: "https",
        client_cert: None,
        request_id: b"id",
        default_host: b"",
        upgrade: true,
        trace: Default::default(),
        changed: Default::default(),
    };
    let mut out = Vec::new();
    write_request(&client.head.request(), &forward, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_is_handed_on_as_http_1_1_would_have_it() {
    let mut client = Client::new();
    client.ask(
        1,
        true,
        &[
            ("cookie", "a=1"),
            ("accept", "*/*"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "6.6.6.6"),
            ("te", "trailers"),
        ],
    );
    let request = client.head.request();
    assert_eq!(
        (request.kind, request.framing),
        (MethodKind::Get, Framing::None)
    );
    assert_eq!(request.authority, b"shop.example");
    assert_eq!(
        (request.target.path(), request.target.query()),
        (&b"/a"[..], Some(&b"b=c"[..]))
    );
    let text = forwarded(&client);
    assert!(
        text.starts_with(
            "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\naccept: */*\r\ncookie: a=1; b=2\r\n"
        ),
        "{text}"
    );
    assert!(text.contains("X-Forwarded-For: 10.0.0.1\r\n"), "{text}");
    assert!(
        text.contains("TE: trailers\r\nConnection: te\r\n"),
        "{text}"
    );
    assert!(
        !text.contains("6.6.6.6") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn the_body_is_framed_by_its_length_or_in_chunks() {
    let mut client = Client::new();
    client.ask(1, false, &[("content-length", "5")]);
    assert!(forwarded(&client).contains("Content-Length: 5\r\n"));
    client.ask(3, false, &[]);
    assert!(forwarded(&client).contains("Transfer-Encoding: chunked\r\n"));
    client.ask(5, true, &[("content-length", "0")]);
    assert!(forwarded(&client).contains("Content-Length: 0\r\n"));
}

#[test]
fn whatever_could_be_read_in_two_ways_is_refused() {
    let odd: &[&[(&str, &str)]] = &[
        &[("Accept", "*/*")],
        &[("", "x")],
        &[("a b", "x")],
        &[("a:b", "x")],
        &[("x\r\ny", "x")],
        &[("x", "a\r\nb: c")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x", " a")],
        &[("x", "a\t")],
        &[("connection", "close")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[("host", "other.example")],
        &[("host", "shop.example"), ("host", "shop.example")],
        &[("content-length", "1")],
        &[("content-length", "0"), ("content-length", "0")],
        &[("content-length", "+0")],
        &[(":path", "/twice")],
        &[("accept", "*/*"), (":extra", "x")],
        &[(":unknown", "x")],
        &[(":status", "200")],
        &[(":protocol", "websocket")],
        &[("expect", "something")],
    ];
    for fields in odd {
        let mut client = Client::new();
        let events = client.send(&request(1, true, fields));
        assert_eq!(events, [Event::Malformed], "{fields:?}");
        assert_eq!(client.ends(), [(1, Code::Protocol as u32)], "{fields:?}");
        // The connection goes on.
        client.ask(3, true, &[]);
    }
}

#[test]
fn pseudo_fields_must_be_there_and_make_sense() {
    let with = |place: usize, field: (&'static str, &'static str)| {
        let mut fields = GET;
        fields[place] = field;
        fields.to_vec()
    };
    let odd = [
        with(0, ("x", "GET")),
        with(0, (":method", "")),
        with(0, (":method", "GE T")),
        with(0, (":method", "CONNECT")),
        with(1, (":scheme", "ftp")),
        with(1, (":scheme", "")),
        with(2, (":authority", "")),
        with(2, (":authority", "user@shop.example")),
        with(2, (":authority", "shop.example\r\nx: y")),
        with(3, (":path", "")),
        with(3, (":path", "*")),
        with(3, (":path", "a")),
        with(3, (":path", "http://other.example/")),
        with(3, (":path", "/a b")),
        with(3, (":path", "/a HTTP/1.1\r\nx: y")),
        with(3, (":path", "/a#b")),
        GET[..3].to_vec(),
        [&GET[..2], &GET[3..]].concat(),
        GET[1..].to_vec(),
    ];
    for fields in odd {
        let mut client = Client::new();
        let events = client.send(&headers(1, true, &fields));
        assert_eq!(events, [Event::Malformed], "{fields:?}");
    }
    let mut client = Client::new();
    let host = [&GET[..2], &GET[3..], &[("host", "shop.example")]].concat();
    let events = client.send(&headers(1, true, &host));
    assert!(matches!(events[..], [Event::Request(_)]));
    assert_eq!(
        client.head.request().authority,
        b"shop.example",
        "Host stands in"
    );
    let all = [("Host", "SHOP.example")].map(|_| ("host", "SHOP.example"));
    client.ask(3, true, &all);
}

#[test]
fn connect_is_known_for_what_it_is_and_websocket_becomes_an_upgrade() {
    let mut client = Client::new();
    let other = [
        &[(":method", "CONNECT"), (":protocol", "connect-udp")],
        &GET[1..],
    ]
    .concat();
    assert!(matches!(
        client.send(&headers(5, false, &other))[..],
        [Event::Request(_)]
    ));
    assert_eq!(client.head.request().kind, MethodKind::Connect);

    let mut client = Client::new();
    let connect = [(":method", "CONNECT"), (":authority", "db.example:5432")];
    let events = client.send(&headers(1, false, &connect));
    assert!(matches!(events[..], [Event::Request(_)]));
    assert_eq!(client.head.request().kind, MethodKind::Connect);

    let socket = [
        &[(":method", "CONNECT"), (":protocol", "websocket")],
        &GET[1..],
        &[("sec-websocket-version", "13")],
    ]
    .concat();
    let events = client.send(&headers(3, false, &socket));
    assert!(matches!(events[..], [Event::Request(_)]));
    assert!(client.head.is_websocket());
    client.head.upgrade([1, 2]);
    let text = forwarded(&client);
    assert!(text.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{text}");
    assert!(
        text.contains("upgrade: websocket\r\nConnection: upgrade\r\n"),
        "{text}"
    );
    assert!(
        text.contains("sec-websocket-key: AQAAAAAAAAACAAAAAAAAAA==\r\n"),
        "{text}"
    );
}

#[test]
fn a_head_beyond_the_limits_is_said_to_be_too_large() {
    let crumbs: Vec<(&str, &str)> = vec![("cookie", "a"); 40];
    let long = "x".repeat(5_000);
    for fields in [&crumbs[..], &[("x", long.as_str())]] {
        let mut client = Client::new();
        let events = client.send(&request(1, true, fields));
        assert!(matches!(events[..], [Event::TooLarge(_)]), "{events:?}");
        client.ask(3, true, &[]);
    }
}

#[test]
fn a_body_that_is_not_as_long_as_it_said_is_broken_off() {
    for (first, second) in [("123456", None), ("1234", Some("")), ("12345", Some("6"))] {
        let mut client = Client::new();
        let key = client.ask(1, false, &[("content-length", "5")]);
        let mut events = client.send(&data(1, second.is_none(), first.as_bytes()));
        if let Some(second) = second {
            events = client.send(&data(1, true, second.as_bytes()));
        }
        assert_eq!(events, [Event::Reset(key)], "{first} {second:?}");
        assert_eq!(client.ends(), [(1, Code::Protocol as u32)]);
        assert_eq!(client.machine.read(key, &mut [0; 9]), Taken::Reset);
    }
}

#[test]
fn trailers_are_lines_without_what_must_not_trail() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    client.send(&data(1, false, b"body"));
    let trailers = [("grpc-status", "0"), ("content-length", "9"), ("x-a", "b")];
    assert_eq!(
        client.send(&headers(1, true, &trailers)),
        [Event::Readable(key)]
    );
    assert_eq!(client.read(key, 100), b"body");
    assert_eq!(client.machine.read(key, &mut [0; 9]), Taken::End);
    let lines = client.machine.take_trailers(key).unwrap();
    assert_eq!(lines, b"grpc-status: 0\r\nx-a: b\r\n");
    for odd in [
        headers(3, true, &[(":path", "/")]),
        headers(3, true, &[("X", "y")]),
        headers(3, false, &[("x", "y")]),
    ] {
        let mut client = Client::new();
        let key = client.ask(3, false, &[]);
        assert_eq!(client.send(&odd), [Event::Reset(key)]);
    }
}
