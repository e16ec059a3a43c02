//! The connection's life: settings, deadlines, its end.

use std::collections::VecDeque;
use std::time::Duration;

use model::Moment;

use super::budget::Budget;
use super::code::Code;
use super::frame::{self, MAX_PAYLOAD, setting};
use super::hpack::Decoder;
use super::pace::Pace;
use super::stream::{Key, Spare, Streams};
use crate::h1::Limits;

/// The window that both sides begin with (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: i64 = 65_535;

/// Output that may gather before nobody may add to it: what a socket takes at once, most often.
pub(super) const FULL: usize = 64 * 1024;

/// An empty output is kept up to this size, for as long as there are streams: full, and as much again as an eighth of it for what is
/// no data. A buffer that doubled for the heads of frames would be given back and grown anew each time it was sent.
pub(super) const KEPT: usize = FULL + FULL / 8;

/// Requests that a client may break off, or make us break off, before they are answered: this many at once and so many
/// a second, and one more for each that is answered. People who leave a page break off a hundred; rapid reset
/// (CVE-2023-44487) and its kin (CVE-2025-8671) live on thousands.
const RESETS: (u32, u32) = (500, 50);

/// Requests of ours that we may break off on a connection before what comes next goes on another: at once, and so many a
/// second. Servers have budgets like ours (Netty's is the strictest we know of: 200 in 30 s), and a connection that one of
/// them ends as a flood takes with it what other clients have asked for.
const OUR_RESETS: (u32, u32) = (64, 3);

/// Frames that move nothing (PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE and unknown ones). Clients that
/// measure send a PING for each burst of data, and that earns some back.
const NOISE: (u32, u32) = (2_000, 500);

/// What a frame that moves something earns of noise: two windows, a PING and its like.
pub(super) const EARNED: u32 = 4;

/// How long a client has to hear that the connection is about to end, when it does not answer the PING that tells
/// us (RFC 9113 §6.8).
const NOTICE: Duration = Duration::from_secs(1);

/// How a connection is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests at a time.
    pub max_streams: u32,
    /// Bytes of a request's body that are taken ahead of whoever it is for; at least 65,535.
    pub stream_window: u32,
    /// And of all requests together; no less.
    pub connection_window: u32,
    /// How large a head may be.
    pub limits: Limits,
    /// How long a connection without a request is kept.
    pub idle: Duration,
    /// From the first frame of a head to its last.
    pub request_head: Duration,
}

/// Something that came of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request whose head is in the [`Head`](super::Head).
    Request(Key),
    /// One whose head is larger than the limits allow: it is to be answered with 431.
    TooLarge(Key),
    /// One that was reset at once, for it could be read in two ways.
    Malformed,
    /// There is something to be read, be it the end.
    Readable(Key),
    /// The stream was broken off.
    Reset(Key),
    /// The peer begins nothing more and lets nothing more begin; requests that it has not looked at were broken off.
    Leaving,
    /// The connection ends when its output is sent. All streams were broken off.
    Over(Closing),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client broke the protocol.
    Fault(Code),
    /// It makes more work than it lets us do.
    Flood,
    /// A head did not arrive in time.
    Late,
    /// There was no request for too long.
    Idle,
    /// It was drained.
    Drained,
}

/// How far the end of a connection has come (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The client was told to begin nothing more; what it sent before may be on its way.
    Announced {
        at: Moment,
    },
    /// It was told which of its requests are served.
    Final {
        last: u32,
    },
}

/// A header block of which there is more to come.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) ended: bool,
    /// The stream is named as its own parent.
    pub(super) odd: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) since: Moment,
}

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A client's: requests come in.
    Server,
    /// A server's: requests go out, as many at a time as it has said it takes.
    Client { most: u32, since: Moment },
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) settings: Settings,
    pub(super) side: Side,
    pub(super) streams: Streams,
    pub(super) decoder: Decoder,
    pub(super) block: Option<Box<Block>>,
    /// How long the payloads of the present header block's frames are, or of the last one's.
    pub(super) block_bytes: u32,
    /// Bytes of the preface that have come.
    pub(super) preface: u8,
    /// Whether the peer has sent its settings.
    pub(super) settled: bool,
    /// The highest number of a stream that the client, be it we or the peer, has begun.
    pub(super) last: u32,
    /// What the client may still send on all streams together.
    pub(super) window: i64,
    /// What was taken, and not given back to the window.
    pub(super) taken: u32,
    /// What we may still send on all streams together.
    pub(super) room: i64,
    /// What we may send on a new stream.
    pub(super) first_room: i64,
    /// Whether a header block was sent.
    pub(super) spoken: bool,
    pub(super) output: Vec<u8>,
    sent: usize,
    pub(super) spare: Spare,
    /// Streams that wait for room, in the order in which they came.
    pub(super) blocked: VecDeque<Key>,
    pub(super) resets: Budget,
    pub(super) pace: Pace,
    pub(super) noise: Budget,
    pub(super) drain: Drain,
    over: Option<Closing>,
    /// Since when there is no stream.
    pub(super) idle_since: Moment,
}

/// What the PING that asks whether a client has heard of the end carries.
pub(super) const HEARD: [u8; 8] = *b"goodbye?";

impl Connection {
    /// The server's side of a connection that has just begun; the preface is the first that it takes in.
    pub fn new(settings: Settings, now: Moment) -> Self {
        let limit = settings.limits.head as u32;
        let announced = [
            (setting::MAX_CONCURRENT_STREAMS, settings.max_streams),
            (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, limit),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        Self::begin(settings, Side::Server, &announced, Vec::new(), now)
    }

    /// A connection of which `output` was said, and now these settings are.
    pub(super) fn begin(
        settings: Settings,
        side: Side,
        announced: &[(u16, u32)],
        mut output: Vec<u8>,
        now: Moment,
    ) -> Self {
        frame::write_settings(announced, &mut output);
        let resets = match side {
            Side::Server => RESETS,
            Side::Client { .. } => OUR_RESETS,
        };
        let window = i64::from(settings.connection_window).max(FIRST_WINDOW);
        if window > FIRST_WINDOW {
            frame::write_window(0, (window - FIRST_WINDOW) as u32, &mut output);
        }
        Self {
            settings,
            side,
            streams: Streams::default(),
            decoder: Decoder::new(),
            block: None,
            block_bytes: 0,
            preface: match side {
                Side::Server => 0,
                // Servers begin with their settings.
                Side::Client { .. } => super::PREFACE.len() as u8,
            },
            settled: false,
            last: 0,
            window,
            taken: 0,
            room: FIRST_WINDOW,
            first_room: FIRST_WINDOW,
            spoken: false,
            output,
            sent: 0,
            spare: Spare::default(),
            blocked: VecDeque::new(),
            resets: Budget::new(resets.0, resets.1, now),
            pace: Pace::default(),
            noise: Budget::new(NOISE.0, NOISE.1, now),
            drain: Drain::No,
            over: None,
            idle_since: now,
        }
    }

    /// What is to be sent.
    pub fn poll_output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// So much of it was.
    pub fn sent(&mut self, n: usize) {
        self.sent += n;
        if self.sent < self.output.len() {
            // What was sent must not pile up in front of what was not.
            if self.sent >= FULL {
                self.output.drain(..self.sent);
                self.sent = 0;
            }
            return;
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > KEPT || self.streams.len() == 0 {
            self.output = Vec::new();
        }
    }

    /// Whether its output would have to grow much for so many bytes on a stream: then another buffer may be [lent](Self::lend).
    pub fn outgrows(&self, key: Key, len: usize) -> bool {
        let stream = self.streams.look(key);
        let goes_on = !stream.reset && !stream.finished;
        goes_on && self.output.capacity() < KEPT && self.writable(stream.room).min(len) > Self::MOST
    }

    /// Has its output in this buffer from now on, whatever was in it.
    pub fn lend(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.reserve_exact(KEPT);
        buffer.extend_from_slice(self.poll_output());
        (self.output, self.sent) = (buffer, 0);
    }

    /// The buffer of its output, if that is a large one, and empty.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        let is_free = self.output.is_empty() && self.output.capacity() >= KEPT;
        is_free.then(|| std::mem::take(&mut self.output))
    }

    /// Whether so much waits to be sent that nothing should be added: then nothing more should be read either, or a client
    /// that asks and never listens has us keep its answers.
    pub fn is_full(&self) -> bool {
        self.output.len() - self.sent >= FULL
    }

    /// The next stream that waited and may send more now. `promised` is what those that were told before it have not sent yet,
    /// and grows by what this one wants: who is told for nothing does nothing but go back to the end of the line.
    pub fn poll_writable(&mut self, promised: &mut usize) -> Option<Key> {
        if self.is_tight(*promised) || self.room <= *promised as i64 {
            return None;
        }
        let key = self.blocked.pop_front()?;
        let stream = self.streams.get(key);
        let wanted = std::mem::take(&mut stream.wanted);
        *promised += wanted.min(stream.room.max(0) as usize);
        Some(key)
    }

    /// Whether streams wait that only the output is too full for.
    pub fn is_awaited(&self) -> bool {
        self.room > 0 && !self.blocked.is_empty()
    }

    /// Whether the output has no room for a frame of the largest size, once so many bytes more are in it.
    pub(super) fn is_tight(&self, promised: usize) -> bool {
        self.output.len() - self.sent + promised + Self::MOST > FULL
    }

    /// How many bytes of HEADERS and CONTINUATION have come on a stream: their payloads, as they were on the wire.
    pub fn head_bytes(&self, key: Key) -> u64 {
        self.streams.look(key).head_bytes.into()
    }

    /// How many requests are being served.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Why it ends, if it does.
    pub fn over(&self) -> Option<Closing> {
        self.over
    }

    /// Begins to end the connection: the client is told, and then which of its requests are still served.
    pub fn drain(&mut self, now: Moment) {
        if self.drain == Drain::No && self.over.is_none() {
            frame::write_goaway(0x7fff_ffff, Code::None, &mut self.output);
            frame::write_ping(false, HEARD, &mut self.output);
            self.drain = Drain::Announced { at: now };
        }
    }

    /// From here on no request is taken that was not taken before.
    pub(super) fn drain_finally(&mut self) {
        frame::write_goaway(self.last, Code::None, &mut self.output);
        self.drain = Drain::Final { last: self.last };
        self.end_if_drained();
    }

    pub(super) fn end_if_drained(&mut self) {
        if matches!(self.drain, Drain::Final { .. }) && self.streams.len() == 0 {
            self.over.get_or_insert(Closing::Drained);
        }
    }

    /// When [`Connection::handle_timeout`] is due; [`Moment::NEVER`] if it is not.
    pub fn next_deadline(&self) -> Moment {
        if self.over.is_some() {
            return Moment::NEVER;
        }
        let block = self.block.as_ref();
        let block = block.map(|block| block.since + self.settings.request_head);
        let idle = (self.streams.len() == 0).then(|| self.idle_since + self.settings.idle);
        let notice = match self.drain {
            Drain::Announced { at } => Some(at + NOTICE),
            _ => None,
        };
        let due = [block, idle, notice, self.silent()].into_iter().flatten();
        due.min().unwrap_or(Moment::NEVER)
    }

    /// When a server has not said its settings in time.
    fn silent(&self) -> Option<Moment> {
        match self.side {
            Side::Client { since, .. } if !self.settled => Some(since + self.settings.request_head),
            _ => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.over.is_some() || self.next_deadline() > now {
            return;
        }
        let late = |block: &Block| block.since + self.settings.request_head <= now;
        if self.block.as_deref().is_some_and(late) {
            self.end(Closing::Late, Code::Protocol);
        } else if matches!(self.drain, Drain::Announced { at } if at + NOTICE <= now) {
            self.drain_finally();
        } else if self.silent().is_some_and(|due| due <= now) {
            self.end(Closing::Late, Code::SettingsTimeout);
        } else {
            self.end(Closing::Idle, Code::None);
        }
    }

    /// Ends it for a fault of the peer's.
    pub(super) fn fail(&mut self, code: Code) -> Event {
        let why = match code {
            Code::Calm => Closing::Flood,
            code => Closing::Fault(code),
        };
        self.end(why, code)
    }

    fn end(&mut self, why: Closing, code: Code) -> Event {
        if self.over.is_none() {
            let last = match self.side {
                Side::Server => self.last,
                // Servers begin nothing, for they may not push.
                Side::Client { .. } => 0,
            };
            frame::write_goaway(last, code, &mut self.output);
            self.over = Some(why);
        }
        self.close();
        Event::Over(why)
    }

    /// The connection broke: every stream is broken off with it.
    pub fn close(&mut self) {
        let malformed = self.over.is_some_and(Closing::is_fault);
        self.streams.reset_all(self.is_client(), malformed);
        self.blocked.clear();
        self.block = None;
        self.pace.clear();
    }

    /// How many bytes of DATA may be added to the output on a stream that has this much room.
    pub(super) fn writable(&self, room: i64) -> usize {
        let pending = self.output.len() - self.sent;
        let space = FULL.saturating_sub(pending) as i64;
        room.min(self.room).min(space).max(0) as usize
    }

    /// The largest frame that we send.
    pub(super) const MOST: usize = MAX_PAYLOAD;
}
