//! Connections to the other nodes of the cluster: frames of a length and a message, over TCP or TLS.

mod frames;
mod link;
mod server;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::PeerTls;
pub(crate) use link::{Link, LinkError};
pub(crate) use server::{Answers, Handler, Peer, serve};

/// How long a connection may take to be there, greetings and all.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection, whatever protects it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How nodes know each other.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: Box<str>,
    pub(crate) token: Box<str>,
    pub(crate) node: u64,
    /// The node's data directory; see [`registry::replication::Member::disk`].
    pub(crate) disk: u64,
    pub(crate) tls: Option<PeerTls>,
}

impl Identity {
    async fn accept(&self, stream: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some(tls) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
                Box::new(acceptor.accept(stream).await?)
            }
            None => Box::new(stream),
        })
    }

    async fn connect(&self, address: &str) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.client));
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            }
            None => Box::new(stream),
        })
    }
}
