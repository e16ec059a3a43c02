//! HTTP/2, our side towards instances: whatever a server sends, what is read of an answer is one that HTTP/1.1 reads in one
//! way, nothing hangs on how the bytes were cut, and whole frames leave.

use std::time::Duration;

use http::h1::{Framing, Limits, MethodKind, parse_response};
use http::h2::{Code, Connection, Event, Head, Key, Settings, Taken, write_request};
use model::Moment;

/// Frame heads, field names and values.
pub const TOKENS: &[&str] = &[
    "\0\0\0\u{1}\u{5}\0\0\0\u{1}", "\0\0\u{1}\u{1}\u{4}\0\0\0\u{1}", "\0\0\u{2}\0\u{1}\0\0\0\u{1}", "\0\0\u{2}\0\0\0\0\0\u{3}",
    "\0\0\u{4}\u{3}\0\0\0\0\u{1}", "\0\0\0\u{4}\0\0\0\0\0", "\0\0\u{8}\u{6}\0\0\0\0\0", "\0\0\u{4}\u{8}\0\0\0\0\0",
    "\0\0\u{8}\u{7}\0\0\0\0\0", "\0\0\u{1}\u{9}\u{4}\0\0\0\u{1}", "\u{8}\u{3}200", "\u{8}\u{3}103", "\u{8}\u{3}204",
    "\0\u{7}:status\u{3}200", "\0\u{e}content-length\u{1}5", "\0\u{b}grpc-status\u{1}0", "\0\u{1}x\u{2}\r\n", "\0\u{1}X\u{1}y",
    "\0\u{a}connection\u{5}close", "\0\u{11}transfer-encoding\u{7}chunked", "@\u{1}k\u{1}v", "~", " ",
];

const SETTINGS: Settings = Settings {
    max_streams: 4,
    stream_window: 65_535,
    connection_window: 65_535,
    limits: Limits {
        head: 1_000,
        fields: 10,
    },
    idle: Duration::from_secs(75),
    request_head: Duration::from_secs(10),
};

const METHODS: [MethodKind; 4] = [MethodKind::Get, MethodKind::Head, MethodKind::Post, MethodKind::Get];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let bytes = [b"\0\0\0\x04\0\0\0\0\0", data].concat();
    let whole = converse(&bytes, bytes.len());
    for size in [1, 7, 1 + data.len() % 64] {
        assert_eq!(converse(&bytes, size), whole, "in pieces of {size}");
    }
}

/// What is read of each request's answer.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    bytes: Vec<u8>,
    ends: Option<Taken>,
    trailers: Option<Vec<u8>>,
}

fn converse(bytes: &[u8], size: usize) -> (Vec<Read>, Vec<Event>) {
    let (mut head, now) = (Head::default(), Moment::from_millis(1));
    let mut machine = Connection::client(SETTINGS, now);
    machine.handle(&mut &bytes[..9], &mut head, now);
    let mut block = Vec::new();
    write_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http", |_, value| Some(value), &[], &mut block);
    let keys = METHODS.map(|method| {
        let end = method != MethodKind::Post;
        machine.ask(&block, method, end).expect("room for four")
    });
    assert_eq!(machine.vacancies(), 0);
    let (mut held, mut events) = (Vec::new(), Vec::new());
    for piece in bytes[9..].chunks(size.max(1)) {
        held.extend_from_slice(piece);
        let mut input = &held[..];
        while let Some(event) = machine.handle(&mut input, &mut head, now) {
            events.push(event);
        }
        held = input.to_vec();
        assert!(held.len() < 16_384 + 9 || machine.over().is_some());
    }
    let reads = keys.iter().zip(METHODS).map(|(key, method)| read(&mut machine, *key, method)).collect();
    for key in keys {
        machine.release(key, Code::Cancel, now);
    }
    assert_eq!(machine.streams(), 0);
    let mut output = machine.poll_output().strip_prefix(http::h2::PREFACE).expect("it comes first");
    while !output.is_empty() {
        let len = u32::from_be_bytes([0, output[0], output[1], output[2]]) as usize;
        assert!(len <= 16_384 && output[3] <= 9);
        output = &output[9 + len..];
    }
    (reads, events)
}

fn read(machine: &mut Connection, key: Key, method: MethodKind) -> Read {
    let mut bytes = Vec::new();
    let mut buffer = [0; 300];
    let ends = loop {
        match machine.read(key, &mut buffer) {
            Taken::Bytes(n) => bytes.extend_from_slice(&buffer[..n]),
            Taken::Nothing => break None,
            end => break Some(end),
        }
    };
    if ends != Some(Taken::Reset) {
        check(&bytes, ends == Some(Taken::End), method);
    }
    let trailers = machine.take_trailers(key);
    Read { bytes, ends, trailers }
}

/// An answer is what HTTP/1.1 would have said, with nothing behind it.
fn check(bytes: &[u8], whole: bool, method: MethodKind) {
    let mut rest = bytes;
    let limits = Limits { head: 65_535, fields: 128 };
    while !rest.is_empty() {
        let text = rest.escape_ascii();
        let parsed = parse_response(rest, &mut 0, &limits, method);
        let parsed = parsed.unwrap_or_else(|fault| panic!("{fault}: {text}"));
        let answer = parsed.unwrap_or_else(|| panic!("half a head: {text}"));
        assert!(answer.status != 101, "{text}");
        let body = rest.len() - answer.head_len;
        if answer.is_interim() {
            rest = &rest[answer.head_len..];
            continue;
        }
        match answer.framing {
            Framing::None => assert_eq!(body, 0, "{text}"),
            Framing::Length(length) if whole => assert_eq!(body as u64, length, "{text}"),
            Framing::Length(length) => assert!(body as u64 <= length, "{text}"),
            Framing::Chunked => panic!("{text}"),
            Framing::UntilClose => {}
        }
        return;
    }
    assert!(!whole, "an answer has a head");
}
