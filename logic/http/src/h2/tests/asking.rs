//! The client's side, frame by frame.

use super::*;
use crate::h1::MethodKind;

/// A server that writes whatever frames it likes.
struct Server {
    machine: Connection,
    head: Head,
    now: Moment,
}

impl Server {
    /// One that has just been connected to, and takes so many requests at a time.
    fn taking(streams: u32) -> Self {
        let mut server = Self::silent();
        let settings = [&3u16.to_be_bytes()[..], &streams.to_be_bytes()].concat();
        assert_eq!(server.send(&made(kind::SETTINGS, 0, 0, &settings)), []);
        server.acknowledge();
        server.got();
        server
    }

    /// Has read what was sent so far.
    fn acknowledge(&mut self) {
        assert_eq!(self.send(&made(kind::SETTINGS, flag::ACK, 0, &[])), []);
    }

    fn silent() -> Self {
        let now = Moment::from_millis(1_000);
        let machine = Connection::client(SETTINGS, now);
        let head = Head::default();
        let mut server = Self { machine, head, now };
        assert!(server.machine.poll_output().starts_with(PREFACE));
        server.machine.sent(PREFACE.len());
        server
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut input = bytes;
        let handle = || self.machine.handle(&mut input, &mut self.head, self.now);
        std::iter::from_fn(handle).collect()
    }

    fn got(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut rest = self.machine.poll_output();
        let mut got = Vec::new();
        while let Some(frame) = Frame::parse(rest) {
            let payload = rest[frame::HEAD..frame::HEAD + frame.len].to_vec();
            got.push((frame.kind, frame.flags, frame.stream, payload));
            rest = &rest[frame::HEAD + frame.len..];
        }
        assert!(rest.is_empty(), "frames leave whole");
        let len = self.machine.poll_output().len();
        self.machine.sent(len);
        got
    }

    /// What streams, and the connection (0), were broken off with.
    fn ends(&mut self) -> Vec<(u32, u32)> {
        let code = |(kind, _, stream, payload): (u8, u8, u32, Vec<u8>)| match kind {
            kind::RST_STREAM => Some((stream, frame::number(&payload)?)),
            kind::GOAWAY => Some((0, frame::number(&payload[4..])?)),
            _ => None,
        };
        self.got().into_iter().filter_map(code).collect()
    }

    fn ask(&mut self, method: MethodKind, end: bool) -> Key {
        let mut block = Vec::new();
        let head = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
        write_request(head, "http", |_, value| Some(value), &[], &mut block);
        self.machine.ask(&block, method, end).expect("a vacancy")
    }

    fn get(&mut self) -> Key {
        self.ask(MethodKind::Get, true)
    }

    fn read(&mut self, key: Key) -> Result<String, Taken> {
        let mut buffer = [0; 9_000];
        match self.machine.read(key, &mut buffer) {
            Taken::Bytes(n) => Ok(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            other => Err(other),
        }
    }
}

fn answer(stream: u32, end: bool, status: &str, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, end, &[&[(":status", status)], more].concat())
}

#[test]
fn a_request_is_said_without_what_concerns_http_1_only() {
    let head = b"PUT /a?b=c HTTP/1.1\r\nHost: shop:81\r\nAccept: x\r\nTransfer-Encoding: chunked\r\n\
                 TE: trailers\r\nUpgrade: y\r\nKeep-Alive: z\r\nConnection: upgrade, te\r\nGRPC-Timeout: 9S\r\n\r\n";
    let mut block = Vec::new();
    let told = |name: &[u8], value| match name.eq_ignore_ascii_case(b"grpc-timeout") {
        true => Some(&b"8S"[..]),
        false => Some(value),
    };
    write_request(head, "https", told, &[("x", "y")], &mut block);
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let field = |name: &[u8], value: &[u8]| fields.push((text(name), text(value)));
    Decoder::new()
        .decode(&block, &mut Vec::new(), field)
        .unwrap();
    let expected = [
        (":method", "PUT"),
        (":scheme", "https"),
        (":authority", "shop:81"),
        (":path", "/a?b=c"),
        ("accept", "x"),
        ("te", "trailers"),
        ("grpc-timeout", "8S"),
        ("x", "y"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields, expected);
}

#[test]
fn answers_read_as_http_1_has_them() {
    let mut server = Server::taking(10);
    let key = server.get();
    server.send(&answer(1, false, "103", &[("link", "</a>")]));
    server.send(&answer(
        1,
        false,
        "200",
        &[
            ("content-length", "2"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ],
    ));
    server.send(&data(1, true, b"ok"));
    let expected = "HTTP/1.1 103 \r\nlink: </a>\r\n\r\n\
                    HTTP/1.1 200 \r\ncontent-length: 2\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nok";
    assert_eq!(server.read(key).unwrap(), expected);
    assert_eq!(server.read(key), Err(Taken::End));
    server.machine.release(key, Code::Internal, server.now);
    assert_eq!(server.ends(), []);
}

#[test]
fn an_answer_that_ends_with_its_head_is_known_to_be_empty() {
    let cases = [
        (
            MethodKind::Get,
            "200",
            "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        ),
        (MethodKind::Head, "200", "HTTP/1.1 200 \r\n\r\n"),
        (MethodKind::Get, "204", "HTTP/1.1 204 \r\n\r\n"),
        (MethodKind::Get, "304", "HTTP/1.1 304 \r\n\r\n"),
    ];
    for (method, status, expected) in cases {
        let mut server = Server::taking(10);
        let key = server.ask(method, true);
        server.send(&answer(1, true, status, &[]));
        assert_eq!(server.read(key).unwrap(), expected);
    }
}

#[test]
fn no_more_is_begun_than_the_server_takes_and_only_one_before_it_says_so() {
    let mut server = Server::silent();
    assert_eq!(server.machine.vacancies(), 1);
    let first = server.get();
    assert_eq!(server.machine.vacancies(), 0);
    let settings = [&3u16.to_be_bytes()[..], &2u32.to_be_bytes()].concat();
    server.send(&made(kind::SETTINGS, 0, 0, &settings));
    assert_eq!(server.machine.vacancies(), 1);
    let second = server.get();
    assert_eq!(server.machine.vacancies(), 0);
    server.send(&answer(1, true, "200", &[]));
    // It is no more for the server, be it read or not.
    assert_eq!(server.machine.vacancies(), 1);
    server.machine.release(first, Code::Cancel, server.now);
    server.machine.release(second, Code::Cancel, server.now);
    assert_eq!(server.ends(), [(3, Code::Cancel as u32)]);
    assert_eq!(server.machine.vacancies(), 2);
}

#[test]
fn without_a_number_as_many_are_begun_as_we_want() {
    let mut server = Server::silent();
    server.send(&made(kind::SETTINGS, 0, 0, &[]));
    assert_eq!(server.machine.vacancies(), SETTINGS.max_streams as usize);
}

#[test]
fn what_a_leaving_server_has_not_looked_at_is_told_from_what_it_answers() {
    let mut server = Server::taking(10);
    let (seen, unseen) = (server.get(), server.get());
    let goaway = [&1u32.to_be_bytes()[..], &[0; 4]].concat();
    assert_eq!(
        server.send(&made(kind::GOAWAY, 0, 0, &goaway)),
        [Event::Leaving]
    );
    assert_eq!(
        (server.machine.vacancies(), server.machine.is_leaving()),
        (0, true)
    );
    assert_eq!(server.read(unseen), Err(Taken::Reset));
    assert_eq!(server.machine.lost(unseen), Lost::Refused);
    server.send(&answer(1, true, "200", &[]));
    assert!(server.read(seen).is_ok());
    assert_eq!(server.machine.over(), None);
    server.machine.release(seen, Code::Cancel, server.now);
    server.machine.release(unseen, Code::Cancel, server.now);
    assert_eq!(server.machine.over(), Some(Closing::Drained));
}

#[test]
fn a_refusal_is_no_other_reset() {
    let mut server = Server::taking(10);
    let (refused, broken) = (server.get(), server.get());
    let reset = |stream, code: u32| made(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
    assert_eq!(server.send(&reset(1, 7)), [Event::Reset(refused)]);
    assert_eq!(server.send(&reset(3, 2)), [Event::Reset(broken)]);
    assert_eq!(server.machine.lost(refused), Lost::Refused);
    assert_eq!(server.machine.lost(broken), Lost::Reset);
}

#[test]
fn where_much_was_broken_off_nothing_more_begins_and_what_goes_on_ends_well() {
    let mut server = Server::taking(100);
    let stays = server.get();
    let (mut broken, mut said) = (0, 0);
    while !server.machine.is_leaving() {
        let key = server.get();
        server.machine.release(key, Code::Cancel, server.now);
        broken += 1;
        said += server.ends().len();
        server.acknowledge();
    }
    assert_eq!((broken, said + server.ends().len()), (65, 65));
    assert_eq!(server.machine.vacancies(), 0);
    assert_eq!(server.machine.over(), None);
    server.send(&answer(1, true, "200", &[]));
    assert!(server.read(stays).is_ok());
    server.machine.release(stays, Code::Cancel, server.now);
    assert_eq!(server.machine.over(), Some(Closing::Drained));
    assert_eq!(server.ends(), [], "and nobody was called a flood");
}

#[test]
fn what_the_server_may_not_have_looked_at_is_broken_off_ten_at_a_time() {
    let mut server = Server::taking(100);
    let answered = server.get();
    server.send(&answer(1, false, "200", &[]));
    for _ in 0..14 {
        let key = server.get();
        server.machine.release(key, Code::Cancel, server.now);
    }
    let got = server.got();
    let at_once = got.iter().filter(|frame| frame.0 == kind::RST_STREAM);
    assert_eq!(
        at_once.map(|frame| frame.2).collect::<Vec<_>>(),
        [3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    );
    let asks = got.iter().filter(|frame| frame.0 == kind::SETTINGS);
    assert_eq!(asks.map(|frame| frame.3.len()).collect::<Vec<_>>(), [0]);
    // Those that wait are open for the server, and nobody else's request is begun in their place.
    let others = SETTINGS.max_streams as usize - 1;
    assert_eq!(server.machine.vacancies(), others - 4);
    // What it still says of them is for nobody.
    assert_eq!(server.send(&answer(23, true, "200", &[])), []);
    // Whose answer has begun was looked at.
    server.machine.release(answered, Code::Cancel, server.now);
    assert_eq!(server.ends(), [(1, Code::Cancel as u32)]);
    server.acknowledge();
    let cancelled = [23, 25, 27, 29].map(|stream| (stream, Code::Cancel as u32));
    assert_eq!(server.ends(), cancelled);
    assert_eq!(server.machine.vacancies(), others + 1);
}

#[test]
fn a_few_that_are_broken_off_each_second_and_answers_that_are_whole_leave_a_connection_as_it_is() {
    let mut server = Server::taking(100);
    for second in 0..500 {
        server.now = Moment::from_millis(1_000 * second);
        for _ in 0..3 {
            let key = server.get();
            server.machine.release(key, Code::Cancel, server.now);
            server.acknowledge();
        }
        for _ in 0..100 {
            let key = server.get();
            let id = server.machine.streams.look(key).id;
            server.send(&answer(id, true, "200", &[]));
            server.machine.release(key, Code::Cancel, server.now);
        }
        server.got();
    }
    assert!(!server.machine.is_leaving());
}

#[test]
fn an_answer_that_is_whole_stays_so_when_the_rest_of_the_request_is_not_wanted() {
    for code in [Code::None, Code::Cancel] {
        let mut server = Server::taking(10);
        let key = server.ask(MethodKind::Post, false);
        server.send(&answer(1, true, "413", &[]));
        server.send(&made(kind::RST_STREAM, 0, 1, &(code as u32).to_be_bytes()));
        assert_eq!(server.machine.write(key, b"more", true), None);
        assert!(!server.machine.is_reset(key));
        assert!(server.read(key).unwrap().starts_with("HTTP/1.1 413"));
        assert_eq!(server.read(key), Err(Taken::End));
    }
}

#[test]
fn an_answer_is_not_broken_off_for_want_of_its_last_frame() {
    let mut server = Server::taking(10);
    let key = server.get();
    server.send(&answer(1, false, "200", &[("content-length", "2")]));
    server.send(&data(1, false, b"ok"));
    server.read(key).unwrap();
    server.machine.release(key, Code::Cancel, server.now);
    assert_eq!(server.send(&data(1, true, b"")), []);
    assert_eq!(server.ends(), []);
}

#[test]
fn faults_of_a_stream_end_that_stream_only() {
    let faults: Vec<Vec<u8>> = vec![
        data(1, false, b"before its head"),
        headers(1, true, &[("a", "b")]),
        headers(1, true, &[(":status", "20")]),
        headers(1, true, &[(":status", "101")]),
        headers(1, true, &[(":status", "600")]),
        headers(1, true, &[(":status", "200"), (":status", "200")]),
        headers(1, true, &[("a", "b"), (":status", "200")]),
        headers(1, true, &[(":status", "200"), (":path", "/")]),
        answer(1, true, "100", &[]),
        answer(1, true, "200", &[("A", "b")]),
        answer(1, true, "200", &[("a", "b\r\nc: d")]),
        answer(1, true, "200", &[("transfer-encoding", "chunked")]),
        answer(1, true, "200", &[("connection", "close")]),
        answer(1, true, "200", &[("content-length", "1")]),
        answer(
            1,
            false,
            "200",
            &[("content-length", "1"), ("content-length", "1")],
        ),
        answer(1, true, "200", &[("x", "y".repeat(120).as_str()); 25]),
        [
            answer(1, false, "200", &[("content-length", "1")]),
            data(1, true, b""),
        ]
        .concat(),
        [
            answer(1, false, "200", &[("content-length", "1")]),
            data(1, false, b"xy"),
        ]
        .concat(),
        [answer(1, false, "204", &[]), data(1, false, b"x")].concat(),
        answer(1, false, "103", &[("link", "y".repeat(100).as_str()); 19]).repeat(5),
    ];
    for (number, fault) in faults.iter().enumerate() {
        let mut server = Server::taking(10);
        let (first, second) = (server.get(), server.get());
        server.send(fault);
        assert_eq!(server.ends(), [(1, Code::Protocol as u32)], "{number}");
        assert_eq!(server.machine.lost(first), Lost::Malformed, "{number}");
        assert_eq!(server.machine.over(), None, "{number}");
        server.send(&answer(3, true, "200", &[]));
        assert!(server.read(second).is_ok(), "{number}");
    }
}

#[test]
fn faults_of_the_connection_end_it() {
    let faults: Vec<(Vec<u8>, Code)> = vec![
        (answer(3, true, "200", &[]), Code::Protocol),
        (answer(2, true, "200", &[]), Code::Protocol),
        (data(3, true, b"x"), Code::Protocol),
        (
            made(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
            Code::Protocol,
        ),
        (
            made(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]),
            Code::Protocol,
        ),
        (made(kind::GOAWAY, 0, 0, &[0; 7]), Code::FrameSize),
        (made(kind::GOAWAY, 0, 1, &[0; 8]), Code::Protocol),
        (made(kind::HEADERS, 4, 1, &[0xff; 9]), Code::Compression),
        (made(kind::RST_STREAM, 0, 5, &[0; 4]), Code::Protocol),
        (made(9, 0, 1, &[]), Code::Protocol),
    ];
    for (number, (fault, code)) in faults.into_iter().enumerate() {
        let mut server = Server::taking(10);
        let key = server.get();
        assert_eq!(
            server.send(&fault),
            [Event::Over(Closing::Fault(code))],
            "{number}"
        );
        assert_eq!(server.ends(), [(0, code as u32)], "{number}");
        assert_eq!(server.read(key), Err(Taken::Reset), "{number}");
        assert_eq!(server.machine.lost(key), Lost::Malformed, "{number}");
    }
}

#[test]
fn a_server_that_makes_work_is_left() {
    for noise in [
        made(kind::PING, 0, 0, &[0; 8]),
        made(kind::SETTINGS, 0, 0, &[]),
        window(0, 1),
        data(141, false, b""),
        answer(1, true, "200", &[]),
    ] {
        let mut server = Server::taking(10);
        for n in 0..70 {
            // So many at once, and the connection would be done for.
            server.now = Moment::from_millis(if n < 60 { 1_000 } else { 4_000 });
            let key = server.get();
            server.machine.release(key, Code::Cancel, server.now);
            server.acknowledge();
        }
        let key = server.get();
        server.send(&answer(141, false, "200", &[]));
        let mut over = Vec::new();
        for _ in 0..5_000 {
            over.extend(server.send(&noise));
            server.got();
        }
        let calm = Event::Over(Closing::Flood);
        assert!(over.contains(&calm), "{noise:?}");
        assert_eq!(server.machine.lost(key), Lost::Malformed);
    }
}

#[test]
fn a_server_that_says_nothing_is_left_and_so_is_one_that_is_not_asked() {
    let mut server = Server::silent();
    let key = server.get();
    let due = server.now + SETTINGS.request_head;
    assert_eq!(server.machine.next_deadline(), due);
    server.machine.handle_timeout(due);
    assert_eq!(server.machine.over(), Some(Closing::Late));
    assert_eq!(server.machine.lost(key), Lost::Malformed);
    let mut server = Server::taking(1);
    let due = server.now + SETTINGS.idle;
    assert_eq!(server.machine.next_deadline(), due);
    server.machine.handle_timeout(due);
    assert_eq!(server.machine.over(), Some(Closing::Idle));
    assert_eq!(server.ends(), [(0, 0)]);
}

#[test]
fn heads_take_no_room_of_windows_and_bodies_give_theirs_back() {
    let mut server = Server::taking(10);
    let key = server.get();
    server.send(&answer(
        1,
        false,
        "200",
        &[("x", "y".repeat(1_000).as_str())],
    ));
    let mut sent = 0;
    for _ in 0..20 {
        sent += 16_000;
        let events = server.send(&data(1, false, &[b'z'; 16_000]));
        assert_eq!(events, [Event::Readable(key)]);
        let mut read = 0;
        while let Ok(text) = server.read(key) {
            read += text.len();
        }
        assert!(read >= 16_000);
    }
    let opened: u32 = server
        .got()
        .iter()
        .filter(|(kind, _, stream, _)| (*kind, *stream) == (kind::WINDOW_UPDATE, 1))
        .map(|(_, _, _, payload)| frame::number(payload).unwrap())
        .sum();
    assert!(
        opened <= sent && opened + 65_535 / 2 >= sent,
        "{opened} of {sent}"
    );
}
