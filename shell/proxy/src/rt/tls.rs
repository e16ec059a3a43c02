//! TLS inside a socket (RFC 8446, RFC 5246): tasks see plaintext, the kernel sees records.
//!
//! What a task is told was sent has left for the kernel, as with a plain socket: when records wait because the kernel takes
//! no more, the last byte of the plaintext is not counted as sent until they are gone, and the task comes back with it. So
//! nothing has to be flushed later, and nothing is lost when a socket is dropped after its last send.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use rustix::net::SendFlags;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};

use super::records::{Machine, Say, Sink};
use super::sock::{End, Sock};

/// Ciphertext read at a time: two full records, as with the bytes of plain bodies.
pub(super) const CIPHERTEXT: usize = 32 * 1024;

/// What records, their headers and their tags may add to plaintext that is waited for.
const OVERHEAD: usize = 512;

/// Ciphertext that is kept for what it is a part of: a handshake's message in as many records as it likes. A message alone may have as
/// much, by rustls's limit; one of a byte a record would cost twenty times that.
const MOST_AHEAD: usize = 64 * 1024;

/// Plaintext that is sealed at a time.
const CHUNK: usize = 64 * 1024;

/// Reads that bring no plaintext (tickets, key updates, empty records) before others get their turn.
const FRUITLESS: usize = 8;

/// One side of a TLS connection.
pub(super) struct Tls(RefCell<State>, Option<Arc<ClientConfig>>);

struct State {
    machine: Machine,
    /// Ciphertext that has arrived and is wanted still: the beginning of a record, or of a message in the middle of being put together.
    ahead: Vec<u8>,
    /// Whether some of that was not looked at yet.
    unseen: bool,
    /// Plaintext, from `given` on to be read.
    plain: Vec<u8>,
    given: usize,
    /// Sealed records, from `gone` on to be sent. What is said of the connection alone waits there for what is sent next, or for the
    /// task to wait.
    unsent: Vec<u8>,
    gone: usize,
    /// The name that the client asked for; behind a handshake, in a place of its own.
    asked: Option<Arc<Asked>>,
    server_name: Option<Box<str>>,
    /// Whether a byte of plaintext is on its way that the task does not know to be sent.
    owed: bool,
    /// Whether our side has ended.
    closed: bool,
    /// Whether the connection below is to end when everything is sent.
    ends: bool,
    aborts: bool,
    over: Over,
    /// How the peer broke the protocol, for whoever explains it. The machine must not be asked again.
    fault: Option<Box<rustls::Error>>,
    failed: bool,
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
        // rustls tells the name to nobody but whoever chooses the certificate.
        let asked = Arc::new(Asked {
            chooses: config.cert_resolver.clone(),
            name: OnceLock::new(),
        });
        let mut config = ServerConfig::clone(&config);
        config.cert_resolver = asked.clone();
        let machine = UnbufferedServerConnection::new(Arc::new(config));
        let machine = Machine::Server(machine.map_err(io::Error::other)?);
        self.secure(machine, Some(asked), None, ahead).await
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
        let machine = UnbufferedClientConnection::new(config.clone(), name);
        let machine = Machine::Client(machine.map_err(io::Error::other)?);
        self.secure(machine, None, Some(config), Vec::new()).await
    }

    async fn secure(
        &mut self,
        machine: Machine,
        asked: Option<Arc<Asked>>,
        config: Option<Arc<ClientConfig>>,
        ahead: Vec<u8>,
    ) -> io::Result<()> {
        let state = RefCell::new(State {
            machine,
            ahead,
            // Nothing, perhaps: a client speaks first.
            unseen: true,
            plain: Vec::new(),
            given: 0,
            unsent: Vec::new(),
            gone: 0,
            asked,
            server_name: None,
            owed: false,
            closed: false,
            ends: false,
            aborts: false,
            over: Over::No,
            fault: None,
            failed: false,
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
        let connection = state.machine.state();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Some(Secured {
            server_name: state.server_name.clone(),
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
        tls.is_some_and(|state| state.machine.state().alpn_protocol() == Some(alpn))
    }

    /// Whether it carries TLS, or is carried by it.
    pub fn is_secured(&self) -> bool {
        match &self.end {
            End::Stream(part) => part.is_secured(),
            _ => self.tls.is_some(),
        }
    }
}

/// Chooses a certificate as it was told, and keeps the name that was asked for.
#[derive(Debug)]
struct Asked {
    chooses: Arc<dyn ResolvesServerCert>,
    name: OnceLock<Box<str>>,
}

impl ResolvesServerCert for Asked {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            self.name.get_or_init(|| name.into());
        }
        self.chooses.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.chooses.only_raw_public_keys()
    }
}

impl Tls {
    /// As [`Sock::try_recv`].
    pub(super) fn recv(&self, sock: &Sock, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut state = self.0.borrow_mut();
        let mut n = state.give(buffer);
        for _ in 0..FRUITLESS {
            if n == buffer.len() || !state.more(sock, buffer, &mut n) {
                break;
            }
        }
        match (n, state.over) {
            (0, Over::Ended) => Ok(Some(0)),
            (0, Over::Broken(kind)) => Err(kind.into()),
            (0, Over::No) => {
                // The task may wait now: an alert or a ticket must not wait with it.
                let _ = state.flush(sock, SendFlags::empty());
                Ok(None)
            }
            (n, _) => Ok(Some(n)),
        }
    }

    /// As [`Sock::try_send`]; `last` if our side ends with it.
    pub(super) fn send(&self, sock: &Sock, bytes: &[u8], last: bool) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if (state.owed || bytes.is_empty()) && !state.flush(sock, SendFlags::empty())? {
            return Ok(0);
        }
        let mut taken = usize::from(state.owed && !bytes.is_empty());
        state.owed &= taken == 0;
        while taken < bytes.len() {
            if !sock.takes_raw() {
                return Ok(taken);
            }
            let chunk = &bytes[taken..][..CHUNK.min(bytes.len() - taken)];
            taken += chunk.len();
            if !state.say(sock, chunk, last && taken == bytes.len())? {
                state.owed = true;
                return Ok(taken - 1);
            }
        }
        Ok(taken)
    }

    /// Whether there is plaintext to read, or its end.
    pub(super) fn is_readable(&self, sock: &Sock) -> bool {
        let mut state = self.0.borrow_mut();
        for _ in 0..FRUITLESS {
            if !state.plain.is_empty() || state.over != Over::No {
                return true;
            }
            if !state.more(sock, &mut [], &mut 0) {
                let _ = state.flush(sock, SendFlags::empty());
                return state.over != Over::No;
            }
        }
        let _ = state.flush(sock, SendFlags::empty());
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
        !state.plain.is_empty() || !state.ahead.is_empty()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().over != Over::No
    }

    /// As [`Sock::shutdown_write`]. True if the connection below may end now; else it ends when all is sent.
    pub(super) fn shutdown(&self, sock: &Sock) -> bool {
        let mut state = self.0.borrow_mut();
        state.ends = !matches!(state.close(sock), Ok(true));
        !state.ends
    }

    /// What was sent must not look whole: the peer is not told that it is. False if nothing was sent yet but alerts, which a
    /// reset would overtake.
    pub(super) fn abort(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.aborts = true;
        !state.machine.state().is_handshaking()
    }

    /// The socket is dropped: the peer learns that nothing more comes, and that it has everything.
    pub(super) fn farewell(&self, sock: &Sock) {
        let mut state = self.0.borrow_mut();
        let shaking = state.machine.state().is_handshaking();
        if !state.aborts && !shaking && !state.owed && !matches!(state.over, Over::Broken(_)) {
            let _ = state.close(sock);
        }
    }
}

impl State {
    /// Goes on with the handshake as far as it can; `None`: more has to come, or to leave.
    fn shake_hands(&mut self, sock: &Sock) -> Option<io::Result<()>> {
        loop {
            // What is said last waits for what is sent next, and leaves in one segment with it.
            if self.over == Over::No && !self.machine.state().is_handshaking() {
                let asked = self.asked.take();
                self.server_name = asked.and_then(|asked| asked.name.get().cloned());
                return Some(Ok(()));
            }
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
                (Over::No, Ok(_)) => {}
            }
            if !self.more(sock, &mut [], &mut 0) && self.over == Over::No {
                return None;
            }
        }
    }

    /// Hands out plaintext that is there.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.plain[self.given..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.given += n;
        if self.given == self.plain.len() {
            // Dropped, not kept: a connection at rest holds nothing.
            (self.plain, self.given) = (Vec::new(), 0);
        }
        n
    }

    /// Brings in more ciphertext, with about as many bytes of plaintext in it as `buffer` has room for behind `n`, and opens it, a record
    /// at least. False if there is none for now, or there will be none at all.
    fn more(&mut self, sock: &Sock, buffer: &mut [u8], n: &mut usize) -> bool {
        if self.over != Over::No {
            return false;
        }
        if self.unseen {
            let mut ahead = std::mem::take(&mut self.ahead);
            let used = self.open(sock, &mut ahead, buffer, n);
            self.keep(ahead, used);
            return true;
        }
        let kept = self.ahead.len();
        let mut scratch = sock.reactor().ciphertext.borrow_mut();
        if scratch.len() < kept + CIPHERTEXT {
            scratch.resize(kept + CIPHERTEXT, 0);
        }
        let most = match buffer.len() - *n {
            0 => CIPHERTEXT,
            room => (room + OVERHEAD).min(CIPHERTEXT),
        };
        match sock.recv_raw(&mut scratch[kept..kept + most]) {
            Ok(None) => return false,
            Ok(Some(0)) => self.over = Over::Broken(io::ErrorKind::UnexpectedEof),
            Err(fault) => self.over = Over::Broken(fault.kind()),
            Ok(Some(read)) => {
                let all = &mut scratch[..kept + read];
                all[..kept].copy_from_slice(&self.ahead);
                let used = self.open(sock, all, buffer, n);
                self.ahead.clear();
                self.ahead.extend_from_slice(&all[used..]);
                let ahead = std::mem::take(&mut self.ahead);
                self.keep(ahead, 0);
            }
        }
        true
    }

    /// Keeps what of `ahead` is wanted still.
    fn keep(&mut self, mut ahead: Vec<u8>, used: usize) {
        // The machine counts on it as long as it is asked for anything, behind an end that nobody spoke of too.
        if used == ahead.len() || self.failed || self.over == Over::Ended {
            return;
        }
        ahead.drain(..used);
        if ahead.len() > MOST_AHEAD {
            self.failed = true;
            self.over = Over::Broken(io::ErrorKind::InvalidData);
            return;
        }
        self.ahead = ahead;
    }

    /// Opens records until there is no room for more plaintext, the last of them whole; says how many of the bytes that took.
    fn open(&mut self, sock: &Sock, bytes: &mut [u8], buffer: &mut [u8], n: &mut usize) -> usize {
        let mut sealed = sock.reactor().sealed.borrow_mut();
        sealed.begin(&[], 0);
        let mut sink = Sink {
            room: &mut buffer[*n..],
            len: 0,
            rest: &mut self.plain,
        };
        let turn = self
            .machine
            .turn(bytes, &mut sink, &mut sealed, Say::Nothing);
        *n += sink.len;
        self.unseen = !turn.whole;
        self.unsent.extend_from_slice(sealed.bytes());
        drop(sealed);
        if turn.ended {
            self.over = Over::Ended;
        }
        if let Some(fault) = turn.fault {
            self.fails(fault);
            // The alert that says what was wrong, if it can leave.
            let _ = self.flush(sock, SendFlags::empty());
        }
        turn.used
    }

    fn fails(&mut self, fault: rustls::Error) {
        (self.failed, self.unseen) = (true, false);
        self.over = Over::Broken(io::ErrorKind::InvalidData);
        self.fault = Some(Box::new(fault));
    }

    /// Seals and sends, behind what waits; `last` if our side ends with it. False if some of it waits now.
    fn say(&mut self, sock: &Sock, bytes: &[u8], last: bool) -> io::Result<bool> {
        if self.failed || self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.closed = last;
        let mut sealed = sock.reactor().sealed.borrow_mut();
        sealed.begin(&self.unsent[self.gone..], bytes.len() + OVERHEAD);
        let mut sink = Sink {
            room: &mut [],
            len: 0,
            rest: &mut self.plain,
        };
        let what = match last {
            true => Say::Last(bytes),
            false => Say::Data(bytes),
        };
        // With what is kept: the machine remembers how far it was in that.
        let mut ahead = std::mem::take(&mut self.ahead);
        let turn = self.machine.turn(&mut ahead, &mut sink, &mut sealed, what);
        self.unseen = false;
        if turn.ended {
            self.over = Over::Ended;
        }
        self.keep(ahead, turn.used);
        let failed = turn.fault.map(|fault| self.fails(fault)).is_some();
        // The end of the connection below follows at once, and leaves in the same segment.
        let flags = match last {
            true => SendFlags::MORE | SendFlags::NOSIGNAL,
            false => SendFlags::NOSIGNAL,
        };
        let sent = sock.send_bytes(sealed.bytes(), flags)?;
        let rest = &sealed.bytes()[sent..];
        (self.unsent, self.gone) = (rest.to_vec(), 0);
        match failed {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(self.unsent.is_empty()),
        }
    }

    /// Ends our side, if it has not ended. False if something waits.
    fn close(&mut self, sock: &Sock) -> io::Result<bool> {
        let silent = self.closed || self.failed || self.machine.state().is_handshaking();
        match silent {
            true => self.flush(sock, SendFlags::MORE),
            false => self.say(sock, &[], true),
        }
    }

    /// Sends what waits. False if some still does.
    fn flush(&mut self, sock: &Sock, flags: SendFlags) -> io::Result<bool> {
        while self.gone < self.unsent.len() {
            match sock.send_bytes(&self.unsent[self.gone..], flags | SendFlags::NOSIGNAL)? {
                0 => return Ok(false),
                n => self.gone += n,
            }
        }
        (self.unsent, self.gone) = (Vec::new(), 0);
        if std::mem::replace(&mut self.ends, false) {
            sock.shutdown_raw();
        }
        Ok(true)
    }
}
