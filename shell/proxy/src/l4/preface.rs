//! What may stand before a connection's own bytes: a PROXY header from a peer that is trusted, and one of ours for an
//! instance that expects it; and the TLS hello, which is read and passed on.

use std::io;
use std::net::SocketAddr;

use model::{ListenerTable, Moment, ProxyVersion};
use wire::client_hello::{self, ClientHello};
use wire::proxy_protocol::{self, Header, Origin, Tlvs, Transport, Version};

use crate::rt::{Secured, Sock, TimedOut};
use crate::tls;
use crate::worker::Worker;

/// Bytes read at a time: what follows the preface waits with the client until there is an instance.
const READ: usize = 16 * 1024;

/// On whose behalf a connection came.
#[derive(Clone)]
pub(crate) struct Introduced {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The address that it connected to, if a header said so.
    pub(crate) destination: Option<SocketAddr>,
    /// What else a header said.
    pub(crate) tlvs: Tlvs,
    /// The certificate that it proved to be its own, in Base64.
    pub(crate) certificate: Option<Box<str>>,
}

/// Why there is no preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPreface {
    /// The client left.
    Left,
    /// It took too long.
    Late,
    /// It sent something else.
    Garbage,
    /// Its TLS handshake failed; whether for being late.
    Handshake(bool),
}

/// Who a connection is from. A trusted peer has to say so until `deadline`: if its header could be left out, a client
/// behind it could write its own. What came behind the header is appended to `ahead`.
pub(crate) async fn introduced(
    worker: &Worker,
    client: &Sock,
    peer: SocketAddr,
    table: &ListenerTable,
    ahead: &mut Vec<u8>,
    deadline: Moment,
) -> Result<Introduced, NoPreface> {
    let mut introduced = Introduced {
        client: peer,
        destination: None,
        tlvs: Tlvs::default(),
        certificate: None,
    };
    if !table.accept_proxy.iter().any(|n| n.contains(peer.ip())) {
        return Ok(introduced);
    }
    worker.reactor().set_deadline(deadline);
    let (header, len) = loop {
        match proxy_protocol::parse(ahead) {
            Ok(Some(found)) => break found,
            Ok(None) => more(worker, client, ahead).await?,
            Err(_) => return Err(NoPreface::Garbage),
        }
    };
    ahead.drain(..len);
    if let Origin::Proxied {
        source,
        destination,
        ..
    } = header.origin
    {
        introduced.client = source;
        introduced.destination = Some(destination);
    }
    introduced.tlvs = header.tlvs;
    Ok(introduced)
}

/// Ends a client's TLS, within the task's deadline.
pub(crate) async fn secure(
    worker: &Worker,
    table: &ListenerTable,
    client: &mut Sock,
    from: SocketAddr,
    ahead: Vec<u8>,
) -> Result<Secured, NoPreface> {
    let stats = table.stats.of(worker.index);
    match tls::from_client(worker, &table.name, client, ahead).await {
        Ok(secured) => {
            stats.handshakes.bump(1);
            stats.resumed.bump(u64::from(secured.resumed));
            Ok(secured)
        }
        Err(fault) => {
            // Checks and scans that only look whether somebody listens leave without a word, all day long.
            let left = matches!(
                fault.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            );
            if !left {
                worker.handshake_faults.leave(&table.name, from, &fault);
            }
            Err(NoPreface::Handshake(
                fault.kind() == io::ErrorKind::TimedOut,
            ))
        }
    }
}

/// What a client asks for, as far as that can be seen: nothing, if it speaks no TLS or is silent until `deadline`. Its
/// bytes stay in `ahead`.
pub(super) async fn hello(
    worker: &Worker,
    client: &Sock,
    ahead: &mut Vec<u8>,
    deadline: Moment,
) -> Result<ClientHello, NoPreface> {
    worker.reactor().set_deadline(deadline);
    let mut parser = client_hello::Parser::default();
    loop {
        match parser.parse(ahead) {
            Ok(Some(hello)) => return Ok(hello),
            Err(client_hello::Fault::NotTls) => return Ok(ClientHello::default()),
            Err(_) => return Err(NoPreface::Garbage),
            Ok(None) => {}
        }
        match more(worker, client, ahead).await {
            // A protocol in which the server speaks first.
            Err(NoPreface::Late) if ahead.is_empty() => return Ok(ClientHello::default()),
            outcome => outcome?,
        }
    }
}

/// Waits for more bytes.
async fn more(worker: &Worker, client: &Sock, ahead: &mut Vec<u8>) -> Result<(), NoPreface> {
    loop {
        let read = {
            let mut scratch = worker.buffers.scratch();
            let read = client.try_recv(&mut scratch[..READ]);
            if let Ok(Some(n)) = read {
                ahead.extend_from_slice(&scratch[..n]);
            }
            read
        };
        match read {
            Ok(Some(0)) | Err(_) => return Err(NoPreface::Left),
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {
                let waited = client.readable().await;
                waited.map_err(|TimedOut| NoPreface::Late)?;
            }
        }
    }
}

/// The header for an instance that expects one.
pub(crate) fn header(version: ProxyVersion, client: &Sock, of: &Introduced) -> Vec<u8> {
    let destination = of.destination.or_else(|| client.local_address());
    let origin = match destination {
        Some(destination) => Origin::Proxied {
            transport: Transport::Stream,
            source: of.client,
            destination,
        },
        None => Origin::Unknown,
    };
    let header = Header {
        origin,
        tlvs: of.tlvs.clone(),
    };
    let version = match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2 { checksum: true },
    };
    let mut out = Vec::new();
    proxy_protocol::write(&header, version, &mut out);
    out
}
