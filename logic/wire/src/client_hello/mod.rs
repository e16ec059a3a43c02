//! The ClientHello of TLS: what a client asks for before anything is encrypted (RFC 8446 §4.1.2), as far as
//! routing needs it. Every version since TLS 1.0 begins the same way.

mod extensions;
#[cfg(test)]
mod tests;

use thiserror::Error;

use extensions::Fields;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host it wants (RFC 6066 §3), in lower case.
    pub server_name: Option<Box<str>>,
    /// The application protocols it speaks, the dearest first (RFC 7301); `h2`, say.
    pub alpn: Vec<Box<[u8]>>,
}

/// The longest hello that is read. Browsers send 2 KiB with a post-quantum key share, and TLS 1.3 clients
/// that resume with a large ticket twice as much.
pub const MAX_HELLO: usize = 16 << 10;

/// The most bytes that a hello may take on the wire, cut into records. One byte to a record, as somebody
/// could send it, is six times as much: no client does.
pub const MAX_WIRE: usize = 24 << 10;

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Another protocol.
    #[error("is no TLS")]
    NotTls,
    /// TLS, but not the first message of a client.
    #[error("is TLS, but does not begin with a ClientHello")]
    NotHello,
    /// It says that it has this many bytes, or has them.
    #[error("is a ClientHello of {0} bytes, more than a hello may have")]
    TooLong(usize),
    /// A hello that breaks a rule.
    #[error("is a ClientHello that {0}")]
    Malformed(&'static str),
}

/// Reads a hello as its bytes come in. To be asked again with the same bytes and more; what was looked at is
/// not looked at again, and until the rest can be there, asking costs a comparison.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// Fewer bytes than this cannot change the answer.
    needed: usize,
    /// Where the record begins that was not whole.
    record: usize,
    /// Bytes of the message in the records before that.
    before: usize,
    /// The message's length with its head, once that is there.
    length: Option<usize>,
}

/// The head of a record: type, version, length.
const RECORD_HEAD: usize = 5;
/// The head of a handshake message: type, length.
const MESSAGE_HEAD: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

impl Parser {
    /// Reads the hello that `bytes`, a connection's first, begin with. `None` until all of it is there.
    ///
    /// # Errors
    /// When they begin with none; at the first byte that shows it.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, Fault> {
        if bytes.len() < self.needed {
            return Ok(None);
        }
        loop {
            // Whoever reads needs room for no more than MAX_WIRE bytes.
            if self.record + RECORD_HEAD >= MAX_WIRE {
                return Err(Fault::TooLong(self.record + RECORD_HEAD));
            }
            let rest = &bytes[self.record..];
            self.needed = bytes.len() + 1;
            let Some(size) = record_size(rest)? else {
                return Ok(None);
            };
            let payload = &rest[RECORD_HEAD..rest.len().min(RECORD_HEAD + size)];
            if self.length.is_none() {
                self.length = self.message_length(bytes, payload)?;
            }
            let missing = self.length.unwrap_or(MESSAGE_HEAD) - self.before;
            let end = self.record + RECORD_HEAD + missing.min(size);
            if end > MAX_WIRE {
                return Err(Fault::TooLong(end));
            }
            if let Some(length) = self.length.filter(|_| missing <= payload.len()) {
                // One record holds it, nearly always; then nothing is copied.
                return match self.before {
                    0 => read(&payload[..length]).map(Some),
                    _ => read(&gathered(bytes, length)).map(Some),
                };
            }
            if payload.len() < size {
                if self.length.is_some() {
                    self.needed = end;
                }
                return Ok(None);
            }
            self.before += size;
            self.record += RECORD_HEAD + size;
        }
    }

    /// The message's length, if its head is there.
    fn message_length(&self, bytes: &[u8], payload: &[u8]) -> Result<Option<usize>, Fault> {
        let gathered = match self.before {
            0 => None,
            before => Some(gathered(bytes, MESSAGE_HEAD.min(before + payload.len()))),
        };
        let head = gathered.as_deref().unwrap_or(payload);
        if head.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(Fault::NotHello);
        }
        let Some(&[_, a, b, c]) = head.first_chunk::<MESSAGE_HEAD>() else {
            return Ok(None);
        };
        let length = MESSAGE_HEAD + u32::from_be_bytes([0, a, b, c]) as usize;
        match length > MAX_HELLO {
            true => Err(Fault::TooLong(length)),
            false => Ok(Some(length)),
        }
    }
}

/// The size of the record that begins here, if its head is there.
fn record_size(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let wrong = |at: usize, holds: fn(u8) -> bool| bytes.get(at).is_some_and(|&b| !holds(b));
    // The version's minor part is 1 or 3 in practice, and to be ignored (RFC 8446 §5.1).
    if wrong(0, |kind| kind == HANDSHAKE) || wrong(1, |major| major == 3) {
        return Err(Fault::NotTls);
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<RECORD_HEAD>() else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Fault::Malformed("comes in an empty record")),
        size @ 1..=0x4000 => Ok(Some(size)),
        _ => Err(Fault::NotTls),
    }
}

/// The first `length` bytes of the message in whole records and a last one.
fn gathered(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(length);
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_first_chunk::<RECORD_HEAD>() {
        let size = usize::from(u16::from_be_bytes([head[3], head[4]])).min(after.len());
        message.extend_from_slice(&after[..size.min(length - message.len())]);
        rest = &after[size..];
    }
    message
}

fn read(message: &[u8]) -> Result<ClientHello, Fault> {
    let mut fields = Fields::new(&message[MESSAGE_HEAD..]);
    // Version and random.
    fields.take(2 + 32)?;
    let _session = fields.vector::<1>()?;
    let _suites = fields.vector::<2>()?;
    let _compressions = fields.vector::<1>()?;
    let mut hello = ClientHello::default();
    // Clients of TLS 1.2 and before may end here.
    if !fields.is_empty() {
        let extensions = fields.vector::<2>()?;
        if !fields.is_empty() {
            return Err(Fault::Malformed("goes on after its extensions"));
        }
        extensions::read(extensions, &mut hello)?;
    }
    Ok(hello)
}
