use super::*;

const DATE: &str = "Sat, 01 Aug 2026 12:00:00 GMT";

fn to(version: Version, close: bool) -> ForwardResponse<'static> {
    ForwardResponse {
        version,
        close,
        date: DATE,
        fields: &[],
    }
}

fn written(head: &str, method: MethodKind, forward: &ForwardResponse<'_>) -> (String, Framing) {
    let input = format!("HTTP/1.1 {head}\r\nDate: d\r\n\r\n");
    let parsed = parse_response(input.as_bytes(), &mut 0, &Limits::default(), method);
    let mut out = Vec::new();
    let framing = write_response(&parsed.unwrap().unwrap(), forward, &mut out);
    let out = String::from_utf8(out).unwrap();
    let head = out
        .strip_prefix("HTTP/1.1 ")
        .and_then(|out| out.strip_suffix("\r\n\r\n"));
    (
        head.unwrap_or(&out)
            .replace("\r\n", "|")
            .replace("|Date: d", ""),
        framing,
    )
}

#[test]
fn bodies_are_framed_as_the_client_can_read_them() {
    use Version::{Http10, Http11};
    let (length, coding) = (
        "200 OK|Content-Length: 5",
        "200 OK|Transfer-Encoding: chunked",
    );
    for (head, client, expected, framing) in [
        (length, Http11, length, Framing::Length(5)),
        (coding, Http11, coding, Framing::Chunked),
        ("200 OK", Http11, coding, Framing::Chunked),
        (
            length,
            Http10,
            "200 OK|Content-Length: 5|Connection: keep-alive",
            Framing::Length(5),
        ),
        (
            coding,
            Http10,
            "200 OK|Connection: close",
            Framing::UntilClose,
        ),
        (
            "200 OK",
            Http10,
            "200 OK|Connection: close",
            Framing::UntilClose,
        ),
        ("204 No Content", Http11, "204 No Content", Framing::None),
        ("204 X|Content-Length: 0", Http11, "204 X", Framing::None),
        (
            "304 X|Content-Length: 7",
            Http11,
            "304 X|Content-Length: 7",
            Framing::None,
        ),
    ] {
        let written = written(
            &head.replace('|', "\r\n"),
            MethodKind::Get,
            &to(client, false),
        );
        assert_eq!(written, (expected.into(), framing), "{head} to {client:?}");
    }
}

#[test]
fn an_answer_to_head_describes_the_body_that_does_not_follow() {
    let head = |head| written(head, MethodKind::Head, &to(Version::Http11, false));
    let length = "200 OK\r\nContent-Length: 5";
    assert_eq!(
        head(length),
        ("200 OK|Content-Length: 5".into(), Framing::None)
    );
    let coding = "200 OK\r\nTransfer-Encoding: chunked";
    assert_eq!(head(coding), ("200 OK".into(), Framing::None));
}

#[test]
fn a_connection_that_will_be_closed_says_so() {
    let (out, _) = written(
        "200 OK\r\nContent-Length: 0",
        MethodKind::Get,
        &to(Version::Http11, true),
    );
    assert_eq!(out, "200 OK|Content-Length: 0|Connection: close");
}

#[test]
fn fields_of_the_origins_connection_end_here() {
    let head = "200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nUpgrade: h2c\r\n\
        Server:a\r\nContent-Length: 0\r\nX_Real_IP: stays\r\nSet-Cookie: a\r\nSet-Cookie: b";
    let (out, _) = written(head, MethodKind::Get, &to(Version::Http11, false));
    assert_eq!(
        out,
        "200 OK|Server: a|X_Real_IP: stays|Set-Cookie: a|Set-Cookie: b|Content-Length: 0"
    );
}

#[test]
fn interim_responses_carry_no_framing_and_spare_http_1_0() {
    let head = "103 Early Hints\r\nLink: </a>\r\nContent-Length: 5";
    let (out, framing) = written(head, MethodKind::Get, &to(Version::Http11, true));
    assert_eq!(
        (out.as_str(), framing),
        ("103 Early Hints|Link: </a>", Framing::None)
    );
    assert_eq!(
        written(head, MethodKind::Get, &to(Version::Http10, false)).0,
        ""
    );
}

#[test]
fn a_101_hands_the_new_protocol_over() {
    let head = "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x";
    let (out, _) = written(head, MethodKind::Get, &to(Version::Http11, false));
    assert_eq!(
        out,
        "101 Switching Protocols|Upgrade: websocket|Sec-WebSocket-Accept: x|Connection: upgrade"
    );
}

#[test]
fn a_response_without_date_gets_ours() {
    let input = b"HTTP/1.0 404 \r\nContent-Length: 0\r\n\r\n";
    let mut out = Vec::new();
    write_response(&good_response(input), &to(Version::Http11, false), &mut out);
    let expected = format!("HTTP/1.1 404 \r\nContent-Length: 0\r\nDate: {DATE}\r\n\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn answers_of_our_own_have_a_length_and_spare_head_the_body() {
    let answer = Answer {
        status: 404,
        fields: &[("Content-Type", "text/plain")],
        body: b"none\n",
        date: DATE,
        to: MethodKind::Get,
        version: Version::Http11,
        close: false,
    };
    let written = |answer: &Answer<'_>| {
        let mut out = Vec::new();
        write_answer(answer, &mut out);
        String::from_utf8(out).unwrap()
    };
    let head = format!(
        "HTTP/1.1 404 Not Found\r\nDate: {DATE}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
    );
    assert_eq!(written(&answer), format!("{head}\r\nnone\n"));
    let closing = Answer {
        close: true,
        to: MethodKind::Head,
        ..answer
    };
    assert_eq!(
        written(&closing),
        format!("{head}Connection: close\r\n\r\n")
    );
    let empty = Answer {
        status: 204,
        fields: &[],
        version: Version::Http10,
        ..answer
    };
    let expected =
        format!("HTTP/1.1 204 No Content\r\nDate: {DATE}\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(written(&empty), expected);
}

#[test]
fn a_field_made_of_a_clients_bytes_cannot_split_our_answer() {
    let answer = Answer {
        status: 302,
        fields: &[
            ("Location", "/a\r\nSet-Cookie: x"),
            ("X\r\nY", "z"),
            ("", "z"),
            ("Vary", "*"),
        ],
        body: b"",
        date: DATE,
        to: MethodKind::Get,
        version: Version::Http11,
        close: false,
    };
    let mut out = Vec::new();
    write_answer(&answer, &mut out);
    let expected =
        format!("HTTP/1.1 302 Found\r\nDate: {DATE}\r\nVary: *\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
