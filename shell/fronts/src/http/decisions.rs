//! `/v1/pick/{service}` and `/v1/explain`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use model::{Endpoint, Health, Role, ServiceKey, View};
use serde::Serialize;

use super::Shared;
use super::answer::json;
use super::input::Input;
use super::instances::incomplete;
use super::problem::Problem;
use super::view::Pairs;
use crate::Question;

/// `GET /v1/pick/{service}`: one instance, of a role if that is asked for, chosen by the service's policy.
pub(crate) async fn pick(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let key = input.service_key();
    let role = input.optional("role", str::parse::<Role>);
    let demand = input.demand();
    input.finish()?;
    let Some(key) = key else {
        return Err(incomplete());
    };
    api.meet(demand).await?;
    let view = View { service: key, role };
    let endpoint = api
        .traffic
        .pick(&view, &[])
        .map_err(|none| Problem::no_instance(view.service.service.as_str(), none))?;
    let key = view.service;
    let (_, service) = api.directory.service(&key);
    let record = service
        .as_ref()
        .and_then(|service| service.instance(&endpoint.id));
    let instance = record.map(|record| &record.instance);
    let picked = Picked {
        address: instance.map_or_else(
            || endpoint.address.ip().to_string(),
            |instance| instance.host.to_string(),
        ),
        zone: instance.and_then(|instance| instance.zone.as_deref()),
        tags: instance.map_or(&[], |instance| &*instance.tags),
        metadata: Pairs(instance.and_then(|instance| instance.metadata.as_deref())),
        role: record.and_then(|record| record.role),
        ..Picked::of(&key, &endpoint)
    };
    Ok(api.seen(json(StatusCode::OK, &picked)))
}

#[derive(Serialize)]
struct Picked<'a> {
    namespace: &'a str,
    service: &'a str,
    id: &'a str,
    /// As it was registered: it may be a name.
    address: String,
    port: u16,
    weight: u16,
    zone: Option<&'a str>,
    tags: &'a [Box<str>],
    metadata: Pairs<'a>,
    health: Health,
    role: Option<Role>,
}

impl<'a> Picked<'a> {
    fn of(key: &'a ServiceKey, endpoint: &'a Endpoint) -> Self {
        Self {
            namespace: key.namespace.as_str(),
            service: key.service.as_str(),
            id: endpoint.id.as_str(),
            address: String::new(),
            port: endpoint.address.port(),
            weight: endpoint.weight.0,
            zone: None,
            tags: &[],
            metadata: Pairs(None::<&BTreeMap<_, _>>),
            health: endpoint.health,
            role: None,
        }
    }
}

/// `GET /v1/explain`: which listener, route, policy and instance, and why.
pub(crate) async fn explain(
    State(api): Shared,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let question = input.optional("url", question);
    if question.is_none() && input.parameter("url").is_none() {
        let detail = "is missing; add the URL, or host:port, that is to be explained";
        input.faults.parameter("url", detail);
    }
    let method = input.optional("method", |text| match text.parse::<axum::http::Method>() {
        Ok(method) if text.len() <= 32 => Ok(method.to_string()),
        _ => Err("must be a method, such as GET".into()),
    });
    let client = input.optional("client", |text| {
        text.parse::<IpAddr>()
            .map_err(|_| "must be an IP address".into())
    });
    let alpn = input.optional("alpn", protocols);
    let headers = input.optional("headers", fields);
    input.finish()?;
    let Some(question) = question else {
        return Err(incomplete());
    };
    let question = Question {
        method: method.unwrap_or(question.method),
        client,
        alpn: alpn.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        ..question
    };
    Ok(json(StatusCode::OK, &api.traffic.explain(&question)))
}

/// Reads names of protocols (RFC 7301 §3.1), the first the one liked best.
fn protocols(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().all(|name| (1..=255).contains(&name.len())) {
        true => Ok(names),
        false => Err("must be names of protocols, such as h2,http/1.1".into()),
    }
}

/// Reads header fields, a line each.
fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let (name, value) = (name.trim(), value.trim());
        let fits = name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok();
        fits.then(|| (name.to_owned(), value.to_owned()))
    };
    let fields = text.lines().map(field).collect::<Option<Vec<_>>>();
    fields.ok_or_else(|| "must be header fields, a line each, such as X-Canary: yes".into())
}

/// Reads `http://host/path`, `https://host/path`, `host:port`, or `host/path`, which stands for the first.
fn question(text: &str) -> Result<Question, String> {
    let detail =
        "must be a URL such as http://shop.example.com/api, or an address such as 10.0.0.1:5432";
    let bare = !text.contains("://") && text.contains('/');
    let uri = match bare {
        true => format!("http://{text}").parse::<Uri>(),
        false => text.parse(),
    };
    let uri = uri.map_err(|_| detail.to_owned())?;
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return Err(detail.into());
    };
    let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
    let customary = match scheme.as_deref() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        None => None,
        Some(_) => return Err(detail.into()),
    };
    if authority.as_str().contains('@') || (scheme.is_none() && uri.port_u16().is_none()) {
        return Err(detail.into());
    }
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let path = uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(Question {
        scheme,
        host,
        port: uri.port_u16().or(customary),
        path: if path.is_empty() { "/" } else { path }.into(),
        method: "GET".into(),
        alpn: Vec::new(),
        client: None,
        headers: Vec::new(),
    })
}
