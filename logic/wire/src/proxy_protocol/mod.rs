//! The PROXY protocol, versions 1 and 2: what stands in front of a connection's bytes to say on whose
//! behalf it was opened. HAProxy's `proxy-protocol.txt` is the specification; sections are its.

#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

use std::net::SocketAddr;

use thiserror::Error;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// On whose behalf the connection was opened.
    pub origin: Origin,
    /// More that version 2 can say.
    pub tlvs: Tlvs,
}

/// On whose behalf a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The proxy's own: a check of health. The connection's own addresses are the true ones. Only version 2
    /// can say so.
    Local,
    /// A client's of whom nothing is known, or who has no IP address.
    Unknown,
    /// A client's.
    Proxied {
        /// What the client speaks to the proxy.
        transport: Transport,
        /// The client's address.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
}

/// What a client speaks to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP. The only one of version 1.
    Stream,
    /// UDP.
    Datagram,
}

/// Type-length-values of version 2 (§2.2). Those that are not listed here are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tlvs {
    /// The application protocol that TLS agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// The host name that the client asked for: TLS's server name.
    pub authority: Option<Box<str>>,
    /// The connection's name for all who pass it on; at most [`MAX_UNIQUE_ID`] bytes.
    pub unique_id: Option<Box<[u8]>>,
    /// The client came by TLS.
    pub ssl: Option<Ssl>,
}

/// A client's TLS (§2.2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssl {
    /// The client presented a certificate, in this connection or in the session that it resumed.
    pub certificate: bool,
    /// It did, and the certificate is good.
    pub verified: bool,
    /// `TLSv1.3`, say.
    pub version: Option<Box<str>>,
    /// The common name of the certificate's subject.
    pub common_name: Option<Box<str>>,
    /// The cipher suite, as OpenSSL calls it.
    pub cipher: Option<Box<str>>,
}

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text. Says neither that a connection is local nor any type-length-values.
    V1,
    /// Binary.
    V2 {
        /// With a CRC32C over the whole header.
        checksum: bool,
    },
}

/// The longest line of version 1 (§2.1): a receiver needs no more room than this.
pub const MAX_V1: usize = 107;

/// The longest header of version 2 that is read. The protocol allows 64 KiB more; what is sent in earnest is
/// below 600 bytes, and a client certificate fits in this too.
pub const MAX_V2: usize = 16 << 10;

/// The longest unique id (§2.2.5).
pub const MAX_UNIQUE_ID: usize = 128;

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Something else altogether: a client that was not told, or does not come through the proxy.
    #[error("does not begin with a PROXY header")]
    NotProxy,
    /// Version 1, and wrong.
    #[error("the PROXY line {0}")]
    Line(&'static str),
    /// Version 2, and wrong.
    #[error("the PROXY header {0}")]
    Binary(&'static str),
    /// It says that it has this many bytes.
    #[error("the PROXY header is {0} bytes long, more than {MAX_V2}")]
    TooLong(usize),
    /// The checksum does not match.
    #[error("the PROXY header's checksum does not match")]
    Checksum,
}

/// Reads a header off the front of a connection's bytes: it, and how many bytes it took. `None` until all of
/// it is there, which is within [`MAX_V2`] bytes.
///
/// # Errors
/// When the bytes are no header. The connection is to be closed: guessing would let anybody choose the
/// address that we believe.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let begins = |signature: &[u8]| {
        let common = signature.len().min(bytes.len());
        (bytes[..common] == signature[..common]).then_some(common == signature.len())
    };
    match (begins(v1::SIGNATURE), begins(v2::SIGNATURE)) {
        (Some(true), _) => v1::parse(bytes),
        (_, Some(true)) => v2::parse(bytes),
        (None, None) => Err(Fault::NotProxy),
        _ => Ok(None),
    }
}

/// Appends `header` to `out`. Values longer than the format has room for are left out.
pub fn write(header: &Header, version: Version, out: &mut Vec<u8>) {
    match version {
        Version::V1 => v1::write(&header.origin, out),
        Version::V2 { checksum } => v2::write(header, checksum, out),
    }
}

/// Both addresses of one family, as both versions ask for: a lone IPv4 address becomes a mapped one.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => plain(v6),
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => (plain(source), plain(destination)),
        false => (mapped(source), mapped(destination)),
    }
}

/// Without scope and flow label, which have no room in a header.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
