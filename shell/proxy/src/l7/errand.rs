//! A request that goes to an instance on a task of its own, apart from its client's session.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::h1::MethodKind;
use http::h2;
use model::{Endpoint, ServiceTable};

use super::exchange::{Failed, connect};
use super::link::Ask;
use super::respond::Unanswered;
use super::share::{Reached, body_of, reach};
use super::tries::Phases;
use crate::buffers::{FRONT, READ};
use crate::rt::{Either, Reactor, Sock, TaskId, TimedOut, race};
use crate::tls::is_current;
use crate::worker::{Snapshot, Worker};

/// A request, whole, and whose it is to be.
pub(super) struct Errand {
    pub(super) worker: Rc<Worker>,
    pub(super) snapshot: Snapshot,
    /// Its service and endpoint.
    pub(super) to: (usize, usize),
    pub(super) method: MethodKind,
    /// Head and body, as HTTP/1.1 has them.
    pub(super) message: Vec<u8>,
    /// Whether the body is in chunks.
    pub(super) chunked: bool,
    /// How long its connection took.
    pub(super) phases: Rc<Cell<Phases>>,
}

/// A connection on which it was sent, and on which the answer has begun.
pub(super) struct Sent {
    pub(super) sock: Sock,
    /// What was read of the answer.
    pub(super) came: Vec<u8>,
    /// Whether it is a stream of a connection that others share.
    pub(super) shared: bool,
}

/// An errand under way. Dropped, it is given up: its connection is closed, its stream cancelled.
pub(super) struct Running {
    stopped: Rc<Cell<bool>>,
    task: TaskId,
    reactor: Rc<Reactor>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopped.set(true);
        self.reactor.wake(self.task);
    }
}

impl Errand {
    /// Begins it; `report` hears what came of it, unless it is given up before.
    pub(super) fn begin(self, report: impl FnOnce(Result<Sent, Failed>) + 'static) -> Running {
        let worker = self.worker.clone();
        let stopped = Rc::new(Cell::new(false));
        let stop = stopped.clone();
        let task = worker.handle.spawn(async move {
            let given_up = poll_fn(|_| match stop.get() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let sent = race(given_up, pin!(self.run())).await;
            if let Either::Right(sent) = sent {
                report(sent);
            }
        });
        Running {
            stopped,
            task,
            reactor: worker.reactor().clone(),
        }
    }

    /// Sends it, and waits for the answer's first bytes.
    pub(super) async fn run(&self) -> Result<Sent, Failed> {
        let service = self.snapshot.service(self.to.0);
        let endpoint = &service.endpoints[self.to.1];
        let (sock, shared, was_used) = self.send(service, endpoint).await?;
        self.worker.reactor().set_timeout(service.response_timeout);
        loop {
            // What TLS has to say of itself is nothing that can be read.
            let read = self.read(&sock);
            match read {
                Ok(Some(came)) if !came.is_empty() => {
                    return Ok(Sent { sock, came, shared });
                }
                Ok(None) => {
                    let readable = sock.readable().await;
                    readable.map_err(|TimedOut| Failed::Unanswered(Unanswered::Silent))?;
                }
                Ok(Some(_)) | Err(Unanswered::Left) if was_used => return Err(Failed::Stale),
                Ok(Some(_)) => return Err(Failed::Unanswered(Unanswered::Left)),
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn read(&self, sock: &Sock) -> Result<Option<Vec<u8>>, Unanswered> {
        let mut scratch = self.worker.buffers.scratch();
        let read = sock.try_recv(&mut scratch[FRONT..FRONT + READ]);
        let read = read.map_err(|_| Unanswered::of(sock))?;
        Ok(read.map(|n| scratch[FRONT..FRONT + n].to_vec()))
    }

    /// Sends it; on which connection, whether others share that, and whether it had carried others before.
    async fn send(
        &self,
        service: &ServiceTable,
        endpoint: &Endpoint,
    ) -> Result<(Sock, bool, bool), Failed> {
        let mut made = None;
        if service.http2 {
            match self.ask(service, endpoint).await? {
                Ok((sock, was_used)) => return Ok((sock, true, was_used)),
                Err(older) => made = older,
            }
        }
        let current = |sock: &Sock| is_current(&self.worker, service, sock);
        let take = || self.worker.pool.take(endpoint, current);
        let pooled = made.is_none().then(take).flatten();
        let was_used = pooled.is_some();
        let sock = match pooled.or(made) {
            Some(sock) => sock,
            None => self.connect(service, endpoint, false).await?,
        };
        self.send_all(service, &sock, &self.message).await?;
        Ok((sock, false, was_used))
    }

    /// Sends it on a stream; else the instance speaks HTTP/1.1, on this connection if that was found out just now.
    async fn ask(
        &self,
        service: &ServiceTable,
        endpoint: &Endpoint,
    ) -> Result<Result<(Sock, bool), Option<Sock>>, Failed> {
        let (head, data) = body_of(&self.message, self.chunked);
        let scheme = if service.tls { "https" } else { "http" };
        let mut block = Vec::new();
        h2::write_request(head, scheme, |_, value| Some(value), &[], &mut block);
        let ask = Ask {
            block: &block,
            method: self.method,
            end: data.is_empty(),
        };
        let worker = &self.worker;
        worker.reactor().set_timeout(service.connect_timeout);
        let connect = async |many| self.connect(service, endpoint, many).await;
        match reach((worker, None), service, endpoint, &ask, connect).await? {
            Reached::Older(older) => Ok(Err(older)),
            Reached::Stream(sock, was_used) => {
                if !data.is_empty() {
                    self.send_all(service, &sock, &data).await?;
                    sock.end_message(&[]);
                }
                Ok(Ok((sock, was_used)))
            }
        }
    }

    async fn connect(
        &self,
        service: &ServiceTable,
        endpoint: &Endpoint,
        many: bool,
    ) -> Result<Sock, Failed> {
        let worker = &self.worker;
        worker.reactor().set_timeout(service.connect_timeout);
        connect(worker, (service, endpoint), many, &self.phases, |_| Ok(())).await
    }

    async fn send_all(
        &self,
        service: &ServiceTable,
        sock: &Sock,
        mut bytes: &[u8],
    ) -> Result<(), Failed> {
        let left = || Failed::Unanswered(Unanswered::Left);
        self.worker.reactor().set_timeout(service.response_timeout);
        while !bytes.is_empty() {
            let sent = sock.try_send(bytes).map_err(|_| left())?;
            bytes = &bytes[sent..];
            if sent == 0 {
                sock.writable().await.map_err(|TimedOut| left())?;
            }
        }
        Ok(())
    }
}
