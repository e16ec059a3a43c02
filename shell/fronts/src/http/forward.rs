//! Sends a request on to an instance.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use model::{Endpoint, EndpointStats, Host, InstanceId, ServiceKey, View};
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::answer::internal;
use super::problem::Problem;
use crate::{NoInstance, PassedOver};

/// Opening a connection: one lost SYN is sent again after a second.
const CONNECT: Duration = Duration::from_secs(2);
/// Instances that are tried; when three in a row cannot be reached, the fault is somewhere else.
const ATTEMPTS: usize = 3;
/// The most unused connections kept to an instance.
const IDLE: usize = 32;

/// The instance that answered.
const INSTANCE: HeaderName = HeaderName::from_static("x-pointsman-instance");

/// What of an instance's answer is passed on, besides status and body: what the body cannot be understood without, and what
/// the status refers to. Everything else, hop-by-hop fields above all (RFC 9110 §7.6.1), is between the instance and us.
const PASSED_ON: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::LOCATION,
    header::RETRY_AFTER,
];

/// Connections to instances.
pub(crate) struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

/// A request to be forwarded.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// The body's media type.
    pub(crate) kind: Option<&'static str>,
    pub(crate) body: Bytes,
}

impl Forwarder {
    pub(crate) fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE)
            .build(connector);
        Self { client, timeout }
    }
}

impl Api {
    /// Forwards to an instance of the service; to another if that one cannot be reached.
    pub(crate) async fn forward(
        &self,
        key: &ServiceKey,
        forwarded: &Forwarded,
    ) -> Result<Response<Body>, Box<Problem>> {
        let deadline = Instant::now() + self.forwarder.timeout;
        let mut tried: Vec<(InstanceId, String)> = Vec::new();
        while tried.len() < ATTEMPTS {
            let except: Vec<_> = tried.iter().map(|(id, _)| id.clone()).collect();
            let endpoint = match self.traffic.pick(&View::whole(key.clone()), &except) {
                Ok(endpoint) => endpoint,
                Err(none) if tried.is_empty() => {
                    return Err(Problem::no_instance(key.service.as_str(), none));
                }
                Err(_) => break,
            };
            let request = self.request(key, &endpoint, forwarded)?;
            let work = Work::begin(&endpoint);
            match timeout_at(deadline, self.forwarder.client.request(request)).await {
                Ok(Ok(response)) => {
                    endpoint.stats.succeeded();
                    return Ok(passed_on(&endpoint.id, response, work, deadline));
                }
                // Nothing was sent: it is safe to try another, whatever the method.
                Ok(Err(e)) if e.is_connect() => {
                    endpoint.stats.connected(false);
                    endpoint.stats.failed();
                    tried.push((endpoint.id, because(&e)));
                }
                Ok(Err(e)) => {
                    endpoint.stats.failed();
                    tried.push((endpoint.id, because(&e)));
                    break;
                }
                Err(_) => {
                    endpoint.stats.failed();
                    return Err(self.too_slow(&endpoint.id));
                }
            }
        }
        Err(unreachable(key, tried))
    }

    fn request(
        &self,
        key: &ServiceKey,
        endpoint: &Endpoint,
        forwarded: &Forwarded,
    ) -> Result<Request<Full<Bytes>>, Box<Problem>> {
        let address = endpoint.address;
        let target = forwarded.target.clone();
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query(target);
        let (_, service) = self.directory.service(key);
        let record = service
            .as_ref()
            .and_then(|service| service.instance(&endpoint.id));
        let host = match record.map(|record| &record.instance.host) {
            // A server that was registered by name may know itself by that name only.
            Some(Host::Name(name)) => format!("{name}:{}", address.port()),
            _ => address.to_string(),
        };
        let builder = uri.build().map(|uri| {
            Request::builder()
                .method(forwarded.method.clone())
                .uri(uri)
                .header(header::HOST, host)
        });
        let request = builder.and_then(|builder| {
            let kind = forwarded.kind.map(HeaderValue::from_static);
            let builder = match kind {
                Some(kind) => builder.header(header::CONTENT_TYPE, kind),
                None => builder,
            };
            builder.body(Full::new(forwarded.body.clone()))
        });
        request.map_err(|e| internal(format!("The request could not be built: {e}.")))
    }

    fn too_slow(&self, id: &InstanceId) -> Box<Problem> {
        let seconds = self.forwarder.timeout.as_secs_f32();
        Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "instance-too-slow",
            "The instance did not answer in time",
            format!("{id} was given {seconds} seconds."),
        )
    }
}

/// Work under way at an instance.
struct Work(Arc<EndpointStats>);

impl Work {
    fn begin(endpoint: &Endpoint) -> Self {
        endpoint.stats.begin();
        Self(Arc::clone(&endpoint.stats))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn passed_on(
    id: &InstanceId,
    answer: Response<Incoming>,
    work: Work,
    deadline: Instant,
) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    // The work lasts until the body's last byte, or until the client has left.
    let pieces = stream::try_unfold((body, work), move |(mut body, work)| async move {
        loop {
            let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
            let frame = match timeout_at(deadline, body.frame())
                .await
                .map_err(|_| late())?
            {
                None => return Ok(None),
                Some(frame) => frame.map_err(std::io::Error::other)?,
            };
            if let Ok(data) = frame.into_data() {
                return Ok::<_, std::io::Error>(Some((data, (body, work))));
            }
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = parts.status;
    for name in PASSED_ON {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(INSTANCE, id);
    }
    response
}

fn unreachable(key: &ServiceKey, tried: Vec<(InstanceId, String)>) -> Box<Problem> {
    let service = &key.service;
    let passed_over = tried.into_iter().map(|(id, why)| PassedOver {
        id: id.as_str().into(),
        why,
    });
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "instance-failed",
        "No instance answered",
        format!("The instances of {service} that were tried could not be reached, or broke off."),
    )
    .passed_over(NoInstance {
        passed_over: passed_over.collect(),
    })
}

/// The first cause: what is around it says only that there was an error.
fn because(e: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
