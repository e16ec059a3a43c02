//! What those who serve streams do with them.

use std::collections::VecDeque;

use model::Moment;

use super::code::Code;
use super::connection::{Connection, EARNED, FULL, KEPT, Side};
use super::frame::{self, flag, kind};
use super::hpack::NO_TABLE;
use super::response::write_trailers;
use super::stream::{Ending, Key, Spare, Taken};

impl Connection {
    /// Takes what has arrived of a stream's body, as much as `buffer` holds; of an answer its head, too, as HTTP/1.1 writes
    /// it. The peer may then send as much again.
    pub fn read(&mut self, key: Key, buffer: &mut [u8]) -> Taken {
        let n = match self.unread(key) {
            Ok(_) if buffer.is_empty() => return Taken::Nothing,
            Ok(bytes) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                n
            }
            Err(taken) => return taken,
        };
        self.took(key, n);
        Taken::Bytes(n)
    }

    /// What [`Connection::read`] would take. It stays until it is said to be [taken](Self::took).
    ///
    /// # Errors
    /// What there is instead.
    pub fn unread(&self, key: Key) -> Result<&[u8], Taken> {
        let stream = self.streams.look(key);
        match &stream.received[stream.at..] {
            _ if stream.reset => Err(Taken::Reset),
            [] if stream.ended => Err(Taken::End),
            [] => Err(Taken::Nothing),
            bytes => Ok(bytes),
        }
    }

    /// So many bytes of what is unread were taken.
    pub fn took(&mut self, key: Key, n: usize) {
        let stream = self.streams.get(key);
        stream.at += n;
        let of_heads = n.min(stream.heads);
        stream.heads -= of_heads;
        let data = n - of_heads;
        if stream.at == stream.received.len() {
            let buffer = std::mem::take(&mut stream.received);
            stream.at = 0;
            self.spare.put(buffer);
        }
        let stream = self.streams.get(key);
        stream.taken += data as u32;
        let half = self.settings.stream_window / 2;
        if stream.taken >= half && !stream.ended {
            let (id, more) = (stream.id, std::mem::take(&mut stream.taken));
            stream.window += i64::from(more);
            frame::write_window(id, more, &mut self.output);
        }
        self.credit(data);
    }

    /// Whether the peer has sent everything, be it read or not.
    pub fn has_ended(&self, key: Key) -> bool {
        self.streams.look(key).ended
    }

    /// The fields that came behind the body, as lines of HTTP/1.1, once.
    pub fn take_trailers(&mut self, key: Key) -> Option<Vec<u8>> {
        self.streams.get(key).trailers.take()
    }

    /// Bytes that are no longer kept for anybody: the peer may send as many more on any stream.
    pub(super) fn credit(&mut self, n: usize) {
        self.taken += n as u32;
        if self.taken >= self.settings.connection_window / 2 {
            let more = std::mem::take(&mut self.taken);
            self.window += i64::from(more);
            frame::write_window(0, more, &mut self.output);
        }
    }

    /// Sends a head, as [`write_response`](super::write_response) has written it; `end` if nothing follows it.
    pub fn send_head(&mut self, key: Key, block: &[u8], end: bool) {
        let stream = self.streams.look(key);
        if stream.reset || stream.finished {
            return;
        }
        let id = stream.id;
        self.write_block(id, block, end);
        if end {
            self.we_end(key);
        }
    }

    pub(super) fn write_block(&mut self, id: u32, block: &[u8], end: bool) {
        let first = !std::mem::replace(&mut self.spoken, true);
        let whole = block.len() + usize::from(first);
        let len = whole.min(Self::MOST);
        let ends = if end { flag::END_STREAM } else { 0 };
        let done = if len == whole { flag::END_HEADERS } else { 0 };
        frame::write_head(len, kind::HEADERS, ends | done, id, &mut self.output);
        if first {
            self.output.push(NO_TABLE);
        }
        let (now, mut rest) = block.split_at(len - usize::from(first));
        self.output.extend_from_slice(now);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(Self::MOST));
            let done = if later.is_empty() {
                flag::END_HEADERS
            } else {
                0
            };
            frame::write_head(now.len(), kind::CONTINUATION, done, id, &mut self.output);
            self.output.extend_from_slice(now);
            rest = later;
        }
    }

    /// Sends as much of `bytes` as there is room for, in all windows and in the output. If that is not all,
    /// [`Connection::poll_writable`] says when there may be more. With the last byte the stream ends, if `last`. `None`: the
    /// stream was broken off, or has ended.
    pub fn write(&mut self, key: Key, bytes: &[u8], last: bool) -> Option<usize> {
        let stream = self.streams.look(key);
        if stream.reset || stream.finished {
            return None;
        }
        let (id, n) = (stream.id, self.writable(stream.room).min(bytes.len()));
        let ends = last && n == bytes.len();
        if n >= Self::MOST {
            let most = KEPT.saturating_sub(self.output.len());
            self.output.reserve_exact(most);
        }
        let mut rest = &bytes[..n];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(Self::MOST));
            let end = if ends && later.is_empty() {
                flag::END_STREAM
            } else {
                0
            };
            frame::write_head(now.len(), kind::DATA, end, id, &mut self.output);
            self.output.extend_from_slice(now);
            self.noise.earn(EARNED);
            rest = later;
        }
        self.room -= n as i64;
        let stream = self.streams.get(key);
        stream.room -= n as i64;
        if n < bytes.len() {
            self.await_room(key, bytes.len() - n);
        }
        if ends && n > 0 {
            self.we_end(key);
        }
        Some(n)
    }

    /// How many bytes would be taken of a stream now: whoever asks before there are any need not keep them.
    pub fn room(&self, key: Key) -> usize {
        let stream = self.streams.look(key);
        match stream.reset || stream.finished {
            // To write is to hear of it.
            true => usize::MAX,
            false => self.writable(stream.room),
        }
    }

    /// The same, waiting if some of the output is to be sent first: then it is `None`, and [`Connection::poll_writable`] says when
    /// there is room.
    pub fn wait_for_room(&mut self, key: Key) -> Option<usize> {
        let stream = self.streams.look(key);
        if self.is_tight(0) && !stream.reset && !stream.finished {
            self.await_room(key, FULL);
            return None;
        }
        Some(self.room(key))
    }

    /// Somebody waits to send so many bytes.
    fn await_room(&mut self, key: Key, wanted: usize) {
        let stream = self.streams.get(key);
        let waits = std::mem::replace(&mut stream.wanted, wanted) > 0;
        if !waits && stream.room > 0 {
            self.blocked.push_back(key);
        }
    }

    /// Ends our side of a stream, if it has not ended: with these trailers (lines as an instance sent them), if there are any.
    pub fn finish(&mut self, key: Key, trailers: &[u8]) {
        let stream = self.streams.look(key);
        if stream.reset || stream.finished {
            return;
        }
        let id = stream.id;
        if trailers.is_empty() {
            frame::write_head(0, kind::DATA, flag::END_STREAM, id, &mut self.output);
        } else {
            let mut block = Vec::new();
            write_trailers(trailers, &mut block);
            self.write_block(id, &block, true);
        }
        self.we_end(key);
    }

    /// Everything was sent.
    pub(super) fn we_end(&mut self, key: Key) {
        if !self.is_client() {
            self.resets.earn(1);
        }
        let stream = self.streams.get(key);
        stream.finished = true;
        if stream.ended {
            let id = stream.id;
            self.streams.close(id, Ending::Known);
        }
    }

    /// Breaks a stream off, if it has not ended; whether it had not.
    pub fn reset(&mut self, key: Key, code: Code) -> bool {
        let stream = self.streams.look(key);
        let goes_on = !stream.reset && !stream.is_whole();
        if goes_on {
            frame::write_reset(stream.id, code, &mut self.output);
            self.broken_off(key, Ending::Ours);
        }
        goes_on
    }

    /// Nothing more comes or goes on a stream.
    pub(super) fn broken_off(&mut self, key: Key, ending: Ending) {
        let stream = self.streams.get(key);
        stream.reset = true;
        let (id, unread) = (stream.id, stream.unread_data());
        stream.received = Vec::new();
        (stream.at, stream.heads) = (0, 0);
        stream.wanted = 0;
        self.blocked.retain(|blocked| *blocked != key);
        self.streams.close(id, ending);
        self.credit(unread);
    }

    /// Nobody serves the stream any more. If it has not ended, it is broken off: a client's for no fault where the answer is
    /// whole (RFC 9113 §8.1), else with `code`; one of ours because nobody wants the answer.
    pub fn release(&mut self, key: Key, code: Code, now: Moment) {
        let stream = self.streams.look(key);
        match self.side {
            Side::Client { .. } => self.let_go(key, now),
            Side::Server if stream.finished => drop(self.reset(key, Code::None)),
            Side::Server => drop(self.reset(key, code)),
        }
        let stream = self.streams.remove(key);
        // A stream may be whole, and not all of it read.
        self.credit(stream.unread_data());
        if stream.wanted > 0 {
            self.blocked.retain(|blocked| *blocked != key);
        }
        if self.streams.len() == 0 {
            self.streams.rest();
            self.spare = Spare::default();
            self.blocked = VecDeque::new();
            self.idle_since = now;
            self.end_if_drained();
        }
    }
}
