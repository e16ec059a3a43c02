use std::net::IpAddr;

use super::*;
use crate::h1::Trace;
use crate::trace::TraceParent;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn forward(trusted: bool) -> ForwardRequest<'static> {
    ForwardRequest {
        client: CLIENT,
        trusted,
        proto: "http",
        client_cert: None,
        request_id: b"our-id",
        default_host: b"10.0.0.9:80",
        upgrade: true,
        trace: Default::default(),
        changed: Default::default(),
    }
}

fn written(input: &[u8], forward: &ForwardRequest<'_>) -> String {
    let mut out = Vec::new();
    write_request(&good(input), forward, &mut out);
    String::from_utf8(out).unwrap()
}

/// The fields that an origin gets for these, but Host and what we add to every request.
fn passed(fields: &str) -> String {
    let input = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let out = written(input.as_bytes(), &forward(false));
    let body = out.strip_prefix("GET / HTTP/1.1\r\nHost: h\r\n").unwrap();
    let ours = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
        Forwarded: for=192.0.2.7;host=\"h\";proto=http\r\nX-Request-Id: our-id\r\n\r\n";
    body.strip_suffix(ours)
        .unwrap_or_else(|| panic!("{body}"))
        .into()
}

#[test]
fn a_request_is_written_anew_with_who_sent_it() {
    let input =
        b"GET /a?b HTTP/1.0\r\nuser-AGENT:x\r\nHost: a:80\r\nAccept: */*\r\nCookie:\ta=b \r\nX-Tab:\ty\r\n\r\n";
    assert_eq!(
        written(input, &forward(false)),
        "GET /a?b HTTP/1.1\r\nHost: a:80\r\nuser-AGENT: x\r\nAccept: */*\r\nCookie: a=b\r\nX-Tab: y\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:80\r\n\
         Forwarded: for=192.0.2.7;host=\"a:80\";proto=http\r\nX-Request-Id: our-id\r\n\r\n"
    );
}

#[test]
fn the_target_becomes_a_path_and_its_host_the_host() {
    for (line, expected) in [
        (
            "GET http://a:81/x?y HTTP/1.1",
            "GET /x?y HTTP/1.1\r\nHost: a:81\r\n",
        ),
        ("GET HTTP://a?y HTTP/1.1", "GET /?y HTTP/1.1\r\nHost: a\r\n"),
        ("GET http://a HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\n"),
        (
            "CONNECT a:443 HTTP/1.1",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n",
        ),
        (
            "OPTIONS http://a HTTP/1.1",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "OPTIONS http://a/ HTTP/1.1",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "OPTIONS * HTTP/1.1",
            "OPTIONS * HTTP/1.1\r\nHost: other\r\n",
        ),
    ] {
        let input = format!("{line}\r\nHost: other\r\n\r\n");
        let out = written(input.as_bytes(), &forward(false));
        assert!(out.starts_with(expected), "{out}");
        assert_eq!(out.matches("\r\nHost:").count(), 1);
    }
}

#[test]
fn fields_of_this_connection_end_here() {
    assert_eq!(
        passed(
            "Connection: keep-alive, X-Hop , close\r\nKeep-Alive: timeout=5\r\nx-hop: 1\r\nX-Stay: 1\r\n\
             Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-HOP: 2\r\n"
        ),
        "X-Stay: 1\r\n"
    );
}

#[test]
fn naming_host_framing_or_forwarding_fields_takes_nothing_away() {
    let input =
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: host, content-length, x-forwarded-for, \
        x-request-id, expect\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let out = written(input, &forward(false));
    for kept in [
        "Host: h",
        "Content-Length: 3",
        "Expect: 100-continue",
        "X-Forwarded-For: 192.0.2.7",
    ] {
        assert!(out.contains(&format!("\r\n{kept}\r\n")), "{out}");
    }
}

#[test]
fn trailers_are_the_only_te_that_is_passed_on() {
    assert_eq!(
        passed("TE: gzip;q=1, Trailers\r\n"),
        "TE: trailers\r\nConnection: te\r\n"
    );
    assert_eq!(passed("TE: trailersx\r\n"), "");
}

#[test]
fn an_upgrade_is_passed_on_only_if_the_caller_wants_it() {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let kept = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: upgrade\r\n";
    assert_eq!(passed(fields), kept);
    let input = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let off = ForwardRequest {
        upgrade: false,
        ..forward(false)
    };
    let out = written(input.as_bytes(), &off);
    assert!(
        !out.contains("Upgrade:") && !out.contains("Connection:"),
        "{out}"
    );
}

#[test]
fn the_framing_is_written_from_what_was_understood() {
    let framing = |fields: &str| {
        let input = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\n{fields}\r\n\r\n");
        let out = written(input.as_bytes(), &forward(false));
        let start = out.find("Content-Type: a\r\n").unwrap() + 17;
        out[start..out.find("X-Forwarded-For").unwrap()].to_owned()
    };
    assert_eq!(framing("content-length:007"), "Content-Length: 7\r\n");
    assert_eq!(framing("Content-Length: 0"), "Content-Length: 0\r\n");
    assert_eq!(
        framing("transfer-encoding: CHUNKED"),
        "Transfer-Encoding: chunked\r\n"
    );
    assert_eq!(
        framing("Transfer-Encoding: chunked\r\nTrailer: X"),
        "Trailer: X\r\nTransfer-Encoding: chunked\r\n"
    );
    assert_eq!(framing("Trailer: X"), "");
}

#[test]
fn an_untrusted_peer_cannot_claim_to_be_another() {
    assert_eq!(
        passed(
            "X-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 1\r\n\
             x-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Request-Id: theirs\r\n\
             X.Real.IP: 1\r\nContent_Length: 7\r\nProxy: http://evil\r\nX-Forwarded-Prefix: /a\r\n"
        ),
        ""
    );
}

#[test]
fn a_trusted_peer_is_continued() {
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Port: 443\r\nX-Request-Id: theirs\r\n\
        X_Forwarded_For: 10.0.0.3\r\nX-Real-IP: 10.0.0.1\r\n\r\n";
    assert_eq!(
        written(input, &forward(true)),
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Request-Id: theirs\r\n\
         X-Real-IP: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.7\r\nX-Forwarded-Host: h\r\n\
         Forwarded: for=10.0.0.1, for=192.0.2.7;host=\"h\";proto=http\r\n\r\n"
    );
}

#[test]
fn a_request_id_that_is_not_plain_is_replaced_even_from_a_trusted_peer() {
    for bad in [
        "",
        "a b",
        "a\"b",
        "a,b",
        "\u{e9}",
        &"x".repeat(129),
        "a\r\nX-Request-Id: b",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: {bad}\r\n\r\n");
        assert_eq!(good(input.as_bytes()).id(), None);
        let out = written(input.as_bytes(), &forward(true));
        assert_eq!(out.matches("X-Request-Id").count(), 1, "{out}");
        assert!(out.contains("X-Request-Id: our-id\r\n"), "{out}");
    }
}

#[test]
fn addresses_are_written_as_rfc_7239_wants_them() {
    for (client, plain, quoted) in [
        ("192.0.2.255", "192.0.2.255", "192.0.2.255"),
        ("2001:db8::1", "2001:db8::1", "\"[2001:db8::1]\""),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1"),
    ] {
        let forward = ForwardRequest {
            client: client.parse().unwrap(),
            proto: "https",
            ..forward(false)
        };
        let out = written(b"GET / HTTP/1.0\r\n\r\n", &forward);
        assert_eq!(
            out,
            format!(
                "GET / HTTP/1.1\r\nHost: 10.0.0.9:80\r\nX-Forwarded-For: {plain}\r\nX-Forwarded-Proto: https\r\n\
                 Forwarded: for={quoted};proto=https\r\nX-Request-Id: our-id\r\n\r\n"
            )
        );
    }
}

#[test]
fn octets_of_every_length_are_written_as_they_are() {
    for octet in 0..=u8::MAX {
        let client = IpAddr::from([octet, 0, octet, 255]);
        let forward = ForwardRequest {
            client,
            ..forward(false)
        };
        let out = written(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &forward);
        assert!(
            out.contains(&format!("X-Forwarded-For: {client}\r\n")),
            "{out}"
        );
        assert!(out.contains(&format!("for={client};")), "{out}");
    }
}

#[test]
fn trace_context_is_kept_left_out_or_written_anew() {
    let input =
        b"GET / HTTP/1.1\r\nHost: h\r\nTraceParent: x\r\ntracestate: a=1\r\nAccept: y\r\n\r\n";
    let request = good(input);
    let mut out = Vec::new();
    let mut write = |trace| {
        out.clear();
        let forward = ForwardRequest {
            trace,
            ..forward(false)
        };
        let at = write_request(&request, &forward, &mut out);
        (at, String::from_utf8(out.clone()).unwrap())
    };
    let (at, kept) = write(Trace::Kept);
    assert!(at.is_none() && kept.contains("TraceParent: x\r\ntracestate: a=1\r\n"));
    let (at, removed) = write(Trace::Removed);
    assert!(at.is_none() && !removed.to_ascii_lowercase().contains("trace"));
    let parent = TraceParent {
        trace: [0xab; 16],
        span: [0xcd; 8],
        flags: 1,
    };
    let state = Some("b=2");
    let (at, written) = write(Trace::Written { parent, state });
    let text = "00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01";
    assert_eq!(&written[at.unwrap()..][..text.len()], text);
    let ours = format!("traceparent: {text}\r\ntracestate: b=2\r\n\r\n");
    assert!(written.ends_with(&ours), "{written}");
    assert!(!written.contains("a=1"), "{written}");
}
