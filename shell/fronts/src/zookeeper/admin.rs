//! The commands that tools ask for by HTTP: `GET /commands/NAME`, answered as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use registry::tree::SessionId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use zookeeper::{Facts, figures};

use super::{Common, Front};
use crate::Names;

/// Names of commands, and what they are called for short. They are those of ZooKeeper 3.9.
const COMMANDS: &[(&str, &[&str])] = &[
    ("configuration", &["conf", "config"]),
    ("connections", &["cons"]),
    ("connection_stat_reset", &["crst"]),
    ("dirs", &[]),
    ("dump", &[]),
    ("environment", &["env", "envi"]),
    ("is_read_only", &["isro"]),
    ("last_zxid", &[]),
    ("monitor", &["mntr"]),
    ("ruok", &[]),
    ("server_stats", &["srvr"]),
    ("stat_reset", &["srst"]),
    ("stats", &["stat"]),
    ("voting_view", &[]),
    ("watch_summary", &["wchs"]),
    ("watches", &["wchc"]),
    ("watches_by_path", &["wchp"]),
];

/// Commands of ZooKeeper's that there are not here, and what to use instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("get_trace_mask", "nothing is traced"),
    ("hash", "the tree has no digests"),
    ("initial_configuration", "configuration shows what holds"),
    ("last_snapshot", "the metrics of the API have it"),
    ("leader", "there is no ensemble"),
    ("observers", "there is no ensemble"),
    (
        "restore",
        "start the node with the copy as its data directory",
    ),
    ("set_trace_mask", "nothing is traced"),
    (
        "shed",
        "nodes of a cluster send clients on by themselves; all of them go with cluster.weight = 0",
    ),
    (
        "snapshot",
        "they are made by themselves; stop the node and copy its data directory",
    ),
    ("system_properties", "this is no Java"),
    ("zabstate", "there is no ensemble"),
];

/// Serves the commands of a front by some names, for as long as it is polled.
pub fn serve(
    listener: TcpListener,
    front: &Front,
    names: Names,
) -> impl Future<Output = ()> + Send + 'static {
    let router = Router::new()
        .route("/commands", get(list))
        .route("/commands/{name}", get(command))
        .layer(from_fn_with_state(names, called_by_name))
        .with_state(Arc::clone(front.common()));
    async move {
        // A handful of tools: what can go wrong is a client that leaves.
        let _ = axum::serve(listener, router).await;
    }
}

/// Refuses to answer by a name that may be anybody's: see [`Names`].
async fn called_by_name(State(names): State<Names>, request: Request, next: Next) -> Response {
    match names.stranger(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(_) => {
            let error = "call this by its address or as localhost, or add the name to api.names";
            let error = Json(json!({ "error": error }));
            (StatusCode::MISDIRECTED_REQUEST, error).into_response()
        }
    }
}

async fn list() -> Json<Vec<&'static str>> {
    Json(COMMANDS.iter().map(|(name, _)| *name).collect())
}

async fn command(
    State(common): State<Arc<Common>>,
    Path(asked): Path<String>,
) -> (StatusCode, Json<Value>) {
    let known = |(name, short): &&(&str, &[&str])| *name == asked || short.contains(&&*asked);
    let Some((name, _)) = COMMANDS.iter().find(known) else {
        if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| *name == asked) {
            let error = format!("{asked} is not done here: {instead}");
            let answer = json!({ "command": asked, "error": error });
            return (StatusCode::NOT_IMPLEMENTED, Json(answer));
        }
        let error = format!("there is no command {asked}; /commands lists them");
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error })));
    };
    if matches!(*name, "stat_reset" | "connection_stat_reset") {
        common.reset_counters();
    }
    let mut answer = Value::Null;
    common.with_facts(&mut |facts| answer = carry_out(name, facts));
    answer["command"] = json!(name);
    answer["error"] = Value::Null;
    (StatusCode::OK, Json(answer))
}

fn carry_out(name: &str, facts: &Facts<'_>) -> Value {
    let tree = facts.registry.tree();
    match name {
        "configuration" => json!({
            "client_port": facts.bind.port(),
            "secure_client_port": facts.secure.map_or(-1, |at| at.port().into()),
            "min_session_timeout": facts.timeouts.0 as u64,
            "max_session_timeout": facts.timeouts.1 as u64,
            "server_id": 0,
        }),
        "connections" | "stats" => {
            let connections = facts.connections.iter().map(|c| {
                json!({
                    "remote_socket_address": c.peer.to_string(),
                    "session_id": c.session.0,
                    "session_timeout": c.timeout,
                    "outstanding_requests": c.in_flight,
                    "packets_received": c.received,
                    "packets_sent": c.sent,
                })
            });
            let connections: Vec<Value> = connections.collect();
            let mut answer = monitor(facts);
            answer["connections"] = connections.into();
            answer
        }
        "dump" => {
            let owners = tree.sessions().filter(|s| !s.ephemerals.is_empty());
            let ephemerals = owners.map(|s| (session(&s.id), json!(s.ephemerals)));
            let ephemerals: serde_json::Map<String, Value> = ephemerals.collect();
            let sessions: Vec<String> = tree.sessions().map(|s| session(&s.id)).collect();
            json!({ "global_sessions": sessions, "session_id_to_ephemeral_paths": ephemerals })
        }
        "environment" => {
            json!({ "zookeeper.version": zookeeper::release(facts), "os.name": "Linux" })
        }
        "connection_stat_reset" | "stat_reset" | "ruok" => json!({}),
        "dirs" => json!({ "datadir_size": 0, "logdir_size": facts.log_bytes }),
        "is_read_only" => json!({ "read_only": false }),
        "last_zxid" => json!({ "zxid": format!("0x{:x}", tree.zxid().0) }),
        "voting_view" => json!({ "current_config": {} }),
        "watch_summary" => json!({
            "num_paths": facts.watches.paths,
            "num_total_watches": facts.watches.watches,
        }),
        "watches" => watches(facts),
        "watches_by_path" => watches_by_path(facts),
        _ => monitor(facts),
    }
}

fn session(id: &SessionId) -> String {
    format!("0x{:x}", id.0)
}

fn watches(facts: &Facts<'_>) -> Value {
    let mut paths: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
    for (path, sessions) in (facts.watched)() {
        for id in sessions {
            paths.entry(id).or_default().push(path.clone());
        }
    }
    let paths = paths.iter().map(|(id, paths)| (session(id), json!(paths)));
    json!({ "session_id_to_watched_paths": paths.collect::<serde_json::Map<_, _>>() })
}

fn watches_by_path(facts: &Facts<'_>) -> Value {
    let sessions = (facts.watched)().into_iter().map(|(path, sessions)| {
        let sessions: Vec<String> = sessions.iter().map(session).collect();
        (path, json!(sessions))
    });
    json!({ "path_to_session_ids": sessions.collect::<serde_json::Map<_, _>>() })
}

fn monitor(facts: &Facts<'_>) -> Value {
    let figures = figures(facts).into_iter().map(|(name, value)| {
        let value = match value.parse::<u64>() {
            Ok(number) => json!(number),
            Err(_) => json!(value),
        };
        (name.to_owned(), value)
    });
    figures.collect::<serde_json::Map<_, _>>().into()
}
