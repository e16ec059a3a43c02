//! A strict reader of HTTP/1.1 messages, written apart from the proxy's codec so that the two cannot share a
//! mistake. It accepts only what a careful peer would.

use anyhow::{Context, Result, bail, ensure};

/// A message's first line and fields.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or the status line.
    pub line: String,
    /// Fields, names in lower case.
    pub fields: Vec<(String, String)>,
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
    /// All up to the connection's end.
    UntilClose,
}

/// A message, perhaps not yet whole.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its head.
    pub head: Head,
    /// What has come of its body.
    pub body: Vec<u8>,
    /// What followed the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Head {
    /// The value of the one field `name`.
    pub fn find(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n == name);
        values.next().map(|(_, v)| &**v)
    }

    /// Whether `Connection` lists `option`.
    pub fn connection_has(&self, option: &str) -> bool {
        let values = self.fields.iter().filter(|(n, _)| n == "connection");
        let mut options = values.flat_map(|(_, v)| v.split(','));
        options.any(|o| o.trim().eq_ignore_ascii_case(option))
    }

    /// The status code of a response.
    pub fn status(&self) -> Result<u16> {
        ensure!(
            self.line.starts_with("HTTP/1.1 "),
            "status line {:?}",
            self.line
        );
        let code = self.line.get(9..12).context("no status code")?;
        Ok(code.parse()?)
    }

    /// The framing that the fields declare.
    pub fn declared(&self) -> Result<Option<Framing>> {
        let lengths: Vec<_> = self.all("content-length");
        let codings: Vec<_> = self.all("transfer-encoding");
        Ok(match (&lengths[..], &codings[..]) {
            ([], []) => None,
            ([length], []) => Some(Framing::Length(length.parse()?)),
            ([], [coding]) => {
                ensure!(*coding == "chunked", "transfer coding {coding:?}");
                Some(Framing::Chunked)
            }
            _ => bail!("lengths {lengths:?} and codings {codings:?}"),
        })
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.fields.iter().filter(|(n, _)| n == name);
        of_name.map(|(_, v)| &**v).collect()
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context("a head is ASCII")?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        Ok(Self {
            line,
            fields: fields(lines)?,
        })
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>> {
    let field = |line: &str| {
        ensure!(!line.contains(['\r', '\n']), "bare CR or LF in {line:?}");
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("no colon in {line:?}"))?;
        ensure!(
            !name.is_empty() && !name.contains(' '),
            "field name {name:?}"
        );
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    lines.filter(|l| !l.is_empty()).map(field).collect()
}

/// Reads one message from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read so far.
    pub message: Message,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body(usize),
    Chunk,
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

impl Reader {
    /// Takes from `inbox` what belongs to the message; `framing` says, once the head is there, what follows.
    /// Returns whether the message is whole.
    pub fn read(
        &mut self,
        inbox: &mut Vec<u8>,
        framing: impl FnOnce(&Head) -> Result<Framing>,
    ) -> Result<bool> {
        if self.state == State::Head {
            let Some(end) = find(inbox, b"\r\n\r\n") else {
                return Ok(false);
            };
            self.message.head = Head::parse(&inbox[..end])?;
            inbox.drain(..end + 4);
            self.state = match framing(&self.message.head)? {
                Framing::None | Framing::Length(0) => State::Done,
                Framing::Length(length) => State::Body(length),
                Framing::Chunked => State::Chunk,
                Framing::UntilClose => State::UntilClose,
            };
        }
        while self.advance(inbox)? {}
        Ok(self.is_whole())
    }

    /// Whether the head has been read.
    pub fn has_head(&self) -> bool {
        self.state != State::Head
    }

    /// Whether the message is whole.
    pub fn is_whole(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the message may end with the connection.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    fn advance(&mut self, inbox: &mut Vec<u8>) -> Result<bool> {
        match self.state {
            State::Head | State::Done => Ok(false),
            State::UntilClose => {
                self.message.body.append(inbox);
                Ok(false)
            }
            State::Body(left) => {
                let n = left.min(inbox.len());
                self.message.body.extend(inbox.drain(..n));
                self.state = if n == left {
                    State::Done
                } else {
                    State::Body(left - n)
                };
                Ok(false)
            }
            State::Chunk => self.chunk(inbox),
            State::ChunkEnd => {
                if inbox.len() < 2 {
                    return Ok(false);
                }
                ensure!(inbox.starts_with(b"\r\n"), "no CR LF after a chunk");
                inbox.drain(..2);
                self.state = State::Chunk;
                Ok(true)
            }
            State::Trailers => self.trailers(inbox),
        }
    }

    fn chunk(&mut self, inbox: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = find(inbox, b"\r\n") else {
            ensure!(inbox.len() < 20, "an endless chunk size");
            return Ok(false);
        };
        let digits = std::str::from_utf8(&inbox[..end])?;
        ensure!(
            digits.bytes().all(|b| b.is_ascii_hexdigit()),
            "chunk size {digits:?}"
        );
        let size = usize::from_str_radix(digits, 16)?;
        if size == 0 {
            inbox.drain(..end + 2);
            self.state = State::Trailers;
            return Ok(true);
        }
        // A chunk is taken whole: ours are at most as long as what is read at a time.
        ensure!(size <= 80 * 1024, "a chunk of {size} bytes");
        if inbox.len() < end + 2 + size {
            return Ok(false);
        }
        self.message
            .body
            .extend_from_slice(&inbox[end + 2..end + 2 + size]);
        inbox.drain(..end + 2 + size);
        self.state = State::ChunkEnd;
        Ok(true)
    }

    fn trailers(&mut self, inbox: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = find(inbox, b"\r\n") else {
            return Ok(false);
        };
        if end == 0 {
            self.state = State::Done;
        } else {
            let line = std::str::from_utf8(&inbox[..end])?;
            self.message
                .trailers
                .append(&mut fields(std::iter::once(line))?);
        }
        inbox.drain(..end + 2);
        Ok(end != 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// A short fingerprint of a body.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
