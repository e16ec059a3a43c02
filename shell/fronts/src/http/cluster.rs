//! `/v1/cluster/…`: who belongs to the cluster, and who leads it; and a copy of what it has.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use registry::replication::Change;
use serde_json::json as value;

use super::answer::{internal, json};
use super::fault::Faults;
use super::fields::Fields;
use super::input::Input;
use super::instances::{incomplete, parse};
use super::json::Node;
use super::problem::Problem;
use super::values::{flag, line, subscriber};
use super::{Api, Shared};

/// The longest name or address of a node, in bytes.
const MAX_TEXT: usize = 255;

/// `PUT /v1/cluster/nodes/{name}`: takes a node in.
pub(crate) async fn add(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let name = input.node_name();
    let whole = api.body(&input, body).await?;
    let read =
        parse(&whole.bytes, &mut input.faults).and_then(|body| addition(&body, &mut input.faults));
    input.finish()?;
    let (Some(name), Some((address, observer))) = (name, read) else {
        return Err(incomplete());
    };
    let change = Change::Add {
        name,
        address,
        observer,
    };
    api.change(change).await
}

fn addition(body: &Node<'_>, faults: &mut Faults) -> Option<(Box<str>, bool)> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let address = fields.required("address", faults, address);
    let observer = fields.optional("observer", faults, flag);
    fields.finish(faults);
    Some((address?, observer.unwrap_or(false)))
}

fn address(node: &Node<'_>) -> Result<Box<str>, String> {
    let text = line(node, MAX_TEXT)?;
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text),
        _ => Err("must be a host and a port, such as 10.0.0.4:7071".into()),
    }
}

/// `DELETE /v1/cluster/nodes/{name}`: lets a node go.
pub(crate) async fn remove(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let name = input.node_name();
    let force = input.optional("force", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    });
    input.finish()?;
    let name = name.ok_or_else(incomplete)?;
    let force = force.unwrap_or(false);
    api.change(Change::Remove { name, force }).await
}

/// `POST /v1/cluster/nodes/{name}/promote`: makes an observer a voter.
pub(crate) async fn promote(
    State(api): Shared,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let name = input.node_name();
    input.finish()?;
    let name = name.ok_or_else(incomplete)?;
    api.change(Change::Promote { name }).await
}

/// `POST /v1/cluster/transfer`: lets another node lead.
pub(crate) async fn transfer(
    State(api): Shared,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let to = input.parameter("to").map(String::into_boxed_str);
    input.finish()?;
    api.change(Change::Transfer { to }).await
}

/// `GET /v1/cluster/home`: the node that a subscriber's name belongs to.
pub(crate) async fn home(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let name = input.optional("name", subscriber);
    if name.is_none() && input.faults.is_empty() {
        input
            .faults
            .parameter("name", "is missing: whose home is it?");
    }
    input.finish()?;
    let name = name.ok_or_else(incomplete)?;
    let home = api.directory.home(&name);
    let found = value!({ "name": name, "node": home.node, "api": home.api, "here": home.here });
    Ok(api.seen(json(StatusCode::OK, &found)))
}

/// `GET /v1/cluster/snapshot`: a copy of everything, to be kept elsewhere.
pub(crate) async fn snapshot(
    State(api): Shared,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let demand = input.demand();
    input.finish()?;
    api.meet(demand).await?;
    let pieces = api.directory.snapshot();
    let pieces = pieces.map_err(|e| internal(format!("The snapshot cannot be begun: {e}.")))?;
    // An error breaks the answer off, and so does a node that ends: whoever takes it checks that it is whole.
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    });
    let kind = HeaderValue::from_static("application/octet-stream");
    let response = ([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response();
    Ok(api.seen(response))
}

impl Api {
    async fn change(&self, change: Change) -> Result<Response, Box<Problem>> {
        let message = self.directory.change_cluster(change).await?;
        let response = json(StatusCode::OK, &value!({ "message": message }));
        Ok(self.seen(response))
    }
}
