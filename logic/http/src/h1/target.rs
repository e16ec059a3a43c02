use super::authority;
use super::fault::Fault;
use super::request::MethodKind;

/// What a request is about (RFC 9112 §3.2). Paths and queries are as sent, percent codes and all; visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`
    Origin {
        /// Begins with `/`.
        path: &'b [u8],
        /// What follows the first `?`.
        query: Option<&'b [u8]>,
    },
    /// `http://host/path?query`
    Absolute {
        /// `http` or `https`, in any case.
        scheme: &'b [u8],
        /// `host` or `host:port`.
        authority: &'b [u8],
        /// Begins with `/`, or is empty.
        path: &'b [u8],
        /// What follows the first `?`.
        query: Option<&'b [u8]>,
    },
    /// `*`, of OPTIONS: the server as a whole.
    Asterisk,
    /// `host:port`, of CONNECT.
    Authority(&'b [u8]),
}

impl<'b> Target<'b> {
    /// Reads a target whose bytes are all of the class `TARGET`.
    #[inline]
    pub(crate) fn parse(bytes: &'b [u8], method: MethodKind) -> Result<Self, Fault> {
        if method == MethodKind::Connect {
            // Without a port it would be a guess where to.
            let host = authority::parse(bytes)?;
            let port = memchr::memrchr(b':', host) > memchr::memrchr(b']', host);
            return port
                .then_some(Self::Authority(host))
                .ok_or(Fault::TargetForm);
        }
        match bytes {
            [b'/', ..] => {
                let (path, query) = split(bytes);
                Ok(Self::Origin { path, query })
            }
            b"*" if method == MethodKind::Options => Ok(Self::Asterisk),
            _ => absolute(bytes),
        }
    }

    /// The path; `/` where a URL has none, `*` for the server as a whole, empty for CONNECT.
    pub fn path(&self) -> &'b [u8] {
        match *self {
            Self::Origin { path, .. } => path,
            Self::Absolute { path: b"", .. } => b"/",
            Self::Absolute { path, .. } => path,
            Self::Asterisk => b"*",
            Self::Authority(_) => b"",
        }
    }

    /// What follows the first `?`.
    pub fn query(&self) -> Option<&'b [u8]> {
        match *self {
            Self::Origin { query, .. } | Self::Absolute { query, .. } => query,
            Self::Asterisk | Self::Authority(_) => None,
        }
    }

    /// Appends the target as an origin expects it: `/path?query`, `*`, or CONNECT's `host:port`.
    #[inline]
    pub(super) fn write(&self, method: MethodKind, out: &mut Vec<u8>) {
        let path = match *self {
            // RFC 9112 §3.2.4: "OPTIONS http://host" is about the server as a whole.
            Self::Absolute {
                path: b"",
                query: None,
                ..
            } if method == MethodKind::Options => b"*",
            Self::Authority(authority) => authority,
            _ => self.path(),
        };
        out.extend_from_slice(path);
        if let Some(query) = self.query() {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

#[inline]
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', bytes) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// `http://authority path?query`. Other schemes are not ours to serve.
fn absolute(bytes: &[u8]) -> Result<Target<'_>, Fault> {
    let colon = memchr::memchr(b':', bytes).ok_or(Fault::TargetForm)?;
    let (scheme, rest) = bytes.split_at(colon);
    let http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let rest = rest
        .strip_prefix(b"://")
        .filter(|_| http)
        .ok_or(Fault::TargetForm)?;
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(end);
    let (path, query) = split(rest);
    Ok(Target::Absolute {
        scheme,
        authority: authority::parse(host)?,
        path,
        query,
    })
}
