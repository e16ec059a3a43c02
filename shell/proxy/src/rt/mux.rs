//! Many sockets on one connection: the streams of HTTP/2. To whoever serves it, a stream is a socket like any other, on
//! which a request's body comes and an answer's goes; only heads and trailers go by ways of their own. So it is towards
//! instances, the other way round; but there an answer's head comes in front of its body, as in HTTP/1.1.
//!
//! One task reads the connection and sends what gathers for it. Those who serve streams are other tasks: they take and give
//! bytes here, and the connection's task is woken once for all that they have to say in a round.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http::h1::MethodKind;
use http::h2::{Code, Connection, Event, Key, Lost, Taken};
use rustix::io::Errno;

use super::reactor::{Reactor, Ready, TaskId, Token};
use super::sock::{End, Sock};

/// From here on bytes are many: they are sent at once, from a buffer that was used just now, for what is not in the processor's
/// caches any more costs as much again to send. What is less gathers, so that a system call sends much.
const LARGE: usize = 32 * 1024;

/// Such buffers that a worker keeps when nobody has them.
const OUTPUTS: usize = 8;

/// What the streams of a connection share.
pub struct Mux {
    reactor: Rc<Reactor>,
    local_address: Option<SocketAddr>,
    secured: bool,
    machine: RefCell<Connection>,
    /// Who serves it.
    task: Cell<TaskId>,
    /// Whether that task knows that there is something to send.
    woken: Cell<bool>,
    /// Whether it is to run next, for there is much of it.
    hurried: Cell<bool>,
    /// Whether that task wants to hear of each stream that ends: others wait for its place.
    crowded: Cell<bool>,
    /// Who waits for which stream, by the streams' indexes.
    tokens: RefCell<Vec<Option<(Key, Token)>>>,
}

/// A socket's part in a connection.
pub(super) struct Part {
    mux: Rc<Mux>,
    key: Key,
}

impl Mux {
    /// What streams on `sock` share; the current task serves it.
    pub fn new(sock: &Sock, machine: Connection) -> Rc<Self> {
        let reactor = sock.reactor();
        let task = reactor.current();
        Rc::new(Self {
            reactor: reactor.clone(),
            local_address: sock.local_address(),
            secured: sock.is_secured(),
            machine: RefCell::new(machine),
            task: Cell::new(task),
            woken: Cell::new(false),
            hurried: Cell::new(false),
            crowded: Cell::new(false),
            tokens: RefCell::default(),
        })
    }

    /// The machine, until the next call of anything here.
    pub fn machine(&self) -> RefMut<'_, Connection> {
        self.machine.borrow_mut()
    }

    /// From now on this task serves it.
    pub fn give_to(&self, task: TaskId) {
        self.task.set(task);
    }

    /// Whether somebody waits for a stream to end, so that another may begin.
    pub fn set_crowded(&self, crowded: bool) {
        self.crowded.set(crowded);
    }

    /// Begins a request, if there is a vacancy: as [`Connection::ask`].
    pub fn ask(self: &Rc<Self>, block: &[u8], method: MethodKind, end: bool) -> Option<Sock> {
        let mut machine = self.machine();
        let key = machine.ask(block, method, end)?;
        self.wake(machine);
        Some(self.stream(key))
    }

    /// Begins nothing more; the connection ends with its last answer.
    pub fn retire(&self) {
        let mut machine = self.machine();
        machine.retire();
        self.wake(machine);
    }

    /// A socket for a stream that has just begun. Dropping it breaks the stream off, if it has not ended.
    pub fn stream(self: &Rc<Self>, key: Key) -> Sock {
        let reactor = &self.reactor;
        // What is there is found by asking.
        let token = reactor.add_source(true, true);
        let mut tokens = self.tokens.borrow_mut();
        if tokens.len() <= key.index() {
            tokens.resize(key.index() + 1, None);
        }
        tokens[key.index()] = Some((key, token));
        let part = Part {
            mux: self.clone(),
            key,
        };
        Sock::new(reactor, token, End::Stream(part))
    }

    /// Tells whoever waits for a stream what came of it.
    pub fn tell(&self, event: Event) {
        match event {
            Event::Readable(key) => {
                let ended = self.machine().has_ended(key);
                self.ready(key, |ready| {
                    ready.readable = true;
                    ready.peer_closed = ended;
                });
            }
            Event::Reset(key) => self.ready(key, |ready| ready.hung_up = true),
            Event::Leaving => self.tell_reset(),
            _ => {}
        }
    }

    /// Tells those whose streams were broken off.
    fn tell_reset(&self) {
        let tokens = self.tokens.borrow().clone();
        for (key, token) in tokens.into_iter().flatten() {
            if self.machine().is_reset(key) {
                self.deliver(token, |ready| ready.hung_up = true);
            }
        }
    }

    /// Tells as many of those who wait for room as there is room for. True if others wait, who are to be told once those have had
    /// their turn.
    pub fn tell_writable(&self) -> bool {
        let mut promised = 0;
        loop {
            let Some(key) = self.machine().poll_writable(&mut promised) else {
                return promised > 0 && self.machine().is_awaited();
            };
            self.ready(key, |ready| ready.writable = true);
        }
    }

    /// The connection is over: so are its streams.
    pub fn close(&self) {
        self.machine().close();
        let tokens = self.tokens.borrow().clone();
        for (_, token) in tokens.into_iter().flatten() {
            self.deliver(token, |ready| ready.hung_up = true);
        }
    }

    fn ready(&self, key: Key, what: impl FnOnce(&mut Ready)) {
        let token = self.tokens.borrow().get(key.index()).copied().flatten();
        if let Some((_, token)) = token {
            self.deliver(token, what);
        }
    }

    fn deliver(&self, token: Token, what: impl FnOnce(&mut Ready)) {
        let mut ready = Ready {
            token,
            readable: false,
            writable: false,
            peer_closed: false,
            hung_up: false,
        };
        what(&mut ready);
        self.reactor.deliver(ready);
    }

    /// Sends on the connection what the kernel takes. True if that was all.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn flush(&self, sock: &Sock) -> io::Result<bool> {
        self.woken.set(false);
        self.hurried.set(false);
        let mut machine = self.machine();
        if machine.poll_output().is_empty() {
            return Ok(true);
        }
        let sent = sock.try_send(machine.poll_output())?;
        machine.sent(sent);
        if let Some(buffer) = machine.give_back() {
            let mut outputs = self.reactor.outputs.borrow_mut();
            if outputs.len() < OUTPUTS {
                outputs.push(buffer);
            }
        }
        Ok(machine.poll_output().is_empty())
    }

    /// Whether there is something to send that the connection's task has not seen.
    pub fn is_woken(&self) -> bool {
        self.woken.get()
    }

    /// Wakes the connection's task if something waits to be sent.
    fn wake(&self, machine: RefMut<'_, Connection>) {
        let waits = !machine.poll_output().is_empty() || machine.over().is_some();
        let much = machine.poll_output().len() >= LARGE;
        drop(machine);
        if much && !self.hurried.replace(true) {
            self.woken.set(true);
            self.reactor.wake_next(self.task.get());
        } else if waits && !self.woken.replace(true) {
            self.reactor.wake(self.task.get());
        }
    }
}

impl Part {
    pub(super) fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut machine = self.mux.machine();
        let taken = machine.read(self.key, buffer);
        self.mux.wake(machine);
        match taken {
            Taken::Bytes(n) => Ok(n),
            Taken::End => Ok(0),
            Taken::Nothing => Err(Errno::AGAIN),
            Taken::Reset => Err(Errno::CONNRESET),
        }
    }

    pub(super) fn send(&self, bytes: &[u8], last: bool) -> Result<usize, Errno> {
        let mut machine = self.mux.machine();
        if machine.outgrows(self.key, bytes.len()) {
            let buffer = self.mux.reactor.outputs.borrow_mut().pop();
            machine.lend(buffer.unwrap_or_default());
        }
        let sent = machine.write(self.key, bytes, last);
        self.mux.wake(machine);
        let reset = self.mux.machine().is_reset(self.key);
        // A peer that wants no more of a message may have said all of its own.
        sent.ok_or(if reset { Errno::CONNRESET } else { Errno::PIPE })
    }

    /// What has been received and can leave as it is.
    fn pass_to(&self, to: &Sock, most: u64) -> Option<io::Result<usize>> {
        let mut machine = self.mux.machine();
        let bytes = machine.unread(self.key).ok()?;
        let n = most.min(bytes.len() as u64) as usize;
        let sent = to.try_send(&bytes[..n]);
        if let Ok(sent) = sent {
            machine.took(self.key, sent);
        }
        self.mux.wake(machine);
        Some(sent)
    }

    fn room(&self) -> usize {
        self.mux.machine().room(self.key)
    }

    fn wait_for_room(&self) -> Option<usize> {
        self.mux.machine().wait_for_room(self.key)
    }

    fn head_bytes(&self) -> u64 {
        self.mux.machine().head_bytes(self.key)
    }

    fn lost(&self) -> Lost {
        self.mux.machine().lost(self.key)
    }

    pub(super) fn finish(&self, trailers: &[u8]) {
        let mut machine = self.mux.machine();
        machine.finish(self.key, trailers);
        self.mux.wake(machine);
    }

    /// The address of ours that the connection is bound to.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.mux.local_address
    }

    /// Whether the connection carries TLS.
    pub(super) fn is_secured(&self) -> bool {
        self.mux.secured
    }

    /// The socket is gone.
    pub(super) fn release(&self) {
        if let Some(token) = self.mux.tokens.borrow_mut().get_mut(self.key.index()) {
            *token = None;
        }
        let now = self.mux.reactor.now();
        let mut machine = self.mux.machine();
        machine.release(self.key, Code::Internal, now);
        // A connection without streams is not kept for ever.
        let told = self.mux.crowded.get() || machine.streams() == 0;
        self.mux.wake(machine);
        if told && !self.mux.woken.replace(true) {
            self.mux.reactor.wake(self.mux.task.get());
        }
    }
}

/// What only streams have. Plain sockets do nothing, or say that there is nothing.
impl Sock {
    /// Whether it is a stream of a connection.
    pub fn is_stream(&self) -> bool {
        matches!(self.end, End::Stream(_))
    }

    /// How many bytes would be taken at once, as far as is known without asking: what is read for it need not be more.
    pub fn room(&self) -> usize {
        match &self.end {
            End::Stream(part) => part.room(),
            _ => usize::MAX,
        }
    }

    /// The same. `None`: it is not writable, for its connection has something else to send first.
    pub fn wait_for_room(&self) -> Option<usize> {
        let End::Stream(part) = &self.end else {
            return Some(usize::MAX);
        };
        let room = part.wait_for_room();
        if room.is_none() {
            self.reactor.unwritable(self.token);
        }
        room
    }

    /// Sends up to `most` bytes of what has been received on to the stream of another connection, without anybody looking at them: a
    /// copy less than reading and sending. `None`: not both are streams, or there are no such bytes, and reading says more.
    ///
    /// # Errors
    /// When `to` broke.
    pub fn pass_to(&self, to: &Self, most: u64) -> Option<io::Result<usize>> {
        let (End::Stream(part), End::Stream(_)) = (&self.end, &to.end) else {
            return None;
        };
        let passed = part.pass_to(to, most);
        if let Some(Ok(n)) = passed {
            self.received.set(self.received.get() + n as u64);
        }
        passed
    }

    /// Why it was broken off.
    pub fn lost(&self) -> Lost {
        match &self.end {
            End::Stream(part) => part.lost(),
            _ => Lost::Reset,
        }
    }

    /// How many bytes of heads and trailers have come on it, which are not among those received.
    pub fn head_bytes(&self) -> u64 {
        match &self.end {
            End::Stream(part) => part.head_bytes(),
            _ => 0,
        }
    }

    /// How many share its connection, itself among them.
    pub fn sharers(&self) -> usize {
        match &self.end {
            End::Stream(part) => part.mux.machine().streams(),
            _ => 1,
        }
    }

    /// Sends the head of an answer; `last` if nothing follows it.
    pub fn send_head(&self, block: &[u8], last: bool) {
        if let End::Stream(part) = &self.end {
            self.sent.set(self.sent.get() + block.len() as u64);
            let mut machine = part.mux.machine();
            machine.send_head(part.key, block, last);
            part.mux.wake(machine);
        }
    }

    /// Says that the message is whole, and which trailers it has (lines), unless that was said before.
    pub fn end_message(&self, trailers: &[u8]) {
        if let End::Stream(part) = &self.end {
            part.finish(trailers);
        }
    }

    /// The trailers of the message that has ended, as lines.
    pub fn take_trailers(&self) -> Vec<u8> {
        match &self.end {
            End::Stream(part) => part.mux.machine().take_trailers(part.key),
            _ => None,
        }
        .unwrap_or_default()
    }
}
