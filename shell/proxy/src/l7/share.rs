//! An attempt at an instance that takes many requests on a connection.

use std::rc::Rc;

use http::{h1, h2};
use model::{Endpoint, ServiceTable};

use super::begin::{Begun, Forward};
use super::exchange::{Ended, Failed};
use super::link::{Ask, Links, NoWay, Way, join};
use super::pump::Frame;
use super::respond::{Asked, Unanswered};
use super::session::{Cut, Session};
use crate::rt::Sock;
use crate::tls::is_current;
use crate::worker::Worker;

/// What came of it.
pub(super) enum Shared {
    Answered(Ended),
    /// The instance speaks HTTP/1.1; on this connection, if it was found out just now.
    Older(Option<Sock>),
}

/// A request as HTTP/2 has it.
struct Message {
    block: Vec<u8>,
    /// As much of the body as is here.
    data: Vec<u8>,
    /// Whether that is all of it.
    done: bool,
}

impl Session {
    /// One attempt on a stream of a connection that others share.
    pub(super) async fn share(
        &self,
        begun: &mut Begun,
        forward: &Forward,
        service: &ServiceTable,
        endpoint: &Endpoint,
    ) -> Result<Shared, Failed> {
        let message = self.as_message(begun, forward, service);
        let trailers = begun.body.trailers();
        let empty = message.done && message.data.is_empty() && trailers.is_empty();
        let ask = Ask {
            block: &message.block,
            method: begun.method,
            // gRPC wants an empty frame for the end of a request, and its servers wait for that.
            end: empty && begun.call.is_none(),
        };
        self.set_timeout(service.connect_timeout);
        let connect = async |many| self.connect(endpoint, service, many).await;
        let from = (&self.worker, Some(&self.client));
        let reached = reach(from, service, endpoint, &ask, connect).await?;
        let (stream, was_used) = match reached {
            Reached::Stream(stream, was_used) => (stream, was_used),
            Reached::Older(_) if begun.call.is_some() => {
                let why = "it speaks HTTP/1.1 only, and gRPC needs HTTP/2";
                return Err(Failed::Connect(std::io::Error::other(why)));
            }
            Reached::Older(older) => return Ok(Shared::Older(older)),
        };
        let outcome = self
            .exchange_on(&stream, begun, forward, service, &message)
            .await;
        self.worker.buffers.put(message.block);
        match outcome {
            Err(Failed::Unanswered(Unanswered::Left)) if was_used && stream.received() == 0 => {
                Err(Failed::Stale)
            }
            outcome => outcome.map(Shared::Answered),
        }
    }

    /// Sends what is here of the request, and carries the rest one way and the answer the other.
    async fn exchange_on(
        &self,
        stream: &Sock,
        begun: &mut Begun,
        forward: &Forward,
        service: &ServiceTable,
        message: &Message,
    ) -> Result<Ended, Failed> {
        let asked = Asked::of(begun, forward);
        let last = message.done && begun.body.trailers().is_empty();
        let sent = match &message.data[..] {
            [] => Ok(0),
            data if last => stream.try_send_last(data),
            data => stream.try_send(data),
        };
        let sent = sent.ok();
        let delivered = message.done && sent == Some(message.data.len());
        if delivered {
            stream.end_message(begun.body.trailers());
        }
        self.uploading.set(!delivered);
        let (answered, _) = match sent.filter(|_| !delivered) {
            Some(sent) => {
                let rest = (&message.data[sent..], Frame::Plain);
                Box::pin(self.converse(stream, begun, asked, service, rest)).await?
            }
            None => (self.respond(stream, asked, service).await?, delivered),
        };
        Ok(self.settle(begun, &answered))
    }

    fn as_message(&self, begun: &Begun, forward: &Forward, service: &ServiceTable) -> Message {
        let (head, data) = body_of(&forward.message, forward.chunked);
        let scheme = if service.tls { "https" } else { "http" };
        let mut block = self.worker.buffers.take();
        let call = begun.call.as_ref();
        let told = call.map(|call| call.told(self.worker.now()));
        let told = told.unwrap_or_default();
        let value = |name: &[u8], value| told.value(name, value);
        h2::write_request(head, scheme, value, told.more(), &mut block);
        Message {
            block,
            data,
            done: begun.body.is_done(),
        }
    }
}

/// Gets a request onto a connection, one of those that are there or one that `connect` makes; within the task's deadline, and
/// as long as its client waits.
pub(super) async fn reach(
    (worker, client): (&Rc<Worker>, Option<&Sock>),
    service: &ServiceTable,
    endpoint: &Endpoint,
    ask: &Ask<'_>,
    connect: impl AsyncFn(bool) -> Result<Sock, Failed>,
) -> Result<Reached, Failed> {
    let way = Links::way(worker, service, endpoint, ask, client).await;
    match way {
        Ok(Way::Stream(stream, was_used)) => Ok(Reached::Stream(stream, was_used)),
        Ok(Way::Connect(connecting)) => match connect(true).await {
            Ok(sock) if speaks_many(service, &sock) => {
                let stream = connecting.made(sock, service, endpoint, ask);
                Reached::first(stream)
            }
            Ok(sock) => {
                connecting.found_older();
                Ok(Reached::Older(Some(sock)))
            }
            Err(failed) => {
                if let Failed::Connect(fault) = &failed {
                    connecting.failed(fault);
                }
                Err(failed)
            }
        },
        Ok(Way::Older) => {
            let current = |sock: &Sock| is_current(worker, service, sock);
            if let Some(sock) = worker.pool.take(endpoint, current) {
                worker
                    .pool
                    .put(endpoint, sock, worker.now(), service.keep_alive);
                return Ok(Reached::Older(None));
            }
            let sock = connect(true).await?;
            match speaks_many(service, &sock) {
                true => Reached::first(join(worker, sock, (service, endpoint), ask)),
                false => Ok(Reached::Older(Some(sock))),
            }
        }
        Err(NoWay::Failed(cause)) => Err(Failed::Connect(cause.into())),
        Err(NoWay::Full) => Err(Failed::Full),
        Err(NoWay::ClientLeft) => Err(Failed::Client(Cut::Left)),
    }
}

/// The head of a request as HTTP/1.1 has it, and what is here of its body.
pub(super) fn body_of(text: &[u8], chunked: bool) -> (&[u8], Vec<u8>) {
    let end = memchr::memmem::find(text, b"\r\n\r\n");
    let (head, body) = text.split_at(end.map_or(text.len(), |end| end + 4));
    let mut data = body.to_vec();
    if chunked {
        // These chunks are our own.
        let decoded = h1::BodyDecoder::new(h1::Framing::Chunked).decode(&mut data);
        data.truncate(decoded.map_or(0, |decoded| decoded.data));
    }
    (head, data)
}

/// Where a request is to go.
pub(super) enum Reached {
    /// This stream; true if its connection was there before.
    Stream(Sock, bool),
    /// HTTP/1.1.
    Older(Option<Sock>),
}

impl Reached {
    /// The first stream of a connection.
    fn first(stream: Option<Sock>) -> Result<Self, Failed> {
        let stream = stream.ok_or(Failed::Full)?;
        Ok(Self::Stream(stream, false))
    }
}

fn speaks_many(service: &ServiceTable, sock: &Sock) -> bool {
    !service.tls || sock.is_agreed(b"h2")
}
