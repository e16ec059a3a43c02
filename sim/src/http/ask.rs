//! Requests, and the one right answer to each: a pure function of the request, so that bytes of one that turn
//! up in another are noticed.

use fastrand::Rng;

use super::message::{Message, fingerprint};

/// A request as its client means it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which request this is; it decides the right answer.
    pub id: u64,
    /// Which service it is for.
    pub service: usize,
    /// The method.
    pub method: &'static str,
    /// Whether the client speaks HTTP/1.0.
    pub old: bool,
    /// Whether the client offers to keep the connection.
    pub keep: bool,
    /// What it sends.
    pub body: Body,
    /// Whether it waits for `100 Continue`.
    pub expects: bool,
    /// Whether it asks for a tunnel.
    pub upgrade: bool,
}

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    None,
    /// Under a Content-Length.
    Length(usize),
    /// In chunks of random sizes, with a trailer or without.
    Chunks(usize, bool),
}

impl Ask {
    /// Whether it may be carried out twice.
    pub fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    /// The body's bytes.
    pub fn payload(&self) -> Vec<u8> {
        match self.body {
            Body::None => Vec::new(),
            Body::Length(len) | Body::Chunks(len, _) => payload(self.id ^ 1, len),
        }
    }

    /// Its head as the client sends it.
    pub fn head(&self) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut head = format!(
            "{} {} HTTP/{version}\r\nHost: sim.example\r\n",
            self.method,
            self.target()
        );
        let mut connection = Vec::new();
        if self.upgrade {
            connection.push("upgrade");
            head += "Upgrade: sim\r\n";
        }
        match (self.old, self.keep) {
            (true, true) => connection.push("keep-alive"),
            (false, false) => connection.push("close"),
            _ => {}
        }
        if !connection.is_empty() {
            head += &format!("Connection: {}\r\n", connection.join(", "));
        }
        match self.body {
            Body::None => {}
            Body::Length(len) => head += &format!("Content-Length: {len}\r\n"),
            Body::Chunks(..) => head += "Transfer-Encoding: chunked\r\n",
        }
        if self.expects {
            head += "Expect: 100-continue\r\n";
        }
        // What a client claims of itself is dropped; what it says of the request goes through.
        head += &format!("X-Real-IP: 6.6.6.6\r\nX-Note: {:x}\r\n\r\n", self.id);
        head.into_bytes()
    }

    /// Its body as the client sends it.
    pub fn framed_body(&self) -> Vec<u8> {
        match self.body {
            Body::None => Vec::new(),
            Body::Length(_) => self.payload(),
            Body::Chunks(_, trailer) => {
                let trailers = trailer.then(|| format!("X-Sum: {:x}\r\n", self.id));
                chunked(self.id, &self.payload(), &trailers.unwrap_or_default())
            }
        }
    }

    /// The request's path; it names the request.
    pub fn target(&self) -> String {
        format!("/s{}/{:016x}", self.service, self.id)
    }
}

/// How an instance delimits an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// By a Content-Length.
    Length,
    /// In chunks.
    Chunks,
    /// By closing.
    Close,
}

/// The right answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which request it answers.
    pub id: u64,
    /// Its status.
    pub status: u16,
    /// Its body, were the request no HEAD.
    pub body: Vec<u8>,
    /// How the instance sends it.
    pub delimited: Delimited,
    /// Whether a trailer follows the last chunk.
    pub trailer: bool,
    /// Informational answers before it.
    pub interim: u8,
    /// What the instance says it got.
    pub got: String,
}

impl Answer {
    /// The answer to the request `id` whose body arrived as in `request`.
    pub fn to(id: u64, got: String) -> Self {
        let rng = &mut Rng::with_seed(id);
        let status = match rng.u8(..20) {
            0 => 204,
            1 => 304,
            2 => 404,
            3 => 500,
            _ => 200,
        };
        let delimited = match rng.u8(..4) {
            0 | 1 => Delimited::Length,
            2 => Delimited::Chunks,
            _ => Delimited::Close,
        };
        Self {
            id,
            status,
            body: payload(id ^ 2, answer_length(id)),
            delimited,
            trailer: delimited == Delimited::Chunks && rng.bool(),
            interim: if rng.u8(..6) == 0 { rng.u8(1..4) } else { 0 },
            got,
        }
    }

    /// Whether no body follows, whatever the method.
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    /// The answer as an instance sends it, without informational ones.
    pub fn write(&self, to_head: bool, close: bool) -> Vec<u8> {
        let reason = if self.id % 2 == 0 { "Fine" } else { "" };
        let mut out = format!(
            "HTTP/1.1 {} {reason}\r\nX-Sim: {:016x}\r\n",
            self.status, self.id
        );
        out += &format!("X-Got: {}\r\nX-Hop: 1\r\n", self.got);
        out += if close {
            "Connection: x-hop, close\r\n"
        } else {
            "Connection: x-hop\r\n"
        };
        let bodiless = self.is_bodiless();
        match self.delimited {
            Delimited::Length if self.status != 204 => {
                out += &format!("Content-Length: {}\r\n", self.body.len())
            }
            Delimited::Chunks if !bodiless => out += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        out += "\r\n";
        let mut out = out.into_bytes();
        if !bodiless && !to_head {
            match self.delimited {
                Delimited::Chunks => {
                    let trailer = if self.trailer { "X-End: 1\r\n" } else { "" };
                    out.extend(chunked(self.id ^ 3, &self.body, trailer));
                }
                _ => out.extend_from_slice(&self.body),
            }
        }
        out
    }
}

/// What an instance reports of a request's body: the answer depends on it.
pub fn got(payload: &[u8], trailer: bool) -> String {
    format!(
        "{}-{:016x}-{}",
        payload.len(),
        fingerprint(payload),
        u8::from(trailer)
    )
}

/// The same, of a request that was read.
pub fn got_of(request: &Message) -> String {
    let trailer = request.trailers.iter().any(|(n, _)| n == "x-sum");
    got(&request.body, trailer)
}

/// Lengths at which buffers begin and end, and any between.
fn answer_length(id: u64) -> usize {
    let rng = &mut Rng::with_seed(id ^ 7);
    let most = largest(id);
    let length = match rng.u8(..8) {
        0 => 0,
        1 => 1,
        2 => 16 * 1024 - rng.usize(..3),
        3 => 16 * 1024 + rng.usize(..3),
        4 => rng.usize(..most.max(1)),
        _ => rng.usize(..2_000),
    };
    length.min(most)
}

/// The largest body that a request or its answer may have; the network's conditions decide, and the id carries it.
pub fn largest(id: u64) -> usize {
    64 << (id >> 60)
}

fn payload(seed: u64, len: usize) -> Vec<u8> {
    let rng = &mut Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn chunked(seed: u64, bytes: &[u8], trailers: &str) -> Vec<u8> {
    let rng = &mut Rng::with_seed(seed);
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len().min(40_000)));
        let extension = if rng.u8(..8) == 0 { ";x=1" } else { "" };
        out.extend_from_slice(format!("{:X}{extension}\r\n", now.len()).as_bytes());
        out.extend_from_slice(now);
        out.extend_from_slice(b"\r\n");
        rest = later;
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}
