//! The data plane's decisions, asked for from outside the data plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use balance::{Balancer, Context, Standing, standing};
use fronts::{
    CertificateRefused, Choice, Explanation, NoInstance, PassedOver, Question, SeenCertificate,
    Standing as Stands, Traffic, Unresolved,
};
use model::{
    CertificateName, Endpoint, Host, InstanceId, ListenerTable, Revision, Role, RoutingTable,
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
                    .chain(self.left_out(&pick.table).map(|out| PassedOver {
                        id: out.record.instance.id.to_string(),
                        why: out.why,
                    }))
                    .collect(),
            })
    }

    fn catch_up(&self, service: &model::ServiceKey) {
        self.refresh(std::iter::once(service));
    }

    fn unresolved(&self) -> Unresolved {
        self.names.unresolved()
    }

    fn explain(&self, question: &Question) -> Explanation {
        let table = self.proxy.table();
        let (listener, how) = match self.listener_for(&table, question) {
            Ok(found) => found,
            Err(verdict) => {
                return Explanation {
                    verdict,
                    ..Explanation::default()
                };
            }
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

    /// Which instance would be chosen.
    pub(super) fn choice(&self, service: &ServiceTable, context: &Context) -> Choice {
        let mut choice = choice(service, context);
        let registered = self.registry.service(&service.key);
        for stands in &mut choice.instances {
            let id = stands.id.parse().ok();
            let record = registered
                .as_ref()
                .zip(id)
                .and_then(|(s, id)| s.instance(&id).cloned());
            stands.role = record.and_then(|record| record.role);
        }
        choice.instances.extend(self.left_out(service).map(|out| {
            let instance = &out.record.instance;
            Stands {
                id: instance.id.to_string(),
                address: format!("{}:{}", instance.host, instance.port),
                health: out.record.health(),
                unresolved: out.unresolved,
                role: out.record.role,
                weight: instance.weight.0,
                tier: instance.tier,
                in_flight: 0,
                eligible: false,
                why: out.why,
            }
        }));
        choice
    }

    /// The service's instances that are not in `table`, and why not.
    fn left_out(&self, table: &ServiceTable) -> impl Iterator<Item = LeftOut> {
        let service = self.registry.service(&table.key);
        let names = self.names.unresolved();
        let instances = service.iter().flat_map(|service| service.instances());
        let out = instances.filter(|r| !table.endpoints.iter().any(|e| e.id == r.instance.id));
        let out: Vec<_> = out
            .map(|record| {
                let unresolved = match &record.instance.host {
                    Host::Ip(_) => None,
                    Host::Name(name) => names.get(name).map(ToString::to_string),
                };
                let by_role = why_left_out(record, table.role, service.as_deref());
                LeftOut {
                    record: record.clone(),
                    why: by_role.unwrap_or_else(|| match (&unresolved, &record.instance.host) {
                        (Some(fault), _) => format!("its host name does not resolve: {fault}"),
                        (None, Host::Name(_)) => "its host name was not looked up yet".into(),
                        (None, Host::Ip(_)) => "it was registered a moment ago".into(),
                    }),
                    unresolved,
                }
            })
            .collect();
        out.into_iter()
    }

    /// The listener that would take the question's connection, and how that was found out; or why there is none.
    fn listener_for<'t>(
        &self,
        table: &'t RoutingTable,
        question: &Question,
    ) -> Result<(&'t ListenerTable, String), String> {
        let bound = self.bound();
        let listeners = table.listeners.iter().flatten();
        let all: Vec<_> = listeners
            .filter_map(|listener| Some((&**listener, *bound.get(&listener.name)?)))
            .collect();
        let scheme = question.scheme.as_deref();
        let fits = |found: &&(&ListenerTable, SocketAddr)| speaks(found.0, scheme);
        let at_port: Vec<_> = { all.iter() }
            .filter(|(_, address)| Some(address.port()) == question.port)
            .collect();
        let here: Vec<_> = at_port.iter().copied().filter(fits).collect();
        match (&here[..], &at_port[..]) {
            ([(listener, address)], _) => return Ok((listener, format!("bound to {address}"))),
            ([], [(listener, address), ..]) => {
                let (name, spoken) = (&listener.name, spoken(listener));
                let asked = scheme.unwrap_or_default();
                let verdict =
                    format!("listener {name}, bound to {address}, speaks {spoken}, and no {asked}");
                return Err(verdict);
            }
            _ => {}
        }
        // A URL as clients use it may name the port of something in front of us, which may end TLS as well.
        let of_http = |found: &&(&ListenerTable, SocketAddr)| {
            scheme.is_some() && matches!(found.0.speaks, Speaks::Http) && fits(found)
        };
        let by_scheme: Vec<_> = all.iter().filter(of_http).collect();
        match (&all[..], &by_scheme[..], scheme) {
            ([(listener, address)], ..) => {
                Ok((listener, format!("the only one, bound to {address}")))
            }
            (_, [(listener, address)], Some(scheme)) => {
                let how = format!("the only one for {scheme}, bound to {address}");
                Ok((listener, how))
            }
            _ => Err(no_listener(table, question)),
        }
    }
}

/// An instance that is in no table.
struct LeftOut {
    record: Arc<Record>,
    why: String,
    /// Why its host name has no address, if that was found out.
    unresolved: Option<String>,
}

/// Whether a client that asks by this scheme is understood. Where TLS is passed on as it is, it is.
fn speaks(listener: &ListenerTable, scheme: Option<&str>) -> bool {
    match (scheme, &listener.speaks) {
        (None, _) => true,
        (Some(_), Speaks::Udp(_)) => false,
        (Some("https"), Speaks::Tcp(_)) => true,
        (Some(scheme), _) => (scheme == "https") == listener.tls,
    }
}

/// What a listener speaks, as a URL would name it.
fn spoken(listener: &ListenerTable) -> &'static str {
    match (&listener.speaks, listener.tls) {
        (Speaks::Udp(_), _) => "udp",
        (Speaks::Tcp(_), true) => "tls",
        (Speaks::Tcp(_), false) => "tcp",
        (Speaks::Http, true) => "https",
        (Speaks::Http, false) => "http",
    }
}

/// What is to be said where nobody can be chosen.
pub(super) fn nobody(choice: &Choice) -> String {
    let instances = &choice.instances;
    let unresolved = !instances.is_empty() && instances.iter().all(|i| i.unresolved.is_some());
    match unresolved {
        true => format!(
            "no host name of the instances of service {} could be resolved",
            choice.service
        ),
        false => format!("service {} has no instance to choose", choice.service),
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

/// Why an instance is in no table that is asked for by this role; `None`: its role is not why.
fn why_left_out(record: &Record, role: Option<Role>, service: Option<&Service>) -> Option<String> {
    let primary = service.and_then(Service::primary);
    Some(match (role, record.role) {
        (Some(_), None) => "its check has not found out its role".into(),
        (Some(asked), Some(has)) if asked != has => format!("it is a {has}, and no {asked}"),
        (Some(Role::Primary), _) if primary.is_none() => {
            "several say that they are the primary, and none was seen to be promoted: none is believed".into()
        }
        (Some(Role::Primary), _) if primary.is_some_and(|p| p.instance.id != record.instance.id) => {
            "it says that it is the primary, but another was promoted since, or it is dead".into()
        }
        _ => return None,
    })
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

fn choice(service: &ServiceTable, context: &Context) -> Choice {
    let now = proxy::now();
    let mut balancer = Balancer::new(service, 0, fastrand::u64(..));
    let chosen = balancer.choose(service, context, now).ok();
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
        unresolved: None,
        role: None,
        weight: endpoint.weight.0,
        tier: endpoint.instance_tier(),
        in_flight: endpoint.stats.in_flight(),
        eligible: standing.is_eligible(),
        why: standing.to_string(),
    }
}
