//! TLS inside a socket (RFC 8446, RFC 5246): tasks see plaintext, the kernel sees records.
//!
//! What a task is told was sent has left for the kernel, as with a plain socket: when records wait because the kernel takes
//! no more, the last byte of the plaintext is not counted as sent until they are gone, and the task comes back with it. So
//! nothing has to be flushed later, and nothing is lost when a socket is dropped after its last send.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;

use rustix::net::SendFlags;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, ProtocolVersion, ServerConfig, ServerConnection,
};

use super::sock::{End, Sock};

/// Ciphertext read at a time: two full records, as with the bytes of plain bodies.
pub(super) const CIPHERTEXT: usize = 32 * 1024;

/// What records, their headers and their tags may add to plaintext that is waited for.
const OVERHEAD: usize = 512;

/// Ciphertext that is held at the most until the kernel takes it.
const UNSENT: usize = 64 * 1024;

/// Reads that bring no plaintext (tickets, key updates, empty records) before others get their turn.
const FRUITLESS: usize = 8;

/// One side of a TLS connection.
pub(super) struct Tls(RefCell<State>, Option<Arc<ClientConfig>>);

struct State {
    connection: Connection,
    /// Ciphertext that has arrived and was not looked at, from `used` on.
    ahead: Vec<u8>,
    used: usize,
    /// Bytes of plaintext to be read.
    plaintext: usize,
    /// Whether a byte of plaintext is on its way that the task does not know to be sent.
    owed: bool,
    /// Whether our side has ended.
    closed: bool,
    /// Whether the connection below is to end when everything is sent.
    ends: bool,
    aborts: bool,
    over: Over,
    /// How the peer broke the protocol, for whoever explains it.
    fault: Option<Box<rustls::Error>>,
}

/// What becomes of reading when the plaintext that is there has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// The peer said that nothing more comes.
    Ended,
    /// It left without saying so, or broke the protocol: what came may not be all.
    Broken(io::ErrorKind),
}

/// What a handshake agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secured {
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The protocol of the application.
    pub alpn: Option<Box<[u8]>>,
    /// The peer's certificate (DER), if it showed one that was verified.
    pub certificate: Option<Box<[u8]>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Sock {
    /// Makes it the server's side of a TLS connection; `ahead` is what was read of it already. Waits as long as the task's
    /// deadline allows.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline passed; [`io::ErrorKind::InvalidData`] when the client speaks no
    /// TLS, or none that the configuration allows (it has been sent an alert); else what the connection broke with.
    pub async fn accept_tls(
        &mut self,
        config: Arc<ServerConfig>,
        ahead: Vec<u8>,
    ) -> io::Result<()> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        self.secure(connection.into(), None, ahead).await
    }

    /// Makes it the client's side of a TLS connection with the server of that name, waiting as long as the task's
    /// deadline allows.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline passed; [`io::ErrorKind::InvalidData`] when the server is not who
    /// it should be, or speaks no TLS; else what the connection broke with.
    pub async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        self.secure(connection.into(), Some(config), Vec::new())
            .await
    }

    async fn secure(
        &mut self,
        mut connection: Connection,
        config: Option<Arc<ClientConfig>>,
        ahead: Vec<u8>,
    ) -> io::Result<()> {
        connection.set_buffer_limit(Some(UNSENT));
        let state = RefCell::new(State {
            connection,
            ahead,
            used: 0,
            plaintext: 0,
            owed: false,
            closed: false,
            ends: false,
            aborts: false,
            over: Over::No,
            fault: None,
        });
        self.tls = Some(Box::new(Tls(state, config)));
        let sock = &*self;
        // The plain socket's own waiting would ask for plaintext, of which there is none yet.
        poll_fn(|_| {
            let tls = sock.tls.as_ref();
            match tls.and_then(|tls| tls.0.borrow_mut().shake_hands(sock)) {
                Some(outcome) => Poll::Ready(outcome),
                None if sock.reactor().timed_out() => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                None => {
                    sock.wake_current();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// What the handshake agreed upon; `None` for a plain connection.
    pub fn secured(&self) -> Option<Secured> {
        let state = self.tls.as_ref()?.0.borrow();
        let connection = &state.connection;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Some(Secured {
            server_name: match connection {
                Connection::Server(server) => server.server_name().map(Box::from),
                Connection::Client(_) => None,
            },
            alpn: connection.alpn_protocol().map(Box::from),
            certificate: certificate.map(|der| Box::from(&**der)),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        })
    }

    /// Whether it is the client's side of a TLS connection that was made with this configuration.
    pub fn is_secured_with(&self, config: &Arc<ClientConfig>) -> bool {
        let made_with = self.tls.as_ref().and_then(|tls| tls.1.as_ref());
        made_with.is_some_and(|made_with| Arc::ptr_eq(made_with, config))
    }

    /// What the client's side of a TLS connection was made with.
    pub fn made_with(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref()?.1.clone()
    }

    /// Whether a TLS handshake agreed that this protocol is spoken.
    pub fn is_agreed(&self, alpn: &[u8]) -> bool {
        let tls = self.tls.as_ref().map(|tls| tls.0.borrow());
        tls.is_some_and(|state| state.connection.alpn_protocol() == Some(alpn))
    }

    /// Whether it carries TLS, or is carried by it.
    pub fn is_secured(&self) -> bool {
        match &self.end {
            End::Stream(part) => part.is_secured(),
            _ => self.tls.is_some(),
        }
    }
}

impl Tls {
    /// As [`Sock::try_recv`].
    pub(super) fn recv(&self, sock: &Sock, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut state = self.0.borrow_mut();
        // An alert or a ticket may wait to leave.
        let _ = state.flush(sock, SendFlags::empty());
        let mut n = 0;
        for _ in 0..FRUITLESS {
            n += state.take(&mut buffer[n..])?;
            if n == buffer.len() || !state.more(sock, buffer.len() - n) {
                break;
            }
        }
        n += state.take(&mut buffer[n..])?;
        match (n, state.over) {
            (0, Over::Ended) => Ok(Some(0)),
            (0, Over::Broken(kind)) => Err(kind.into()),
            (0, Over::No) => Ok(None),
            (n, _) => Ok(Some(n)),
        }
    }

    /// As [`Sock::try_send`]; `last` if our side ends with it.
    pub(super) fn send(&self, sock: &Sock, bytes: &[u8], last: bool) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if !state.flush(sock, SendFlags::empty())? {
            return Ok(0);
        }
        let mut taken = usize::from(state.owed && !bytes.is_empty());
        state.owed &= taken == 0;
        while taken < bytes.len() {
            taken += state.connection.writer().write(&bytes[taken..])?;
            let flags = match last && taken == bytes.len() {
                true => state.close(),
                false => SendFlags::empty(),
            };
            if !state.flush(sock, flags)? {
                state.owed = true;
                return Ok(taken - 1);
            }
        }
        Ok(taken)
    }

    /// Whether there is plaintext to read, or its end.
    pub(super) fn is_readable(&self, sock: &Sock) -> bool {
        let mut state = self.0.borrow_mut();
        let _ = state.flush(sock, SendFlags::empty());
        for _ in 0..FRUITLESS {
            if state.plaintext != 0 || state.over != Over::No {
                return true;
            }
            if !state.more(sock, CIPHERTEXT) {
                return state.over != Over::No;
            }
        }
        // More of it may wait in the kernel, which tells of it once. A peer that sends nothing but empty records must not
        // keep the others waiting.
        sock.reactor().wake_current();
        false
    }

    /// Whether plaintext can be sent: everything before has left.
    pub(super) fn is_writable(&self, sock: &Sock) -> bool {
        let flushed = self.0.borrow_mut().flush(sock, SendFlags::empty());
        // A break is for the next send to find.
        flushed.unwrap_or(true)
    }

    /// Whether anything has arrived that was not read.
    pub(super) fn has_more(&self) -> bool {
        let state = self.0.borrow();
        state.plaintext != 0 || state.used < state.ahead.len()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().over != Over::No
    }

    /// As [`Sock::shutdown_write`]. True if the connection below may end now; else it ends when all is sent.
    pub(super) fn shutdown(&self, sock: &Sock) -> bool {
        let mut state = self.0.borrow_mut();
        let flags = state.close();
        state.ends = !matches!(state.flush(sock, flags), Ok(true));
        !state.ends
    }

    /// What was sent must not look whole: the peer is not told that it is. False if nothing was sent yet but alerts, which a
    /// reset would overtake.
    pub(super) fn abort(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.aborts = true;
        !state.connection.is_handshaking()
    }

    /// The socket is dropped: the peer learns that nothing more comes, and that it has everything.
    pub(super) fn farewell(&self, sock: &Sock) {
        let mut state = self.0.borrow_mut();
        let shaking = state.connection.is_handshaking();
        if !state.aborts && !shaking && !state.owed && !matches!(state.over, Over::Broken(_)) {
            let flags = state.close();
            let _ = state.flush(sock, flags);
        }
    }
}

impl State {
    /// Goes on with the handshake as far as it can; `None`: more has to come, or to leave.
    fn shake_hands(&mut self, sock: &Sock) -> Option<io::Result<()>> {
        loop {
            let flushed = self.flush(sock, SendFlags::empty());
            match (self.over, flushed) {
                (Over::Broken(kind), _) => {
                    return Some(Err(match self.fault.take() {
                        Some(fault) => io::Error::new(kind, *fault),
                        None => kind.into(),
                    }));
                }
                (Over::Ended, _) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                (Over::No, Err(fault)) => return Some(Err(fault)),
                (Over::No, Ok(_)) if !self.connection.is_handshaking() => return Some(Ok(())),
                (Over::No, Ok(_)) => {}
            }
            if !self.more(sock, CIPHERTEXT) && self.over == Over::No {
                return None;
            }
        }
    }

    /// Moves plaintext out.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while self.plaintext != 0 && n < buffer.len() {
            let read = self.connection.reader().read(&mut buffer[n..])?;
            self.plaintext -= read;
            n += read;
        }
        Ok(n)
    }

    /// Brings in more ciphertext, with about `most` bytes of plaintext in it, and opens it as far as the first plaintext.
    /// False if there is none for now, or there will be none at all.
    fn more(&mut self, sock: &Sock, most: usize) -> bool {
        if self.over != Over::No || self.plaintext != 0 {
            return false;
        }
        if self.used < self.ahead.len() {
            let ahead = std::mem::take(&mut self.ahead);
            self.used += self.open(sock, &ahead[self.used..]);
            match self.used < ahead.len() {
                true => self.ahead = ahead,
                // Dropped, not kept: a connection at rest holds nothing.
                false => self.used = 0,
            }
            return true;
        }
        let mut scratch = sock.reactor().ciphertext.borrow_mut();
        scratch.resize(CIPHERTEXT, 0);
        let most = (most + OVERHEAD).min(CIPHERTEXT);
        match sock.recv_raw(&mut scratch[..most]) {
            Ok(None) => return false,
            Ok(Some(0)) => self.over = Over::Broken(io::ErrorKind::UnexpectedEof),
            Err(fault) => self.over = Over::Broken(fault.kind()),
            Ok(Some(n)) => {
                let used = self.open(sock, &scratch[..n]);
                if used < n && self.over == Over::No {
                    self.ahead.extend_from_slice(&scratch[used..n]);
                }
            }
        }
        true
    }

    /// Opens records until there is plaintext; says how many of the bytes that took.
    fn open(&mut self, sock: &Sock, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.plaintext == 0 && self.over == Over::No {
            if let ControlFlow::Break(over) = self.open_some(&mut rest) {
                self.over = over;
                // The alert that says what was wrong, if it can leave.
                let _ = self.flush(sock, SendFlags::empty());
            }
        }
        bytes.len() - rest.len()
    }

    fn open_some(&mut self, bytes: &mut &[u8]) -> ControlFlow<Over> {
        let broken = ControlFlow::Break(Over::Broken(io::ErrorKind::InvalidData));
        if !matches!(self.connection.read_tls(bytes), Ok(1..)) {
            return broken;
        }
        let now = match self.connection.process_new_packets() {
            Ok(now) => now,
            Err(fault) => {
                self.fault = Some(Box::new(fault));
                return broken;
            }
        };
        self.plaintext = now.plaintext_bytes_to_read();
        match now.peer_has_closed() {
            true => ControlFlow::Break(Over::Ended),
            false => ControlFlow::Continue(()),
        }
    }

    /// Ends our side, if it has not ended; returns how the end is best sent.
    fn close(&mut self) -> SendFlags {
        if !std::mem::replace(&mut self.closed, true) {
            self.connection.send_close_notify();
        }
        // The end of the connection below follows at once, and leaves in the same segment.
        SendFlags::MORE
    }

    /// Sends what waits. False if some still does.
    fn flush(&mut self, sock: &Sock, flags: SendFlags) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Wire { sock, flags }) {
                Ok(_) => {}
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(fault) => return Err(fault),
            }
        }
        if std::mem::replace(&mut self.ends, false) {
            sock.shutdown_raw();
        }
        Ok(true)
    }
}

/// The connection below, as rustls writes to it.
struct Wire<'a> {
    sock: &'a Sock,
    flags: SendFlags,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = self.flags | SendFlags::NOSIGNAL;
        match self.sock.send_raw_vectored(records, flags)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
