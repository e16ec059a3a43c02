use super::*;

#[test]
fn a_plain_response_is_read_whole() {
    let input =
        b"HTTP/1.1 200 Fine by me\r\nServer: a\r\nContent-Length: 5\r\nConnection: x\r\n\r\nhello";
    let response = good_response(input);
    assert_eq!(
        (response.status, response.reason),
        (200, b"Fine by me".as_slice())
    );
    assert_eq!(response.version, Version::Http11);
    assert_eq!(response.framing, Framing::Length(5));
    assert!(response.keep_alive && !response.is_interim());
    assert_eq!(&input[response.head_len..], b"hello");
    assert_eq!(response.fields.len(), 3);
}

#[test]
fn the_reason_may_be_missing_or_opaque() {
    for (line, reason) in [
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200", ""),
        ("HTTP/1.0 404 \u{e9}\tx", "\u{e9}\tx"),
    ] {
        let input = format!("{line}\r\n\r\n");
        assert_eq!(good_response(input.as_bytes()).reason, reason.as_bytes());
    }
}

#[test]
fn status_lines_out_of_form_are_refused() {
    let cases: [(&[u8], Fault); 16] = [
        (b"HTTP/1.1  200 OK", Fault::StatusLine),
        (b"HTTP/1.1 20 OK", Fault::StatusLine),
        (b"HTTP/1.1 2000 OK", Fault::StatusLine),
        (b"HTTP/1.1 200OK", Fault::StatusLine),
        (b"HTTP/1.1 +20 OK", Fault::StatusLine),
        (b"HTTP/1.1 200 O\x00K", Fault::StatusLine),
        (b"HTTP/1.1 200 O\rK", Fault::BareCr),
        (b"HTTP/1.1", Fault::StatusLine),
        (b"HTTP/1.1 099 OK", Fault::Status),
        (b"HTTP/1.1 600 OK", Fault::Status),
        (b"HTTP/2 200", Fault::Version),
        (b"HTTP/1.2 200 OK", Fault::Version),
        (b"HTTP/x", Fault::StatusLine),
        (b"http/1.1 200 OK", Fault::NotHttp),
        (b"SSH-2.0-OpenSSH_9.2", Fault::NotHttp),
        (b"\r\nHTTP/1.1 200 OK", Fault::NotHttp),
    ];
    for (line, expected) in cases {
        let input = [line, b"\r\nContent-Length: 0\r\n\r\n"].concat();
        assert_eq!(
            response(&input).unwrap_err(),
            expected,
            "{}",
            String::from_utf8_lossy(line)
        );
    }
    assert_eq!(response(b"SSH").unwrap_err(), Fault::NotHttp);
    assert_eq!(response(b"HTTP/1.1 200 OK\n").unwrap_err(), Fault::BareLf);
}

#[test]
fn framing_follows_the_order_of_rfc_9112() {
    let framing = |to, head: &str| {
        let input = format!("HTTP/1.1 {head}\r\n\r\n");
        let parsed = parse_response(input.as_bytes(), &mut 0, &Limits::default(), to);
        let response = parsed.unwrap().unwrap();
        (response.framing, response.keep_alive)
    };
    use MethodKind::{Connect, Get, Head};
    let (length, coding) = ("Content-Length: 9", "Transfer-Encoding: chunked");
    for (to, head, expected) in [
        (
            Get,
            format!("200 OK\r\n{length}"),
            (Framing::Length(9), true),
        ),
        (Get, format!("200 OK\r\n{coding}"), (Framing::Chunked, true)),
        (Get, "200 OK".into(), (Framing::UntilClose, false)),
        (Get, "204 No Content".into(), (Framing::None, true)),
        (
            Get,
            "204 No Content\r\nContent-Length: 0".into(),
            (Framing::None, true),
        ),
        (
            Get,
            format!("304 Not Modified\r\n{length}"),
            (Framing::None, true),
        ),
        (Get, "101 Switching Protocols".into(), (Framing::None, true)),
        (Get, "103 Early Hints".into(), (Framing::None, true)),
        (Head, format!("200 OK\r\n{length}"), (Framing::None, true)),
        (Head, format!("200 OK\r\n{coding}"), (Framing::None, true)),
        (Head, "200 OK".into(), (Framing::None, true)),
        (Connect, "200 OK".into(), (Framing::None, true)),
        (
            Connect,
            format!("404 Not Found\r\n{length}"),
            (Framing::Length(9), true),
        ),
        (
            Get,
            format!("200 OK\r\nConnection: close\r\n{length}"),
            (Framing::Length(9), false),
        ),
    ] {
        assert_eq!(framing(to, &head), expected, "{head:?}");
    }
}

#[test]
fn an_origin_that_frames_what_has_no_body_is_not_used_again() {
    for head in [
        "204 No Content\r\nContent-Length: 5",
        "204 No Content\r\nTransfer-Encoding: chunked",
        "100 Continue\r\nContent-Length: 5",
    ] {
        let input = format!("HTTP/1.1 {head}\r\n\r\n");
        let response = good_response(input.as_bytes());
        assert_eq!(
            (response.framing, response.keep_alive),
            (Framing::None, false),
            "{head:?}"
        );
    }
}

#[test]
fn origins_are_held_to_the_same_framing_rules_as_clients() {
    for (fields, expected) in [
        ("Content-Length: 5\r\nContent-Length: 5", Fault::LengthTwice),
        ("Content-Length: 5, 5", Fault::Length),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Fault::LengthAndCoding,
        ),
        ("Transfer-Encoding: gzip, chunked", Fault::Coding),
        ("Transfer-Encoding: identity", Fault::Coding),
        ("X : a", Fault::SpaceBeforeColon),
        ("X: a\r\n b", Fault::Folded),
    ] {
        let input = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        assert_eq!(
            response(input.as_bytes()).unwrap_err(),
            expected,
            "{fields:?}"
        );
    }
    let old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(old).unwrap_err(), Fault::CodingInHttp10);
}

#[test]
fn an_http_1_0_origin_persists_only_if_it_says_so() {
    let keeps = |fields: &str| {
        let input = format!("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n{fields}\r\n");
        good_response(input.as_bytes()).keep_alive
    };
    assert!(!keeps("") && keeps("Connection: Keep-Alive\r\n"));
    let endless = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n";
    assert!(!good_response(endless).keep_alive);
}

#[test]
fn how_the_network_cuts_a_response_never_matters() {
    let inputs: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\nX: a\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTQ/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n\r\n",
    ];
    let limits = Limits {
        head: 64,
        fields: 2,
    };
    for input in inputs {
        let parse = |end: usize, scanned: &mut usize| {
            parse_response(&input[..end], scanned, &limits, MethodKind::Get)
                .map(|r| r.map(|r| r.head_len))
        };
        let whole = parse(input.len(), &mut 0);
        for first in 0..=input.len() {
            let mut scanned = 0;
            let cut = (first..=input.len()).map(|end| parse(end, &mut scanned));
            let verdict = cut.into_iter().find(|v| *v != Ok(None)).unwrap_or(Ok(None));
            assert_eq!(
                verdict,
                whole,
                "{} from {first}",
                String::from_utf8_lossy(input)
            );
        }
    }
}
