use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::{InstanceId, ServiceKey};

/// One line of the access log.
#[derive(Clone, Debug)]
pub enum Record {
    /// A request.
    Request(AccessRecord),
    /// A connection or session on which no HTTP is spoken.
    Connection(ConnectionRecord),
}

/// One TCP connection or UDP session, as the access log tells it.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    /// When it ended.
    pub at: SystemTime,
    /// From its beginning to its end.
    pub duration: Duration,
    /// From its beginning until there was a connection to an instance.
    pub connect: Duration,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The client's address.
    pub client: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name, if one matched.
    pub route: Option<Arc<str>>,
    /// The server name in its TLS hello, if that was looked at.
    pub sni: Option<Box<str>>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// The instance at the other end.
    pub instance: Option<Answerer>,
    /// Instances tried.
    pub attempts: u8,
    /// How it ended: `ok`, or why not.
    pub ended: &'static str,
}

/// One request, as the access log tells it.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the answer was complete.
    pub at: SystemTime,
    /// From the request's head to the answer's last byte.
    pub duration: Duration,
    /// How much of that was before the first attempt: what filters and the service's queue made it wait.
    pub waited: Duration,
    /// The client's address.
    pub client: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name, if one matched.
    pub route: Option<Arc<str>>,
    /// What was asked.
    pub request: RequestLine,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// Bytes read from the client for this request, heads included.
    pub received: u64,
    /// Bytes sent to the client, heads included.
    pub sent: u64,
    /// Who answered.
    pub instance: Option<Answerer>,
    /// Attempts made.
    pub attempts: u8,
    /// All of them, and what was sent to one of their instances a second time because a connection turned out to be closed.
    pub tries: Vec<Try>,
    /// The trace that it belongs to, if it does.
    pub trace: Option<Box<Trace>>,
    /// How it ended: `ok`, or why not.
    pub ended: &'static str,
}

/// One attempt at one instance.
#[derive(Clone, Debug)]
pub struct Try {
    /// The instance.
    pub instance: InstanceId,
    /// Where it is.
    pub address: SocketAddr,
    /// When it began, from the request's head on.
    pub at: Duration,
    /// How long connecting took; `None` if the connection was there before.
    pub connect: Option<Duration>,
    /// How long its TLS handshake took, if there was one.
    pub tls: Option<Duration>,
    /// From the attempt's beginning to the head of the answer, if one came.
    pub first_byte: Option<Duration>,
    /// From the attempt's beginning to its end.
    pub duration: Duration,
    /// The status that the instance answered with; 0 if it did not.
    pub status: u16,
    /// How it ended: `ok`, or why not.
    pub ended: &'static str,
    /// What the system or TLS said of that, if it did.
    pub why: Option<Box<str>>,
    /// The span that it is, if the request has a trace.
    pub span: [u8; 8],
}

/// Where a request stands in a trace (W3C Trace Context).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's id.
    pub id: [u8; 16],
    /// The span that the request came from, if it said so.
    pub parent: Option<[u8; 8]>,
    /// The span that the request is here; `None` if its trace is only passed on.
    pub span: Option<[u8; 8]>,
    /// The flags of `traceparent`.
    pub flags: u8,
    /// What others along the way keep in `tracestate`.
    pub state: Option<Box<str>>,
}

/// The instance that answered.
#[derive(Clone, Debug)]
pub struct Answerer {
    /// Its service.
    pub service: ServiceKey,
    /// Its id.
    pub id: InstanceId,
    /// Where it is.
    pub address: SocketAddr,
}

/// The parts of a request that are logged.
#[derive(Clone, Debug, Default)]
pub struct RequestLine {
    /// The method.
    pub method: Box<str>,
    /// The host it was for.
    pub authority: Box<str>,
    /// Path and query.
    pub target: Box<str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The id in `X-Request-Id`.
    pub id: Box<str>,
    /// `User-Agent`.
    pub user_agent: Option<Box<str>>,
    /// `Referer`.
    pub referer: Option<Box<str>>,
}
