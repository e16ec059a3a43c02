use std::io;
use std::sync::Arc;
use std::time::Duration;

use registry::replication::{Hello, MAX_MESSAGE, Message, PROTOCOL, Response};
use tokio::io::{BufReader, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{CONNECT, Identity, Listener, Stream, frames};
use crate::raft::spawn;

/// Answers that may wait to be sent.
const QUEUE: usize = 64;

/// Whoever asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The node.
    pub(crate) node: u64,
    /// Its data directory.
    pub(crate) disk: u64,
    /// The latest format that it reads.
    pub(crate) format: u8,
    /// Whether it means this node with the data directory that it has, and not whoever is there.
    pub(crate) means_us: bool,
}

/// What answers the other nodes' requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request, which is in these bytes. What has to be in the order of the requests is done when this
    /// returns; the answer may come later.
    fn handle(
        self: Arc<Self>,
        from: Peer,
        message: Vec<u8>,
        answers: Answers,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// A node has come.
    fn met(&self, peer: Peer);

    /// A connection of this node has ended.
    fn lost(&self, from: u64);

    /// A connection was refused.
    fn refused(&self, why: &str);
}

/// Where answers go.
#[derive(Clone, Debug)]
pub(crate) struct Answers(mpsc::Sender<Vec<u8>>);

impl Answers {
    pub(crate) async fn send(&self, number: u64, response: Response) {
        // Whoever does not wait any more has gone, and the connection with it.
        let _ = self.0.send(answer(number, response)).await;
    }
}

fn answer(number: u64, response: Response) -> Vec<u8> {
    let mut frame = frames::begin();
    Message::Response(number, response).encode(&mut frame);
    frames::finish(frame)
}

/// Takes connections of other nodes.
pub(crate) async fn serve<H: Handler>(
    mut listener: Box<dyn Listener>,
    identity: Identity,
    handler: Arc<H>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (identity, handler) = (identity.clone(), Arc::clone(&handler));
                spawn(connection(stream, from, identity, handler));
            }
            // No descriptors, most likely: those that there are go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection<H: Handler>(
    stream: Box<dyn Stream>,
    from: String,
    identity: Identity,
    handler: Arc<H>,
) {
    match timeout(CONNECT, greet(stream, &from, &identity)).await {
        Ok(Ok((stream, from))) => {
            handler.met(from);
            // Whatever ended it, it has ended.
            let _ = converse(stream, from, &handler).await;
            handler.lost(from.node);
        }
        Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Err(e)) => handler.refused(&e.to_string()),
        Err(_) => handler.refused("a connection did not say who it is in time"),
    }
}

async fn greet(
    stream: Box<dyn Stream>,
    address: &str,
    identity: &Identity,
) -> io::Result<(Box<dyn Stream>, Peer)> {
    let refused = |why: &str| io::Error::other(format!("{address} was refused: {why}"));
    let broken = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => e,
        _ => match alert(&e) {
            // The other way round: it is the other that goes.
            Some(alert) => io::Error::other(format!(
                "{address} did not take the certificate of this node ({alert:?})"
            )),
            None => refused(&format!("{e}; compare [cluster] on both nodes")),
        },
    };
    let mut stream = identity.accept(stream).await.map_err(broken)?;
    let greeting = frames::receive(&mut stream, frames::MAX_GREETING).await;
    let greeting = greeting.map_err(broken)?;
    // Whoever only looks whether somebody listens, as checks and scans do, was not refused.
    let greeting = greeting.ok_or(io::ErrorKind::UnexpectedEof)?;
    let hello = Hello::decode(&greeting).ok();
    let hello = hello.ok_or_else(|| refused("it does not greet as nodes do"))?;
    let why = match &hello {
        h if h.protocol != PROTOCOL => {
            "it speaks another version of the protocol; start the same program on both nodes"
        }
        h if !same(h.token.as_bytes(), identity.token.as_bytes()) => {
            "its token is another; compare token in [cluster] on both nodes"
        }
        h if h.cluster != identity.cluster => {
            "it belongs to another cluster; compare name in [cluster] on both nodes"
        }
        h if h.to != 0 && h.to != identity.node => {
            "it means another node; compare the addresses in [cluster] peers"
        }
        h if h.to_disk != 0 && h.to_disk != identity.disk => {
            "it means this node with another data directory, which has been lost; remove the node from the cluster, and it \
             will be taken in again"
        }
        _ => {
            frames::send(&mut stream, &answer(0, Response::Done)).await?;
            let peer = Peer {
                node: hello.node,
                disk: hello.disk,
                format: hello.format,
                means_us: hello.to == identity.node && hello.to_disk == identity.disk,
            };
            return Ok((stream, peer));
        }
    };
    let response = Response::Refused {
        passing: false,
        why: why.into(),
    };
    frames::send(&mut stream, &answer(0, response)).await?;
    Err(refused(why))
}

/// What the other side ended TLS with.
fn alert(e: &io::Error) -> Option<rustls::AlertDescription> {
    match e.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Compares in a time that does not say how much was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

async fn converse<H: Handler>(
    stream: Box<dyn Stream>,
    from: Peer,
    handler: &Arc<H>,
) -> io::Result<()> {
    let (reading, mut out) = split(stream);
    let (answers, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let writing = spawn(async move {
        while let Some(frame) = queue.recv().await {
            if frames::send(&mut out, &frame).await.is_err() {
                return;
            }
        }
    });
    let mut reading = BufReader::with_capacity(64 << 10, reading);
    let ended = loop {
        match frames::receive(&mut reading, MAX_MESSAGE).await {
            Ok(Some(message)) => {
                let answers = Answers(answers.clone());
                if let Err(e) = Arc::clone(handler).handle(from, message, answers).await {
                    break Err(e);
                }
            }
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    writing.abort();
    ended
}
