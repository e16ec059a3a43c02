//! The machine as a client sees it, frame by frame; and against another implementation (`peer`).

mod asking;
mod drain;
mod floods;
mod flow;
mod frames;
mod peer;
mod requests;
mod server;

use std::time::Duration;

use model::Moment;

use super::frame::{self, Frame, flag, kind};
use super::hpack::{Decoder, write_field};
use super::*;
use crate::h1::Limits;

const SETTINGS: Settings = Settings {
    max_streams: 8,
    stream_window: 65_535,
    connection_window: 200_000,
    limits: Limits {
        head: 4_096,
        fields: 20,
    },
    idle: Duration::from_secs(75),
    request_head: Duration::from_secs(10),
};

/// A client that writes whatever frames it likes.
struct Client {
    machine: Connection,
    head: Head,
    now: Moment,
    decoder: Decoder,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Client {
    /// One that has just connected, and agreed on settings.
    fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: Settings) -> Self {
        let mut client = Self::silent(settings);
        assert_eq!(client.send(PREFACE), []);
        assert_eq!(client.send(&made(kind::SETTINGS, 0, 0, &[])), []);
        assert_eq!(client.send(&made(kind::SETTINGS, flag::ACK, 0, &[])), []);
        client.got();
        client
    }

    fn silent(settings: Settings) -> Self {
        let now = Moment::from_millis(1_000);
        Self {
            machine: Connection::new(settings, now),
            head: Head::default(),
            now,
            decoder: Decoder::new(),
        }
    }

    /// Sends bytes; what came of them.
    fn send(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut input = bytes;
        let handle = || self.machine.handle(&mut input, &mut self.head, self.now);
        std::iter::from_fn(handle).collect()
    }

    /// Sends a request that must be taken.
    fn ask(&mut self, stream: u32, end: bool, more: &[(&str, &str)]) -> Key {
        let events = self.send(&request(stream, end, more));
        let [Event::Request(key)] = *events else {
            panic!("{events:?}");
        };
        key
    }

    /// What the server has sent.
    fn got(&mut self) -> Vec<Got> {
        let mut rest = self.machine.poll_output();
        let mut got = Vec::new();
        while let Some(frame) = Frame::parse(rest) {
            got.push(Got {
                kind: frame.kind,
                flags: frame.flags,
                stream: frame.stream,
                payload: rest[frame::HEAD..frame::HEAD + frame.len].to_vec(),
            });
            rest = &rest[frame::HEAD + frame.len..];
        }
        assert!(rest.is_empty(), "frames leave whole");
        let len = self.machine.poll_output().len();
        self.machine.sent(len);
        got
    }

    /// The codes with which streams were broken off (number and code), and the connection (0 and code).
    fn ends(&mut self) -> Vec<(u32, u32)> {
        let code = |got: Got| match got.kind {
            kind::RST_STREAM => Some((got.stream, frame::number(&got.payload)?)),
            kind::GOAWAY => Some((0, frame::number(&got.payload[4..])?)),
            _ => None,
        };
        self.got().into_iter().filter_map(code).collect()
    }

    fn read(&mut self, key: Key, most: usize) -> Vec<u8> {
        let mut buffer = vec![0; most];
        match self.machine.read(key, &mut buffer) {
            Taken::Bytes(n) => buffer.truncate(n),
            other => panic!("{other:?}"),
        }
        buffer
    }

    fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let field = |name: &[u8], value: &[u8]| fields.push((text(name), text(value)));
        let read = self.decoder.decode(block, &mut Vec::new(), field);
        read.unwrap();
        fields
    }
}

fn made(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_head(payload.len(), kind, flags, stream, &mut out);
    out.extend_from_slice(payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        // Names as they are: faulty ones, too.
        out.push(0);
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        let mut valued = Vec::new();
        write_field(b"x", value.as_bytes(), &mut valued);
        out.extend_from_slice(&valued[3..]);
    }
    out
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "shop.example"),
    (":path", "/a?b=c"),
];

fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let end = if end { flag::END_STREAM } else { 0 };
    made(
        kind::HEADERS,
        flag::END_HEADERS | end,
        stream,
        &block(fields),
    )
}

fn request(stream: u32, end: bool, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, end, &[&GET[..], more].concat())
}

fn data(stream: u32, end: bool, bytes: &[u8]) -> Vec<u8> {
    let end = if end { flag::END_STREAM } else { 0 };
    made(kind::DATA, end, stream, bytes)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    made(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}
