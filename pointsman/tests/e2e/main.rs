//! The whole program, from outside: what users do, and what becomes of it.

#[path = "../harness/mod.rs"]
mod harness;

mod api_names;
mod certificates;
mod check;
mod circuit;
mod cluster;
mod cluster_checks;
mod cluster_members;
mod cluster_reads;
mod cluster_rescue;
mod cluster_spread;
mod command_line;
mod deadline;
mod descriptors;
mod events;
mod explain;
mod filters;
mod given_certificates;
mod grpc;
mod hedge;
mod hostile;
mod http2;
mod input;
mod limits;
mod matches;
mod mirror;
mod observe;
mod older;
mod origins;
mod persistence;
mod policies;
mod preface;
mod registration;
mod reload;
mod respread;
mod retries;
mod routes;
mod shared;
mod shutdown;
mod smuggling;
mod split;
mod start;
mod tcp;
mod tls;
mod tls_policy;
mod tracing;
mod udp;
mod upgrade;
mod workers;
mod wrap;
mod zookeeper;
mod zookeeper_cluster;
mod zookeeper_histories;
mod zookeeper_kills;
mod zookeeper_tls;

use serde_json::{Value, json};

use harness::Origin;

/// A listener that sends everything to the service `shop`.
const SHOP: &str = r#"
    [listener.web]
    bind = "127.0.0.1:0"
    service = "shop"
"#;

/// A registration of an origin, that needs no heartbeat.
fn lasting(origin: &Origin) -> Value {
    json!({ "address": "127.0.0.1", "port": origin.port(), "persistent": true })
}
