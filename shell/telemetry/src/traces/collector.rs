//! The collector: one connection in HTTP/1.1, opened when there is something to send.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TraceOptions;
use super::message::ExportTraceServiceResponse;
use super::retry::{Verdict, verdict};

/// The longest answer that is read: it says no more than how many spans were not taken, and why.
const LONGEST_ANSWER: usize = 64 << 10;

pub(super) struct Collector {
    options: TraceOptions,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What the collector made of a message.
pub(super) struct Answered {
    pub(super) verdict: Verdict,
    /// Spans that it did not take of a message that it took.
    pub(super) rejected: u64,
    /// What there is to say about it.
    pub(super) why: String,
}

impl Collector {
    pub(super) const fn new(options: TraceOptions) -> Self {
        Self {
            options,
            connection: None,
        }
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.options.host, self.options.port)
    }

    /// Sends a message. An error is one of the connection.
    pub(super) async fn post(&mut self, message: &Bytes) -> io::Result<Answered> {
        // It may have been closed since it was used last, and hyper knows only when it looks.
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
            && let Ok(answered) = self.post_on(connection, message).await
        {
            return Ok(answered);
        }
        let connection = self.connect().await?;
        self.post_on(connection, message).await
    }

    async fn post_on(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        message: &Bytes,
    ) -> io::Result<Answered> {
        let request = self.request(message.clone())?;
        let answer = connection.send_request(request);
        let answer = answer.await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map(Collected::to_bytes).ok();
        // Of what is longer than it may be, the rest is still to come.
        self.connection = body.is_some().then_some(connection);
        let retry_after = head.headers.get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        let verdict = verdict(head.status.as_u16(), retry_after, SystemTime::now());
        let partial = body
            .filter(|_| verdict == Verdict::Done)
            .and_then(|body| {
                ExportTraceServiceResponse::decode(body)
                    .ok()?
                    .partial_success
            })
            .unwrap_or_default();
        let why = match verdict {
            Verdict::Done => partial.error_message,
            _ => format!("it answered with {}", head.status),
        };
        Ok(Answered {
            verdict,
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            why,
        })
    }

    fn request(&self, message: Bytes) -> io::Result<Request<Full<Bytes>>> {
        let options = &self.options;
        let host = match options.host.contains(':') {
            true => format!("[{}]:{}", options.host, options.port),
            false => format!("{}:{}", options.host, options.port),
        };
        let mut request = Request::post(&*options.target)
            .header("host", host)
            .header(
                "user-agent",
                concat!("pointsman/", env!("CARGO_PKG_VERSION")),
            )
            .header("content-type", "application/x-protobuf");
        for (name, value) in &options.headers {
            request = request.header(&**name, &**value);
        }
        let request = request.body(Full::new(message));
        request.map_err(io::Error::other)
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let options = &self.options;
        let stream = TcpStream::connect((&*options.host, options.port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &options.tls else {
            return begin(stream).await;
        };
        let name = ServerName::try_from(options.host.to_string()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        begin(connector.connect(name, stream).await?).await
    }
}

async fn begin<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Whatever goes wrong with it, the request that is under way is told, too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(requests)
}
