//! A client's connection that carries many requests at a time: HTTP/2. The machine is `http::h2`; here its events become
//! requests, each of them a session of its own on a socket that is a stream, and so served by the same code as any other.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::h1;
use http::h2::{self as machine, Closing, Connection, Event, Key, Settings};
use model::ListenerTable;

use super::begin::{Begun, Plan};
use super::carrier::{Gone, Peer, carry};
use super::session::{Next, Session, linger};
use crate::rt::{Mux, Sock};
use crate::worker::Worker;

impl Session {
    /// Serves the rest of the connection in HTTP/2; what has been read of it is held.
    pub(super) async fn serve_many(&self) {
        let worker = &self.worker;
        let machine = Connection::new(settings(&self.table.borrow()), worker.now());
        let mux = Mux::new(&self.client, machine);
        self.count(|stats| stats.http2.bump(1));
        let gone = carry(self, &mux).await;
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
                session.refuse(h1::Fault::HeadTooLarge.into(), 0)
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
            let has_body = !begun.0.body.is_done();
            let next = self.carry_out(begun).await;
            // To break a stream off that has its answer is no fault (RFC 9113 §8.1), but curl 7, httpx, undici and Java's
            // HttpClient take it for one while they upload, and their users do not see the answer.
            if has_body && next != Next::Close {
                linger(&self.worker, &self.client).await;
            }
        }
    }
}

impl Peer for Session {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn sock(&self) -> &Sock {
        &self.client
    }

    fn held(&self) -> &RefCell<Vec<u8>> {
        &self.held
    }

    fn is_ending(&self) -> bool {
        self.is_ending()
    }

    fn end(&self, machine: &mut Connection) {
        machine.drain(self.worker.now());
    }

    fn patience(&self) -> (Duration, u32) {
        let limits = self.timeouts();
        (limits.stall, limits.min_rate)
    }

    fn hear(&self, mux: &Rc<Mux>, event: Event, head: &mut machine::Head) {
        match event {
            Event::Request(key) => {
                if head.is_websocket() {
                    let random = [self.worker.draw(), self.worker.draw()];
                    head.upgrade(random);
                }
                self.begin_many(mux, key, Some(head));
            }
            Event::TooLarge(key) => self.begin_many(mux, key, None),
            Event::Malformed => self.count(|stats| stats.refused.bump(1)),
            event => mux.tell(event),
        }
    }

    fn rest(&self, _: &Mux) {}
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
