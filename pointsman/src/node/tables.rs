//! Makes routing tables out of the configuration and the registry. What did not change is shared with the
//! table before: a worker notices by the pointer, and statistics go on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::{Config, Misdirected, Protocol, RouteAction, TraceContext};
use model::{
    Action, Admission, Balancing, CheckKind, CheckProtocol, CheckSpec, Endpoint, EndpointStats,
    Filters, Health, Host, ListenerTable, Moment, Respreading, Revision, Role, Route, RoutingTable,
    Secret, ServiceKey, ServiceTable, Sharded, Speaks, Stream, StreamRoute, Tracing, View, stream,
};
use registry::{Record, Service};

use super::files::Files;
use super::filters;

/// What host names mean at the moment; `None` while one has no address.
pub(super) type Resolve<'a> = &'a dyn Fn(&Host) -> Option<IpAddr>;

/// The latest tables and what they were made from.
pub(super) struct Tables {
    workers: usize,
    /// For whoever names neither a secret for hashing nor the node.
    drawn: [u64; 2],
    /// What cookies that name instances are made with.
    session_key: Box<[u8]>,
    files: Files,
    config: Arc<Config>,
    /// For services of which the configuration says nothing.
    unconfigured: config::Service,
    numbers: BTreeMap<View, usize>,
    services: Vec<Arc<ServiceTable>>,
    listener_numbers: BTreeMap<Arc<str>, usize>,
    listeners: Vec<Option<Arc<ListenerTable>>>,
}

impl Tables {
    pub(super) fn new(
        workers: usize,
        session_key: &[u8],
        config: &Arc<Config>,
        files: Files,
    ) -> Self {
        let mut tables = Self {
            workers,
            drawn: [fastrand::u64(..), fastrand::u64(..)],
            session_key: session_key.into(),
            files: Files::default(),
            config: config.clone(),
            unconfigured: config::Service::default(),
            numbers: BTreeMap::new(),
            services: Vec::new(),
            listener_numbers: BTreeMap::new(),
            listeners: Vec::new(),
        };
        tables.configure(config, files);
        tables
    }

    /// The files that filters name.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Keeps what was seen of the files, none of which has anything new in it.
    pub(super) fn keep(&mut self, files: Files) {
        self.files = files;
    }

    /// The configuration that the tables follow.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Follows `config` from now on, with the files that it names. Every service has to be refreshed afterwards.
    pub(super) fn configure(&mut self, config: &Arc<Config>, files: Files) {
        self.config = config.clone();
        self.files = files;
        for slot in &mut self.listeners {
            if slot
                .as_ref()
                .is_some_and(|l| !config.listener.contains_key(&l.name))
            {
                *slot = None;
            }
        }
        for (name, listener) in &config.listener {
            let number = self.number_of(name);
            let before = self.listeners[number].clone();
            let table = self.listener(name, listener, before.as_deref());
            self.listeners[number] = Some(Arc::new(table));
        }
    }

    /// The number of a configured listener.
    pub(super) fn number(&self, listener: &str) -> Option<usize> {
        self.listener_numbers.get(listener).copied()
    }

    fn number_of(&mut self, name: &Arc<str>) -> usize {
        let next = self.listeners.len();
        let number = *self.listener_numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.listeners.push(None);
        }
        number
    }

    fn listener(
        &mut self,
        name: &Arc<str>,
        listener: &config::Listener,
        before: Option<&ListenerTable>,
    ) -> ListenerTable {
        let workers = self.workers;
        let known = |route: &str| {
            before
                .and_then(|b| b.routes.iter().find(|r| *r.name == *route))
                .map_or_else(|| Arc::new(Sharded::new(workers)), |r| r.stats.clone())
        };
        let http = matches!(listener.protocol, Protocol::Http | Protocol::Https);
        let of_http = listener.routes.iter().filter(|_| http);
        let mut routes: Vec<_> = of_http
            .map(|route| Route {
                name: route.name.clone(),
                host: route.host.clone(),
                path: route.path.clone(),
                conditions: (!route.conditions.is_empty())
                    .then(|| Box::new(route.conditions.clone())),
                filters: self.filters(route, before),
                stats: known(&route.name),
                priority: route.priority,
                action: self.action(route, before),
                aside: self.aside(route, before),
            })
            .collect();
        http::route::order(&mut routes);
        ListenerTable {
            name: name.clone(),
            speaks: self.speaks(listener, before),
            tls: listener.tls.is_some(),
            accept_proxy: listener.accept_proxy.clone(),
            index: http::route::index(&routes),
            routes,
            trusted_peers: listener.trusted_peers.clone(),
            timeouts: listener.timeouts,
            deadlines: listener.deadlines.clone(),
            peer_timeout: listener.peer_timeout,
            max_head: listener.max_head.0 as usize,
            max_fields: listener.max_fields.into(),
            http2: listener.http2,
            grpc_web: listener.grpc_web,
            tracing: self.tracing(listener),
            one_host: listener.misdirected == Misdirected::Refuse,
            stats: before.map_or_else(|| Arc::new(Sharded::new(workers)), |b| b.stats.clone()),
        }
    }

    fn tracing(&self, listener: &config::Listener) -> Tracing {
        let traces = self.config.telemetry.traces.as_ref();
        Tracing {
            trusted_only: listener.trace_context == TraceContext::TrustedPeers,
            sampled: traces.map_or(0, |traces| traces.sample.0),
        }
    }

    fn speaks(&mut self, listener: &config::Listener, before: Option<&ListenerTable>) -> Speaks {
        match listener.protocol {
            Protocol::Http | Protocol::Https => Speaks::Http,
            Protocol::Tcp => Speaks::Tcp(Stream {
                routes: self.stream_routes(listener, before),
                limits: listener.tcp,
            }),
            Protocol::Udp => Speaks::Udp(Stream {
                routes: self.stream_routes(listener, before),
                limits: listener.udp,
            }),
        }
    }

    fn stream_routes(
        &mut self,
        listener: &config::Listener,
        before: Option<&ListenerTable>,
    ) -> Vec<StreamRoute> {
        let known = |name: &str| {
            let route = before?
                .speaks
                .stream_routes()
                .iter()
                .find(|r| *r.name == *name)?;
            Some(route.stats.clone())
        };
        let mut routes = Vec::new();
        for route in &listener.routes {
            // Other actions are refused for such a listener.
            let RouteAction::Service(service) = &route.action else {
                continue;
            };
            routes.push(StreamRoute {
                name: route.name.clone(),
                matches: route.stream.clone(),
                service: self.service_number(service),
                stats: known(&route.name).unwrap_or_else(|| Arc::new(Sharded::new(self.workers))),
            });
        }
        stream::order(&mut routes);
        routes
    }

    fn filters(
        &self,
        route: &config::Route,
        before: Option<&ListenerTable>,
    ) -> Option<Arc<Filters>> {
        let before = before.and_then(|b| b.routes.iter().find(|r| r.name == route.name));
        let before = before.and_then(|route| route.filters.as_deref());
        filters::made_of(&route.filters, before, self.drawn, &self.files)
    }

    fn action(&mut self, route: &config::Route, before: Option<&ListenerTable>) -> Action {
        match &route.action {
            RouteAction::Service(view) => Action::Service(self.service_number(view)),
            RouteAction::Split(split) => Action::Split(Box::new(self.split(route, split, before))),
            RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
            RouteAction::Answer(answer) => Action::Fixed {
                status: answer.status,
                content_type: answer.content_type.clone(),
                body: answer.body.clone(),
            },
        }
    }

    pub(super) fn service_number(&mut self, view: &View) -> usize {
        if let Some(&number) = self.numbers.get(view) {
            return number;
        }
        let number = self.services.len();
        self.numbers.insert(view.clone(), number);
        self.services
            .push(Arc::new(self.service(view, None, &[], &|_| None)));
        number
    }

    /// Takes in a service as it is now. Returns whether any table has it, or a part of it.
    pub(super) fn refresh(
        &mut self,
        key: &ServiceKey,
        service: Option<&Service>,
        resolve: Resolve<'_>,
    ) -> bool {
        let numbers = self.views(key);
        // A promotion moves an instance from one view to another, and it can be in two: what is known of it is shared.
        let mut known: Vec<_> = numbers
            .iter()
            .map(|(_, n)| self.services[*n].clone())
            .collect();
        for (view, number) in &numbers {
            let table = Arc::new(self.service(view, service, &known, resolve));
            known.push(table.clone());
            self.services[*number] = table;
        }
        !numbers.is_empty()
    }

    /// The views of a service that some table has, and their numbers.
    fn views(&self, key: &ServiceKey) -> Vec<(View, usize)> {
        let views = [None, Some(Role::Primary), Some(Role::Replica)].map(|role| View {
            service: key.clone(),
            role,
        });
        let known = |view: View| self.numbers.get(&view).map(|&number| (view, number));
        views.into_iter().filter_map(known).collect()
    }

    /// Services that some table has, once for each view.
    pub(super) fn service_keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.numbers.keys().map(|view| &view.service)
    }

    /// What the configuration says of a service, or the defaults.
    pub(super) fn settings(&self, key: &ServiceKey) -> &config::Service {
        self.config.service.get(key).unwrap_or(&self.unconfigured)
    }

    /// One view's table, if some routing table has it.
    pub(super) fn routed(&self, view: &View) -> Option<&Arc<ServiceTable>> {
        self.numbers.get(view).map(|&number| &self.services[number])
    }

    /// One view's table, its statistics taken over from `before`: tables of the same service, that of the same
    /// view among them.
    pub(super) fn service(
        &self,
        view: &View,
        service: Option<&Service>,
        before: &[Arc<ServiceTable>],
        resolve: Resolve<'_>,
    ) -> ServiceTable {
        let settings = self.settings(&view.service);
        let (now, zone) = (proxy::now(), self.config.node.zone.as_deref());
        let zone = zone.filter(|_| settings.prefer_zone);
        let tier = |record: &Record| {
            let away = zone.is_some() && record.instance.zone.as_deref() != zone;
            Endpoint::tier_of(record.instance.tier, away)
        };
        let records = service
            .into_iter()
            .flat_map(|service| service.view(view.role));
        let (mut all, mut endpoints) = (0, Vec::new());
        for record in records {
            all += 1;
            endpoints.extend(endpoint(record, tier(record), before, resolve, now));
        }
        let unresolved = all - endpoints.len() as u32;
        let same = before.iter().find(|table| table.role == view.role);
        let balancing = self.balancing(settings);
        let placed = same.and_then(|b| b.placement.as_ref());
        let placement = balance::place(settings.policy, &balancing, &endpoints, placed);
        let persistence = settings.persistence.as_ref().map(|how| {
            let before = same.and_then(|b| Some((&**b.persistence.as_ref()?, &*b.endpoints)));
            let (session_key, service) = (&self.session_key, &view.service);
            Arc::new(balance::persistence(
                how,
                session_key,
                service,
                &endpoints,
                before,
                self.drawn,
            ))
        });
        ServiceTable {
            key: view.service.clone(),
            role: view.role,
            policy: settings.policy,
            balancing,
            placement,
            persistence,
            endpoints,
            unresolved,
            connect_timeout: settings.connect_timeout,
            peer_timeout: settings.peer_timeout,
            response_timeout: settings.response_timeout,
            retries: settings.retries,
            retry_budget: settings.retry_budget.0,
            keep_alive: settings.keep_alive,
            load_report: settings.load_report.clone(),
            send_proxy: settings.send_proxy,
            http2: settings.protocol == config::InstanceProtocol::Http2,
            tls: settings.tls.is_some(),
            connect_from: settings.connect_from.clone(),
            stats: same.map_or_else(|| Arc::new(Sharded::new(self.workers)), |b| b.stats.clone()),
            ejections: same.map_or_else(Arc::default, |b| b.ejections.clone()),
            admission: same.map_or_else(
                || Arc::new(Admission::new(self.workers)),
                |b| b.admission.clone(),
            ),
            least_moves: same.map_or_else(Arc::default, |b| b.least_moves.clone()),
        }
    }

    /// What clients choose is hashed with it.
    pub(super) fn hash_secret(&self) -> [u64; 2] {
        match &self.config.node.hash_secret {
            Some(Secret(text)) => [1, 2].map(|n| balance::key([n, 0], text.as_bytes())),
            None => self.drawn,
        }
    }

    pub(super) fn fresh<T: Default>(&self) -> Arc<Sharded<T>> {
        Arc::new(Sharded::new(self.workers))
    }

    fn balancing(&self, settings: &config::Service) -> Balancing {
        let node = &self.config.node;
        let made_of = |text: &str, n| balance::key([n, 0], text.as_bytes());
        Balancing {
            hash_on: settings.hash_on.clone(),
            hash_secret: self.hash_secret(),
            slow_start: settings.slow_start,
            subset: settings.subset,
            subset_salt: match &node.name {
                Some(name) => made_of(name, 3),
                None => self.drawn[0],
            },
            panic_below: settings.panic_below.0,
            ejecting: settings.ejection,
            limiting: settings.limits,
            breaking: settings.breaking,
            hedging: settings.hedging,
            retrying: settings.retrying.clone(),
            respreading: Respreading {
                transactions: settings.check.as_ref().is_some_and(is_postgresql),
                ..settings.respread
            },
        }
    }

    /// The tables of all services that some routing table has.
    pub(super) fn services(&self) -> &[Arc<ServiceTable>] {
        &self.services
    }

    /// The routing table as of `revision`.
    pub(super) fn table(&self, revision: Revision) -> RoutingTable {
        RoutingTable {
            revision,
            listeners: self.listeners.clone(),
            services: self.services.clone(),
        }
    }
}

fn is_postgresql(check: &CheckSpec) -> bool {
    match &check.kind {
        CheckKind::Protocol(check) => check.protocol == CheckProtocol::PostgreSql,
        CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Grpc(_) | CheckKind::Exchange(_) => false,
    }
}

fn endpoint(
    record: &Record,
    tier: u8,
    before: &[Arc<ServiceTable>],
    resolve: Resolve<'_>,
    now: Moment,
) -> Option<Endpoint> {
    let instance = &record.instance;
    let address = SocketAddr::new(resolve(&instance.host)?, instance.port.get());
    let health = record.health();
    let known = before.iter().find_map(|table| {
        let index = table
            .endpoints
            .binary_search_by(|e| e.id.cmp(&instance.id))
            .ok()?;
        let endpoint = &table.endpoints[index];
        let same = endpoint.incarnation == record.incarnation && endpoint.address == address;
        same.then_some(endpoint)
    });
    let mut since = known.map_or(now, |known| known.since);
    if let Some(known) = known
        && known.health == Health::Critical
        && health != Health::Critical
    {
        // A check has seen it well again: what workers saw before that no longer counts.
        known.stats.forgive();
        since = now;
    }
    Some(Endpoint {
        id: instance.id.clone(),
        incarnation: record.incarnation,
        address,
        weight: instance.weight,
        health,
        drain: instance.drain,
        enabled: instance.enabled,
        tier,
        since,
        stats: known.map_or_else(|| Arc::new(EndpointStats::default()), |e| e.stats.clone()),
        connections: known.map_or_else(Arc::default, |e| e.connections.clone()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Action, InstanceId, Revision, Timestamp};
    use registry::{Command, Patch, Registry, Verdict};

    use super::*;

    fn config(text: &str) -> Arc<Config> {
        let source = config::Source {
            name: "test".into(),
            text: text.into(),
        };
        Arc::new(config::parse(&[source], &|_| None).unwrap().config)
    }

    fn key() -> ServiceKey {
        ServiceKey::in_default("web".parse().unwrap())
    }

    fn register(registry: &mut Registry, id: &str, host: &str) {
        let source = format!(
            "[service.web.check]\ntcp = true\n[[service.web.instance]]\nid = {id:?}\naddress = {host:?}"
        );
        let service = config(&source).service[&key()].clone();
        let mut instance = Box::new(service.instances[0].clone());
        instance.check = service.check.map(Box::new);
        let at = Timestamp(0);
        let key = key();
        registry.apply(
            registry.revision().next(),
            &Command::Register { key, instance, at },
        );
    }

    fn resolve(host: &Host) -> Option<IpAddr> {
        match host {
            Host::Ip(ip) => Some(*ip),
            Host::Name(_) => None,
        }
    }

    fn refresh(tables: &mut Tables, registry: &Registry) -> Arc<ServiceTable> {
        let service = registry.service(&key()).cloned();
        assert!(tables.refresh(&key(), service.as_deref(), &resolve));
        tables.routed(&View::whole(key())).unwrap().clone()
    }

    const WEB: &str = "[listener.a]\nbind = \"127.0.0.1:1\"\nservice = \"web\"\n";

    #[test]
    fn statistics_live_as_long_as_the_instance_at_its_address() {
        let mut tables = Tables::new(1, b"key", &config(WEB), Files::default());
        let mut registry = Registry::default();
        register(&mut registry, "x", "127.0.0.1:80");
        let first = refresh(&mut tables, &registry).endpoints[0].stats.clone();
        let patch = Box::new(Patch {
            drain: Some(true),
            ..Patch::default()
        });
        let id: InstanceId = "x".parse().unwrap();
        let key = key();
        registry.apply(Revision(2), &Command::Patch { key, id, patch });
        let drained = refresh(&mut tables, &registry);
        assert!(drained.endpoints[0].drain && Arc::ptr_eq(&first, &drained.endpoints[0].stats));
        register(&mut registry, "x", "127.0.0.1:81");
        let moved = refresh(&mut tables, &registry);
        assert!(!Arc::ptr_eq(&first, &moved.endpoints[0].stats));
        // Another that came in its place, at its address and by its name, before anybody looked.
        let (key, id) = (self::key(), "x".parse().unwrap());
        let next = registry.revision().next();
        registry.apply(next, &Command::Deregister { key, id });
        register(&mut registry, "x", "127.0.0.1:81");
        let other = refresh(&mut tables, &registry);
        let [moved, other] = [&moved, &other].map(|table| &table.endpoints[0]);
        assert_eq!(moved.address, other.address);
        assert!(!Arc::ptr_eq(&moved.stats, &other.stats));
    }

    #[test]
    fn an_instance_that_a_check_sees_well_again_is_no_longer_passed_over() {
        let mut tables = Tables::new(1, b"key", &config(WEB), Files::default());
        let mut registry = Registry::default();
        register(&mut registry, "x", "127.0.0.1:80");
        let first = refresh(&mut tables, &registry).endpoints[0].clone();
        let stats = &first.stats;
        while proxy::now() == first.since {
            std::thread::yield_now();
        }
        stats.eject(Some(model::Ejection {
            until: Moment::from_millis(1 << 40),
            times: 1,
            reason: model::Reason::Failures,
        }));
        for health in [Health::Critical, Health::Passing] {
            let record = registry.instance(&key(), &"x".parse().unwrap()).unwrap();
            let verdict = Verdict {
                key: key(),
                id: "x".parse().unwrap(),
                incarnation: record.incarnation,
                health,
                role: None,
                reason: None,
            };
            let next = registry.revision().next();
            registry.apply(next, &Command::SetHealth(vec![verdict]));
            let again = &refresh(&mut tables, &registry).endpoints[0];
            // It starts slowly once it is well, and not each time that the table is made anew.
            assert_eq!(again.since > first.since, health == Health::Passing);
        }
        assert_eq!(stats.ejection(), None);
    }

    #[test]
    fn what_is_configured_of_the_choice_is_in_the_table() {
        let text = format!(
            "[node]\nzone = \"a\"\n{WEB}[service.web]\nslow_start = \"7s\"\nsubset = 3\npanic_below = \"40%\"\n\
             prefer_zone = false\n[service.web.respread]\nrate = \"2%\"\n"
        );
        let mut tables = Tables::new(1, b"key", &config(&text), Files::default());
        let mut registry = Registry::default();
        register(&mut registry, "x", "127.0.0.1:80");
        let table = refresh(&mut tables, &registry);
        let balancing = &table.balancing;
        assert_eq!(balancing.slow_start.as_secs(), 7);
        assert_eq!((balancing.subset, balancing.panic_below), (3, 40));
        assert_eq!(balancing.respreading.rate, 2);
        // In no zone, and so away, where that counts.
        assert_eq!(table.endpoints[0].tier, Endpoint::tier_of(0, false));
        let prefers = config(&text.replace("prefer_zone = false", ""));
        tables.configure(&prefers, Files::default());
        let table = refresh(&mut tables, &registry);
        assert_eq!(table.endpoints[0].tier, Endpoint::tier_of(0, true));
    }

    #[test]
    fn an_instance_without_an_address_is_in_no_table() {
        let mut tables = Tables::new(1, b"key", &config(WEB), Files::default());
        let mut registry = Registry::default();
        register(&mut registry, "x", "nowhere.example:80");
        let table = refresh(&mut tables, &registry);
        assert_eq!((table.endpoints.len(), table.unresolved), (0, 1));
    }

    #[test]
    fn listeners_and_services_keep_their_numbers_and_statistics() {
        let mut tables = Tables::new(1, b"key", &config(WEB), Files::default());
        let before = tables.table(Revision(1));
        let new = format!("{WEB}[listener.b]\nbind = \"127.0.0.1:2\"\nservice = \"other\"\n");
        tables.configure(&config(&new), Files::default());
        let after = tables.table(Revision(2));
        let a =
            [&before, &after].map(|t| t.listeners[tables.number("a").unwrap()].clone().unwrap());
        assert!(Arc::ptr_eq(&a[0].stats, &a[1].stats));
        assert!(Arc::ptr_eq(&a[0].routes[0].stats, &a[1].routes[0].stats));
        assert_eq!(a[0].routes[0].action, a[1].routes[0].action);
        assert_eq!(a[1].routes[0].action, Action::Service(0));
        tables.configure(&config(WEB), Files::default());
        assert!(tables.table(Revision(3)).listeners[1].is_none());
    }

    /// What a check of the instance found.
    fn report(registry: &mut Registry, id: &str, role: Role) {
        let id: InstanceId = id.parse().unwrap();
        let verdict = Verdict {
            key: key(),
            incarnation: registry.instance(&key(), &id).unwrap().incarnation,
            id,
            health: Health::Passing,
            role: Some(role),
            reason: None,
        };
        let next = registry.revision().next();
        registry.apply(next, &Command::SetHealth(vec![verdict]));
    }

    #[test]
    fn a_promotion_moves_the_instance_and_its_statistics_from_one_view_to_the_other() {
        let text = "[listener.all]\nbind = \"127.0.0.1:1\"\nservice = \"web\"\n\
                    [listener.writes]\nbind = \"127.0.0.1:2\"\nservice = \"web\"\nrole = \"primary\"\n\
                    [listener.reads]\nbind = \"127.0.0.1:3\"\nservice = \"web\"\nrole = \"replica\"\n";
        let mut tables = Tables::new(1, b"key", &config(text), Files::default());
        let mut registry = Registry::default();
        let mut views = |registry: &Registry| {
            refresh(&mut tables, registry);
            [None, Some(Role::Primary), Some(Role::Replica)].map(|role| {
                let table = tables
                    .routed(&View {
                        service: key(),
                        role,
                    })
                    .unwrap();
                assert_eq!(table.role, role);
                let ids = |e: &Endpoint| (e.id.to_string(), Arc::as_ptr(&e.stats));
                table.endpoints.iter().map(ids).collect::<Vec<_>>()
            })
        };
        register(&mut registry, "x", "127.0.0.1:80");
        register(&mut registry, "y", "127.0.0.1:81");
        report(&mut registry, "x", Role::Primary);
        report(&mut registry, "y", Role::Replica);
        let [all, primary, replicas] = views(&registry);
        assert_eq!((&all[..1], &all[1..]), (&primary[..], &replicas[..]));
        // The old primary does not know yet: it is in neither part.
        report(&mut registry, "y", Role::Primary);
        assert_eq!(views(&registry), [all.clone(), replicas.clone(), vec![]]);
        report(&mut registry, "x", Role::Replica);
        assert_eq!(views(&registry), [all, replicas, primary]);
    }
}
