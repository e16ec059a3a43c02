use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use registry::replication::{Hello, MAX_MESSAGE, Message, PROTOCOL, Request, Response};
use thiserror::Error;
use tokio::io::{BufReader, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{CONNECT, Identity, Stream, frames};
use crate::raft::spawn;

/// Requests that may wait to be sent to a node.
const QUEUE: usize = 64;
/// How long nothing is tried after a connection failed.
const BACKOFF: Duration = Duration::from_millis(50);

/// A way to send requests to another node. It connects when there is something to send.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    requests: mpsc::Sender<(u64, Vec<u8>, Answer)>,
    number: Arc<AtomicU64>,
}

type Answer = oneshot::Sender<Result<Response, LinkError>>;

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub(crate) enum LinkError {
    /// The other node was not reached, or went away.
    #[error("{0}")]
    Unreachable(Arc<str>),
}

impl Link {
    /// A way to the node at this address. To be called on a runtime with sockets.
    ///
    /// The number and the data directory say who is meant; zero for whoever is there, and for any.
    pub(crate) fn new(identity: Identity, (to, to_disk): (u64, u64), address: &str) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let way = Way {
            identity,
            to,
            to_disk,
            address: address.into(),
        };
        spawn(way.run(queue));
        Self {
            requests,
            number: Arc::default(),
        }
    }

    /// Asks, and waits for the answer, but not for ever: a node that was stopped keeps its connections.
    pub(crate) async fn ask(
        &self,
        request: Request<'_>,
        patience: Duration,
    ) -> Result<Response, LinkError> {
        let answered = timeout(patience, self.exchange(request)).await;
        answered.unwrap_or_else(|_| {
            let why = format!("there was no answer within {patience:?}");
            Err(LinkError::Unreachable(why.into()))
        })
    }

    async fn exchange(&self, request: Request<'_>) -> Result<Response, LinkError> {
        let number = self.number.fetch_add(1, Relaxed);
        let mut frame = frames::begin();
        Message::Request(number, request).encode(&mut frame);
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send((number, frames::finish(frame), answer));
        let gone = || LinkError::Unreachable("the connection was closed".into());
        sent.await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

struct Way {
    identity: Identity,
    to: u64,
    to_disk: u64,
    address: Box<str>,
}

impl Way {
    async fn run(self, mut queue: mpsc::Receiver<(u64, Vec<u8>, Answer)>) {
        while let Some(first) = queue.recv().await {
            let connected = timeout(CONNECT, self.connect()).await;
            let why: Arc<str> = match connected {
                Ok(Ok(stream)) => match exchange(stream, first, &mut queue).await {
                    Ok(()) => return,
                    // The answers that were waited for went with it.
                    Err(_) => continue,
                },
                Ok(Err(e)) => format!("{} is not reached: {e}", self.address).into(),
                Err(_) => format!("{} does not answer", self.address).into(),
            };
            let _ = first.2.send(Err(LinkError::Unreachable(Arc::clone(&why))));
            while let Ok((_, _, answer)) = queue.try_recv() {
                let _ = answer.send(Err(LinkError::Unreachable(Arc::clone(&why))));
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let mut stream = self.identity.connect(&self.address).await?;
        let hello = Hello {
            protocol: PROTOCOL,
            cluster: self.identity.cluster.clone(),
            token: self.identity.token.clone(),
            node: self.identity.node,
            disk: self.identity.disk,
            to: self.to,
            to_disk: self.to_disk,
            format: self.identity.format,
        };
        let mut frame = frames::begin();
        hello.encode(&mut frame);
        frames::send(&mut stream, &frames::finish(frame)).await?;
        let answer = frames::receive(&mut stream, frames::MAX_GREETING).await?;
        let answer = answer.ok_or_else(|| std::io::Error::other("it closed the connection"))?;
        match Message::decode(&answer) {
            Ok(Message::Response(_, Response::Done)) => Ok(stream),
            Ok(Message::Response(_, Response::Refused { why, .. })) => {
                Err(std::io::Error::other(format!("it refuses us: {why}")))
            }
            _ => Err(std::io::Error::other("it is no node of pointsman")),
        }
    }
}

/// Sends requests and takes their answers, until the connection ends; well if nobody asks any more.
async fn exchange(
    stream: Box<dyn Stream>,
    first: (u64, Vec<u8>, Answer),
    queue: &mut mpsc::Receiver<(u64, Vec<u8>, Answer)>,
) -> std::io::Result<()> {
    let (from, mut out) = split(stream);
    let (received, mut answers) = mpsc::channel(QUEUE);
    // A task of its own: a message half read must not be given up for one to be sent.
    let reading = spawn(async move {
        let mut from = BufReader::with_capacity(16 << 10, from);
        while let Ok(Some(message)) = frames::receive(&mut from, MAX_MESSAGE).await {
            let Ok(Message::Response(number, response)) = Message::decode(&message) else {
                return;
            };
            if received.send((number, response)).await.is_err() {
                return;
            }
        }
    });
    let mut waiting = HashMap::from([(first.0, first.2)]);
    let mut next = Some(first.1);
    let ended = loop {
        if let Some(frame) = next.take()
            && let Err(e) = frames::send(&mut out, &frame).await
        {
            break Err(e);
        }
        tokio::select! {
            biased;
            request = queue.recv() => match request {
                Some((number, frame, answer)) => {
                    waiting.insert(number, answer);
                    next = Some(frame);
                }
                None => break Ok(()),
            },
            answer = answers.recv() => match answer {
                Some((number, response)) => {
                    if let Some(answer) = waiting.remove(&number) {
                        let _ = answer.send(Ok(response));
                    }
                }
                None => break Err(std::io::ErrorKind::ConnectionReset.into()),
            },
        }
    };
    reading.abort();
    ended
}
