use std::io;
use std::net::SocketAddr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection, whatever carries and protects it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What connections are made by, so that simulations can put a network of their own in its place.
pub(crate) trait Transport: Send + Sync {
    /// A new connection.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;

    /// Listens at this address.
    fn listen(&self, at: SocketAddr) -> io::Result<Opening>;
}

/// Makes a listener of what is bound; to be called on the runtime that it is for.
pub(crate) type Opening = Box<dyn FnOnce() -> io::Result<Box<dyn Listener>> + Send>;

/// Where connections come in.
pub(crate) trait Listener: Send {
    /// The next, and where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
}

/// TCP.
pub(crate) struct Tcp;

impl Transport for Tcp {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        let connect = async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        connect.boxed()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Opening> {
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        Ok(Box::new(|| {
            Ok(Box::new(TcpListener::from_std(listener)?) as Box<dyn Listener>)
        }))
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        let accept = async move {
            let (stream, from) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from.to_string()))
        };
        accept.boxed()
    }
}
