//! Sockets as tasks see them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_linger, set_socket_reuseaddr, set_tcp_nodelay, socket_error,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, acceptfrom_with, ipproto,
};

use super::descriptors::{Descriptors, in_use};
use super::loopback::send_at_once;
use super::memory::EndId;
use super::mux::Part;
use super::reactor::{Driver, Reactor, Token};
use super::tls::Tls;

/// The task's deadline passed while it waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

/// A connected stream socket. Dropping it closes it.
pub struct Sock {
    pub(super) reactor: Rc<Reactor>,
    pub(super) token: Token,
    pub(super) end: End,
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
    /// The kernel tells of a reset once: whoever sends may hear of it, and whoever reads then finds what looks
    /// like an end in order. A body that ends with its connection would be taken for whole.
    pub(super) broken: Cell<bool>,
    watched: Cell<Watched>,
    /// What makes plaintext of its bytes, where they are none. Boxed: plain sockets pay a pointer for it, and a branch.
    pub(super) tls: Option<Box<Tls>>,
}

/// Whether the kernel tells us of a socket's events. Telling it to costs a system call and, at the end, taking the socket
/// off its list: a client that gets its answer at once and leaves is never waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    No,
    /// It will have to, when the answer takes longer.
    Soon,
    Yes,
}

pub(super) enum End {
    Kernel(OwnedFd),
    Memory(EndId),
    /// One of many on a connection.
    Stream(Part),
}

impl Sock {
    /// Takes over an accepted connection. The kernel watches it from the first time on that somebody waits for it.
    pub fn from_accepted(reactor: &Rc<Reactor>, fd: OwnedFd) -> Self {
        // Taken for readable: a client sends its first bytes right after the handshake, and one early
        // read is cheaper than one more turn of the loop.
        let token = reactor.add_source(true, true);
        let sock = Self::new(reactor, token, End::Kernel(fd));
        sock.watched.set(Watched::No);
        sock
    }

    pub(super) fn from_network(reactor: &Rc<Reactor>, token: Token, end: EndId) -> Self {
        Self::new(reactor, token, End::Memory(end))
    }

    pub(super) fn new(reactor: &Rc<Reactor>, token: Token, end: End) -> Self {
        Self {
            reactor: reactor.clone(),
            token,
            end,
            received: Cell::new(0),
            sent: Cell::new(0),
            broken: Cell::new(false),
            watched: Cell::new(Watched::Yes),
            tls: None,
        }
    }

    /// Connects to `address`, waiting as long as the task's deadline allows.
    ///
    /// # Errors
    /// Whatever the connection failed with; [`io::ErrorKind::TimedOut`] when the deadline passed.
    pub async fn connect(reactor: &Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        Self::connect_from(reactor, address, None).await
    }

    /// Connects to `address` from an address of ours, or from the one that the kernel chooses.
    ///
    /// # Errors
    /// Whatever the connection failed with; [`io::ErrorKind::TimedOut`] when the deadline passed.
    pub async fn connect_from(
        reactor: &Rc<Reactor>,
        address: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Self> {
        let sock = Self::begin_connect(reactor, address, from)?;
        sock.writable()
            .await
            .map_err(|TimedOut| io::Error::from(io::ErrorKind::TimedOut))?;
        match &sock.end {
            // A connection that failed is in error; one that is not need not be asked.
            End::Kernel(fd) if sock.is_hung_up() => socket_error(fd)??,
            End::Kernel(_) | End::Stream(_) => {}
            End::Memory(end) => sock.network().connect_outcome(*end)?,
        }
        Ok(sock)
    }

    fn begin_connect(
        reactor: &Rc<Reactor>,
        address: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Self> {
        if let Some(network) = reactor.network() {
            let token = reactor.add_source(false, false);
            let end = network.connect(token, address);
            return Ok(Self::from_network(reactor, token, end));
        }
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        if fd.as_raw_fd() as u64 >= reactor.descriptors().for_instances() {
            return Err(Errno::MFILE.into());
        }
        set_tcp_nodelay(&fd, true)?;
        send_at_once(&fd, address.ip());
        if let Some(from) = from {
            // The port is chosen when it is known where to: one then serves connections to every instance. Where that cannot
            // be had, ports are shared, and may turn out to be taken.
            if setsockopt(&fd, IpBindAddressNoPort, &true).is_err() {
                set_socket_reuseaddr(&fd, true)?;
            }
            rustix::net::bind(&fd, &SocketAddr::new(from, 0))?;
        }
        match rustix::net::connect(&fd, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(fault) => return Err(fault.into()),
        }
        let token = reactor.register(&fd, false, false)?;
        Ok(Self::new(reactor, token, End::Kernel(fd)))
    }

    /// Reads what is there. `None`: nothing yet. `Some(0)`: the peer has ended its side.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match &self.tls {
            None => self.recv_raw(buffer),
            Some(tls) => tls.recv(self, buffer),
        };
        if let Ok(Some(n)) = read {
            self.received.set(self.received.get() + n as u64);
        }
        read
    }

    /// Reads what the connection itself carries.
    #[inline]
    pub(super) fn recv_raw(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.reactor.readable(self.token) {
            return Ok(None);
        }
        let result = match &self.end {
            End::Kernel(fd) => {
                rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n)
            }
            End::Memory(end) => self.network().recv(*end, buffer),
            End::Stream(part) => part.recv(buffer),
        };
        match result {
            Ok(0) if self.broken.get() => Err(Errno::CONNRESET.into()),
            Ok(n) => {
                if n != 0 && n < buffer.len() {
                    self.reactor.drained(self.token);
                }
                Ok(Some(n))
            }
            Err(Errno::AGAIN) => {
                self.reactor.unreadable(self.token);
                Ok(None)
            }
            Err(Errno::INTR) => Ok(None),
            Err(fault) => Err(self.broke(fault)),
        }
    }

    /// Sends what fits. Fewer bytes than given: the rest, and nothing else, waits for [`Sock::writable`].
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::NOSIGNAL)
    }

    /// Sends the last bytes before our side ends, which must follow at once: the kernel keeps them so that they leave
    /// together with the end, in one segment instead of two.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_send_last(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        let n = match &self.tls {
            None => self.send_bytes(bytes, flags)?,
            Some(tls) => tls.send(self, bytes, flags.contains(SendFlags::MORE))?,
        };
        self.sent.set(self.sent.get() + n as u64);
        Ok(n)
    }

    /// Sends bytes as the connection itself is to carry them.
    #[inline]
    pub(super) fn send_bytes(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.send_raw(bytes.len(), |end| match end {
            End::Kernel(fd) => rustix::net::send(fd, bytes, flags),
            End::Memory(end) => self.network().send(*end, bytes),
            End::Stream(part) => part.send(bytes, flags.contains(SendFlags::MORE)),
        })
    }

    /// Whether the connection itself takes bytes, as far as is known without asking.
    pub(super) fn takes_raw(&self) -> bool {
        self.reactor.writable(self.token)
    }

    #[inline]
    fn send_raw(
        &self,
        len: usize,
        send: impl FnOnce(&End) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        if !self.reactor.writable(self.token) {
            return Ok(0);
        }
        match send(&self.end) {
            Ok(n) => {
                if n < len {
                    self.reactor.unwritable(self.token);
                }
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.reactor.unwritable(self.token);
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(fault) => Err(self.broke(fault)),
        }
    }

    /// Notes that the connection broke. With EPIPE alone the peer had ended its side in order before, and what it
    /// said is whole.
    pub(super) fn broke(&self, fault: Errno) -> io::Error {
        if fault != Errno::PIPE {
            self.broken.set(true);
        }
        fault.into()
    }

    /// The address of ours that it is bound to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.end {
            End::Kernel(fd) => rustix::net::getsockname(fd).ok()?.try_into().ok(),
            End::Memory(_) => None,
            End::Stream(part) => part.local_address(),
        }
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes sent so far: those that the kernel took.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Ends our side; the peer reads the end of the stream.
    pub fn shutdown_write(&self) {
        if self.tls.as_ref().is_none_or(|tls| tls.shutdown(self)) {
            self.shutdown_raw();
        }
    }

    pub(super) fn shutdown_raw(&self) {
        // A connection that is gone already needs no end.
        match &self.end {
            End::Kernel(fd) => drop(rustix::net::shutdown(fd, rustix::net::Shutdown::Write)),
            End::Memory(end) => self.network().shutdown(*end, Shutdown::Write),
            End::Stream(part) => part.finish(&[]),
        }
    }

    /// Makes closing abort the connection (RST), so that the peer cannot take a cut message for a whole one.
    pub fn abort_on_close(&self) {
        if self.tls.as_ref().is_some_and(|tls| !tls.abort()) {
            return;
        }
        match &self.end {
            End::Kernel(fd) => drop(set_socket_linger(fd, Some(std::time::Duration::ZERO))),
            End::Memory(end) => self.network().abort_on_close(*end),
            // One that is dropped before its end is broken off.
            End::Stream(_) => {}
        }
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// [`TimedOut`] when the task's deadline passes first.
    pub fn readable(&self) -> impl Future<Output = Result<(), TimedOut>> {
        self.wait(Self::is_readable)
    }

    /// Waits until something may be sent.
    ///
    /// # Errors
    /// [`TimedOut`] when the task's deadline passes first.
    pub fn writable(&self) -> impl Future<Output = Result<(), TimedOut>> {
        self.wait(Self::is_writable)
    }

    /// Whether both sides have closed, or the connection broke.
    pub fn is_hung_up(&self) -> bool {
        self.reactor.hung_up(self.token)
    }

    /// Waits until there may be something to read, or until `stop` holds when the task is woken.
    ///
    /// # Errors
    /// [`TimedOut`] when the task's deadline passes first.
    pub fn readable_unless(
        &self,
        stop: impl Fn() -> bool,
    ) -> impl Future<Output = Result<(), TimedOut>> {
        self.wait(move |sock| sock.is_readable() || stop())
    }

    /// These are no `async fn`s, which would keep their arguments twice: waiting is what most connections do.
    fn wait(&self, ready: impl Fn(&Self) -> bool) -> impl Future<Output = Result<(), TimedOut>> {
        poll_fn(move |_| {
            if ready(self) {
                return Poll::Ready(Ok(()));
            }
            if self.reactor.timed_out() || !self.watch() {
                return Poll::Ready(Err(TimedOut));
            }
            self.reactor.wait_on(self.token);
            Poll::Pending
        })
    }

    /// Has the kernel watch the socket, if it does not yet. False if it cannot (`fs.epoll.max_user_watches`): to wait for
    /// such a socket is to wait for nothing.
    fn watch(&self) -> bool {
        if self.watched.get() == Watched::Yes {
            return true;
        }
        let End::Kernel(fd) = &self.end else {
            return true;
        };
        // What has happened already is told at once.
        let watched = self.reactor.watch(fd, self.token).is_ok();
        if watched {
            self.watched.set(Watched::Yes);
        }
        watched
    }

    /// Whether something (data, an end, an error) waits to be read, as far as is known without asking.
    pub fn is_readable(&self) -> bool {
        match &self.tls {
            None => self.reactor.readable(self.token),
            Some(tls) => tls.is_readable(self),
        }
    }

    /// Whether the peer is known to have ended its side; what it sent before may still be unread.
    pub fn has_ended(&self) -> bool {
        self.reactor.peer_closed(self.token) || self.tls.as_ref().is_some_and(|t| t.has_ended())
    }

    /// Whether something may be sent, as far as is known without asking.
    pub fn is_writable(&self) -> bool {
        let flushed = self.tls.as_ref().is_none_or(|tls| tls.is_writable(self));
        flushed && self.reactor.writable(self.token)
    }

    /// Whether there is something to read (data or an error, not an orderly end), asking the kernel if it has not been
    /// watching.
    pub fn has_more(&self) -> bool {
        if self.tls.as_ref().is_some_and(|tls| tls.has_more()) {
            return true;
        }
        match &self.end {
            End::Kernel(fd) if self.watched.get() != Watched::Yes => {
                let peeked = rustix::net::recv(fd, &mut [0; 1][..], RecvFlags::PEEK);
                !matches!(peeked, Ok((_, 0)) | Err(Errno::AGAIN))
            }
            _ => self.is_readable(),
        }
    }

    /// The current task is woken by this socket's next event, whatever it then finds.
    pub fn wake_current(&self) {
        // A socket that cannot be watched is as one on which nothing happens: the task's deadline ends that.
        self.watch();
        self.reactor.wait_on(self.token);
    }

    /// The same, for an event that seldom comes while the task waits for another that is near: a socket that is not watched
    /// yet will be when the task goes on waiting for a while.
    pub fn wake_current_if_it_lasts(&self) {
        match self.watched.get() {
            Watched::No => {
                self.watched.set(Watched::Soon);
                self.reactor.wake_soon();
            }
            Watched::Soon => drop(self.watch()),
            Watched::Yes => {}
        }
        self.reactor.wait_on(self.token);
    }

    /// The worker's reactor.
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    fn network(&self) -> &super::Network {
        self.reactor
            .network()
            .expect("a simulated socket lives on a simulated network")
    }
}

/// Waits until a socket is ready.
pub(super) async fn wait(
    reactor: &Reactor,
    token: Token,
    ready: impl Fn(&Reactor, Token) -> bool,
) -> Result<(), TimedOut> {
    poll_fn(|_| {
        if ready(reactor, token) {
            return Poll::Ready(Ok(()));
        }
        if reactor.timed_out() {
            return Poll::Ready(Err(TimedOut));
        }
        reactor.wait_on(token);
        Poll::Pending
    })
    .await
}

impl Drop for Sock {
    fn drop(&mut self) {
        if let Some(tls) = self.tls.take() {
            tls.farewell(self);
        }
        match &self.end {
            End::Kernel(_) => {}
            End::Memory(end) => self.network().close(*end),
            End::Stream(part) => part.release(),
        }
        self.reactor.forget(self.token);
    }
}

/// A listening socket.
pub struct Listener {
    reactor: Rc<Reactor>,
    token: Token,
    end: ListenerEnd,
}

enum ListenerEnd {
    Kernel(OwnedFd),
    Memory(SocketAddr),
}

impl Listener {
    /// Watches a bound, listening, non-blocking kernel socket.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn from_kernel(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        let token = reactor.register(&fd, true, false)?;
        Ok(Self {
            reactor: reactor.clone(),
            token,
            end: ListenerEnd::Kernel(fd),
        })
    }

    /// Listens on the simulated network.
    pub fn on_network(reactor: &Rc<Reactor>, address: SocketAddr) -> Self {
        let token = reactor.add_source(false, false);
        let network = reactor
            .network()
            .expect("only a simulated reactor has a network");
        network.listen(token, address);
        Self {
            reactor: reactor.clone(),
            token,
            end: ListenerEnd::Memory(address),
        }
    }

    /// The next connection: for a kernel listener its descriptor, not yet watched by anybody, so that
    /// it can be handed to a less busy worker.
    ///
    /// # Errors
    /// The kernel's, descriptor limits (`EMFILE`) among them; the connection that failed is not to blame.
    pub fn try_accept(&self) -> io::Result<Option<(Accepted, SocketAddr)>> {
        if !self.reactor.readable(self.token) {
            return Ok(None);
        }
        match &self.end {
            ListenerEnd::Kernel(fd) => accept_kernel(fd, &self.reactor, self.token),
            ListenerEnd::Memory(address) => {
                let network = self.reactor.network().expect("checked when it was made");
                let Some((end, peer)) = network.accept(*address) else {
                    self.reactor.unreadable(self.token);
                    return Ok(None);
                };
                let token = self.reactor.add_source(true, true);
                network.adopt(end, token);
                let sock = Sock::from_network(&self.reactor, token, end);
                Ok(Some((Accepted::Sock(sock), peer)))
            }
        }
    }

    /// Whether so many descriptors are in use that no more clients are to be accepted.
    pub fn is_out_of_descriptors(&self) -> bool {
        match &self.end {
            ListenerEnd::Kernel(fd) => in_use(fd) >= self.reactor.descriptors().for_clients(),
            ListenerEnd::Memory(_) => false,
        }
    }

    /// Whether a connection may be waiting.
    pub fn is_acceptable(&self) -> bool {
        self.reactor.readable(self.token)
    }

    /// Waits for a connection, or until `stop` holds when the task is woken.
    pub async fn acceptable_unless(&self, stop: impl Fn() -> bool) {
        poll_fn(|_| {
            if self.reactor.readable(self.token) || stop() {
                return Poll::Ready(());
            }
            self.reactor.wait_on(self.token);
            Poll::Pending
        })
        .await;
    }
}

/// A connection just accepted.
pub enum Accepted {
    /// A kernel descriptor that no reactor watches yet.
    Fd(OwnedFd),
    /// A simulated connection.
    Sock(Sock),
}

impl Accepted {
    /// Whether it is one of the last that may be accepted: see [`Listener::is_out_of_descriptors`].
    pub fn is_beyond(&self, descriptors: Descriptors) -> bool {
        match self {
            Self::Fd(fd) => fd.as_raw_fd() as u64 >= descriptors.for_clients(),
            Self::Sock(_) => false,
        }
    }
}

fn accept_kernel(
    fd: &OwnedFd,
    reactor: &Reactor,
    token: Token,
) -> io::Result<Option<(Accepted, SocketAddr)>> {
    match acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok((fd, peer)) => {
            let unnamed = || SocketAddr::from(([0, 0, 0, 0], 0));
            let peer = peer
                .and_then(|p| SocketAddr::try_from(p).ok())
                .unwrap_or_else(unnamed);
            Ok(Some((Accepted::Fd(fd), peer)))
        }
        Err(Errno::AGAIN) => {
            reactor.unreadable(token);
            Ok(None)
        }
        // The client gave up while it was queued: look for the next one.
        Err(Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerEnd::Memory(address) = self.end
            && let Driver::Memory(network) = &self.reactor.driver
        {
            network.unlisten(address);
        }
        self.reactor.forget(self.token);
    }
}
