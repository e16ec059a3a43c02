//! `/v1/services` and `/v1/services/{service}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Health, Period, Revision, ServiceKey};
use registry::{Record, Service};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{append, list as listed};
use super::input::Input;
use super::problem::Problem;
use super::view::{InstanceView, ServiceView};
use super::{Api, Shared};
use crate::{Demand, Unresolved};

/// How long a long poll waits that does not say.
const WAIT: Duration = Duration::from_secs(30);
/// Longer, and whatever is in between (NAT, proxies) forgets the connection without telling.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// What a client waits for that asks for a revision that has not been.
const PAUSE: Duration = Duration::from_secs(1);

/// `GET /v1/services`: the services of a namespace.
pub(crate) async fn list(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let (namespace, demand) = (input.namespace(), input.demand());
    input.finish()?;
    api.meet(demand).await?;
    let registry = api.directory.registry();
    let within = |service: &&Arc<Service>| Some(&service.key.namespace) == namespace.as_ref();
    let services: Vec<_> = registry.services().filter(within).cloned().collect();
    let head = format!(r#"{{"revision":{},"services":["#, registry.revision());
    let names = api.traffic.unresolved();
    let encode = move |service: &Arc<Service>, out: &mut Vec<u8>| {
        append(&ServiceView::of(service, &names), out);
    };
    let response = listed(head.into(), services, encode);
    Ok(api.at(registry.revision(), response))
}

/// `GET /v1/services/{service}`: its instances.
///
/// A service without instances is an empty list and no error: it exists by being registered, and that its last instance left
/// is news a client must be able to wait for like any other. Whoever looked up a service of Consul's expects the same.
pub(crate) async fn show(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let key = input.service_key();
    let filter = Filter::read(&mut input);
    let demand = input.demand();
    let after = input.optional("after", |text| {
        text.parse()
            .map(Revision)
            .map_err(|_| "must be a revision: a whole number".into())
    });
    let wait = input.optional("wait", wait);
    if wait.is_some() && after.is_none() {
        let detail = "waits for what comes after a revision; add after=";
        input.faults.parameter("wait", detail);
    }
    if after.is_some() {
        input.may_last()?;
    }
    let headers = input.finish()?;
    let Some(key) = key else {
        return Err(super::problem::not_found().await);
    };
    api.meet(demand).await?;
    let (revision, service) = match after {
        Some(after) => {
            api.reach(&key, after).await?;
            api.newer(&key, after, wait.unwrap_or(WAIT)).await
        }
        None => api.now(&key, None),
    };
    let tag = format!("\"{revision}\"");
    let mut response = match matches(&headers, &tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => {
            let names = api.traffic.unresolved();
            instances(&key, revision, service.as_deref(), &filter, names)
        }
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(api.at(revision, response))
}

fn instances(
    key: &ServiceKey,
    revision: Revision,
    service: Option<&Service>,
    filter: &Filter,
    names: Unresolved,
) -> Response {
    let records = service.into_iter().flat_map(Service::instances);
    let records: Vec<_> = records.filter(|r| filter.takes(r)).cloned().collect();
    let (namespace, name) = (json!(key.namespace.as_str()), json!(key.service.as_str()));
    let head = format!(
        r#"{{"namespace":{namespace},"service":{name},"revision":{revision},"instances":["#
    );
    let key = key.clone();
    listed(
        head.into(),
        records,
        move |record: &Arc<Record>, out: &mut Vec<u8>| {
            append(&InstanceView::of(&key, record).at(&names), out);
        },
    )
}

impl Api {
    /// The service, and the revision since which it is so.
    pub(crate) fn now(
        &self,
        key: &ServiceKey,
        after: Option<Revision>,
    ) -> (Revision, Option<Arc<Service>>) {
        let (now, service) = self.directory.service(key);
        let revision = match (&service, after) {
            (Some(service), _) => service.modified,
            // When it went is not kept. If it was gone at `after` already, and has not been back, nothing is new.
            (None, Some(after))
                if after <= now
                    && self
                        .directory
                        .events_since(after, key)
                        .is_ok_and(|events| events.is_empty()) =>
            {
                after
            }
            (None, _) => now,
        };
        (revision, service)
    }

    /// Sees to it that there has been such a revision. If another node was the one that told of it, this one gets there in a moment.
    /// Else the registry was begun anew or from a copy since, and the client must be told: what it knows is of another past.
    ///
    /// # Errors
    ///
    /// After a second, so that who asks the same again at once does not keep the node busy.
    async fn reach(&self, key: &ServiceKey, after: Revision) -> Result<(), Box<Problem>> {
        if self.has_been(key, after).await? {
            return Ok(());
        }
        let mut closing = self.closing.clone();
        let _ = timeout(PAUSE, closing.wait_for(|closing| *closing)).await;
        let (now, _) = self.directory.service(key);
        if now >= after {
            return Ok(());
        }
        let detail = format!(
            "The registry is at revision {now}, so {after} is not of its past: it was begun anew, or from a copy, since. Read without \
             after, and go on from the revision of the answer."
        );
        let title = "There has been no such revision";
        Err(Problem::new(
            StatusCode::CONFLICT,
            "no-such-revision",
            title,
            detail,
        ))
    }

    /// Whether this node has got as far as a revision, which it may have to hear of first.
    ///
    /// # Errors
    ///
    /// If the node cannot know, for want of a leader.
    pub(crate) async fn has_been(
        &self,
        key: &ServiceKey,
        revision: Revision,
    ) -> Result<bool, Box<Problem>> {
        let has = || self.directory.service(key).0 >= revision;
        if !has() {
            self.meet(Some(Demand::Linearizable)).await?;
        }
        Ok(has())
    }

    /// The service once it is newer than `after`, or as it is after `wait`.
    async fn newer(
        &self,
        key: &ServiceKey,
        after: Revision,
        wait: Duration,
    ) -> (Revision, Option<Arc<Service>>) {
        let deadline = Instant::now() + wait;
        let mut closing = self.closing.clone();
        let mut changes = self.directory.watch(key);
        loop {
            let found = self.now(key, Some(after));
            // It may be older: revisions count the changes of all services, and this one was read along with others.
            if found.0 > after {
                return found;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return found;
                },
                () = sleep_until(deadline) => return found,
                _ = closing.wait_for(|closing| *closing) => return found,
            }
        }
    }
}

/// Which instances are asked for.
struct Filter {
    health: Option<Vec<Health>>,
    tags: Vec<String>,
    zone: Option<String>,
}

impl Filter {
    fn read(input: &mut Input) -> Self {
        Self {
            health: input.optional("health", healths),
            tags: input.parameters("tag"),
            zone: input.parameter("zone"),
        }
    }

    fn takes(&self, record: &Record) -> bool {
        let instance = &record.instance;
        let tagged = |tag: &String| instance.tags.iter().any(|t| **t == **tag);
        self.health
            .as_ref()
            .is_none_or(|health| health.contains(&record.health()))
            && self.tags.iter().all(tagged)
            && self
                .zone
                .as_ref()
                .is_none_or(|zone| instance.zone.as_deref() == Some(&**zone))
    }
}

fn healths(text: &str) -> Result<Vec<Health>, String> {
    let health = |word: &str| {
        let known = Health::ALL.iter().find(|h| h.as_str() == word);
        known.copied().ok_or_else(|| {
            "must be a list, by commas, of passing, warning, unknown and critical".into()
        })
    };
    text.split(',').map(health).collect()
}

fn wait(text: &str) -> Result<Duration, String> {
    let Period(wait) = text.parse().map_err(|e: model::UnitError| e.to_string())?;
    match wait <= MAX_WAIT {
        true => Ok(wait),
        false => Err(format!(
            "is {text}; {} at most is possible",
            Period(MAX_WAIT)
        )),
    }
}

/// Whether the client has this already (RFC 9110 §13.1.2).
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
    })
}
