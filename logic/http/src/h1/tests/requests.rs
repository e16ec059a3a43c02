use super::*;

#[test]
fn a_plain_request_is_read_whole() {
    let input = b"GET /hello.txt?a=b?c HTTP/1.1\r\nUser-Agent: curl/7.64.1\r\nHost: www.example.com:8080\r\n\
        Accept-Language:\t en, mi \t\r\nX-Empty:\r\n\r\nnext";
    let request = good(input);
    assert_eq!(
        (request.method, request.kind),
        (&b"GET"[..], MethodKind::Get)
    );
    let target = Target::Origin {
        path: b"/hello.txt",
        query: Some(b"a=b?c"),
    };
    assert_eq!(request.target, target);
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.authority, b"www.example.com:8080");
    assert_eq!(request.framing, Framing::None);
    assert!(request.keep_alive && !request.expects_continue && request.upgrade.is_none());
    assert_eq!(&input[request.head_len..], b"next");
    let fields: Vec<_> = request.fields.iter().map(|f| (f.name, f.value)).collect();
    let expected: [(&str, &[u8]); 4] = [
        ("User-Agent", b"curl/7.64.1"),
        ("Host", b"www.example.com:8080"),
        ("Accept-Language", b"en, mi"),
        ("X-Empty", b""),
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        request.fields.find("accept-LANGUAGE"),
        Some(b"en, mi".as_slice())
    );
    assert_eq!(request.fields.find("accept"), None);
}

#[test]
fn every_form_of_target_is_read() {
    fn absolute<'b>(authority: &'b str, path: &'b str, query: Option<&'b str>) -> Target<'b> {
        Target::Absolute {
            scheme: b"http",
            authority: authority.as_bytes(),
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
        }
    }
    let cases = [
        (
            "GET http://a:81/x?y",
            absolute("a:81", "/x", Some("y")),
            "a:81",
        ),
        ("GET http://a", absolute("a", "", None), "a"),
        ("GET http://a?y", absolute("a", "", Some("y")), "a"),
        ("OPTIONS *", Target::Asterisk, "h"),
        ("CONNECT a:443", Target::Authority(b"a:443"), "a:443"),
        (
            "CONNECT [::1]:443",
            Target::Authority(b"[::1]:443"),
            "[::1]:443",
        ),
    ];
    for (line, target, authority) in cases {
        let input = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let request = good(input.as_bytes());
        assert_eq!(
            (request.target, request.authority),
            (target, authority.as_bytes()),
            "{line}"
        );
    }
}

#[test]
fn request_lines_that_can_be_read_in_two_ways_are_refused() {
    let cases: [(&[u8], Fault); 38] = [
        (b"GET  / HTTP/1.1", Fault::RequestLine),
        (b"GET /  HTTP/1.1", Fault::RequestLine),
        (b"GET / HTTP/1.1 ", Fault::RequestLine),
        (b"GET / x HTTP/1.1", Fault::RequestLine),
        (b"GET\t/ HTTP/1.1", Fault::RequestLine),
        (b"GET /\tHTTP/1.1", Fault::TargetByte),
        (b"GET /", Fault::RequestLine),
        (b"GET", Fault::RequestLine),
        (b"GET / ", Fault::RequestLine),
        (b" GET / HTTP/1.1", Fault::NotHttp),
        (b"G\x00T / HTTP/1.1", Fault::RequestLine),
        (b"G(T / HTTP/1.1", Fault::RequestLine),
        (b"(ET / HTTP/1.1", Fault::NotHttp),
        (b"GET /\x00 HTTP/1.1", Fault::TargetByte),
        (b"GET /\x7f HTTP/1.1", Fault::TargetByte),
        (b"GET /\xc3\xa9 HTTP/1.1", Fault::TargetByte),
        (b"GET /#a HTTP/1.1", Fault::TargetByte),
        (b"GET /\r/ HTTP/1.1", Fault::RequestLine),
        (b"GET / HTTP/1.1\r", Fault::BareCr),
        (b"GET / http/1.1", Fault::RequestLine),
        (b"GET / HTTP/11", Fault::RequestLine),
        (b"GET / HTTP/1.10", Fault::RequestLine),
        (b"GET / HTTP/1.", Fault::RequestLine),
        (b"GET / HTTP/1.2", Fault::Version),
        (b"GET / HTTP/0.9", Fault::Version),
        (b"GET / HTTP/3", Fault::Version),
        (b"PRI * HTTP/2.0", Fault::Version),
        (b"GET * HTTP/1.1", Fault::TargetForm),
        (b"GET a HTTP/1.1", Fault::TargetForm),
        (b"GET a:80 HTTP/1.1", Fault::TargetForm),
        (b"GET ftp://a/ HTTP/1.1", Fault::TargetForm),
        (b"GET http:/a HTTP/1.1", Fault::TargetForm),
        (b"GET http:///a HTTP/1.1", Fault::Authority),
        (b"GET http://u:p@a/ HTTP/1.1", Fault::Userinfo),
        (b"GET http://a:b/ HTTP/1.1", Fault::Authority),
        (b"CONNECT a HTTP/1.1", Fault::TargetForm),
        (b"CONNECT /a HTTP/1.1", Fault::Authority),
        (b"CONNECT [::1] HTTP/1.1", Fault::TargetForm),
    ];
    for (line, expected) in cases {
        let input = [line, b"\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(fault(&input), expected, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn the_host_must_be_there_once_and_valid() {
    let head = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
    assert_eq!(fault(&head("")), Fault::HostMissing);
    assert_eq!(fault(&head("Host: a\r\nhost: a\r\n")), Fault::HostTwice);
    for bad in ["", "a b", "a,b", "a/b", "a:x", "\u{e9}", "[::1", "a\tb"] {
        assert_eq!(
            fault(&head(&format!("Host: {bad}\r\n"))),
            Fault::Authority,
            "{bad:?}"
        );
    }
    assert_eq!(fault(&head("Host: u@a\r\n")), Fault::Userinfo);
    assert_eq!(fault(&head("Host : a\r\n")), Fault::SpaceBeforeColon);
    // An invalid Host is refused even where the target's own wins.
    assert_eq!(
        fault(b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"),
        Fault::Authority
    );
    assert_eq!(
        good(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n").authority,
        b"a"
    );
    assert_eq!(good(b"GET / HTTP/1.0\r\n\r\n").authority, b"");
}

#[test]
fn field_lines_that_can_be_read_in_two_ways_are_refused() {
    let cases: [(&[u8], Fault); 21] = [
        (b"Transfer-Encoding : chunked", Fault::SpaceBeforeColon),
        (b"Transfer-Encoding\t: chunked", Fault::SpaceBeforeColon),
        (b"Transfer-Encoding\x0b: chunked", Fault::Name),
        (b"Transfer-Encoding\x00: chunked", Fault::Name),
        (b"Transfer\xc2\xadEncoding: chunked", Fault::Name),
        (b" Transfer-Encoding: chunked", Fault::Folded),
        (b"\tTransfer-Encoding: chunked", Fault::Folded),
        (b"X: a\r\n b", Fault::Folded),
        (b"X: a\r\n\tTransfer-Encoding: chunked", Fault::Folded),
        (b"X: a\nTransfer-Encoding: chunked", Fault::BareLf),
        (b"X: a\rTransfer-Encoding: chunked", Fault::BareCr),
        (b"X: a\r\r", Fault::BareCr),
        (b"\rX: a", Fault::BareCr),
        (b"X: a\n", Fault::BareLf),
        (b"X: a\x00b", Fault::ValueByte),
        (b"X: a\x01", Fault::ValueByte),
        (b"X: \x7f", Fault::ValueByte),
        (b": a", Fault::Name),
        (b"X", Fault::Name),
        (b"X\"Y: a", Fault::Name),
        (b"X(Y): a", Fault::Name),
    ];
    for (line, expected) in cases {
        let input = [b"GET / HTTP/1.1\r\nHost: h\r\n", line, b"\r\n\r\n"].concat();
        assert_eq!(fault(&input), expected, "{}", String::from_utf8_lossy(line));
    }
    assert_eq!(
        good(&with("X: \u{e9}\ta")).fields.find("x"),
        Some("\u{e9}\ta".as_bytes())
    );
}

#[test]
fn odd_content_lengths_are_refused() {
    for bad in [
        "+5",
        "-5",
        "5, 5",
        "5,5",
        "",
        " ",
        "5 5",
        "0x5",
        "5;",
        "5.0",
        "\u{665}",
        "1e2",
        "5\t5",
        "18446744073709551616",
        "9223372036854775808",
        "00000000000000000005",
        "\"5\"",
    ] {
        let input = with(&format!("Content-Length: {bad}"));
        assert_eq!(fault(&input), Fault::Length, "{bad:?}");
    }
    assert_eq!(
        good(&with("Content-Length: \t5 ")).framing,
        Framing::Length(5)
    );
    assert_eq!(good(&with("cOnTeNt-lEnGtH:0")).framing, Framing::Length(0));
    for twice in [
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "5\r\ncontent-length:5",
    ] {
        assert_eq!(
            fault(&with(&format!("Content-Length: {twice}"))),
            Fault::LengthTwice
        );
    }
}

#[test]
fn only_chunked_alone_is_a_transfer_encoding() {
    for bad in [
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunke",
        "chunkedd",
        "",
        "chun ked",
        "\u{b}chunked",
        "chunked\u{0}",
    ] {
        let fault = fault(&with(&format!("Transfer-Encoding: {bad}")));
        let control = bad.bytes().any(|b| b < 0x20);
        let expected = if control {
            Fault::ValueByte
        } else {
            Fault::Coding
        };
        assert_eq!(fault, expected, "{bad:?}");
    }
    assert_eq!(
        good(&with("transfer-encoding:\tChUnKeD \t")).framing,
        Framing::Chunked
    );
    let twice = with("Transfer-Encoding: chunked\r\nTransfer-encoding: chunked");
    assert_eq!(fault(&twice), Fault::CodingTwice);
    let hidden = with("Transfer-Encoding: chunked\r\nTransfer-encoding: x");
    assert_eq!(fault(&hidden), Fault::CodingTwice);
    let old = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(fault(old), Fault::CodingInHttp10);
}

#[test]
fn both_framings_at_once_are_refused_in_either_order() {
    let (length, coding) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    assert_eq!(
        fault(&with(&format!("{length}\r\n{coding}"))),
        Fault::LengthAndCoding
    );
    assert_eq!(
        fault(&with(&format!("{coding}\r\n{length}"))),
        Fault::LengthAndCoding
    );
}

#[test]
fn the_connection_persists_as_version_and_options_say() {
    let keeps = |version, value| {
        let input = format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: {value}\r\n\r\n");
        good(input.as_bytes()).keep_alive
    };
    assert!(keeps("1.1", "x") && keeps("1.1", "keep-alive"));
    assert!(!keeps("1.1", "Close") && !keeps("1.1", "keep-alive, x ,CLOSE"));
    assert!(!keeps("1.0", "x") && keeps("1.0", "Keep-Alive") && keeps("1.0", "x, keep-alive"));
    assert!(!keeps("1.0", "close, keep-alive"));
}

#[test]
fn an_upgrade_is_offered_only_where_it_can_be_passed_on_safely() {
    let offer = |lines: &str| {
        let input = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n");
        good(input.as_bytes()).upgrade.map(str::to_owned)
    };
    let websocket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket";
    assert_eq!(offer(websocket).as_deref(), Some("websocket"));
    for not in [
        "Upgrade: websocket",
        "Connection: upgrade",
        "Connection: upgrade\r\nUpgrade: h2c",
        "Connection: upgrade\r\nUpgrade: H2C",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0",
        "Connection: upgrade\r\nUpgrade: websocket, h2c",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3",
        "Connection: upgrade\r\nUpgrade:",
    ] {
        assert_eq!(offer(not), None, "{not:?}");
    }
    let old = b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(good(old).upgrade, None);
}

#[test]
fn only_the_one_expectation_is_understood() {
    let body = "Content-Length: 3\r\nExpect: 100-Continue";
    assert!(good(&with(body)).expects_continue);
    assert!(!good(&with("Expect: 100-continue")).expects_continue);
    assert!(!good(&with("Content-Length: 0\r\nExpect: 100-continue")).expects_continue);
    let old = b"POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    assert!(!good(old).expects_continue);
    for bad in [
        "y 100-continue",
        "100-continue, x",
        "",
        "100-continue\r\nExpect: 100-continue",
    ] {
        assert_eq!(fault(&with(&format!("Expect: {bad}"))), Fault::Expectation);
    }
}

#[test]
fn blank_lines_before_a_request_are_passed_over_but_not_without_end() {
    let line = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for blank in ["", "\r\n", "\r\n\r\n"] {
        let input = format!("{blank}{line}");
        assert_eq!(good(input.as_bytes()).head_len, input.len());
    }
    assert_eq!(
        fault(format!("\r\n\r\n\r\n{line}").as_bytes()),
        Fault::NotHttp
    );
    assert_eq!(fault(format!("\n{line}").as_bytes()), Fault::BareLf);
    assert_eq!(fault(format!("\r{line}").as_bytes()), Fault::BareCr);
}

#[test]
fn what_cannot_become_a_request_is_refused_before_its_end() {
    assert_eq!(fault(b"\x16\x03\x01\x02\x00"), Fault::NotHttp);
    assert_eq!(fault(b"\x00"), Fault::NotHttp);
    assert_eq!(fault(b"GET / HTTP/1.1\n"), Fault::BareLf);
    assert!(request(b"GET / HTTP/1.1\r\n").unwrap().is_none());
    assert!(request(b"").unwrap().is_none() && request(b"\r").unwrap().is_none());
}

#[test]
fn heads_over_the_limits_are_refused() {
    let limits = Limits {
        head: 64,
        fields: 3,
    };
    let parse = |input: &[u8]| parse_request(input, &mut 0, &limits).map(|r| r.is_some());
    let sized = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
            "x".repeat(n - 32)
        )
    };
    assert_eq!(parse(sized(64).as_bytes()), Ok(true));
    assert_eq!(parse(sized(65).as_bytes()), Err(Fault::HeadTooLarge));
    assert_eq!(parse(&sized(65).as_bytes()[..63]), Ok(false));
    assert_eq!(parse(&sized(65).as_bytes()[..64]), Err(Fault::HeadTooLarge));
    assert_eq!(
        parse(format!("GET /{}", "x".repeat(70)).as_bytes()),
        Err(Fault::TargetTooLong)
    );
    assert_eq!(
        parse(b"GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB:\r\n\r\n"),
        Ok(true)
    );
    let fields = b"GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB:\r\nC:\r\n\r\n";
    assert_eq!(parse(fields), Err(Fault::TooManyFields));

    let wide = Limits {
        head: 1 << 20,
        fields: 1000,
    };
    let parse = |input: &str| parse_request(input.as_bytes(), &mut 0, &wide).map(|r| r.is_some());
    let many = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A:\r\n".repeat(n - 1)
        )
    };
    assert_eq!(parse(&many(MAX_FIELDS)), Ok(true));
    assert_eq!(parse(&many(MAX_FIELDS + 1)), Err(Fault::TooManyFields));
    let named = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}: a\r\n\r\n", "n".repeat(n));
    assert_eq!(parse(&named(255)), Ok(true));
    assert_eq!(parse(&named(256)), Err(Fault::NameTooLong));
    let valued = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
            "v".repeat(n - 32)
        )
    };
    assert_eq!(parse(&valued(65_535)), Ok(true));
    assert_eq!(parse(&valued(65_536)), Err(Fault::HeadTooLarge));
}

#[test]
fn a_connection_field_cannot_name_fields_without_end() {
    let naming = |n: usize| with(&format!("Connection: close{}", ", x".repeat(n)));
    assert!(!good(&naming(16)).keep_alive);
    assert_eq!(fault(&naming(17)), Fault::Nominations);
}

#[test]
fn every_fault_of_a_request_has_the_status_that_tells_the_client() {
    for (fault, status) in [
        (Fault::BareLf, 400),
        (Fault::LengthAndCoding, 400),
        (Fault::TargetTooLong, 414),
        (Fault::Expectation, 417),
        (Fault::HeadTooLarge, 431),
        (Fault::TooManyFields, 431),
        (Fault::Coding, 501),
        (Fault::Version, 505),
    ] {
        assert_eq!(fault.status(), status);
    }
}

/// Whatever is parsed here is parsed again in every cut.
#[test]
fn how_the_network_cuts_a_head_never_matters() {
    let inputs: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n\r\nPOST /x?y HTTP/1.0\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nbody",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\rHost: h\r\n\r\n",
        b"(ET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n",
        b"GET /0123456789012345678901234567890123456789012345678901234567890123 HTTP/1.1\r\n\r\n",
    ];
    let limits = Limits {
        head: 80,
        fields: 4,
    };
    for input in inputs {
        let whole = parse_request(input, &mut 0, &limits).map(|r| r.map(|r| r.head_len));
        for first in 0..=input.len() {
            // In two pieces, and from there byte by byte.
            let mut scanned = 0;
            let mut verdict = Ok(None);
            for end in first..=input.len() {
                verdict = parse_request(&input[..end], &mut scanned, &limits)
                    .map(|r| r.map(|r| r.head_len));
                if verdict != Ok(None) {
                    break;
                }
            }
            assert_eq!(
                verdict,
                whole,
                "{} from {first}",
                String::from_utf8_lossy(input)
            );
        }
    }
}
