//! HTTP/2: whatever a client sends, what is handed on is a request that HTTP/1.1 reads in one way, nothing hangs on how the
//! bytes were cut, and whole frames leave.

use std::time::Duration;

use http::h1::{ForwardRequest, Framing, Limits, MethodKind, parse_request, write_request};
use http::h2::{Code, Connection, Event, Head, Key, PREFACE, Settings, Taken};
use model::Moment;

/// Frame heads, field names and values.
pub const TOKENS: &[&str] = &[
    "\0\0\0\u{1}\u{5}\0\0\0\u{1}", "\0\0\u{5}\0\u{1}\0\0\0\u{1}", "\0\0\u{4}\u{3}\0\0\0\0\u{1}", "\0\0\0\u{4}\0\0\0\0\0",
    "\0\0\u{8}\u{6}\0\0\0\0\0", "\0\0\u{4}\u{8}\0\0\0\0\0", "\0\0\u{1}\u{9}\u{4}\0\0\0\u{1}", "\0\u{7}:method\u{3}GET",
    "\0\u{5}:path\u{1}/", "\0\u{7}:scheme\u{4}http", "\0\u{a}:authority\u{1}a", "\0\u{9}:protocol\u{9}websocket",
    "\0\u{4}host\u{1}b", "\0\u{e}content-length\u{1}5", "\0\u{6}cookie\u{1}a", "\0\u{2}te\u{8}trailers",
    "\0\u{11}transfer-encoding\u{7}chunked", "\0\u{a}connection\u{5}close", "\0\u{1}x\u{2}\r\n", "\0\u{1}X\u{1}y",
    "\0\u{1}x\u{1}y", "@\u{1}k\u{1}v", "~", " ", "CONNECT", "POST", "OPTIONS", "*",
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

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let greeting = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
    let bytes = match data.starts_with(b"PRI") {
        true => data.to_vec(),
        false => [&greeting, data].concat(),
    };
    let whole = converse(&bytes, bytes.len());
    for size in [1, 7, 1 + data.len() % 64] {
        assert_eq!(converse(&bytes, size), whole, "in pieces of {size}");
    }
    serve(&bytes);
}

/// What comes of bytes that arrive in pieces of that size, with nobody to serve them.
fn converse(bytes: &[u8], size: usize) -> (Vec<Event>, Vec<u8>) {
    let (mut head, now) = (Head::default(), Moment::from_millis(1));
    let mut machine = Connection::new(SETTINGS, now);
    let (mut held, mut events) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        held.extend_from_slice(piece);
        let mut input = &held[..];
        while let Some(event) = machine.handle(&mut input, &mut head, now) {
            if let Event::Request(_) = event {
                check(&mut head);
            }
            events.push(event);
        }
        held = input.to_vec();
        assert!(held.len() < 16_384 + 9 || machine.over().is_some());
    }
    assert!(machine.streams() <= 4);
    let output = machine.poll_output().to_vec();
    frames(&output);
    (events, output)
}

/// A request reads the same when HTTP/1.1 has carried it.
fn check(head: &mut Head) {
    if head.is_websocket() {
        head.upgrade([1, 2]);
    }
    let request = head.request();
    if request.kind == MethodKind::Connect {
        // Nobody hands it on.
        return;
    }
    let forward = ForwardRequest {
        client: [10, 0, 0, 1].into(),
        trusted: false,
        proto: "http",
        client_cert: None,
        request_id: b"id",
        default_host: b"none",
        upgrade: true,
        trace: Default::default(),
        changed: Default::default(),
    };
    let mut out = Vec::new();
    write_request(&request, &forward, &mut out);
    let text = out.escape_ascii();
    let read = parse_request(&out, &mut 0, &Limits { head: 65_535, fields: 128 });
    let again = read.unwrap_or_else(|fault| panic!("{fault}: {text}"));
    let again = again.unwrap_or_else(|| panic!("not whole: {text}"));
    assert_eq!(again.head_len, out.len(), "one request: {text}");
    assert_eq!((again.method, again.framing), (request.method, request.framing));
    assert!(request.framing != Framing::UntilClose);
    assert_eq!(again.authority, request.authority, "{text}");
    assert_eq!(again.upgrade, request.upgrade, "{text}");
}

/// Serves every stream in a way that hangs on its number, while time passes.
fn serve(bytes: &[u8]) {
    let (mut head, mut now) = (Head::default(), Moment::from_millis(1));
    let mut machine = Connection::new(SETTINGS, now);
    let (mut held, mut served) = (Vec::new(), Vec::new());
    for (number, piece) in bytes.chunks(50).enumerate() {
        now = now + Duration::from_millis(number as u64 % 300);
        machine.handle_timeout(now);
        held.extend_from_slice(piece);
        let mut input = &held[..];
        while let Some(event) = machine.handle(&mut input, &mut head, now) {
            if let Event::Request(key) | Event::TooLarge(key) = event {
                served.push(key);
            }
        }
        held = input.to_vec();
        while machine.poll_writable(&mut 0).is_some() {}
        served.retain(|key| goes_on(&mut machine, *key, number, now));
        assert_eq!(machine.streams(), served.len());
        if number % 5 == 4 {
            frames(machine.poll_output());
            let len = machine.poll_output().len();
            machine.sent(len);
        }
        if number == 30 {
            machine.drain(now);
        }
    }
    machine.close();
    for key in served {
        assert!(matches!(machine.read(key, &mut [0]), Taken::Reset | Taken::End | Taken::Bytes(_)));
        machine.release(key, Code::Internal, now);
    }
    assert_eq!(machine.streams(), 0);
}

fn goes_on(machine: &mut Connection, key: Key, number: usize, now: Moment) -> bool {
    match number % 4 {
        0 => drop(machine.read(key, &mut [0; 40])),
        1 => machine.send_head(key, &[0x88], false),
        2 => drop(machine.write(key, &[b'x'; 3_000], false)),
        _ if number % 8 == 3 => machine.finish(key, b"x-t: 1\r\n"),
        _ => {
            machine.release(key, Code::Internal, now);
            return false;
        }
    }
    true
}

/// All of it is frames.
fn frames(mut output: &[u8]) {
    while !output.is_empty() {
        let len = u32::from_be_bytes([0, output[0], output[1], output[2]]) as usize;
        assert!(len <= 16_384 && output[3] <= 9);
        output = &output[9 + len..];
    }
}
