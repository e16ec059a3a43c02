//! The native API: JSON over HTTP/1.1, described by the OpenAPI document at `/openapi.json`; errors are those of
//! RFC 9457.

mod answer;
mod body;
mod certificates;
mod check;
mod cluster;
mod decisions;
mod fault;
mod feed;
mod fields;
mod foreign;
mod forward;
mod heartbeats;
mod input;
mod instances;
mod json;
mod node;
mod options;
mod patch;
mod problem;
mod reading;
mod registration;
mod serve;
mod services;
mod stall;
mod tutorial;
mod values;
mod view;
mod watch;
mod watchers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post, put};
use tokio::sync::watch::Receiver;

use crate::{Directory, Traffic};
use body::Room;
use feed::Feeds;
use forward::Forwarder;

pub use options::Options;
pub use serve::{Arrivals, serve};
pub use watchers::{Elsewhere, Watchers};

/// What the API answers from.
#[derive(Clone)]
pub struct Backend {
    /// The registry.
    pub directory: Arc<dyn Directory>,
    /// The data plane.
    pub traffic: Arc<dyn Traffic>,
    /// Where watches are entered, for them to be sent to other nodes.
    pub watchers: Arc<Watchers>,
}

/// What the handlers share.
struct Api {
    directory: Arc<dyn Directory>,
    traffic: Arc<dyn Traffic>,
    options: Options,
    room: Room,
    feeds: Arc<Feeds>,
    watchers: Arc<Watchers>,
    forwarder: Forwarder,
    /// Merging metadata reads before it writes; two at once could lose one.
    merging: tokio::sync::Mutex<()>,
    /// Turns true when the server shuts down: whatever waits stops waiting.
    closing: Receiver<bool>,
}

/// A path, and the methods it has.
type Entry = (&'static str, fn() -> MethodRouter<Arc<Api>>);

type Shared = axum::extract::State<Arc<Api>>;

/// Every path there is. `openapi.json` describes the same; a test compares them.
const ROUTES: [Entry; 24] = [
    ("/v1/services", || get(services::list)),
    ("/v1/services/{service}", || get(services::show)),
    ("/v1/services/{service}/watch", || get(watch::watch)),
    ("/v1/services/{service}/instances/{id}", || {
        put(instances::register)
            .get(instances::show)
            .patch(instances::patch)
            .delete(instances::deregister)
    }),
    ("/v1/services/{service}/instances/{id}/heartbeat", || {
        post(heartbeats::one)
    }),
    ("/v1/heartbeats", || post(heartbeats::many)),
    ("/v1/pick/{service}", || get(decisions::pick)),
    ("/v1/explain", || get(decisions::explain)),
    ("/v1/cluster", || get(node::cluster)),
    ("/v1/cluster/nodes/{name}", || {
        put(cluster::add).delete(cluster::remove)
    }),
    ("/v1/cluster/nodes/{name}/promote", || {
        post(cluster::promote)
    }),
    ("/v1/cluster/transfer", || post(cluster::transfer)),
    ("/v1/cluster/home", || get(cluster::home)),
    ("/v1/cluster/snapshot", || get(cluster::snapshot)),
    ("/v1/certificates", || get(certificates::list)),
    ("/v1/certificates/{certificate}", || {
        put(certificates::set).delete(certificates::remove)
    }),
    ("/register", || post(tutorial::register)),
    ("/query", || get(tutorial::query)),
    ("/load_balance", || post(tutorial::load_balance)),
    ("/metrics", || get(node::metrics)),
    ("/healthz", || get(node::healthz)),
    ("/readyz", || get(node::readyz)),
    ("/openapi.json", || get(node::openapi)),
    ("/", || get(node::index)),
];

fn router(api: Arc<Api>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods())
        })
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&api), foreign::refuse))
        .with_state(api)
}

impl Api {
    fn new(backend: Backend, options: Options, closing: Receiver<bool>) -> Self {
        Self {
            feeds: Feeds::new(Arc::clone(&backend.directory), closing.clone()),
            directory: backend.directory,
            watchers: backend.watchers,
            traffic: backend.traffic,
            forwarder: Forwarder::new(options.forward_timeout),
            options,
            room: Room::new(),
            merging: tokio::sync::Mutex::default(),
            closing,
        }
    }
}
