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
    /// How it ended: `ok`, or why not.
    pub ended: &'static str,
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
    /// `1.0` or `1.1`.
    pub version: &'static str,
    /// The id in `X-Request-Id`.
    pub id: Box<str>,
    /// `User-Agent`.
    pub user_agent: Option<Box<str>>,
    /// `Referer`.
    pub referer: Option<Box<str>>,
}
