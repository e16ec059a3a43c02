//! The data plane's decisions, asked for from outside the data plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use balance::{Balancer, Context, Standing, standing};
use fronts::{
    CertificateRefused, Choice, Explanation, NoInstance, PassedOver, Question, SeenCertificate,
    Standing as Stands, Traffic,
};
use model::{
    CertificateName, Endpoint, InstanceId, ListenerTable, Revision, Role, RoutingTable,
    ServiceTable, Speaks, View,
};
use registry::{Record, Service};

use super::{Shared, metrics};

/// Services asked about through the API and through no route: their tables, kept until they change.
#[derive(Default)]
pub(super) struct Picks(Mutex<BTreeMap<View, Pick>>);

struct Pick {
    /// The service's revision that the table was made from; `None` for a service with a route, whose
    /// table is the data plane's.
    made_at: Option<Revision>,
    table: Arc<ServiceTable>,
    balancer: Balancer,
}

/// Services remembered at the most: a client that asks for ever new names gets no memory for it.
const MOST: usize = 100_000;

impl Traffic for Shared {
    fn pick(&self, view: &View, except: &[InstanceId]) -> Result<Endpoint, NoInstance> {
        let now = proxy::now();
        let mut picks = self.picks.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_up_to_date(&mut picks, view);
        let Some(pick) = picks.get_mut(view) else {
            return Err(NoInstance::default());
        };
        // No key: whoever asks names none, so that the hashing policies spread what comes this way.
        let mut context = Context {
            key: fastrand::u64(..),
            ..Context::default()
        };
        let endpoints = &pick.table.endpoints;
        for (index, endpoint) in endpoints.iter().enumerate() {
            if except.contains(&endpoint.id) {
                context.tried.add(index);
            }
        }
        let chosen = pick.balancer.choose(&pick.table, &context, now);
        chosen
            .map(|index| endpoints[index].clone())
            .map_err(|_| NoInstance {
                passed_over: endpoints
                    .iter()
                    .map(|endpoint| PassedOver {
                        id: endpoint.id.to_string(),
                        why: match except.contains(&endpoint.id) {
                            true => "it was tried already".into(),
                            false => standing(endpoint, now).to_string(),
                        },
                    })
                    .chain(self.left_out(&pick.table).map(|(record, why)| PassedOver {
                        id: record.instance.id.to_string(),
                        why,
                    }))
                    .collect(),
            })
    }

    fn catch_up(&self, service: &model::ServiceKey) {
        self.refresh(std::iter::once(service));
    }

    fn explain(&self, question: &Question) -> Explanation {
        let table = self.proxy.table();
        let Some((listener, how)) = self.listener_for(&table, question) else {
            return Explanation {
                verdict: no_listener(&table, question),
                ..Explanation::default()
            };
        };
        if !matches!(listener.speaks, Speaks::Http) {
            return self.explain_stream(&table, listener, &how, question);
        }
        self.explain_http(&table, listener, &how, question)
    }

    fn metrics(&self) -> String {
        metrics::render(self)
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Relaxed) {
            return Err("It is shutting down.".into());
        }
        if let Some(fault) = self.registry.stats().fault {
            return Err(format!("the registry takes no writes: {fault}"));
        }
        self.registry
            .is_out_because()
            .map_or(Ok(()), |why| Err(why.into()))
    }

    fn certificates(&self) -> Vec<SeenCertificate> {
        self.seen_certificates()
    }

    fn set_certificate(
        &self,
        name: &CertificateName,
        certificate: &str,
        key: &str,
    ) -> Result<(bool, SeenCertificate), CertificateRefused> {
        Shared::set_certificate(self, name, certificate, key)
    }

    fn remove_certificate(&self, name: &CertificateName) -> Result<bool, CertificateRefused> {
        Shared::remove_certificate(self, name)
    }
}

impl Shared {
    fn bring_up_to_date(&self, picks: &mut BTreeMap<View, Pick>, view: &View) {
        let before = picks.get(view);
        let tables = self.tables();
        if let Some(routed) = tables.routed(view) {
            if !before.is_some_and(|pick| Arc::ptr_eq(&pick.table, routed)) {
                let pick = Pick::new(None, routed.clone());
                picks.insert(view.clone(), pick);
            }
            return;
        }
        let service = self.registry.service(&view.service);
        let Some(service) = service.filter(|_| before.is_some() || picks.len() < MOST) else {
            picks.remove(view);
            return;
        };
        let made_at = Some(service.modified);
        if before.is_some_and(|pick| pick.made_at == made_at) {
            return;
        }
        let before = before.map(|pick| pick.table.clone());
        let resolve = |host: &model::Host| self.names.resolve(host);
        let table = tables.service(view, Some(&service), before.as_slice(), &resolve);
        picks.insert(view.clone(), Pick::new(made_at, Arc::new(table)));
    }

    /// Which instance would be chosen; `kept` has the session.
    pub(super) fn choice(&self, service: &ServiceTable, kept: Option<u32>) -> Choice {
        let mut choice = choice(service, kept);
        let registered = self.registry.service(&service.key);
        for stands in &mut choice.instances {
            let id = stands.id.parse().ok();
            let record = registered
                .as_ref()
                .zip(id)
                .and_then(|(s, id)| s.instance(&id).cloned());
            stands.role = record.and_then(|record| record.role);
        }
        choice
            .instances
            .extend(self.left_out(service).map(|(record, why)| {
                let instance = &record.instance;
                Stands {
                    id: instance.id.to_string(),
                    address: format!("{}:{}", instance.host, instance.port),
                    health: record.health(),
                    role: record.role,
                    weight: instance.weight.0,
                    tier: instance.tier,
                    in_flight: 0,
                    eligible: false,
                    why,
                }
            }));
        choice
    }

    /// The service's instances that are not in `table`, and why not.
    fn left_out(&self, table: &ServiceTable) -> impl Iterator<Item = (Arc<Record>, String)> {
        let service = self.registry.service(&table.key);
        let instances = service.iter().flat_map(|service| service.instances());
        let out = instances.filter(|r| !table.endpoints.iter().any(|e| e.id == r.instance.id));
        let out: Vec<_> = out
            .map(|record| {
                (
                    record.clone(),
                    why_left_out(record, table.role, service.as_deref()),
                )
            })
            .collect();
        out.into_iter()
    }

    /// The listener that would take the question's connection, and how that was found out.
    fn listener_for<'t>(
        &self,
        table: &'t RoutingTable,
        question: &Question,
    ) -> Option<(&'t ListenerTable, String)> {
        let bound = self.bound();
        let named = |name: &str| table.listeners.iter().flatten().find(|l| *l.name == *name);
        let mut at_port = bound
            .iter()
            .filter(|(_, address)| Some(address.port()) == question.port);
        match (at_port.next(), at_port.next()) {
            (Some((name, address)), None) => Some((&**named(name)?, format!("bound to {address}"))),
            // A URL as clients use it may name the port of something in front of us.
            _ if bound.len() == 1 => {
                let (name, address) = bound.first_key_value()?;
                let how = format!("the only one, bound to {address}");
                Some((&**named(name)?, how))
            }
            _ => None,
        }
    }
}

impl Pick {
    fn new(made_at: Option<Revision>, table: Arc<ServiceTable>) -> Self {
        let balancer = Balancer::new(&table, 0, fastrand::u64(..));
        Self {
            made_at,
            table,
            balancer,
        }
    }
}

fn why_left_out(record: &Record, role: Option<Role>, service: Option<&Service>) -> String {
    let primary = service.and_then(Service::primary);
    match (role, record.role) {
        (Some(_), None) => "its check has not found out its role".into(),
        (Some(asked), Some(has)) if asked != has => format!("it is a {has}, and no {asked}"),
        (Some(Role::Primary), _) if primary.is_none() => {
            "several say that they are the primary, and none was seen to be promoted: none is believed".into()
        }
        (Some(Role::Primary), _) if primary.is_some_and(|p| p.instance.id != record.instance.id) => {
            "it says that it is the primary, but another was promoted since, or it is dead".into()
        }
        _ => "its host name has no address".into(),
    }
}

fn no_listener(table: &RoutingTable, question: &Question) -> String {
    let names: Vec<_> = table.listeners.iter().flatten().map(|l| &*l.name).collect();
    let port = question
        .port
        .map_or_else(|| "that port".to_owned(), |port| format!("port {port}"));
    match names.is_empty() {
        true => "no listener is configured".into(),
        false => format!(
            "no listener is bound to {port}; there are {}",
            names.join(", ")
        ),
    }
}

fn choice(service: &ServiceTable, kept: Option<u32>) -> Choice {
    let now = proxy::now();
    let mut balancer = Balancer::new(service, 0, fastrand::u64(..));
    let context = Context {
        key: fastrand::u64(..),
        kept,
        ..Context::default()
    };
    let chosen = balancer.choose(service, &context, now).ok();
    Choice {
        namespace: service.key.namespace.to_string(),
        service: service.key.service.to_string(),
        role: service.role,
        policy: service.policy.as_str().into(),
        instances: (0..service.endpoints.len())
            .map(|index| {
                let standing = balancer.standing(service, index, now);
                stands(&service.endpoints[index], standing)
            })
            .collect(),
        chosen: chosen.map(|index| service.endpoints[index].id.to_string()),
    }
}

fn stands(endpoint: &Endpoint, standing: Standing) -> Stands {
    let address: SocketAddr = endpoint.address;
    Stands {
        id: endpoint.id.to_string(),
        address: address.to_string(),
        health: endpoint.health,
        role: None,
        weight: endpoint.weight.0,
        tier: endpoint.instance_tier(),
        in_flight: endpoint.stats.in_flight(),
        eligible: standing == Standing::Eligible,
        why: standing.to_string(),
    }
}
