//! Accepting connections.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::Speaks;

use crate::inbox::{Fleet, Open, Order};
use crate::rt::{Accepted, Listener, Sock, yield_now};
use crate::worker::Worker;
use crate::{l4, l7};

/// Connections accepted before those there are get their turn.
const BURST: usize = 64;

/// How long nothing is accepted after the kernel refused, or while too few descriptors are left. Clients wait in the
/// listener's queue meanwhile, which costs nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for the listener with `number` until `closing`, or until the worker drains.
pub(crate) async fn accept_all(
    worker: Rc<Worker>,
    fleet: Arc<Fleet>,
    listener: Listener,
    number: usize,
    closing: Rc<Cell<bool>>,
) {
    let reactor = worker.reactor().clone();
    let (mut burst, mut full) = (0, false);
    loop {
        // Looked at only behind one that came late: else an accepted connection would cost two system calls more.
        if full && !closing.get() && !worker.draining() {
            full = listener.is_out_of_descriptors();
            if full {
                fleet.rests.add(1);
                reactor.sleep(PAUSE).await;
                continue;
            }
        }
        match listener.try_accept() {
            Ok(Some((accepted, peer))) => {
                full = accepted.is_beyond(reactor.descriptors());
                place(&worker, &fleet, accepted, peer, number);
                burst += 1;
                if burst >= BURST {
                    burst = 0;
                    yield_now(&reactor).await;
                }
            }
            Ok(None) if listener.is_acceptable() => {}
            // Only with an empty queue: closing the socket resets what still waits in it.
            Ok(None) if closing.get() || worker.draining() => return,
            Ok(None) => {
                let stop = || closing.get() || worker.draining();
                listener.acceptable_unless(stop).await;
            }
            Err(_) if closing.get() || worker.draining() => return,
            Err(_) => {
                fleet.rests.add(1);
                reactor.sleep(PAUSE).await;
            }
        }
    }
}

fn place(
    worker: &Rc<Worker>,
    fleet: &Arc<Fleet>,
    accepted: Accepted,
    peer: SocketAddr,
    number: usize,
) {
    match accepted {
        Accepted::Fd(fd) => {
            let chosen = fleet.placement(worker.index);
            let open = Open::new(fleet.clone(), chosen);
            if chosen == worker.index {
                let sock = Sock::from_accepted(worker.reactor(), fd);
                serve(worker, open, sock, peer, number);
            } else {
                fleet.handed_over.add(1);
                fleet.order(chosen, Order::Adopt(number, fd, peer, open));
            }
        }
        Accepted::Sock(sock) => {
            let open = Open::new(fleet.clone(), worker.index);
            serve(worker, open, sock, peer, number);
        }
    }
}

/// Starts serving a connection.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    open: Open,
    client: Sock,
    peer: SocketAddr,
    number: usize,
) {
    let tcp = matches!(
        worker
            .snapshot()
            .listener(number)
            .map(|table| &table.speaks),
        Some(Speaks::Tcp(_))
    );
    if tcp {
        let session = l4::serve(worker.clone(), open, client, peer, number);
        if let Some(session) = session {
            worker.handle.spawn(session);
        }
        return;
    }
    // Handed over rather than wrapped in a future of its own, which would hold the session's twice.
    worker
        .handle
        .spawn(l7::serve(worker.clone(), open, client, peer, number));
}
