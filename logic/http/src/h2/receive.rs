//! What a peer sends, frame by frame (RFC 9113 §5, §6).

use model::Moment;

use super::code::Code;
use super::connection::{Block, Connection, Drain, EARNED, Event, FIRST_WINDOW, HEARD, Side};
use super::frame::{self, Frame, MAX_PAYLOAD, flag, kind, number, setting};
use super::head::{Head, Refusal, Trailers};
use super::stream::{Ending, Key, Lost, Stream};
use super::{Closing, PREFACE};

/// The largest window (§6.9.1).
const MOST_WINDOW: i64 = 0x7fff_ffff;

/// How much larger than a head may be is what is read of one that is refused: browsers' largest come near.
const BLOCK: usize = 4;

/// What a frame comes to: an event or none; or the connection ends.
pub(super) type Outcome = Result<Option<Event>, Code>;

impl Connection {
    /// Takes in whole frames from the front of `input` up to the next event; `None` if there is none in what is there. What
    /// is left of `input` then is to be given again, with more behind it.
    pub fn handle(&mut self, input: &mut &[u8], head: &mut Head, now: Moment) -> Option<Event> {
        loop {
            if self.over().is_some_and(|over| over != Closing::Drained) {
                *input = &[];
                return None;
            }
            let outcome = match usize::from(self.preface) {
                had if had < PREFACE.len() => self.greeted(input, had)?,
                _ => {
                    let frame = Frame::parse(input)?;
                    if frame.len > MAX_PAYLOAD {
                        return Some(self.fail(Code::FrameSize));
                    }
                    let payload = input.get(frame::HEAD..frame::HEAD + frame.len)?;
                    *input = &input[frame::HEAD + frame.len..];
                    self.take(frame, payload, head, now)
                }
            };
            match outcome {
                Ok(None) => {}
                Ok(event) => return event,
                Err(code) => return Some(self.fail(code)),
            }
        }
    }

    /// The preface (§3.4); `None`: there is more of it to come.
    fn greeted(&mut self, input: &mut &[u8], had: usize) -> Option<Outcome> {
        let len = input.len().min(PREFACE.len() - had);
        if len == 0 {
            return None;
        }
        if input[..len] != PREFACE[had..had + len] {
            return Some(Err(Code::Protocol));
        }
        self.preface += len as u8;
        *input = &input[len..];
        Some(Ok(None))
    }

    fn take(&mut self, frame: Frame, payload: &[u8], head: &mut Head, now: Moment) -> Outcome {
        // §3.4: settings come first; §6.10: nothing comes between the parts of a header block.
        if !self.settled && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(Code::Protocol);
        }
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            return Err(Code::Protocol);
        }
        let of_stream = match frame.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => {
                Some(true)
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
            _ => None,
        };
        if of_stream.is_some_and(|of_stream| of_stream != (frame.stream != 0)) {
            return Err(Code::Protocol);
        }
        match frame.kind {
            kind::DATA => self.data(frame, payload, now),
            kind::HEADERS => self.headers(frame, payload, head, now),
            kind::CONTINUATION => self.continuation(frame, payload, head, now),
            kind::RST_STREAM => self.rst_stream(frame, payload, now),
            kind::WINDOW_UPDATE => self.window_update(frame, payload, now),
            kind::SETTINGS => self.peer_settings(frame, payload, now),
            kind::PING => self.ping(frame, payload, now),
            kind::PRIORITY => self.priority(frame, payload, now),
            kind::PUSH_PROMISE => Err(Code::Protocol),
            kind::GOAWAY => self.goaway(payload, now),
            _ => self.quiet(now),
        }
    }

    /// A frame that moves nothing.
    pub(super) fn quiet(&mut self, now: Moment) -> Outcome {
        match self.noise.spend(now) {
            true => Ok(None),
            false => Err(Code::Calm),
        }
    }

    fn data(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        let data = frame.unpadded(payload)?;
        self.window -= frame.len as i64;
        if self.window < 0 {
            return Err(Code::FlowControl);
        }
        if !data.is_empty() {
            self.noise.earn(EARNED);
        } else if !frame.has(flag::END_STREAM) {
            self.quiet(now)?;
        }
        let Some(key) = self.streams.find(frame.stream) else {
            self.credit(frame.len);
            return self.data_for_nobody(frame.stream, now);
        };
        // Padding takes room only on its way.
        self.credit(frame.len - data.len());
        let stream = self.streams.get(key);
        let over = frame.len as i64 > stream.window;
        let more = stream.length.is_some_and(|left| (data.len() as u64) > left);
        let less = frame.has(flag::END_STREAM)
            && stream.length.is_some_and(|left| left != data.len() as u64);
        let fault = match () {
            () if stream.ended => Some(Code::StreamClosed),
            // A body without a head.
            () if !stream.headed => Some(Code::Protocol),
            () if over => Some(Code::FlowControl),
            () if more || less => Some(Code::Protocol),
            () => None,
        };
        if let Some(code) = fault {
            self.credit(data.len());
            return self.fault_of(key, code, now);
        }
        stream.window -= frame.len as i64;
        stream.taken += (frame.len - data.len()) as u32;
        stream.length = stream.length.map(|left| left - data.len() as u64);
        if stream.at == stream.received.len() {
            stream.received.clear();
            stream.at = 0;
        }
        self.spare.add(stream, data);
        if frame.has(flag::END_STREAM) {
            self.peer_ends(key);
        } else if data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Event::Readable(key)))
    }

    fn data_for_nobody(&mut self, id: u32, now: Moment) -> Outcome {
        if id > self.last || id.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        match self.streams.ending(id) {
            // It was on its way when we broke the stream off.
            Some(Ending::Ours) => Ok(None),
            _ if self.is_client() => self.quiet(now),
            _ => {
                self.spend_reset(now)?;
                frame::write_reset(id, Code::StreamClosed, &mut self.output);
                Ok(None)
            }
        }
    }

    /// The peer has sent all of a message.
    pub(super) fn peer_ends(&mut self, key: Key) {
        let stream = self.streams.get(key);
        stream.ended = true;
        if stream.finished {
            let id = stream.id;
            self.streams.close(id, Ending::Known);
        }
    }

    /// A fault of the peer's that ends a stream, and nothing else.
    pub(super) fn fault_of(&mut self, key: Key, code: Code, now: Moment) -> Outcome {
        match self.side {
            Side::Server => self.spend_reset(now)?,
            Side::Client { .. } => self.count_reset(now),
        }
        self.streams.get(key).lost = Lost::Malformed;
        self.reset(key, code);
        Ok(Some(Event::Reset(key)))
    }

    fn spend_reset(&mut self, now: Moment) -> Result<(), Code> {
        match self.resets.spend(now) {
            true => Ok(()),
            false => Err(Code::Calm),
        }
    }

    fn headers(&mut self, frame: Frame, payload: &[u8], head: &mut Head, now: Moment) -> Outcome {
        let mut fragment = frame.unpadded(payload)?;
        let mut odd = false;
        if frame.has(flag::PRIORITY) {
            let parent = number(fragment).ok_or(Code::FrameSize)? & 0x7fff_ffff;
            fragment = fragment.get(5..).ok_or(Code::FrameSize)?;
            odd = parent == frame.stream;
        }
        if frame.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let ended = frame.has(flag::END_STREAM);
        self.block_bytes = frame.len as u32;
        if frame.has(flag::END_HEADERS) {
            return self.read_block((frame.stream, ended, odd), fragment, head, now);
        }
        self.block = Some(Box::new(Block {
            stream: frame.stream,
            ended,
            odd,
            bytes: fragment.to_vec(),
            since: now,
        }));
        Ok(None)
    }

    fn continuation(
        &mut self,
        frame: Frame,
        payload: &[u8],
        head: &mut Head,
        now: Moment,
    ) -> Outcome {
        let Some(mut block) = self.block.take() else {
            return Err(Code::Protocol);
        };
        if block.stream != frame.stream {
            return Err(Code::Protocol);
        }
        // Empty ones cost nothing but our time.
        if payload.is_empty() {
            self.quiet(now)?;
        }
        // A head that is too large is told so, if it ends somewhere; else it is meant to have no end (CVE-2024-27316).
        if block.bytes.len() + payload.len() > self.settings.limits.head.max(MAX_PAYLOAD) * BLOCK {
            return Err(Code::Calm);
        }
        block.bytes.extend_from_slice(payload);
        self.block_bytes += frame.len as u32;
        if frame.has(flag::END_HEADERS) {
            let which = (block.stream, block.ended, block.odd);
            return self.read_block(which, &block.bytes, head, now);
        }
        self.block = Some(block);
        Ok(None)
    }

    fn read_block(
        &mut self,
        (id, ended, odd): (u32, bool, bool),
        block: &[u8],
        head: &mut Head,
        now: Moment,
    ) -> Outcome {
        if id > self.last {
            return match self.side {
                Side::Server => self.request((id, ended, odd), block, head, now),
                // An answer to nothing.
                Side::Client { .. } => Err(Code::Protocol),
            };
        }
        if let Some(key) = self.streams.find(id) {
            return match self.streams.look(key).headed {
                true => self.trailers(key, ended, block, now),
                false => self.answer(key, ended, (block, head), now),
            };
        }
        // Whatever it was, the tables go on from here.
        let read = self.decoder.decode(block, &mut Vec::new(), |_, _| ());
        read.map_err(|_| Code::Compression)?;
        match self.streams.ending(id) {
            Some(Ending::Ours) => Ok(None),
            // Requests that nobody waits for any more may be many at once, and are not all remembered.
            None if self.is_client() => self.quiet(now),
            Some(Ending::Known) => Err(Code::StreamClosed),
            // §5.1.1: numbers only grow.
            None => Err(Code::Protocol),
        }
    }

    fn request(
        &mut self,
        (id, ended, odd): (u32, bool, bool),
        block: &[u8],
        head: &mut Head,
        now: Moment,
    ) -> Outcome {
        self.last = id;
        head.clear(self.settings.limits);
        let mut scratch = head.lend();
        let field = |name: &[u8], value: &[u8]| head.field(name, value);
        let read = self.decoder.decode(block, &mut scratch, field);
        head.give_back(scratch);
        read.map_err(|_| Code::Compression)?;
        let surplus = self.streams.len() >= self.settings.max_streams as usize;
        let late = matches!(self.drain, Drain::Final { last } if id > last);
        let finished = head.finish(ended);
        let refused = match finished {
            // Nothing was done about it, so that the client may ask again (§8.7). Streams count until those who serve them have
            // let go of them, not until the client has.
            _ if surplus || late => Some(Code::Refused),
            Err(Refusal::Malformed) => Some(Code::Protocol),
            _ if odd => Some(Code::Protocol),
            _ => None,
        };
        if let Some(code) = refused {
            if !late {
                self.spend_reset(now)?;
            }
            frame::write_reset(id, code, &mut self.output);
            self.streams.remember(id, Ending::Ours);
            return Ok((code == Code::Protocol).then_some(Event::Malformed));
        }
        self.noise.earn(EARNED);
        let mut stream = Stream::new(id, self.stream_window(), self.first_room);
        stream.head_bytes = self.block_bytes;
        stream.length = head.length().filter(|_| !ended);
        stream.ended = ended;
        let key = self.streams.insert(stream);
        Ok(Some(match finished {
            Ok(()) => Event::Request(key),
            Err(_) => Event::TooLarge(key),
        }))
    }

    /// What a peer may send on a stream at first.
    pub(super) fn stream_window(&self) -> i64 {
        i64::from(self.settings.stream_window).max(FIRST_WINDOW)
    }

    /// Fields behind a body (§8.1).
    fn trailers(&mut self, key: Key, ended: bool, block: &[u8], now: Moment) -> Outcome {
        let mut trailers = Trailers::default();
        let field = |name: &[u8], value: &[u8]| trailers.field(name, value);
        let read = self.decoder.decode(block, &mut Vec::new(), field);
        read.map_err(|_| Code::Compression)?;
        let stream = self.streams.get(key);
        if stream.ended {
            return self.fault_of(key, Code::StreamClosed, now);
        }
        let missing = stream.length.is_some_and(|left| left != 0);
        let kept = trailers.finish().filter(|_| ended && !missing);
        let Some(kept) = kept else {
            return self.fault_of(key, Code::Protocol, now);
        };
        stream.head_bytes += self.block_bytes;
        stream.trailers = Some(kept);
        self.peer_ends(key);
        Ok(Some(Event::Readable(key)))
    }

    fn rst_stream(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        if payload.len() != 4 {
            return Err(Code::FrameSize);
        }
        if frame.stream > self.last || frame.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let Some(key) = self.streams.find(frame.stream) else {
            return self.quiet(now);
        };
        match self.side {
            Side::Server => {
                self.spend_reset(now)?;
                self.broken_off(key, Ending::Known);
            }
            Side::Client { .. } => self.sent_away(key, number(payload)),
        }
        Ok(Some(Event::Reset(key)))
    }

    fn window_update(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        let &[a, b, c, d] = payload else {
            return Err(Code::FrameSize);
        };
        let more = i64::from(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff);
        self.quiet(now)?;
        if frame.stream == 0 {
            self.room += more;
            return match more {
                0 => Err(Code::Protocol),
                _ if self.room > MOST_WINDOW => Err(Code::FlowControl),
                _ => Ok(None),
            };
        }
        if frame.stream > self.last || frame.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let Some(key) = self.streams.find(frame.stream) else {
            return Ok(None);
        };
        let stream = self.streams.get(key);
        stream.room += more;
        match more {
            0 => self.fault_of(key, Code::Protocol, now),
            _ if stream.room > MOST_WINDOW => self.fault_of(key, Code::FlowControl, now),
            _ => {
                self.has_room(key);
                Ok(None)
            }
        }
    }

    /// A stream that waits for room has some: it takes its place in the line.
    fn has_room(&mut self, key: Key) {
        let stream = self.streams.get(key);
        if stream.wanted > 0 && stream.room > 0 && !self.blocked.contains(&key) {
            self.blocked.push_back(key);
        }
    }

    fn peer_settings(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        if frame.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Code::FrameSize);
            }
            self.pace.acknowledged(&mut self.output);
            return self.quiet(now);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Code::FrameSize);
        }
        if !std::mem::replace(&mut self.settled, true) {
            // Who does not say how many it takes, takes any number.
            self.takes(u32::MAX);
        }
        self.quiet(now)?;
        for setting in payload.chunks_exact(6) {
            // Each may change every window: a frame full of them is as many frames.
            self.quiet(now)?;
            let value = number(&setting[2..]).unwrap_or_default();
            self.peer_setting(u16::from_be_bytes([setting[0], setting[1]]), value)?;
        }
        frame::write_head(0, kind::SETTINGS, flag::ACK, 0, &mut self.output);
        Ok(None)
    }

    fn peer_setting(&mut self, id: u16, value: u32) -> Result<(), Code> {
        match id {
            // §6.5.2: of servers nobody takes anything but a no.
            setting::ENABLE_PUSH if value > u32::from(!self.is_client()) => Err(Code::Protocol),
            setting::MAX_CONCURRENT_STREAMS => {
                self.takes(value);
                Ok(())
            }
            // Larger frames than everybody takes gain nothing.
            setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                Err(Code::Protocol)
            }
            setting::INITIAL_WINDOW_SIZE => self.resize(i64::from(value)),
            _ => Ok(()),
        }
    }

    /// §6.9.2: all windows move with the first one, below zero if need be.
    fn resize(&mut self, room: i64) -> Result<(), Code> {
        if room > MOST_WINDOW {
            return Err(Code::FlowControl);
        }
        let gained = room - self.first_room;
        self.first_room = room;
        let open: Vec<Key> = self.streams.open().collect();
        for key in open {
            let stream = self.streams.get(key);
            stream.room += gained;
            if stream.room > MOST_WINDOW {
                return Err(Code::FlowControl);
            }
            self.has_room(key);
        }
        Ok(())
    }

    fn ping(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        let data = payload.try_into().map_err(|_| Code::FrameSize)?;
        if !frame.has(flag::ACK) {
            self.quiet(now)?;
            frame::write_ping(true, data, &mut self.output);
        } else if matches!(self.drain, Drain::Announced { .. }) && data == HEARD {
            self.drain_finally();
        }
        Ok(None)
    }

    /// Priorities of the old kind are deprecated (§5.3), those of the new kind are hints (RFC 9218): neither is followed.
    fn priority(&mut self, frame: Frame, payload: &[u8], now: Moment) -> Outcome {
        self.quiet(now)?;
        let parent = number(payload).map(|parent| parent & 0x7fff_ffff);
        let fault = match payload.len() {
            5 if parent == Some(frame.stream) => Code::Protocol,
            5 => return Ok(None),
            _ => Code::FrameSize,
        };
        match self.streams.find(frame.stream) {
            Some(key) => self.fault_of(key, fault, now),
            // A stream that is not there cannot be broken off.
            None => Err(fault),
        }
    }
}
