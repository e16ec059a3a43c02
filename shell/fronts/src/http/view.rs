//! What readers get to see of instances and services.

use std::collections::BTreeMap;
use std::fmt::Display;

use model::{
    CheckKind, CheckSpec, Health, Host, Lease, Period, Revision, Role, ServiceKey, StatusRange,
    Transport,
};
use registry::{Record, Service};
use serde::{Serialize, Serializer};

use crate::Unresolved;

/// An instance.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceView<'a> {
    namespace: &'a str,
    service: &'a str,
    id: &'a str,
    #[serde(serialize_with = "shown")]
    address: &'a Host,
    port: u16,
    weight: u16,
    tier: u8,
    zone: Option<&'a str>,
    tags: &'a [Box<str>],
    metadata: Pairs<'a>,
    lease: Option<LeaseView>,
    check: Option<CheckView<'a>>,
    persistent: bool,
    enabled: bool,
    drain: bool,
    health: Health,
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unresolved: Option<&'a str>,
    role: Option<Role>,
    created: Revision,
    modified: Revision,
    #[serde(serialize_with = "shown")]
    registered_at: jiff::Timestamp,
}

impl<'a> InstanceView<'a> {
    pub(crate) fn of(key: &'a ServiceKey, record: &'a Record) -> Self {
        let instance = &record.instance;
        // Wall clocks beyond the year 9999 are shown as the epoch: nobody can tell what they meant.
        let registered_at = i64::try_from(record.registered_at.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self {
            namespace: key.namespace.as_str(),
            service: key.service.as_str(),
            id: instance.id.as_str(),
            address: &instance.host,
            port: instance.port.get(),
            weight: instance.weight.0,
            tier: instance.tier,
            zone: instance.zone.as_deref(),
            tags: &instance.tags,
            metadata: Pairs(instance.metadata.as_deref()),
            lease: instance.lease.map(LeaseView::from),
            check: instance.check.as_deref().map(CheckView::of),
            persistent: instance.lease.is_none(),
            enabled: instance.enabled,
            drain: instance.drain,
            health: record.health(),
            reason: reason(record),
            unresolved: None,
            role: record.role,
            created: record.created,
            modified: record.modified,
            registered_at,
        }
    }
}

impl<'a> InstanceView<'a> {
    /// With what this node knows of its host name.
    pub(crate) fn at(mut self, names: &'a Unresolved) -> Self {
        self.unresolved = unresolved(self.address, names);
        self
    }
}

/// Why a host has no address, if it has none.
fn unresolved<'a>(host: &Host, names: &'a Unresolved) -> Option<&'a str> {
    match host {
        Host::Ip(_) => None,
        Host::Name(name) => names.get(name).map(|why| &**why),
    }
}

/// Why an instance is not passing.
fn reason(record: &Record) -> Option<&str> {
    match (record.lease_health, record.check_health) {
        (Health::Critical, _) => Some("no heartbeat came before the lease ran out"),
        (_, Health::Unknown) => Some("no check has answered yet"),
        (_, Health::Critical | Health::Warning) => record.reason.as_deref(),
        (Health::Warning, _) => {
            Some("no heartbeat came, but too many are missing at once to believe it")
        }
        _ => None,
    }
}

/// Metadata; an empty object when there are none.
#[derive(Debug)]
pub(crate) struct Pairs<'a>(pub(crate) Option<&'a BTreeMap<Box<str>, Box<str>>>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.into_iter().flatten())
    }
}

#[derive(Debug, Serialize)]
struct LeaseView {
    #[serde(serialize_with = "shown")]
    ttl: Period,
    #[serde(serialize_with = "shown")]
    grace: Period,
}

impl From<Lease> for LeaseView {
    fn from(lease: Lease) -> Self {
        Self {
            ttl: Period(lease.ttl),
            grace: Period(lease.grace),
        }
    }
}

/// A check, in the form it is registered in; without the password, which is nobody's business.
#[derive(Debug, Default, Serialize)]
struct CheckView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, &'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a [StatusRange]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    interval: String,
    timeout: String,
    rise: u16,
    fall: u16,
}

impl<'a> CheckView<'a> {
    fn of(check: &'a CheckSpec) -> Self {
        let view = Self {
            port: check.port.map(u16::from),
            interval: Period(check.interval).to_string(),
            timeout: Period(check.timeout).to_string(),
            rise: check.rise,
            fall: check.fall,
            ..Self::default()
        };
        match &check.kind {
            CheckKind::Tcp => Self {
                tcp: Some(true),
                ..view
            },
            CheckKind::Exchange(exchange) => Self {
                tcp: (exchange.transport == Transport::Tcp).then_some(true),
                udp: (exchange.transport == Transport::Udp).then_some(true),
                send: exchange.send.as_deref(),
                expect: exchange.expect.as_deref(),
                ..view
            },
            CheckKind::Grpc(check) => Self {
                grpc: Some(&check.service),
                ..view
            },
            CheckKind::Protocol(check) => Self {
                protocol: Some(check.protocol.as_str()),
                user: check.user.as_deref(),
                database: check.database.as_deref(),
                ..view
            },
            CheckKind::Http(http) => Self {
                http: Some(&http.path),
                method: Some(&http.method),
                host: http.host.as_deref(),
                headers: Some(http.headers.iter().map(|(n, v)| (&**n, &**v)).collect()),
                status: Some(&http.status),
                body: http.body.as_deref(),
                ..view
            },
        }
    }
}

/// A service in a list of services.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceView<'a> {
    namespace: &'a str,
    service: &'a str,
    instances: usize,
    passing: u32,
    warning: u32,
    unknown: u32,
    critical: u32,
    unresolved: u32,
    modified: Revision,
}

impl<'a> ServiceView<'a> {
    pub(crate) fn of(service: &'a Service, names: &Unresolved) -> Self {
        let counts = service.counts();
        // Whoever has no address gets nothing, whatever checks, or the want of them, make of it.
        let mut lost = [0; Health::ALL.len()];
        // Most often there are none, and nobody has to be looked at.
        if !names.is_empty() {
            for record in service.instances() {
                let is_lost = unresolved(&record.instance.host, names).is_some();
                lost[record.health() as usize] += u32::from(is_lost);
            }
        }
        let count = |health: Health| counts.of(health) - lost[health as usize];
        Self {
            namespace: service.key.namespace.as_str(),
            service: service.key.service.as_str(),
            instances: service.instance_count(),
            passing: count(Health::Passing),
            warning: count(Health::Warning),
            unknown: count(Health::Unknown),
            critical: count(Health::Critical),
            unresolved: lost.iter().sum(),
            modified: service.modified,
        }
    }
}

pub(crate) fn shown<T: Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
