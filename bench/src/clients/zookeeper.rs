//! ZooKeeper's protocol: length, transaction, operation, record.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;

use super::{Ask, Heard, VALUE, Wire};

const CREATE: i32 = 1;
const GET: i32 = 4;
const SET: i32 = 5;
const SYNC: i32 = 9;
const PING: i32 = 11;
const CLOSE: i32 = -11;

const EVENT: i32 = -1;
const PONG: i32 = -2;
/// In the numbers of requests that are only a part of what is asked: their answers do not count.
const PART: i32 = 1 << 30;

/// The most that ZooKeeper grants unless it is told otherwise: twenty ticks of two seconds.
const TIMEOUT_MS: i32 = 40_000;
/// No answer to what is asked here is near that long.
const LONGEST: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Session {
    open: bool,
    xid: i32,
}

impl Wire for Session {
    fn greet(&mut self, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&44_i32.to_be_bytes());
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&16_i32.to_be_bytes());
        out.extend_from_slice(&[0; 16]);
        1
    }

    fn ask(&mut self, ask: Ask, out: &mut Vec<u8>) {
        match ask {
            Ask::Make(key) => {
                // The first brings what all are below of.
                for parent in ["/bench", "/made"].iter().filter(|_| key == 0) {
                    self.push(out, PART, CREATE, &create(parent, b"", 0));
                }
                self.push(out, 0, CREATE, &create(&path(key), &VALUE, 0));
            }
            Ask::Get(key) => self.push(out, 0, GET, &get(&path(key), false)),
            Ask::GetLinearizable(key) => {
                self.push(out, PART, SYNC, &text(path(key).as_bytes()));
                self.push(out, 0, GET, &get(&path(key), false));
            }
            Ask::Set(key) => self.push(out, 0, SET, &set(&path(key), &VALUE)),
            Ask::Create => self.push(out, 0, CREATE, &create("/made/n-", &VALUE, 2)),
            Ask::Watch => self.push(out, 0, GET, &get("/bench", true)),
            Ask::Change => self.push(out, 0, SET, &set("/bench", b"x")),
            Ask::Leave => self.push(out, 0, CLOSE, &[]),
        }
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        push(out, PONG, PING, &[]);
    }

    fn take(&mut self, input: &mut Vec<u8>, _: &mut Vec<u8>) -> anyhow::Result<Heard> {
        let (mut at, mut heard) = (0, Heard::default());
        while let Some(length) = input[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            ensure!(length <= LONGEST, "an answer of {length} bytes");
            let Some(body) = input.get(at + 4..at + 4 + length) else {
                break;
            };
            at += 4 + length;
            if !self.open {
                let granted = body.get(8..16).is_some_and(|id| *id != [0; 8]);
                ensure!(granted, "the session was refused");
                self.open = true;
                heard.answers += 1;
                continue;
            }
            let xid = number(body, 0)?;
            match xid {
                EVENT => heard.events += 1,
                PONG => {}
                _ => {
                    heard.answers += usize::from(xid & PART == 0);
                    heard.failed += usize::from(number(body, 12)? != 0);
                }
            }
        }
        input.drain(..at);
        Ok(heard)
    }
}

impl Session {
    fn push(&mut self, out: &mut Vec<u8>, part: i32, op: i32, record: &[u8]) {
        self.xid = (self.xid + 1) % PART;
        push(out, self.xid | part, op, record);
    }
}

/// Asks a four-letter word.
pub(crate) fn word(server: SocketAddr, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn push(out: &mut Vec<u8>, xid: i32, op: i32, record: &[u8]) {
    out.extend_from_slice(&(record.len() as i32 + 8).to_be_bytes());
    out.extend_from_slice(&xid.to_be_bytes());
    out.extend_from_slice(&op.to_be_bytes());
    out.extend_from_slice(record);
}

fn number(body: &[u8], at: usize) -> anyhow::Result<i32> {
    let bytes = body.get(at..).and_then(<[u8]>::first_chunk);
    let bytes = bytes.ok_or_else(|| anyhow::anyhow!("an answer of {} bytes", body.len()))?;
    Ok(i32::from_be_bytes(*bytes))
}

fn path(key: u64) -> String {
    format!("/bench/n-{key:010}")
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes(), text].concat()
}

fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let everybody = [1_i32.to_be_bytes(), 31_i32.to_be_bytes()].concat();
    let access = [everybody, text(b"world"), text(b"anyone")].concat();
    let flags = flags.to_be_bytes().to_vec();
    [text(path.as_bytes()), text(data), access, flags].concat()
}

fn set(path: &str, data: &[u8]) -> Vec<u8> {
    [text(path.as_bytes()), text(data), vec![255; 4]].concat()
}

fn get(path: &str, watch: bool) -> Vec<u8> {
    [text(path.as_bytes()), vec![watch.into()]].concat()
}
