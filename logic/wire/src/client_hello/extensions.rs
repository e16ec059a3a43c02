//! The extensions of a hello that matter for routing.

use super::{ClientHello, Fault};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// The longest name that DNS has.
const MAX_NAME: usize = 253;

/// Takes fields off the front of a message.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let cut = Fault::Malformed("has a field that is cut off");
        let (taken, rest) = self.0.split_at_checked(count).ok_or(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, size: usize) -> Result<usize, Fault> {
        let bytes = self.take(size)?;
        Ok(bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b)))
    }

    /// A field with its length in front, in so many bytes.
    pub(super) fn vector<const SIZE: usize>(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.number(SIZE)?;
        self.take(length)
    }
}

pub(super) fn read(extensions: &[u8], hello: &mut ClientHello) -> Result<(), Fault> {
    let mut fields = Fields(extensions);
    let mut seen = [false; 2];
    while !fields.is_empty() {
        let kind = fields.number(2)? as u16;
        let value = fields.vector::<2>()?;
        let slot = match kind {
            SERVER_NAME => 0,
            ALPN => 1,
            _ => continue,
        };
        // RFC 8446 §4.2. The instance might believe the other one.
        if std::mem::replace(&mut seen[slot], true) {
            return Err(Fault::Malformed("has an extension twice"));
        }
        match kind {
            SERVER_NAME => hello.server_name = server_name(value)?,
            _ => hello.alpn = alpn(value)?,
        }
    }
    Ok(())
}

/// RFC 6066 §3: a list with a type to each, of which there is one, and at most one of each.
fn server_name(value: &[u8]) -> Result<Option<Box<str>>, Fault> {
    let mut fields = Fields(value);
    let mut list = Fields(fields.vector::<2>()?);
    if !fields.is_empty() {
        return Err(Fault::Malformed("has more behind its server names"));
    }
    let mut found = None;
    while !list.is_empty() {
        let host_name = list.number(1)? == 0;
        let name = list.vector::<2>()?;
        if host_name && found.replace(host(name)?).is_some() {
            return Err(Fault::Malformed("has two server names"));
        }
    }
    Ok(found)
}

fn host(name: &[u8]) -> Result<Box<str>, Fault> {
    let wrong = Fault::Malformed("has a server name that is none");
    // No host name has underscores, and many a cluster's names do. Colons are of IPv6 addresses, which should
    // not be here; no route matches them, and that is answer enough.
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(fits) {
        return Err(wrong);
    }
    let name = std::str::from_utf8(name).map_err(|_| wrong)?;
    Ok(name.to_ascii_lowercase().into())
}

fn alpn(value: &[u8]) -> Result<Vec<Box<[u8]>>, Fault> {
    let mut fields = Fields(value);
    let mut list = Fields(fields.vector::<2>()?);
    if !fields.is_empty() {
        return Err(Fault::Malformed("has more behind its protocols"));
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        match list.vector::<1>()? {
            [] => return Err(Fault::Malformed("has a protocol without a name")),
            name => protocols.push(name.into()),
        }
    }
    Ok(protocols)
}
