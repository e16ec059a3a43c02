//! A connection that carries many requests at a time, HTTP/2, whoever is at its other end: one task reads it, and sends what
//! gathers for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::h2::{Closing, Connection, Event, Head};
use model::Moment;

use super::pump::Pace;
use crate::buffers::{FRONT, READ};
use crate::rt::{Mux, Sock, yield_now};
use crate::worker::Worker;

/// Why a connection ends without more ado.
pub(super) enum Gone {
    /// The peer left.
    Left,
    /// It takes too little for too long.
    Slow,
}

/// The other end of a connection, and what is made of what it sends.
pub(super) trait Peer {
    fn worker(&self) -> &Rc<Worker>;

    fn sock(&self) -> &Sock;

    /// What was read and is not yet a whole frame.
    fn held(&self) -> &RefCell<Vec<u8>>;

    /// Whether nothing new should begin.
    fn is_ending(&self) -> bool;

    /// Has the machine do so.
    fn end(&self, machine: &mut Connection);

    /// How long it may take nothing, and how many bytes a second are too few.
    fn patience(&self) -> (Duration, u32);

    /// Does what comes of what was read; the head is that of a request, if there is one.
    fn hear(&self, mux: &Rc<Mux>, event: Event, head: &mut Head);

    /// Has read and sent what there was.
    fn rest(&self, mux: &Mux);
}

/// Reads, and sends what gathers, until the connection is over and everything is sent.
pub(super) async fn carry(peer: &impl Peer, mux: &Rc<Mux>) -> Result<(), Gone> {
    let reactor = peer.worker().reactor().clone();
    let mut pace: Option<(Pace, Moment)> = None;
    loop {
        mux.machine().handle_timeout(reactor.now());
        if peer.is_ending() {
            peer.end(&mut mux.machine());
        }
        let mut busy = read_some(peer, mux)?;
        let full = mux.machine().is_full();
        let flushed = mux.flush(peer.sock()).map_err(|_| Gone::Left)?;
        busy |= mux.tell_writable();
        // What was read and not looked at for want of room has no event of its own.
        busy |= full && !mux.machine().is_full();
        if flushed && mux.machine().over().is_some() {
            return Ok(());
        }
        peer.rest(mux);
        if flushed {
            pace = None;
        } else {
            check_pace(peer, &mut pace)?;
        }
        if busy {
            yield_now(&reactor).await;
        } else {
            wait(peer, mux, flushed, &pace).await;
        }
    }
}

/// A peer that does not take what it asked for, or too slowly, must not make us keep it.
fn check_pace(peer: &impl Peer, pace: &mut Option<(Pace, Moment)>) -> Result<(), Gone> {
    let (now, (stall, min_rate)) = (peer.worker().now(), peer.patience());
    let sent = peer.sock().sent();
    let (pace, since) = pace.get_or_insert_with(|| (Pace::new(sent), now));
    pace.waited(*since, now);
    *since = now;
    match pace.is_too_slow(peer.sock(), sent, stall, min_rate.max(1)) {
        true => Err(Gone::Slow),
        false => Ok(()),
    }
}

/// Waits until there is something to read, to send or to do.
async fn wait(peer: &impl Peer, mux: &Mux, flushed: bool, pace: &Option<(Pace, Moment)>) {
    let (reactor, sock) = (peer.worker().reactor(), peer.sock());
    let mut due = mux.machine().next_deadline();
    if let Some((_, since)) = pace {
        due = due.min(*since + peer.patience().0);
    }
    reactor.set_deadline(due);
    let told = peer.is_ending();
    poll_fn(|_| {
        let readable = listens(&mux.machine()) && sock.is_readable();
        let writable = !flushed && sock.is_writable();
        let ends = !told && peer.is_ending();
        if readable || writable || mux.is_woken() || ends || reactor.timed_out() {
            return Poll::Ready(());
        }
        sock.wake_current();
        Poll::Pending
    })
    .await;
}

/// Reads what is there, up to what others may have to wait for; true if there may be more.
fn read_some(peer: &impl Peer, mux: &Rc<Mux>) -> Result<bool, Gone> {
    let buffers = &peer.worker().buffers;
    let mut scratch = buffers.scratch();
    let buffer = &mut scratch[FRONT..FRONT + READ];
    let mut len = buffers.unhold(peer.held(), buffer);
    let mut fresh = len > 0;
    // One buffer of it: those that it is for take it while it is in the processor's caches.
    let mut budget = READ;
    loop {
        if std::mem::take(&mut fresh) {
            let left = take(peer, mux, &buffer[..len]);
            buffer.copy_within(len - left..len, 0);
            len = left;
        }
        // Whoever does not listen is not listened to.
        if !listens(&mux.machine()) || budget == 0 {
            buffers.hold(peer.held(), &buffer[..len]);
            return Ok(budget == 0);
        }
        match peer.sock().try_recv(&mut buffer[len..]) {
            Ok(Some(0)) | Err(_) => return Err(Gone::Left),
            Ok(Some(n)) => {
                len += n;
                fresh = true;
                budget = budget.saturating_sub(n);
            }
            Ok(None) => {
                buffers.hold(peer.held(), &buffer[..len]);
                return Ok(false);
            }
        }
    }
}

/// Gives bytes to the machine, and does what comes of them. Says how many are left.
fn take(peer: &impl Peer, mux: &Rc<Mux>, mut input: &[u8]) -> usize {
    let worker = peer.worker();
    let mut head = worker.head.borrow_mut();
    let now = worker.now();
    loop {
        let event = mux.machine().handle(&mut input, &mut head, now);
        match event {
            None => return input.len(),
            Some(Event::Over(_)) => mux.close(),
            Some(event) => peer.hear(mux, event, &mut head),
        }
    }
}

/// Whether more is to be read: not from a peer that does not take what it asked for, nor after the end.
fn listens(machine: &Connection) -> bool {
    let closed = machine.over().is_some_and(|over| over != Closing::Drained);
    !closed && !machine.is_full()
}
