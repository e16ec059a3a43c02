use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use registry::replication::{Hello, MAX_MESSAGE, Message, PROTOCOL, Request, Response};
use thiserror::Error;
use tokio::io::{BufReader, split};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::{CONNECT, Identity, Stream, frames};
use crate::raft::spawn;

/// Requests that may wait to be sent to a node.
const QUEUE: usize = 64;
/// A connection on which nothing has come for so long, while an answer was waited for in vain, is given up. What was cut off for
/// a minute is otherwise silent for another: TCP waits twice as long before each further try.
const SILENT: Duration = Duration::from_secs(1);
/// How long a message may take to leave: the longest, at 5 Mbit/s. Whoever was cut off with its buffers full takes nothing.
const SEND: Duration = Duration::from_secs(10);
/// How long nothing is tried after a connection failed.
const BACKOFF: Duration = Duration::from_millis(50);

/// A way to send requests to another node. It connects when there is something to send.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    requests: mpsc::Sender<(u64, Vec<u8>, Answer)>,
    number: Arc<AtomicU64>,
    /// Since when nothing has come while an answer is owed.
    silent: watch::Receiver<Option<Instant>>,
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
        let (silence, silent) = watch::channel(None);
        let way = Way {
            identity,
            to,
            to_disk,
            address: address.into(),
            silence,
        };
        spawn(way.run(queue));
        Self {
            requests,
            number: Arc::default(),
            silent,
        }
    }

    /// Where an answer is owed, and nothing has come for longer than this, waits until something does, or the connection is given up.
    ///
    /// Meanwhile it asks something else: by what follows it TCP finds soonest what was lost on the way.
    pub(crate) async fn hear(&self, longest: Duration) {
        let mut silent = self.silent.clone();
        let Some(since) = silent.borrow().filter(|since| since.elapsed() > longest) else {
            return;
        };
        tokio::select! {
            biased;
            _ = self.ask(Request::Who, SILENT) => {}
            _ = silent.wait_for(|silent| *silent != Some(since)) => {}
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
    silence: watch::Sender<Option<Instant>>,
}

impl Way {
    async fn run(self, mut queue: mpsc::Receiver<(u64, Vec<u8>, Answer)>) {
        while let Some(first) = queue.recv().await {
            let connected = timeout(CONNECT, self.connect()).await;
            let why: Arc<str> = match connected {
                Ok(Ok(stream)) => {
                    let ended = exchange(stream, first, &mut queue, &self.silence).await;
                    self.silence.send_replace(None);
                    match ended {
                        Ok(()) => return,
                        // The answers that were waited for went with it.
                        Err(_) => continue,
                    }
                }
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
    silence: &watch::Sender<Option<Instant>>,
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
    let mut heard = Instant::now();
    let mut waiting = HashMap::from([(first.0, (first.2, heard))]);
    silence.send_replace(Some(heard));
    let mut next = Some(first.1);
    let ended = loop {
        if let Some(frame) = next.take() {
            let sent = timeout(SEND, frames::send(&mut out, &frame)).await;
            if let Err(e) = sent.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                break Err(e);
            }
        }
        tokio::select! {
            biased;
            request = queue.recv() => match request {
                Some((number, frame, answer)) => {
                    let now = Instant::now();
                    // Whoever is willing to wait longer says so by waiting.
                    let in_vain = |(answer, sent): &(Answer, Instant)| {
                        answer.is_closed() && *sent >= heard && now - *sent >= SILENT
                    };
                    if waiting.values().any(in_vain) {
                        break Err(std::io::ErrorKind::TimedOut.into());
                    }
                    waiting.insert(number, (answer, now));
                    if silence.borrow().is_none() {
                        silence.send_replace(Some(now));
                    }
                    next = Some(frame);
                }
                None => break Ok(()),
            },
            answer = answers.recv() => match answer {
                Some((number, response)) => {
                    heard = Instant::now();
                    silence.send_replace(None);
                    if let Some((answer, _)) = waiting.remove(&number) {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use tokio::io::{DuplexStream, duplex};

    use super::super::{Opening, Transport};
    use super::*;

    /// Every connection leads to a node that greets. From then on the first one carries nothing any more, and nobody is told.
    #[derive(Default)]
    struct OnceLost(AtomicUsize);

    impl Transport for OnceLost {
        fn connect(&self, _: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
            let lost = self.0.fetch_add(1, Relaxed) == 0;
            let (ours, theirs) = duplex(1 << 20);
            tokio::spawn(answer(theirs, lost));
            let connected: std::io::Result<Box<dyn Stream>> = Ok(Box::new(ours));
            async { connected }.boxed()
        }

        fn listen(&self, _: SocketAddr) -> std::io::Result<Opening> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    async fn answer(mut stream: DuplexStream, lost: bool) {
        let done = |number| {
            let mut frame = frames::begin();
            Message::Response(number, Response::Done).encode(&mut frame);
            frames::finish(frame)
        };
        let limit = frames::MAX_GREETING;
        while let Ok(Some(message)) = frames::receive(&mut stream, limit).await {
            let number = match Message::decode(&message) {
                Ok(Message::Request(number, Request::Who)) => number,
                _ => 0,
            };
            // The greeting is no message: its protocol stands where their kind does.
            if (Hello::decode(&message).is_ok_and(|hello| &*hello.token == "t") || !lost)
                && frames::send(&mut stream, &done(number)).await.is_err()
            {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_gone_silent_is_given_up_for_another() {
        crate::raft::Clockwork::scope(1, silent_once()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_owes_an_answer_is_waited_for_until_its_connection_is_to_be_given_up() {
        crate::raft::Clockwork::scope(1, owed_once()).await;
    }

    fn once_lost() -> (Arc<OnceLost>, Link) {
        let transport = Arc::new(OnceLost::default());
        let identity = Identity {
            cluster: "c".into(),
            token: "t".into(),
            node: 1,
            disk: 1,
            format: 1,
            tls: None,
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
        };
        (transport, Link::new(identity, (2, 2), "anywhere"))
    }

    async fn owed_once() {
        let (_, link) = once_lost();
        let short = Duration::from_millis(50);
        let began = Instant::now();
        assert!(link.ask(Request::Who, 2 * short).await.is_err());
        link.hear(4 * short).await;
        assert!(began.elapsed() < SILENT, "that is not so long ago");
        link.hear(short).await;
        assert!(began.elapsed() >= SILENT, "nothing came");
        let mut tries = 0;
        while link.ask(Request::Who, short).await.is_err() {
            tries += 1;
            assert!(tries < 10, "it is not given up");
        }
        let answered = Instant::now();
        link.hear(Duration::ZERO).await;
        assert_eq!(answered.elapsed(), Duration::ZERO, "nothing is owed");
    }

    async fn silent_once() {
        let (transport, link) = once_lost();
        let patience = Duration::from_millis(700);
        let mut tries = 0;
        while link.ask(Request::Who, patience).await.is_err() {
            tries += 1;
            assert!(tries < 10, "it waits for the first connection for ever");
        }
        assert_eq!(transport.0.load(Relaxed), 2);
        // One that is well is kept, whoever has no more patience.
        for _ in 0..20 {
            let _ = timeout(Duration::ZERO, link.ask(Request::Who, patience)).await;
            tokio::time::sleep(patience).await;
            assert!(link.ask(Request::Who, patience).await.is_ok());
        }
        assert_eq!(transport.0.load(Relaxed), 2);
    }
}
