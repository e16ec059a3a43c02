//! A client's connection that carries many requests at a time: HTTP/2. The machine is `http::h2`; here its events become
//! requests, each of them a session of its own on a socket that is a stream, and so served by the same code as any other.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::h1;
use http::h2::{self as machine, Closing, Connection, Event, Key, Settings};
use model::{ListenerTable, Moment};

use super::begin::{Begun, Plan};
use super::pump::{BUDGET, Pace};
use super::session::{Session, linger};
use crate::buffers::{FRONT, READ};
use crate::rt::{Mux, Sock, yield_now};

/// Why a connection ends without more ado.
enum Gone {
    /// The client left.
    Left,
    /// It takes too little for too long.
    Slow,
}

impl Session {
    /// Serves the rest of the connection in HTTP/2; what has been read of it is held.
    pub(super) async fn serve_many(&self) {
        let worker = &self.worker;
        let machine = Connection::new(settings(&self.table.borrow()), worker.now());
        let mux = Mux::new(&self.client, machine);
        self.count(|stats| stats.http2.bump(1));
        let gone = self.run(&mux).await;
        mux.close();
        self.count_many(&mux, &gone);
        match gone {
            Ok(()) => linger(worker, &self.client).await,
            Err(Gone::Left | Gone::Slow) => self.client.abort_on_close(),
        }
    }

    fn count_many(&self, mux: &Mux, gone: &Result<(), Gone>) {
        let over = mux.machine().over();
        self.count(|stats| match (gone, over) {
            (Err(Gone::Slow), _) | (_, Some(Closing::Late)) => stats.timed_out.bump(1),
            (_, Some(Closing::Flood)) => stats.floods.bump(1),
            (_, Some(Closing::Fault(_))) => stats.refused.bump(1),
            _ => {}
        });
    }

    /// Reads, and sends what gathers, until the connection is over and everything is sent.
    async fn run(&self, mux: &Rc<Mux>) -> Result<(), Gone> {
        let reactor = self.worker.reactor().clone();
        let mut pace: Option<(Pace, Moment)> = None;
        loop {
            mux.machine().handle_timeout(self.worker.now());
            if self.is_ending() {
                mux.machine().drain(self.worker.now());
            }
            let mut busy = self.read_some(mux)?;
            let full = mux.machine().is_full();
            let flushed = mux.flush(&self.client).map_err(|_| Gone::Left)?;
            mux.tell_writable();
            // What was read and not looked at for want of room has no event of its own.
            busy |= full && !mux.machine().is_full();
            if flushed && mux.machine().over().is_some() {
                return Ok(());
            }
            if flushed {
                pace = None;
            } else {
                self.check_pace(&mut pace)?;
            }
            if busy {
                yield_now(&reactor).await;
            } else {
                self.wait(mux, flushed, &pace).await;
            }
        }
    }

    /// A client that does not take what it asked for, or too slowly, must not make us keep it.
    fn check_pace(&self, pace: &mut Option<(Pace, Moment)>) -> Result<(), Gone> {
        let (now, limits) = (self.worker.now(), self.timeouts());
        let sent = self.client.sent();
        let (pace, since) = pace.get_or_insert_with(|| (Pace::new(sent), now));
        pace.waited(*since, now);
        *since = now;
        match pace.is_too_slow(&self.client, sent, limits.stall, limits.min_rate.max(1)) {
            true => Err(Gone::Slow),
            false => Ok(()),
        }
    }

    /// Waits until there is something to read, to send or to do.
    async fn wait(&self, mux: &Mux, flushed: bool, pace: &Option<(Pace, Moment)>) {
        let reactor = self.worker.reactor();
        let mut due = mux.machine().next_deadline();
        if let Some((_, since)) = pace {
            due = due.min(*since + self.timeouts().stall);
        }
        reactor.set_deadline(due);
        let told = self.is_ending();
        poll_fn(|_| {
            let readable = listens(&mux.machine()) && self.client.is_readable();
            let writable = !flushed && self.client.is_writable();
            let ends = !told && self.is_ending();
            if readable || writable || mux.is_woken() || ends || reactor.timed_out() {
                return Poll::Ready(());
            }
            self.client.wake_current();
            Poll::Pending
        })
        .await;
    }

    /// Reads what is there, up to what others may have to wait for; true if there may be more.
    fn read_some(&self, mux: &Rc<Mux>) -> Result<bool, Gone> {
        let mut scratch = self.worker.buffers.scratch();
        let buffer = &mut scratch[FRONT..FRONT + READ];
        let mut len = self.unhold(buffer);
        let mut fresh = len > 0;
        let mut budget = BUDGET;
        loop {
            if std::mem::take(&mut fresh) {
                let left = self.take(mux, &buffer[..len]);
                buffer.copy_within(len - left..len, 0);
                len = left;
            }
            // Whoever does not listen is not listened to.
            if !listens(&mux.machine()) || budget == 0 {
                self.hold(&buffer[..len]);
                return Ok(budget == 0);
            }
            match self.client.try_recv(&mut buffer[len..]) {
                Ok(Some(0)) | Err(_) => return Err(Gone::Left),
                Ok(Some(n)) => {
                    len += n;
                    fresh = true;
                    budget = budget.saturating_sub(n);
                }
                Ok(None) => {
                    self.hold(&buffer[..len]);
                    return Ok(false);
                }
            }
        }
    }

    /// Gives bytes to the machine, and does what comes of them. Says how many are left.
    fn take(&self, mux: &Rc<Mux>, mut input: &[u8]) -> usize {
        let mut head = self.worker.head.borrow_mut();
        let now = self.worker.now();
        loop {
            let event = mux.machine().handle(&mut input, &mut head, now);
            match event {
                None => return input.len(),
                Some(Event::Request(key)) => {
                    if head.is_websocket() {
                        let random = [self.worker.draw(), self.worker.draw()];
                        head.upgrade(random);
                    }
                    self.begin_many(mux, key, Some(&head));
                }
                Some(Event::TooLarge(key)) => self.begin_many(mux, key, None),
                Some(Event::Malformed) => self.count(|stats| stats.refused.bump(1)),
                Some(Event::Over(_)) => mux.close(),
                Some(event) => mux.tell(event),
            }
        }
    }

    /// Begins a request, or refuses it where its head was too large to be kept.
    fn begin_many(&self, mux: &Rc<Mux>, key: Key, head: Option<&machine::Head>) {
        let worker = &self.worker;
        let snapshot = worker.snapshot();
        let Some(listener) = snapshot.listener(self.listener) else {
            // Another node may still serve it.
            let refused = machine::Code::Refused;
            mux.machine().release(key, refused, worker.now());
            return;
        };
        self.follow(listener);
        let session = Session::on_stream(self, mux.stream(key));
        let begun = match head {
            Some(head) => session.begin(&head.request(), listener, &snapshot, 0),
            None => {
                self.count(|stats| stats.refused.bump(1));
                let fault = h1::Fault::HeadTooLarge;
                session.refuse(fault.status(), &fault.to_string(), 0)
            }
        };
        worker.handle.spawn(session.serve_one(Box::new(begun)));
    }

    /// A session for one request of many.
    fn on_stream(&self, client: Sock) -> Self {
        let (worker, table) = (self.worker.clone(), self.table.borrow().clone());
        let mut session = Self::new(worker, client, self.peer, self.listener, table);
        session.from.clone_from(&self.from);
        session
    }

    /// Serves the request of a stream. Whatever is left undone with it, the stream is broken off.
    fn serve_one(self, mut begun: Box<(Begun, Plan)>) -> impl Future<Output = ()> {
        async move {
            self.begin_stream(&mut begun);
            self.carry_out(begun).await;
        }
    }
}

/// Whether more is to be read: not from a client that does not take what it asked for, nor after the end.
fn listens(machine: &Connection) -> bool {
    let closed = machine.over().is_some_and(|over| over != Closing::Drained);
    !closed && !machine.is_full()
}

fn settings(table: &Arc<ListenerTable>) -> Settings {
    Settings {
        max_streams: table.http2.max_concurrent_streams,
        stream_window: table.http2.stream_window,
        connection_window: table.http2.connection_window,
        limits: h1::Limits {
            head: table.max_head,
            fields: table.max_fields,
        },
        idle: table.timeouts.idle,
        request_head: table.timeouts.request_head,
    }
}
