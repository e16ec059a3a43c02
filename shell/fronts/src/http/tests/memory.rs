//! A registry in memory and a data plane that takes the first healthy instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

use model::{
    CertificateName, Endpoint, EndpointStats, Health, Host, InstanceId, Moment, Revision,
    ServiceKey, View,
};
use registry::leases::{MassLoss, Renewal};
use registry::replication::Change;
use registry::{
    Command, Committed, Compacted, Event, Heartbeat, History, Leases, Registry, Service,
};
use tokio::sync::watch;

use crate::{
    CertificateRefused, Changes, Choice, Closed, Directory, ExplainedRoute, Explanation,
    NoInstance, PassedOver, Pending, Question, Refused, SeenCertificate, Standing, Traffic,
    Unresolved,
};

pub(crate) struct Memory {
    state: RwLock<(Registry, History)>,
    leases: Mutex<Leases>,
    changed: watch::Sender<Revision>,
    started: Instant,
    /// What the next commands are answered.
    pub(crate) refuse: Mutex<Option<Refused>>,
    stats: Mutex<HashMap<InstanceId, Arc<EndpointStats>>>,
    pub(crate) not_ready: Mutex<Option<String>>,
    /// How old it says that it is.
    pub(crate) age: Mutex<Option<Duration>>,
    certificates: Mutex<Vec<SeenCertificate>>,
}

impl Memory {
    pub(crate) fn new(history: usize) -> Arc<Self> {
        let history = History::new(Revision::default(), history);
        Arc::new(Self {
            state: RwLock::new((Registry::default(), history)),
            leases: Mutex::new(Leases::new(MassLoss::default(), 1, Moment::ZERO)),
            changed: watch::Sender::new(Revision::default()),
            started: Instant::now(),
            refuse: Mutex::default(),
            stats: Mutex::default(),
            not_ready: Mutex::default(),
            age: Mutex::new(Some(Duration::from_millis(75))),
            certificates: Mutex::default(),
        })
    }

    pub(crate) fn apply(&self, command: &Command) -> Committed {
        let now = Moment::from_nanos(self.started.elapsed().as_nanos() as u64);
        let mut state = self.state.write().unwrap();
        let revision = state.0.revision().next();
        let applied = state.0.apply(revision, command);
        let mut leases = self.leases.lock().unwrap();
        for event in &applied.events {
            let record = state.0.instance(&event.key, &event.id);
            leases.follow(&event.key, &event.id, record.map(|r| &**r), now);
        }
        state.1.extend(applied.events);
        drop(state);
        self.changed.send_replace(revision);
        Committed {
            revision,
            reply: applied.reply,
        }
    }

    pub(crate) fn stats(&self, id: &InstanceId) -> Arc<EndpointStats> {
        Arc::clone(self.stats.lock().unwrap().entry(id.clone()).or_default())
    }

    fn endpoints(&self, key: &ServiceKey) -> Vec<Endpoint> {
        let (_, service) = self.service(key);
        let records = service.iter().flat_map(|s| s.instances());
        let endpoint = |record: &Arc<registry::Record>| Endpoint {
            id: record.instance.id.clone(),
            address: match &record.instance.host {
                Host::Ip(ip) => (*ip, record.instance.port.get()).into(),
                Host::Name(_) => ([127, 0, 0, 1], record.instance.port.get()).into(),
            },
            weight: record.instance.weight,
            health: record.health(),
            drain: record.instance.drain,
            enabled: record.instance.enabled,
            tier: 0,
            since: Moment::ZERO,
            incarnation: record.incarnation,
            stats: self.stats(&record.instance.id),
            connections: Arc::default(),
        };
        records.map(endpoint).collect()
    }
}

impl Directory for Memory {
    fn submit(&self, command: Command) -> Pending<'_, Result<Committed, Refused>> {
        Box::pin(async move {
            match self.refuse.lock().unwrap().clone() {
                Some(refused) => Err(refused),
                None => Ok(self.apply(&command)),
            }
        })
    }

    fn cluster(&self) -> Pending<'_, crate::Cluster> {
        let cluster = crate::Cluster {
            node: "n1".into(),
            nodes: vec![crate::ClusterNode {
                name: "n1".into(),
                address: "127.0.0.1:7071".into(),
                votes: true,
                answers: true,
                behind: Some(0),
                ..crate::ClusterNode::default()
            }],
            ..crate::Cluster::default()
        };
        Box::pin(async { cluster })
    }

    /// Names that begin with "far" are at home at another node.
    fn home(&self, name: &str) -> crate::Home {
        let here = !name.starts_with("far");
        let node = if here { "n1" } else { "n2" };
        crate::Home {
            node: node.into(),
            api: Some(format!("http://{node}.example:7070")),
            here,
            from: "n1".into(),
        }
    }

    fn freshness(&self) -> crate::Freshness {
        crate::Freshness {
            age: *self.age.lock().unwrap(),
            leader: Some("n1".into()),
        }
    }

    fn catch_up(&self, demand: crate::Demand) -> Pending<'_, Result<(), Refused>> {
        let age = *self.age.lock().unwrap();
        let met = match (demand, age) {
            (crate::Demand::NoOlder(wanted), Some(age)) => age <= wanted,
            (_, age) => age.is_some(),
        };
        let refused = Refused {
            reason: crate::Reason::Stale,
            detail: format!("{age:?} is too old for {demand:?}"),
        };
        Box::pin(async move { met.then_some(()).ok_or(refused) })
    }

    fn change_cluster(&self, change: Change) -> Pending<'_, Result<String, Refused>> {
        Box::pin(async move { Ok(format!("{change:?}")) })
    }

    fn snapshot(&self) -> std::io::Result<crate::Pieces> {
        let (pieces, taken) = tokio::sync::mpsc::channel(2);
        let _ = pieces.try_send(Ok(b"all ".to_vec()));
        let _ = pieces.try_send(Ok(b"of it".to_vec()));
        Ok(taken)
    }

    fn heartbeat(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Heartbeat> {
        let now = Moment::from_nanos(self.started.elapsed().as_nanos() as u64);
        let mut leases = self.leases.lock().unwrap();
        let beat = |(key, id): &(ServiceKey, InstanceId)| match leases.renew(key, id, now) {
            Renewal::Renewed => Heartbeat::Renewed,
            Renewal::Woken => Heartbeat::Woken,
            Renewal::NotFound if self.state.read().unwrap().0.instance(key, id).is_some() => {
                Heartbeat::Persistent
            }
            Renewal::NotFound => Heartbeat::NotFound,
        };
        instances.iter().map(beat).collect()
    }

    fn registry(&self) -> Registry {
        self.state.read().unwrap().0.clone()
    }

    fn service(&self, key: &ServiceKey) -> (Revision, Option<Arc<Service>>) {
        let registry = &self.state.read().unwrap().0;
        (registry.revision(), registry.service(key).cloned())
    }

    fn watch(&self, _: &ServiceKey) -> Box<dyn Changes> {
        Box::new(Watch(self.changed.subscribe()))
    }

    fn events_since(&self, revision: Revision, key: &ServiceKey) -> Result<Vec<Event>, Compacted> {
        self.state.read().unwrap().1.since(revision, Some(key))
    }
}

struct Watch(watch::Receiver<Revision>);

impl Changes for Watch {
    fn changed(&mut self) -> Pending<'_, Result<(), Closed>> {
        Box::pin(async { self.0.changed().await.map_err(|_| Closed) })
    }
}

impl Traffic for Memory {
    fn pick(&self, view: &View, except: &[InstanceId]) -> Result<Endpoint, NoInstance> {
        let mut passed_over = Vec::new();
        for endpoint in self.endpoints(&view.service) {
            let why = match endpoint.health {
                _ if except.contains(&endpoint.id) => "it was tried already",
                Health::Critical => "it is critical",
                _ => return Ok(endpoint),
            };
            passed_over.push(PassedOver {
                id: endpoint.id.as_str().into(),
                why: why.into(),
            });
        }
        Err(NoInstance { passed_over })
    }

    fn catch_up(&self, _: &ServiceKey) {}

    fn unresolved(&self) -> Unresolved {
        [("nowhere.example".into(), "no such name".into())].into()
    }

    fn explain(&self, question: &Question) -> Explanation {
        let service: Option<ServiceKey> = question
            .host
            .split('.')
            .next()
            .and_then(|name| Some(ServiceKey::in_default(name.parse().ok()?)));
        Explanation {
            verdict: format!("{question:?}"),
            reaches_instance: service.is_some(),
            listener: Some("web".into()),
            route: Some(ExplainedRoute {
                name: "all".into(),
                host: "*".into(),
                path: "/".into(),
                action: "service".into(),
                why: "it is the only one".into(),
            }),
            passed_over: Vec::new(),
            filters: Vec::new(),
            service: service.map(|key| Choice {
                role: None,
                namespace: key.namespace.as_str().into(),
                service: key.service.as_str().into(),
                policy: "least_conn".into(),
                chosen: self
                    .pick(&View::whole(key.clone()), &[])
                    .ok()
                    .map(|e| e.id.as_str().into()),
                instances: self
                    .endpoints(&key)
                    .into_iter()
                    .map(|endpoint| Standing {
                        role: None,
                        id: endpoint.id.as_str().into(),
                        address: endpoint.address.to_string(),
                        health: endpoint.health,
                        unresolved: None,
                        weight: endpoint.weight.0,
                        tier: endpoint.tier,
                        in_flight: endpoint.stats.in_flight(),
                        eligible: true,
                        why: "it is passing".into(),
                    })
                    .collect(),
            }),
        }
    }

    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n".into()
    }

    fn ready(&self) -> Result<(), String> {
        match self.not_ready.lock().unwrap().clone() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    fn certificates(&self) -> Vec<SeenCertificate> {
        self.certificates.lock().unwrap().clone()
    }

    /// The key of a good one is `b`.
    fn set_certificate(
        &self,
        name: &CertificateName,
        certificate: &str,
        key: &str,
    ) -> Result<(bool, SeenCertificate), CertificateRefused> {
        if key != "b" {
            let why = "key is not the key of the certificate".into();
            return Err(CertificateRefused::Unusable(why));
        }
        let seen = SeenCertificate {
            name: Some(name.clone()),
            file: None,
            hosts: vec![certificate.into()],
            expires: Some(SystemTime::UNIX_EPOCH),
            used_by: vec!["listener web".into()],
        };
        let mut all = self.certificates.lock().unwrap();
        let before = all.len();
        all.retain(|seen| seen.name.as_ref() != Some(name));
        let new = all.len() == before;
        all.push(seen.clone());
        Ok((new, seen))
    }

    fn remove_certificate(&self, name: &CertificateName) -> Result<bool, CertificateRefused> {
        let mut all = self.certificates.lock().unwrap();
        let named = |seen: &SeenCertificate| seen.name.as_ref() == Some(name);
        match all.iter().position(named) {
            Some(_) if name.as_str() == "used" => {
                Err(CertificateRefused::InUse(vec!["listener web".into()]))
            }
            Some(place) => {
                all.remove(place);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
