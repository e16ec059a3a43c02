//! `/v1/services/{service}/instances/{id}`.

use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Instance, InstanceId, ServiceKey, Timestamp};
use registry::{Command, Committed, Record, Registration, Reply};

use super::answer::{internal, json};
use super::fault::Faults;
use super::input::Input;
use super::json::Node;
use super::problem::Problem;
use super::view::InstanceView;
use super::{Api, Shared, patch, registration};

/// `PUT`: registers the instance, or replaces what is registered.
pub(crate) async fn register(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let (key, id) = (input.service_key(), input.instance_id());
    let whole = api.body(&input, body).await?;
    let lease = api.options.default_lease;
    let service = key.as_ref().and_then(|key| api.directory.service(key).1);
    let before = service.as_ref().zip(id.as_ref());
    let before = before.and_then(|(service, id)| service.instance(id));
    let before = before.map(|record| &record.instance);
    let instance = parse(&whole.bytes, &mut input.faults)
        .and_then(|node| registration::read(&node, id, (lease, before), &mut input.faults));
    // Held on, it would have to be copied whole to be changed.
    drop(service);
    input.finish()?;
    let (Some(key), Some(instance)) = (key, instance) else {
        return Err(incomplete());
    };
    let (registration, committed, record) = api.register(key.clone(), instance).await?;
    let view = InstanceView::of(&key, &record);
    let mut response = match registration {
        Registration::Created => json(StatusCode::CREATED, &view),
        Registration::Changed | Registration::Unchanged => json(StatusCode::OK, &view),
    };
    if registration == Registration::Created
        && let Ok(location) = HeaderValue::try_from(location(&key, &record.instance.id))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(api.at(committed.revision, response))
}

/// `GET`: the instance.
pub(crate) async fn show(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let (key, id) = (input.service_key(), input.instance_id());
    let demand = input.demand();
    input.finish()?;
    let (Some(key), Some(id)) = (key, id) else {
        return Err(incomplete());
    };
    api.meet(demand).await?;
    let (revision, service) = api.directory.service(&key);
    let Some(record) = service.as_ref().and_then(|service| service.instance(&id)) else {
        return Err(Problem::no_such_instance());
    };
    let names = api.traffic.unresolved();
    let view = InstanceView::of(&key, record).at(&names);
    Ok(api.at(revision, json(StatusCode::OK, &view)))
}

/// `PATCH`: changes some of it, as a JSON merge patch (RFC 7396).
pub(crate) async fn patch(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let (key, id) = (input.service_key(), input.instance_id());
    let whole = api.body(&input, body).await?;
    let change = parse(&whole.bytes, &mut input.faults)
        .and_then(|node| patch::read(&node, &mut input.faults));
    input.finish()?;
    let (Some(key), Some(id), Some(change)) = (key, id, change) else {
        return Err(incomplete());
    };
    let _merging = match change.merges() {
        true => Some(api.merging.lock().await),
        false => None,
    };
    let (_, service) = api.directory.service(&key);
    let Some(record) = service.as_ref().and_then(|service| service.instance(&id)) else {
        return Err(Problem::no_such_instance());
    };
    let patch = change.onto(&record.instance).map_err(Problem::invalid)?;
    let command = Command::Patch {
        key: key.clone(),
        id,
        patch: Box::new(patch),
    };
    let committed = api.directory.submit(command).await?;
    match committed.reply {
        Reply::Patched(record) => {
            let response = json(StatusCode::OK, &InstanceView::of(&key, &record));
            Ok(api.at(committed.revision, response))
        }
        Reply::NotFound => Err(Problem::no_such_instance()),
        other => Err(unexpected(&other)),
    }
}

/// `DELETE`: removes it.
pub(crate) async fn deregister(
    State(api): Shared,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let (key, id) = (input.service_key(), input.instance_id());
    input.finish()?;
    let (Some(key), Some(id)) = (key, id) else {
        return Err(incomplete());
    };
    let committed = api
        .directory
        .submit(Command::Deregister { key, id })
        .await?;
    match committed.reply {
        Reply::Deregistered(_) => {
            let response = StatusCode::NO_CONTENT.into_response();
            Ok(api.at(committed.revision, response))
        }
        Reply::NotFound => Err(Problem::no_such_instance()),
        other => Err(unexpected(&other)),
    }
}

impl Api {
    /// Registers an instance.
    pub(crate) async fn register(
        &self,
        key: ServiceKey,
        instance: Instance,
    ) -> Result<(Registration, Committed, std::sync::Arc<Record>), Box<Problem>> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at = Timestamp(since.map_or(0, |since| since.as_millis() as u64));
        let instance = Box::new(instance);
        let command = Command::Register { key, instance, at };
        let committed = self.directory.submit(command).await?;
        match committed.reply.clone() {
            Reply::Registered(registration, record) => Ok((registration, committed, record)),
            other => Err(unexpected(&other)),
        }
    }

    /// The body of a request.
    pub(crate) async fn body(
        &self,
        input: &Input,
        body: Body,
    ) -> Result<super::body::Whole, Box<Problem>> {
        let (limit, time) = (self.options.max_body, self.options.body_timeout);
        self.room.read(&input.headers, body, limit, time).await
    }
}

/// Reads a body as JSON; what is wrong with it is a fault like any other.
pub(crate) fn parse<'a>(bytes: &'a [u8], faults: &mut Faults) -> Option<Node<'a>> {
    if bytes.is_empty() {
        faults.pointer("", "is missing; send a JSON object");
        return None;
    }
    match Node::parse(bytes) {
        Ok(node) => Some(node),
        Err(e) => {
            faults.pointer("", format!("is not JSON: {e}"));
            None
        }
    }
}

/// Whatever could not be read has been named as a fault before.
pub(crate) fn incomplete() -> Box<Problem> {
    internal("The request could not be read, and no reason was found.")
}

fn unexpected(reply: &Reply) -> Box<Problem> {
    internal(format!(
        "The registry gave an answer to something else: {reply:?}."
    ))
}

fn location(key: &ServiceKey, id: &InstanceId) -> String {
    let service = &key.service;
    let mut location = format!("/v1/services/{service}/instances/{id}");
    if key.namespace.as_str() != "default" {
        let namespace = form_urlencoded::byte_serialize(key.namespace.as_str().as_bytes());
        location.push_str("?namespace=");
        location.extend(namespace);
    }
    location
}
