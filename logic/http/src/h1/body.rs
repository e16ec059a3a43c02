use super::class::is_value;
use super::fault::Fault;
use super::framing::Framing;
use super::trailer::Trailers;

/// The most bytes of chunk extensions in one body. Nobody uses them; they are dropped. Without a bound a body could be
/// nothing but extensions, and pass every limit on its size.
pub(super) const EXTENSIONS: usize = 4 << 10;

/// Tells a body's payload from its framing, and the body from what follows it.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    /// Bytes of payload that may still come.
    room: u64,
    trailers: Trailers,
}

/// What became of a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes of payload, now at the front of the buffer.
    pub data: usize,
    /// How many bytes of the buffer belonged to the body: all, unless it is done.
    pub consumed: usize,
    /// The body is complete.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    Trailer,
    TrailerLine,
    LastLf,
    Done,
}

impl BodyDecoder {
    /// A decoder for a body that is about to begin.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            extensions: 0,
            room: u64::MAX,
            trailers: Trailers::default(),
        }
    }

    /// Takes no more than so many bytes of payload.
    pub fn limit(&mut self, most: u64) {
        self.room = most;
    }

    /// Moves the payload in `buf` to its front. What is left at `buf[consumed..]` belongs to the next message.
    ///
    /// # Errors
    /// A [`Fault`] in the chunked coding, or [`Fault::BodyTooLong`]; the body cannot be read further.
    #[inline]
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Decoded, Fault> {
        let data = match self.state {
            State::Done => 0,
            State::UntilClose => buf.len(),
            State::Length(left) => within(left, buf.len()),
            _ => return self.dechunk(buf),
        };
        self.make_room(data)?;
        self.skip(data as u64);
        Ok(self.decoded(data, data))
    }

    /// How many of the bytes that come next are payload, whatever they are: none where there is framing between them.
    pub const fn plain(&self) -> u64 {
        match self.state {
            State::UntilClose => u64::MAX,
            State::Length(left) => left,
            _ => 0,
        }
    }

    /// So many bytes, no more than are [plain](Self::plain), went by. True if the body is complete.
    ///
    /// # Errors
    /// [`Fault::BodyTooLong`].
    pub fn pass(&mut self, n: u64) -> Result<bool, Fault> {
        self.room = self.room.checked_sub(n).ok_or(Fault::BodyTooLong)?;
        self.skip(n);
        Ok(self.is_done())
    }

    fn dechunk(&mut self, buf: &mut [u8]) -> Result<Decoded, Fault> {
        let (mut at, mut data) = (0, 0);
        while at < buf.len() && self.state != State::Done {
            match self.state {
                State::Data(left) => {
                    let n = within(left, buf.len() - at);
                    if at != data {
                        buf.copy_within(at..at + n, data);
                    }
                    data += n;
                    at += n;
                    self.state = match left - n as u64 {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                }
                State::TrailerLine => {
                    let (taken, ended) = self.trailers.read(&buf[at..])?;
                    at += taken;
                    if ended {
                        self.state = State::Trailer;
                    }
                }
                // The one byte that begins a trailer line belongs to it.
                State::Trailer if buf[at] != b'\r' => self.state = State::TrailerLine,
                _ => {
                    self.state = self.step(buf[at])?;
                    at += 1;
                }
            }
        }
        self.make_room(data)?;
        Ok(self.decoded(data, at))
    }

    #[inline]
    fn make_room(&mut self, data: usize) -> Result<(), Fault> {
        self.room = self
            .room
            .checked_sub(data as u64)
            .ok_or(Fault::BodyTooLong)?;
        Ok(())
    }

    /// What follows a byte of the framing. RFC 9112 §7.1, without the whitespace that §7.1.1 once allowed before an
    /// extension: some take it for a part of the size, some skip the whole line.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if digits < 16 && size < 1 << 59 => State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                },
                (None, b'\r') if digits > 0 => State::SizeLf { size },
                (None, b';') if digits > 0 => State::Extension { size },
                (None, b'\r' | b'\n') if digits > 0 => return Err(Fault::ChunkEnd),
                _ => return Err(Fault::ChunkSize),
            },
            (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Extension { .. }, b'\n') => return Err(Fault::ChunkEnd),
            (State::Extension { .. }, _) => {
                self.extensions += 1;
                if self.extensions > EXTENSIONS {
                    return Err(Fault::Extensions);
                }
                if !is_value(byte) {
                    return Err(Fault::ExtensionByte);
                }
                self.state
            }
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer,
            (State::SizeLf { size }, b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Fault::ChunkEnd),
        })
    }

    #[inline]
    fn decoded(&self, data: usize, consumed: usize) -> Decoded {
        Decoded {
            data,
            consumed,
            done: self.is_done(),
        }
    }

    /// Whether the body is complete.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The bytes still to come, where a Content-Length tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Takes note of `n` bytes of payload that went another way, as by splice; no more than [`Self::remaining`]. Nothing
    /// for a chunked body, whose framing has to be seen.
    #[inline]
    pub fn skip(&mut self, n: u64) {
        if let State::Length(left) = self.state {
            self.state = match left.saturating_sub(n) {
                0 => State::Done,
                left => State::Length(left),
            };
        }
    }

    /// The trailers as field lines, each with its CR LF, without those that must not come after a body. Complete when
    /// the body is.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.kept()
    }

    /// Takes note that the sender has said by other means that the body is whole, and which trailers it has
    /// (lines, as [`Self::trailers`]).
    ///
    /// # Errors
    /// [`Fault::Truncated`]: a part of the body is missing.
    pub fn end(&mut self, trailers: Vec<u8>) -> Result<(), Fault> {
        self.finish_at_eof()?;
        self.trailers = Trailers::of(trailers);
        self.state = State::Done;
        Ok(())
    }

    /// Whether the connection may end here.
    ///
    /// # Errors
    /// [`Fault::Truncated`]: a part of the body is missing.
    pub fn finish_at_eof(&self) -> Result<(), Fault> {
        match self.state {
            State::Done | State::UntilClose => Ok(()),
            _ => Err(Fault::Truncated),
        }
    }
}

#[inline]
fn within(left: u64, room: usize) -> usize {
    usize::try_from(left).map_or(room, |left| left.min(room))
}
