//! TLS of clients (RFC 8446, RFC 5246), between the socket's bytes and the protocol's.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Ciphertext read at a time: two full records. With what rustls may hold from before (one more), the plaintext of it
/// fits into what a thread reads at a time.
pub(super) const CIPHERTEXT: usize = 32 << 10;

/// The server's side of a connection.
pub(super) struct Tls {
    connection: ServerConnection,
    /// Whether who the client is was asked for.
    asked: bool,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let asked = false;
        Ok(Self { connection, asked })
    }

    /// Reads plaintext into `plain`, which must be empty; shakes hands first. Nothing is the end.
    ///
    /// # Errors
    /// When the client speaks no TLS, or none that is allowed (it has been sent an alert), or when the connection broke.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        (reading, writing): (&mut OwnedReadHalf, &OwnedWriteHalf),
        records: &mut [u8],
        plain: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut buffer = ReadBuf::new(records);
            ready!(Pin::new(&mut *reading).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(0));
            }
            let taken = self.take(buffer.filled(), plain);
            // Our part of the handshake, tickets, or the alert that says what was wrong.
            let flushed = self.flush(writing);
            let (filled, ended) = taken?;
            flushed?;
            if filled > 0 || ended {
                return Poll::Ready(Ok(filled));
            }
        }
    }

    /// Takes ciphertext; returns how much plaintext there is, and whether the client has said that no more will come.
    fn take(&mut self, mut records: &[u8], plain: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut filled = 0;
        while !records.is_empty() {
            if self.connection.read_tls(&mut records)? == 0 {
                break;
            }
            let fault = |e| io::Error::new(io::ErrorKind::InvalidData, e);
            let state = self.connection.process_new_packets().map_err(fault)?;
            while let Some(free) = plain.get_mut(filled..).filter(|free| !free.is_empty()) {
                match self.connection.reader().read(free) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => filled += read,
                }
            }
            if state.peer_has_closed() {
                return Ok((filled, true));
            }
        }
        Ok((filled, false))
    }

    /// Sends as much as the kernel takes; returns how much of `bytes` was taken, and whether something waits.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        writing: &OwnedWriteHalf,
    ) -> io::Result<(usize, bool)> {
        let mut taken = 0;
        loop {
            let more = match taken < bytes.len() {
                // As much as rustls holds, 64 KiB.
                true => self.connection.writer().write(&bytes[taken..])?,
                false => 0,
            };
            taken += more;
            let blocked = self.flush(writing)?;
            if blocked || taken == bytes.len() {
                return Ok((taken, blocked));
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) fn end(&mut self, writing: &OwnedWriteHalf) {
        self.connection.send_close_notify();
        // A courtesy: who does not take it finds that the connection is closed.
        let _ = self.flush(writing);
    }

    /// Whether something is left to send.
    fn flush(&mut self, writing: &OwnedWriteHalf) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Raw(writing)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    /// The client's certificate (DER), once, when the handshake is over and if it has shown one.
    pub(super) fn certificate(&mut self) -> Option<&[u8]> {
        if self.asked || self.connection.is_handshaking() {
            return None;
        }
        self.asked = true;
        let chain = self.connection.peer_certificates();
        chain.and_then(|chain| chain.first()).map(AsRef::as_ref)
    }
}

/// The socket below, which takes what it can.
struct Raw<'a>(&'a OwnedWriteHalf);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
