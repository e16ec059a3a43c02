//! The three calls of the classic load balancer tutorial: `/register`, `/query`, `/load_balance`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use model::{
    CheckKind, CheckSpec, Health, Host, Instance, NameError, ServiceKey, ServiceName, Weight,
};
use serde::Serialize;
use serde_json::json;

use super::Shared;
use super::answer::json;
use super::check::{FALL, INTERVAL, TIMEOUT};
use super::fault::Faults;
use super::fields::Fields;
use super::forward::Forwarded;
use super::input::Input;
use super::instances::{incomplete, parse};
use super::json::Node;
use super::problem::Problem;
use super::values::{method, parsed, port, target};

/// `POST /register`
///
/// Clients of this call never send a heartbeat, so what they register is persistent; and lest it stay in traffic after they
/// are gone, it is checked by connecting.
pub(crate) async fn register(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let whole = api.body(&input, body).await?;
    let registration = parse(&whole.bytes, &mut input.faults)
        .and_then(|node| registration(&node, &mut input.faults));
    input.finish()?;
    let Some((key, instance)) = registration else {
        return Err(incomplete());
    };
    let (_, committed, _) = api.register(key, instance).await?;
    let message = json!({ "status": "success", "message": "Service registered" });
    Ok(api.at(committed.revision, json(StatusCode::OK, &message)))
}

fn registration(body: &Node<'_>, faults: &mut Faults) -> Option<(ServiceKey, Instance)> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let service = fields.required("service_name", faults, parsed::<ServiceName>);
    let host = fields.required("ip_address", faults, parsed::<Host>);
    let port = fields.required("port", faults, port);
    fields.finish(faults);
    let (host, port) = (host?, port?);
    let id = match &host {
        Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        host => format!("{host}:{port}"),
    };
    let id = id
        .parse()
        .map_err(|e: NameError| faults.pointer("/ip_address", e.to_string()))
        .ok();
    let check = CheckSpec {
        kind: CheckKind::Tcp,
        port: None,
        interval: INTERVAL,
        timeout: TIMEOUT,
        // The first connection is what everybody waits for who has just started.
        rise: 1,
        fall: FALL,
    };
    let instance = Instance {
        id: id?,
        host,
        port,
        weight: Weight::default(),
        tier: 0,
        zone: None,
        tags: Box::default(),
        metadata: None,
        lease: None,
        check: Some(Box::new(check)),
        enabled: true,
        drain: false,
    };
    Some((ServiceKey::in_default(service?), instance))
}

#[derive(Serialize)]
struct Listed<'a> {
    service_name: &'a str,
    instances: Vec<Address<'a>>,
}

#[derive(Serialize)]
struct Address<'a> {
    #[serde(serialize_with = "super::view::shown")]
    ip_address: &'a Host,
    port: u16,
}

/// `GET /query`: the instances in traffic.
///
/// One that was registered a moment ago and has not been checked yet is among them: whoever registers and then asks,
/// as the tutorial does, wants to see it.
pub(crate) async fn query(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let service = input.optional("service_name", |text| {
        text.parse::<ServiceName>().map_err(|e| e.to_string())
    });
    if service.is_none() && input.parameter("service_name").is_none() {
        input.faults.parameter("service_name", "is missing");
    }
    input.finish()?;
    let Some(service) = service else {
        return Err(incomplete());
    };
    let key = ServiceKey::in_default(service);
    let (revision, service) = api.now(&key, None);
    let listed = Listed {
        service_name: key.service.as_str(),
        instances: service
            .iter()
            .flat_map(|service| service.instances())
            .filter(|record| record.health() != Health::Critical)
            .map(|record| &record.instance)
            .filter(|i| i.enabled && !i.drain && i.weight.0 > 0)
            .map(|instance| Address {
                ip_address: &instance.host,
                port: instance.port.get(),
            })
            .collect(),
    };
    Ok(api.at(revision, json(StatusCode::OK, &listed)))
}

/// `POST /load_balance`: forwards to a chosen instance and returns its answer.
pub(crate) async fn load_balance(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    input.may_last()?;
    let whole = api.body(&input, body).await?;
    let forwarded =
        parse(&whole.bytes, &mut input.faults).and_then(|node| forwarded(&node, &mut input.faults));
    input.finish()?;
    drop(whole);
    let Some((key, forwarded)) = forwarded else {
        return Err(incomplete());
    };
    api.forward(&key, &forwarded).await
}

fn forwarded(body: &Node<'_>, faults: &mut Faults) -> Option<(ServiceKey, Forwarded)> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let service = fields.required("service_name", faults, parsed::<ServiceName>);
    let target = fields.optional("path", faults, target);
    let method = fields.optional("method", faults, method);
    let body = fields.value("body");
    fields.finish(faults);
    let (kind, bytes) = match body {
        None => (None, Bytes::new()),
        Some(Node::Text(text)) => {
            let kind = "text/plain; charset=utf-8";
            (Some(kind), Bytes::copy_from_slice(text.as_bytes()))
        }
        Some(node) => {
            let bytes = serde_json::to_vec(node).unwrap_or_default();
            (Some("application/json"), bytes.into())
        }
    };
    let customary = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let forwarded = Forwarded {
        method: method.unwrap_or(customary),
        target: target.unwrap_or_else(|| "/".parse().expect("a path")),
        kind,
        body: bytes,
    };
    Some((ServiceKey::in_default(service?), forwarded))
}
