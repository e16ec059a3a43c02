//! One probe of one instance.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::h1;
use model::{CheckKind, Counter, Host, HttpCheck, Role, Transport};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::exchange;
use crate::grpc;
use crate::schedule::{Outcome, Target};

/// How much of an answer is searched.
pub(crate) const BODY: usize = 64 * 1024;

/// The largest head an answer may have.
pub(crate) const LIMITS: h1::Limits = h1::Limits {
    head: 16 * 1024,
    fields: 100,
};

/// How instances are spoken to within TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// How, without a word on what is spoken in it.
    pub config: Arc<ClientConfig>,
    /// How, offering HTTP/2.
    pub many: Arc<ClientConfig>,
    /// Who they have to be; `None`: who has their address.
    pub server_name: Option<ServerName<'static>>,
}

/// What bytes are exchanged on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The connection, within TLS if that is spoken; `many` if it is to carry HTTP/2.
async fn within(
    tls: Option<&Tls>,
    stream: TcpStream,
    address: SocketAddr,
    many: bool,
) -> Result<Box<dyn Stream>, String> {
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let config = if many { &tls.many } else { &tls.config };
    let name = tls.server_name.clone();
    let name = name.unwrap_or_else(|| ServerName::from(address.ip().to_canonical()));
    let agreed = TlsConnector::from(config.clone())
        .connect(name, stream)
        .await;
    match agreed {
        Ok(stream) if many && stream.get_ref().1.alpn_protocol() != Some(b"h2") => Err(format!(
            "{address} does not agree on HTTP/2, which gRPC needs"
        )),
        Ok(stream) => Ok(Box::new(stream)),
        Err(fault) => Err(format!("no TLS with {address}: {fault}")),
    }
}

/// Why a probe came to nothing.
pub(crate) enum Fault {
    /// The instance is not well, in words for people.
    Instance(String),
    /// We have no descriptor or no memory for it, which says nothing of the instance.
    Ours,
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Instance(why)
    }
}

impl Fault {
    /// What was wrong when a socket was made or connected.
    pub(crate) fn of(fault: &io::Error, words: impl FnOnce(&io::Error) -> String) -> Self {
        let number = fault.raw_os_error().map(Errno::from_raw_os_error);
        match number {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Ours,
            _ => Self::Instance(words(fault)),
        }
    }
}

/// Until a probe for which there was nothing is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Probes `target` once, within its check's timeout; `postponed` counts how often it had to wait for a descriptor.
///
/// # Errors
/// Why it is not well, in words for people.
pub async fn probe(target: &Target, tls: Option<Tls>, postponed: &Counter) -> Outcome {
    let limit = target.check.timeout;
    loop {
        match timeout(limit, attempt(target, tls.as_ref())).await {
            Ok(Ok(role)) => return Ok(role),
            Ok(Err(Fault::Instance(why))) => return Err(why),
            Ok(Err(Fault::Ours)) => {
                postponed.add(1);
                sleep(AGAIN).await;
            }
            Err(_) => return Err(format!("no answer within {}", model::Period(limit))),
        }
    }
}

async fn attempt(target: &Target, tls: Option<&Tls>) -> Result<Option<Role>, Fault> {
    // A port of its own is there for the check.
    let tls = tls.filter(|_| target.check.port.is_none());
    let address = resolve(&target.host, target.port).await?;
    if let CheckKind::Exchange(exchange) = &target.check.kind
        && exchange.transport == Transport::Udp
    {
        // What is silent is well, and there must be time left to say so.
        let patience = target.check.timeout.mul_f32(0.9);
        return exchange::udp(address, exchange, patience).await;
    }
    let stream = TcpStream::connect(address).await.map_err(|fault| {
        Fault::of(&fault, |fault| {
            format!("no connection to {address}: {fault}")
        })
    })?;
    Ok(converse(stream, address, target, tls).await?)
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    target: &Target,
    tls: Option<&Tls>,
) -> Outcome {
    match &target.check.kind {
        CheckKind::Tcp if tls.is_none() => {
            // Closed with a reset, so that a probe leaves no connection in TIME_WAIT on either side.
            let _ = stream.set_zero_linger();
            Ok(None)
        }
        CheckKind::Tcp => within(tls, stream, address, false).await.map(|_| None),
        CheckKind::Http(check) => {
            let stream = within(tls, stream, address, false).await?;
            ask(stream, target, check).await.map(|()| None)
        }
        CheckKind::Grpc(check) => {
            let stream = within(tls, stream, address, true).await?;
            let scheme = if tls.is_some() { "https" } else { "http" };
            let asked = grpc::ask(stream, check, &host_of(target), scheme).await;
            asked.map(|()| None)
        }
        CheckKind::Exchange(exchange) => {
            exchange::tcp(within(tls, stream, address, false).await?, exchange).await
        }
        CheckKind::Protocol(check) => exchange::protocol(stream, check).await,
    }
}

async fn resolve(host: &Host, port: u16) -> Result<SocketAddr, Fault> {
    let name = match host {
        Host::Ip(ip) => return Ok((*ip, port).into()),
        Host::Name(name) => name,
    };
    let none = || format!("{name} has no address");
    let found = tokio::net::lookup_host((&**name, port)).await;
    let mut found = found.map_err(|fault| Fault::of(&fault, |_| none()))?;
    Ok(found.next().ok_or_else(none)?)
}

async fn ask(
    mut stream: Box<dyn Stream>,
    target: &Target,
    check: &HttpCheck,
) -> Result<(), String> {
    stream
        .write_all(&request(target, check))
        .await
        .map_err(|fault| broken(&fault))?;
    let mut answer = Vec::with_capacity(4 * 1024);
    let kind = h1::MethodKind::of(check.method.as_bytes());
    let mut scanned = 0;
    let (status, mut body, head_len) = loop {
        let parsed = h1::parse_response(&answer, &mut scanned, &LIMITS, kind)
            .map_err(|fault| format!("the answer is no HTTP: {fault}"))?
            .map(|response| (response.status, response.framing, response.head_len));
        match parsed {
            Some((100..200, _, head_len)) => {
                answer.drain(..head_len);
                scanned = 0;
            }
            Some((status, framing, head_len)) => {
                break (status, h1::BodyDecoder::new(framing), head_len);
            }
            None if stream
                .read_buf(&mut answer)
                .await
                .map_err(|fault| broken(&fault))?
                == 0 =>
            {
                return Err("the connection was closed without an answer".into());
            }
            None => {}
        }
    };
    if !check.status.iter().any(|range| range.contains(status)) {
        let wanted: Vec<_> = check.status.iter().map(ToString::to_string).collect();
        return Err(format!("status {status}, expected {}", wanted.join(" or ")));
    }
    match &check.body {
        None => Ok(()),
        Some(wanted) => {
            answer.drain(..head_len);
            find(&mut stream, answer, &mut body, wanted).await
        }
    }
}

fn host_of(target: &Target) -> String {
    let port = target.port;
    match &target.host {
        Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

fn request(target: &Target, check: &HttpCheck) -> Vec<u8> {
    let host = check.host.as_deref().map(str::to_owned);
    let host = host.unwrap_or_else(|| host_of(target));
    let mut out = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\n",
        check.method, check.path
    );
    let named = |name: &str| {
        check
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    if !named("user-agent") {
        out += "User-Agent: pointsman-check\r\n";
    }
    for (name, value) in &check.headers {
        out += &format!("{name}: {value}\r\n");
    }
    out += "Connection: close\r\n\r\n";
    out.into_bytes()
}

/// Looks for `wanted` in the first [`BODY`] bytes of the body.
async fn find(
    stream: &mut Box<dyn Stream>,
    mut raw: Vec<u8>,
    body: &mut h1::BodyDecoder,
    wanted: &str,
) -> Result<(), String> {
    let mut text = Vec::new();
    loop {
        let decoded = body
            .decode(&mut raw)
            .map_err(|fault| format!("the answer is no HTTP: {fault}"))?;
        text.extend_from_slice(&raw[..decoded.data]);
        text.truncate(BODY);
        if text
            .windows(wanted.len().max(1))
            .any(|w| w == wanted.as_bytes())
            || wanted.is_empty()
        {
            return Ok(());
        }
        raw.clear();
        let over = decoded.done || text.len() == BODY;
        // An answer cut short has no more to offer either.
        if over || stream.read_buf(&mut raw).await.unwrap_or(0) == 0 {
            return Err(format!("the answer's body has no {wanted:?}"));
        }
    }
}

pub(crate) fn broken(fault: &io::Error) -> String {
    format!("the connection broke: {fault}")
}

/// A probe outside of any schedule: whether a TCP connection is accepted. Who could not be asked is not said to be gone.
pub(crate) async fn accepts(host: &Host, port: u16, limit: Duration) -> bool {
    let connect = async {
        let address = resolve(host, port).await?;
        let connected = TcpStream::connect(address).await;
        connected.map_err(|fault| Fault::of(&fault, ToString::to_string))
    };
    matches!(timeout(limit, connect).await, Ok(Ok(_) | Err(Fault::Ours)))
}
