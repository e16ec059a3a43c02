//! The client's side: requests go out, and servers may refuse, break off or leave.

use model::Moment;

use super::PREFACE;
use super::code::Code;
use super::connection::{Connection, Drain, Settings, Side};
use super::frame::{self, number, setting};
use super::receive::Outcome;
use super::stream::{Ending, Key, Lost, Stream};
use super::{Closing, Event};
use crate::h1::MethodKind;

/// The highest number that a stream of ours may have, but one (RFC 9113 §5.1.1).
const LAST: u32 = 0x7fff_fffd;

impl Connection {
    /// The client's side of a connection that has just begun. Of the settings, `max_streams` is how many requests we
    /// want to have under way on it at the most, whatever the server takes.
    pub fn client(settings: Settings, now: Moment) -> Self {
        let announced = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
            (
                setting::MAX_HEADER_LIST_SIZE,
                settings.limits.head.min(u32::MAX as usize) as u32,
            ),
        ];
        // How many it takes, the server has yet to say. One goes at once; others would wait for no more than a round
        // trip, and all that are too many would be refused.
        let side = Side::Client {
            most: 1,
            since: now,
        };
        Self::begin(settings, side, &announced, PREFACE.to_vec(), now)
    }

    pub(super) const fn is_client(&self) -> bool {
        matches!(self.side, Side::Client { .. })
    }

    /// How many requests may be begun now.
    pub fn vacancies(&self) -> usize {
        match self.side {
            Side::Client { most, .. } if !self.is_leaving() && !self.is_full() => {
                let most = most.min(self.settings.max_streams) as usize;
                most.saturating_sub(self.streams.open_len() + self.pace.held())
            }
            _ => 0,
        }
    }

    /// Whether the server has said how many it takes.
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether no request can be begun any more.
    pub fn is_leaving(&self) -> bool {
        self.over().is_some() || self.drain != Drain::No || self.last >= LAST
    }

    /// Begins a request, if there is a vacancy: with a head as [`write_request`](super::write_request) has written it; `end`
    /// if nothing follows. `method` decides whether an answer to it has a body.
    pub fn ask(&mut self, block: &[u8], method: MethodKind, end: bool) -> Option<Key> {
        if self.vacancies() == 0 {
            return None;
        }
        // The first is 1, and they are odd.
        self.last += 2 - u32::from(self.last == 0);
        let mut stream = Stream::new(self.last, self.stream_window(), self.first_room);
        stream.headed = false;
        stream.bodiless = method == MethodKind::Head;
        let key = self.streams.insert(stream);
        self.write_block(self.last, block, end);
        if end {
            self.we_end(key);
        }
        Some(key)
    }

    /// Begins nothing more; the connection is over when the answers are here.
    pub fn retire(&mut self) {
        if self.drain == Drain::No {
            self.drain = Drain::Final { last: 0 };
            self.end_if_drained();
        }
    }

    /// Why a stream was broken off, once [`Taken::Reset`](super::Taken) was read of it, or nothing could be written to it.
    pub fn lost(&self, key: Key) -> Lost {
        self.streams.look(key).lost
    }

    /// Whether it was broken off.
    pub fn is_reset(&self, key: Key) -> bool {
        self.streams.look(key).reset
    }

    /// We have broken a request off. Of too many the server would think ill, and the connection begins nothing more.
    pub(super) fn count_reset(&mut self, now: Moment) {
        if !self.resets.spend(now) {
            self.retire();
        }
    }

    /// The server has said how many requests it takes at a time.
    pub(super) fn takes(&mut self, number: u32) {
        if let Side::Client { most, .. } = &mut self.side {
            *most = number;
        }
    }

    /// The server breaks a request off.
    pub(super) fn sent_away(&mut self, key: Key, code: Option<u32>) {
        let stream = self.streams.get(key);
        if !stream.ended {
            if code == Some(Code::Refused as u32) {
                stream.lost = Lost::Refused;
            }
            self.broken_off(key, Ending::Known);
            return;
        }
        // The answer is whole, and the rest of the request is not wanted (§8.1).
        stream.finished = true;
        stream.wanted = 0;
        let id = stream.id;
        self.blocked.retain(|blocked| *blocked != key);
        self.streams.close(id, Ending::Known);
    }

    /// The server leaves (§6.8).
    pub(super) fn goaway(&mut self, payload: &[u8], now: Moment) -> Outcome {
        self.quiet(now)?;
        let last = number(payload).filter(|_| payload.len() >= 8);
        let last = last.ok_or(Code::FrameSize)? & 0x7fff_ffff;
        // A client's GOAWAY is about what we begin, and we begin nothing.
        if !self.is_client() {
            return Ok(None);
        }
        let unseen: Vec<Key> = self.streams.open().collect();
        for key in unseen {
            let stream = self.streams.get(key);
            if stream.id > last {
                stream.lost = Lost::Refused;
                self.broken_off(key, Ending::Known);
            }
        }
        self.retire();
        Ok(Some(Event::Leaving))
    }

    /// Nobody waits for an answer any more.
    pub(super) fn let_go(&mut self, key: Key, now: Moment) {
        let stream = self.streams.look(key);
        let arrived = stream.finished && !stream.ended && stream.headed;
        if arrived && stream.length == Some(0) && !stream.reset {
            // Nothing is missing but to hear that it was all. A reset would look like a client that breaks off what it
            // asked for, of which servers bear only so many.
            let id = stream.id;
            self.streams.close(id, Ending::Ours);
        } else if !stream.reset && !stream.is_whole() {
            self.call_off(key);
            self.count_reset(now);
        }
    }

    /// Breaks a request off: where an answer has come at once, else no faster than servers bear.
    fn call_off(&mut self, key: Key) {
        let stream = self.streams.look(key);
        match stream.headed {
            true => frame::write_reset(stream.id, Code::Cancel, &mut self.output),
            false => self.pace.reset(stream.id, &mut self.output),
        }
        self.broken_off(key, Ending::Ours);
    }
}

impl Closing {
    /// Whether the peer is to blame.
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Fault(_) | Self::Flood | Self::Late)
    }
}
