//! Heartbeats, one or many.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::{InstanceId, NameError, Namespace, ServiceKey, ServiceName};
use registry::Heartbeat;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::answer::json;
use super::fault::Faults;
use super::fields::Fields;
use super::input::Input;
use super::instances::{incomplete, parse};
use super::json::{MAX_ITEMS, Node};
use super::problem::Problem;
use super::values::text;

/// The longest body with heartbeats: as many as there may be, with names of a hundred characters.
const MAX_BODY: usize = 4 << 20;

/// The most heartbeats at a time: ten milliseconds' work, in which the thread does nothing else.
const MAX_BEATS: usize = MAX_ITEMS;

/// `POST /v1/services/{service}/instances/{id}/heartbeat`
pub(crate) async fn one(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let (key, id) = (input.service_key(), input.instance_id());
    input.finish()?;
    let (Some(key), Some(id)) = (key, id) else {
        return Err(incomplete());
    };
    let status = match api.directory.heartbeat(&[(key, id)]).first() {
        Some(Heartbeat::Renewed) => "renewed",
        Some(Heartbeat::Woken) => "woken",
        Some(Heartbeat::Persistent) => "persistent",
        Some(Heartbeat::NotFound) | None => return Err(Problem::no_such_instance()),
    };
    let answer = json(StatusCode::OK, &serde_json::json!({ "status": status }));
    Ok(api.seen(answer))
}

/// `POST /v1/heartbeats`
pub(crate) async fn many(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let time: Duration = api.options.body_timeout;
    let limit = MAX_BODY.max(api.options.max_body);
    let whole = api.room.read(&input.headers, body, limit, time).await?;
    let beats = read(&whole.bytes, &mut input.faults);
    input.finish()?;
    let Some(beats) = beats else {
        return Err(incomplete());
    };
    let found = api.directory.heartbeat(&beats);
    let outcome = Outcome::of(&beats, &found);
    Ok(api.seen(json(StatusCode::OK, &outcome)))
}

/// What became of many heartbeats: only what needs the client's attention is listed.
#[derive(Serialize)]
struct Outcome<'a> {
    /// Leases that hold for another ttl, those that had run out included.
    renewed: usize,
    /// Instances that have no lease.
    persistent: usize,
    failed: Vec<Failed<'a>>,
}

#[derive(Serialize)]
struct Failed<'a> {
    namespace: &'a str,
    service: &'a str,
    id: &'a str,
    reason: &'static str,
}

impl<'a> Outcome<'a> {
    fn of(beats: &'a [(ServiceKey, InstanceId)], found: &[Heartbeat]) -> Self {
        let count = |kinds: &[Heartbeat]| found.iter().filter(|f| kinds.contains(f)).count();
        let failed = beats
            .iter()
            .zip(found)
            .filter(|(_, found)| **found == Heartbeat::NotFound);
        Self {
            renewed: count(&[Heartbeat::Renewed, Heartbeat::Woken]),
            persistent: count(&[Heartbeat::Persistent]),
            failed: failed
                .map(|((key, id), _)| Failed {
                    namespace: key.namespace.as_str(),
                    service: key.service.as_str(),
                    id: id.as_str(),
                    reason: "no_such_instance",
                })
                .collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beats<'a> {
    #[serde(borrow)]
    beats: Vec<Beat<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat<'a> {
    #[serde(borrow, default = "default_namespace")]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

fn default_namespace() -> Cow<'static, str> {
    Cow::Borrowed("default")
}

/// Reads heartbeats. What is right is read fast; what is not is read again, slowly, to name everything that is wrong.
fn read(body: &[u8], faults: &mut Faults) -> Option<Vec<(ServiceKey, InstanceId)>> {
    if let Ok(Beats { beats }) = serde_json::from_slice(body)
        && beats.len() <= MAX_BEATS
        && let Ok(beats) = named(&beats)
    {
        return Some(beats);
    }
    let node = parse(body, faults)?;
    let mut fields = Fields::of(&node, String::new(), faults)?;
    let list = fields.required("beats", faults, |node| match node {
        Node::List(list) => Ok(list),
        other => Err(format!("must be a list, and is {}", other.found())),
    });
    fields.finish(faults);
    let beats = list?
        .iter()
        .enumerate()
        .filter_map(|(place, node)| beat(node, format!("/beats/{place}"), faults));
    Some(beats.collect())
}

/// Beats mostly name the service of the one before; that name is parsed once and shared.
fn named(beats: &[Beat<'_>]) -> Result<Vec<(ServiceKey, InstanceId)>, NameError> {
    let mut named: Vec<(ServiceKey, InstanceId)> = Vec::with_capacity(beats.len());
    for beat in beats {
        let same = named.last().map(|(key, _)| key).filter(|key| {
            key.service.as_str() == beat.service && key.namespace.as_str() == beat.namespace
        });
        let key = match same {
            Some(key) => key.clone(),
            None => ServiceKey {
                namespace: beat.namespace.parse()?,
                service: beat.service.parse()?,
            },
        };
        named.push((key, beat.id.parse()?));
    }
    Ok(named)
}

fn beat(node: &Node<'_>, path: String, faults: &mut Faults) -> Option<(ServiceKey, InstanceId)> {
    fn name<T: std::str::FromStr<Err = NameError>>(node: &Node<'_>) -> Result<T, String> {
        text(node)?.parse().map_err(|e: NameError| e.to_string())
    }
    let mut fields = Fields::of(node, path, faults)?;
    let namespace = fields.optional("namespace", faults, name::<Namespace>);
    let service = fields.required("service", faults, name::<ServiceName>);
    let id = fields.required("id", faults, name::<InstanceId>);
    fields.finish(faults);
    let key = ServiceKey {
        namespace: namespace.unwrap_or_default(),
        service: service?,
    };
    Some((key, id?))
}
