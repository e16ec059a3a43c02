//! etcd's API of version 3: gRPC over HTTP/2 (RFC 9113), one request at a time. Heads are written once, without compression,
//! and those of answers are not read: an answer that has a message has succeeded, a failed one ends without.

use std::net::SocketAddr;

use anyhow::{bail, ensure};

use super::{Ask, Heard, VALUE, Wire};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Of SETTINGS and PING.
const ACK: u8 = 1;
/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// As large as windows may be: some ten million answers, more than a connection gets here.
const WINDOW: u32 = (1 << 31) - 1;

/// The key that is watched.
const WATCHED: &[u8] = b"watched";

pub(super) struct Connection {
    host: String,
    put: Vec<u8>,
    range: Vec<u8>,
    greeted: bool,
    next: u32,
    /// The stream of the request under way, and whether its message has come.
    asked: Option<(u32, bool)>,
    /// The stream of the watch, and whether it was confirmed.
    watch: Option<(u32, bool)>,
    /// The beginning of a message.
    message: Vec<u8>,
}

impl Connection {
    pub(super) fn new(host: SocketAddr) -> Self {
        let host = host.to_string();
        Self {
            put: head(&host, "/etcdserverpb.KV/Put"),
            range: head(&host, "/etcdserverpb.KV/Range"),
            host,
            greeted: false,
            next: 1,
            asked: None,
            watch: None,
            message: Vec::new(),
        }
    }

    fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }
}

impl Wire for Connection {
    fn greet(&mut self, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // No table for heads, no pushed streams, and windows that never close.
        let settings = [(1_u16, 0_u32), (2, 0), (4, WINDOW)];
        let settings = settings.map(|(name, value)| {
            let (name, value) = (name.to_be_bytes(), value.to_be_bytes());
            [name[0], name[1], value[0], value[1], value[2], value[3]]
        });
        frame(out, SETTINGS, 0, 0, &settings.concat());
        let more = (WINDOW - 65_535).to_be_bytes();
        frame(out, WINDOW_UPDATE, 0, 0, &more);
        1
    }

    fn ask(&mut self, ask: Ask, out: &mut Vec<u8>) {
        let stream = self.stream();
        let (head, message) = match ask {
            Ask::Make(key) | Ask::Set(key) => {
                (&self.put, [field(1, &name(key)), field(2, &VALUE)].concat())
            }
            Ask::Change => (&self.put, [field(1, WATCHED), field(2, b"x")].concat()),
            // The second field is `serializable`.
            Ask::Get(key) => (
                &self.range,
                [field(1, &name(key)), vec![7 << 3, 1]].concat(),
            ),
            Ask::GetLinearizable(key) => (&self.range, field(1, &name(key))),
            Ask::Watch => return self.begin_watch(stream, out),
            Ask::Create | Ask::Leave => unreachable!("etcd has no such request"),
        };
        self.asked = Some((stream, false));
        frame(out, HEADERS, END_HEADERS, stream, head);
        frame(out, DATA, END_STREAM, stream, &prefixed(&message));
    }

    fn ping(&mut self, _: &mut Vec<u8>) {}

    fn take(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> anyhow::Result<Heard> {
        let (mut at, mut heard) = (0, Heard::default());
        while let Some(head) = input[at..].first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]);
            let Some(payload) = input.get(at + 9..at + 9 + length) else {
                break;
            };
            at += 9 + length;
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    frame(out, SETTINGS, ACK, 0, &[]);
                    heard.answers += usize::from(!self.greeted);
                    self.greeted = true;
                }
                PING if flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
                GOAWAY => bail!("etcd ends the connection"),
                DATA => {
                    ensure!(flags & PADDED == 0, "padding, which etcd does not use");
                    self.message.extend_from_slice(payload);
                    self.take_messages(stream, &mut heard)?;
                    self.take_end(stream, flags & END_STREAM != 0, &mut heard)?;
                }
                HEADERS => self.take_end(stream, flags & END_STREAM != 0, &mut heard)?,
                RST_STREAM => self.take_end(stream, true, &mut heard)?,
                _ => {}
            }
        }
        input.drain(..at);
        Ok(heard)
    }
}

impl Connection {
    /// A stream that stays open.
    fn begin_watch(&mut self, stream: u32, out: &mut Vec<u8>) {
        self.watch = Some((stream, false));
        let head = head(&self.host, "/etcdserverpb.Watch/Watch");
        frame(out, HEADERS, END_HEADERS, stream, &head);
        let create = field(1, &field(1, WATCHED));
        frame(out, DATA, 0, stream, &prefixed(&create));
    }

    /// Takes whole messages; there is never more than one stream that gets some.
    fn take_messages(&mut self, stream: u32, heard: &mut Heard) -> anyhow::Result<()> {
        while let Some([packed, length @ ..]) = self.message.first_chunk::<5>() {
            ensure!(*packed == 0, "a compressed message, which nobody asked for");
            let length = u32::from_be_bytes(*length) as usize;
            if self.message.len() < 5 + length {
                return Ok(());
            }
            self.message.drain(..5 + length);
            match (&mut self.asked, &mut self.watch) {
                (Some((asked, told)), _) if *asked == stream => *told = true,
                (_, Some((watch, confirmed))) if *watch == stream => {
                    heard.answers += usize::from(!*confirmed);
                    heard.events += usize::from(*confirmed);
                    *confirmed = true;
                }
                _ => bail!("a message nobody asked for"),
            }
        }
        Ok(())
    }

    fn take_end(&mut self, stream: u32, ended: bool, heard: &mut Heard) -> anyhow::Result<()> {
        if !ended {
            return Ok(());
        }
        let watch = self.watch.is_some_and(|(watch, _)| watch == stream);
        ensure!(!watch, "etcd has ended a watch");
        if let Some((_, told)) = self.asked.take_if(|(asked, _)| *asked == stream) {
            heard.answers += 1;
            heard.failed += usize::from(!told);
        }
        Ok(())
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("bench/n-{key:010}").into_bytes()
}

/// A head as HPACK (RFC 7541) has it without tables of its own and without Huffman's code.
fn head(host: &str, path: &str) -> Vec<u8> {
    // `:method: POST`, `:scheme: http`; then names by their numbers, values in full.
    let mut block = vec![0x83, 0x86];
    block.push(0x04);
    literal(&mut block, path);
    block.push(0x01);
    literal(&mut block, host);
    block.extend_from_slice(&[0x0f, 0x10]);
    literal(&mut block, "application/grpc");
    block.push(0x00);
    literal(&mut block, "te");
    literal(&mut block, "trailers");
    block
}

fn literal(block: &mut Vec<u8>, text: &str) {
    debug_assert!(
        text.len() < 127,
        "longer ones need more bytes for their length"
    );
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A message as gRPC sends it: not compressed, and its length.
fn prefixed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// A field of a protobuf message that holds bytes, or a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    debug_assert!(
        bytes.len() < 128,
        "longer ones need more bytes for their length"
    );
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}
