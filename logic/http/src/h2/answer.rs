//! Answers' heads: from fields, one by one, to what HTTP/1.1 would have said (RFC 9113 §8.2, §8.3.2).

use model::Moment;

use super::code::Code;
use super::connection::{Connection, EARNED, Event};
use super::head::{Head, OVERHEAD, check};
use super::receive::Outcome;
use super::stream::Key;
use crate::h1::framing::Declared;
use crate::h1::{Known, Limits, MAX_FIELDS};

/// Heads of one answer that may wait to be read, informational ones among them, by the limit of one: no window counts them.
const WAITING: usize = 2;

/// The head of an answer while it is read.
struct Answer {
    /// The status line and the fields, as HTTP/1.1 has them.
    text: Vec<u8>,
    status: Option<u16>,
    declared: Declared,
    size: usize,
    count: usize,
    limits: Limits,
    refused: bool,
}

impl Answer {
    fn new(limits: Limits, capacity: usize) -> Self {
        Self {
            text: Vec::with_capacity(capacity),
            status: None,
            declared: Declared::default(),
            size: 0,
            count: 0,
            limits,
            refused: false,
        }
    }

    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        self.count += 1;
        // The status is none of them.
        let most = self.limits.fields.min(MAX_FIELDS) + 1;
        let fits = self.size <= self.limits.head && self.count <= most;
        self.refused = self.refused || !fits || self.take(name, value).is_none();
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if name == b":status" {
            return self.begin(value);
        }
        // No other field with a colon may be here, and none before the status.
        self.status?;
        match check(name, value)? {
            Known::ContentLength => self.declared.note_length(value).ok()?,
            // Of a connection that is not this one.
            Known::Te | Known::HopByHop => return Some(()),
            _ => {}
        }
        crate::h1::field::write(name, value, &mut self.text);
        Some(())
    }

    fn begin(&mut self, value: &[u8]) -> Option<()> {
        let &[a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else {
            return None;
        };
        let digit = |d: u8| u16::from(d - b'0');
        let status = digit(a) * 100 + digit(b) * 10 + digit(c);
        // §8.6: there is no changing of protocols here.
        if self.status.is_some() || status == 101 {
            return None;
        }
        self.status = Some(status);
        self.text.extend_from_slice(b"HTTP/1.1 ");
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b" \r\n");
        Some(())
    }

    /// All fields are here; `ended` if no body follows, and `bodiless` if none may. The status, and the length of the body if
    /// it is known.
    fn finish(&mut self, ended: bool, bodiless: bool) -> Option<(u16, Option<u64>)> {
        let status = self.status.filter(|_| !self.refused)?;
        if status < 200 {
            // There is a final one to come.
            self.text.extend_from_slice(b"\r\n");
            return (!ended).then_some((status, None));
        }
        let bodiless = bodiless || matches!(status, 204 | 304);
        let length = match self.declared.length {
            _ if bodiless => Some(0),
            Some(length) if ended && length != 0 => return None,
            None if ended => {
                // So that an answer without a body, which may be trailers as well (gRPC), is known to be whole at once.
                self.text.extend_from_slice(b"content-length: 0\r\n");
                Some(0)
            }
            length => length,
        };
        self.text.extend_from_slice(b"\r\n");
        Some((status, length))
    }
}

impl Connection {
    /// The head of an answer, be it informational or final.
    pub(super) fn answer(
        &mut self,
        key: Key,
        ended: bool,
        (block, head): (&[u8], &mut Head),
        now: Moment,
    ) -> Outcome {
        let mut answer = Answer::new(self.settings.limits, 2 * block.len() + 64);
        let mut scratch = head.lend();
        let field = |name: &[u8], value: &[u8]| answer.field(name, value);
        let read = self.decoder.decode(block, &mut scratch, field);
        head.give_back(scratch);
        read.map_err(|_| Code::Compression)?;
        let stream = self.streams.get(key);
        let finished = answer.finish(ended, stream.bodiless);
        let most = WAITING * self.settings.limits.head;
        let fits = stream.heads + answer.text.len() <= most;
        let Some((status, length)) = finished.filter(|_| fits) else {
            return self.fault_of(key, Code::Protocol, now);
        };
        stream.heads += answer.text.len();
        if stream.unread() == 0 {
            (stream.received, stream.at) = (answer.text, 0);
        } else {
            stream.received.extend_from_slice(&answer.text);
        }
        if status >= 200 {
            stream.headed = true;
            stream.length = length;
            self.noise.earn(EARNED);
            if ended {
                self.peer_ends(key);
            }
        }
        Ok(Some(Event::Readable(key)))
    }
}
