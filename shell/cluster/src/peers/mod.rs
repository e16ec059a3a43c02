//! Connections to the other nodes of the cluster: frames of a length and a message, over TCP or TLS.

mod frames;
mod link;
mod server;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::PeerTls;
pub(crate) use link::{Link, LinkError};
pub(crate) use server::{Answers, Handler, Peer, serve};
pub(crate) use transport::{Listener, Opening, Stream, Tcp, Transport};

/// How long a connection may take to be there, greetings and all.
const CONNECT: Duration = Duration::from_secs(2);

/// How nodes know each other.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: Box<str>,
    pub(crate) token: Box<str>,
    pub(crate) node: u64,
    /// The node's data directory; see [`registry::replication::Member::disk`].
    pub(crate) disk: u64,
    /// The latest format that this node reads.
    pub(crate) format: u8,
    pub(crate) tls: Option<PeerTls>,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Identity {
    async fn accept(&self, stream: Box<dyn Stream>) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.tls {
            Some(tls) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
                Box::new(acceptor.accept(stream).await?)
            }
            None => stream,
        })
    }

    async fn connect(&self, address: &str) -> std::io::Result<Box<dyn Stream>> {
        let stream = self.transport.connect(address).await?;
        Ok(match &self.tls {
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.client));
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            }
            None => stream,
        })
    }
}
