//! Moves a message body from one connection to the other, a bounded step at a time.

use std::time::Duration;

use http::grpc::TextDecoder;
use http::h1;
use model::Moment;

use super::begin::Answer;
use super::session::Session;
use crate::buffers::{BACK, FRONT, READ};
use crate::rt::Sock;

/// Bytes a body may move before the other connections get their turn.
pub(super) const BUDGET: usize = 256 * 1024;

/// What is read of a body at the least, however little of it can leave: small windows must not make small reads, and the end
/// of a body that says no length is behind its last byte.
pub(super) const LEAST: usize = 16 * 1024;

/// How a body leaves here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// As it is: its length was announced, or it ends with the connection.
    Plain,
    /// In chunks (RFC 9112 §7.1).
    Chunks,
}

/// What a step came to.
pub(super) enum Step {
    /// The sender has nothing more at present.
    WaitFrom,
    /// The receiver's connection has no room, so that nothing was read.
    WaitTo,
    /// So many bytes moved.
    Moved(usize),
    /// The body is complete.
    Done,
}

/// What ended a body before its end.
pub(super) enum Broken {
    /// The side it comes from.
    From,
    /// The side it goes to.
    To,
    /// What came is no HTTP, or not what it is to be.
    Malformed(BadBody),
    /// More came than may.
    TooLong,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadBody {
    /// It is no HTTP.
    Fault(h1::Fault),
    /// It is no Base64, and should be.
    NotText,
}

impl BadBody {
    /// A word for logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.as_str(),
            Self::NotText => "not_base64",
        }
    }

    /// What a client gets that sent it.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Fault(fault) => fault.into(),
            Self::NotText => Answer::text(400, "the body is no Base64").because(self.as_str()),
        }
    }
}

impl From<BadBody> for Broken {
    fn from(bad: BadBody) -> Self {
        match bad {
            BadBody::Fault(h1::Fault::BodyTooLong) => Self::TooLong,
            bad => Self::Malformed(bad),
        }
    }
}

impl Session {
    /// Reads once from `from` and sends what it can to `to`; the rest is left in `unsent`. A body that is `text` leaves as what
    /// it says.
    /// `after` gets what was read beyond the body's end.
    pub(super) fn step(
        &self,
        from: &Sock,
        to: &Sock,
        body: &mut h1::BodyDecoder,
        (frame, text): (Frame, Option<&mut TextDecoder>),
        unsent: &mut Vec<u8>,
        after: impl FnOnce(&[u8]),
    ) -> Result<Step, Broken> {
        let Some(most) = to.wait_for_room() else {
            return Ok(Step::WaitTo);
        };
        // A copy of it may go elsewhere.
        let is_request = std::ptr::eq(from, &self.client);
        let is_plain = frame == Frame::Plain && text.is_none() && body.plain() > 0;
        if is_plain
            && !is_request
            && let Some(passed) = from.pass_to(to, body.plain())
        {
            return match passed.map_err(|_| Broken::To)? {
                0 => Ok(Step::WaitTo),
                n => match body.pass(n as u64).map_err(BadBody::Fault)? {
                    true => Ok(Step::Done),
                    false => Ok(Step::Moved(n)),
                },
            };
        }
        let mut scratch = self.worker.buffers.scratch();
        let room = &mut scratch[FRONT..FRONT + most.clamp(LEAST, READ)];
        match from.try_recv(room).map_err(|_| Broken::From)? {
            None => Ok(Step::WaitFrom),
            Some(0) => {
                body.end(from.take_trailers()).map_err(|_| Broken::From)?;
                if text.is_some_and(|text| !text.is_whole()) {
                    return Err(BadBody::NotText.into());
                }
                if is_request {
                    self.copy(&[], true);
                }
                let range = framed(&mut scratch, 0, 0, frame, true, body);
                send_or_keep(to, &scratch[range], unsent)?;
                Ok(Step::Done)
            }
            Some(n) => {
                let decoded = body.decode(&mut room[..n]).map_err(BadBody::Fault)?;
                // Before the frame's end is written over it.
                after(&room[decoded.consumed..n]);
                let data = plain(room, decoded, text)?;
                if is_request {
                    self.copy(&room[..data], decoded.done);
                }
                let range = framed(&mut scratch, 0, data, frame, decoded.done, body);
                send_or_keep(to, &scratch[range], unsent)?;
                Ok(if decoded.done {
                    Step::Done
                } else {
                    Step::Moved(n)
                })
            }
        }
    }
}

/// What a piece of a body comes to that may be text.
pub(super) fn plain(
    piece: &mut [u8],
    decoded: h1::Decoded,
    text: Option<&mut TextDecoder>,
) -> Result<usize, BadBody> {
    let Some(text) = text else {
        return Ok(decoded.data);
    };
    match text.decode(&mut piece[..decoded.data]) {
        Ok(n) if !decoded.done || text.is_whole() => Ok(n),
        _ => Err(BadBody::NotText),
    }
}

/// Puts the frame around `data` bytes that start `offset` bytes after [`FRONT`]; returns where frame and
/// data stand now.
pub(super) fn framed(
    scratch: &mut [u8],
    offset: usize,
    data: usize,
    frame: Frame,
    done: bool,
    body: &h1::BodyDecoder,
) -> std::ops::Range<usize> {
    let (mut start, mut end) = (FRONT + offset, FRONT + offset + data);
    if frame == Frame::Plain {
        return start..end;
    }
    if data > 0 {
        let mut line = [0; 18];
        let line = h1::chunk_head(data, &mut line);
        start -= line.len();
        scratch[start..start + line.len()].copy_from_slice(line);
        scratch[end..end + 2].copy_from_slice(b"\r\n");
        end += 2;
    }
    if done {
        let trailers = body.trailers();
        debug_assert!(trailers.len() + 7 + 2 <= BACK, "trailers are bounded");
        for part in [b"0\r\n", trailers, b"\r\n"] {
            scratch[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
    }
    start..end
}

fn send_or_keep(to: &Sock, bytes: &[u8], unsent: &mut Vec<u8>) -> Result<(), Broken> {
    let sent = match unsent.is_empty() && !bytes.is_empty() {
        true => to.try_send(bytes).map_err(|_| Broken::To)?,
        false => 0,
    };
    unsent.extend_from_slice(&bytes[sent..]);
    Ok(())
}

/// How fast a client moves a message, counting only the time that we waited for it.
pub(super) struct Pace {
    waited: Duration,
    /// The client's count of bytes when the message began.
    from: u64,
}

impl Pace {
    /// `count`: the bytes that the client has sent, or taken, so far on its connection.
    pub(super) fn new(count: u64) -> Self {
        Self {
            waited: Duration::ZERO,
            from: count,
        }
    }

    pub(super) fn waited(&mut self, since: Moment, now: Moment) {
        self.waited += now.since(since);
    }

    /// Whether it has been slower than `min_rate` bytes a second over more than `patience`.
    pub(super) fn is_too_slow(
        &self,
        client: &Sock,
        count: u64,
        patience: Duration,
        min_rate: u32,
    ) -> bool {
        let moved = (count - self.from) as f64;
        // Streams share what their connection does.
        let least = f64::from(min_rate) / client.sharers() as f64;
        self.waited > patience && moved < self.waited.as_secs_f64() * least
    }
}
