//! Everything that can be counted, in the Prometheus text format.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use ::cluster::Stats;
use model::{
    Admission, Closed, Counter, Endpoint, Health, ListenerStats, Moment, Priority, Reason, Refusal,
    RoutingTable, ServiceTable, StreamStats,
};
use registry::Registry;
use telemetry::{Exposition, Kind};

use super::{Shared, histograms};

pub(super) fn render(shared: &Shared) -> String {
    let mut out = Exposition::default();
    let table = shared.proxy.table();
    out.metric("pointsman_info", Kind::Gauge, "The running version.");
    out.sample(
        "pointsman_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    shared.reloads.metrics(&mut out);
    workers(shared, &mut out);
    room(shared, &mut out);
    listeners(&table, &mut out);
    shared.certificates().metrics(&mut out);
    routes(&table, &mut out);
    super::metrics_aside::render(&table, &mut out);
    stream_routes(&table, &mut out);
    services(&table, &mut out);
    endpoints(&table, &mut out);
    super::traces::metrics(&shared.trace_counts, &mut out);
    registry(shared, &mut out);
    zookeeper(shared, &mut out);
    guests(shared, &mut out);
    out.finish()
}

fn guests(shared: &Shared, out: &mut Exposition) {
    let guests = &shared.guests;
    let name = "pointsman_watches";
    out.metric(name, Kind::Gauge, "Watches of services by the native API.");
    out.sample(name, &[], guests.watchers.count() as u64);
    let name = "pointsman_watches_behind";
    let help = "Watches whose clients have not taken so many batches of changes, or more; beyond 64 they get a new snapshot.";
    out.metric(name, Kind::Gauge, help);
    for batches in [1, 8, 32] {
        let behind = guests.watchers.behind(batches) as u64;
        out.sample(name, &[("batches", &*batches.to_string())], behind);
    }
    let neighbours = shared.registry.neighbours();
    if neighbours.is_empty() {
        return;
    }
    let name = "pointsman_cluster_clients";
    let help = "Clients that hold connections, by node, as the nodes have told each other.";
    out.metric(name, Kind::Gauge, help);
    for node in &neighbours {
        let labels = |kind| [("node", &*node.name), ("kind", kind)];
        if let Some(sessions) = node.crowd.sessions {
            out.sample(name, &labels("sessions"), sessions);
        }
        out.sample(name, &labels("watches"), node.crowd.watches);
    }
    let name = "pointsman_clients_sent_away_total";
    let help =
        "Connections closed for their clients to go to another node, with more room or their home.";
    out.metric(name, Kind::Counter, help);
    let moved = &guests.moved;
    for (kind, count) in [
        ("sessions", &moved.sessions),
        ("watches", &moved.watches),
        ("home", &moved.home),
    ] {
        out.sample(name, &[("kind", kind)], count.value());
    }
}

fn zookeeper(shared: &Shared, out: &mut Exposition) {
    let Some(front) = shared.zookeeper.get() else {
        return;
    };
    let (counters, watches, connections) = front.figures.read();
    let (nodes, sessions) = shared.registry.read(|registry| {
        let tree = registry.tree();
        (tree.totals().nodes, tree.session_count() as u64)
    });
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    let all = [
        (
            "connections",
            gauge,
            "Connections of ZooKeeper's clients.",
            connections as u64,
        ),
        (
            "sessions",
            gauge,
            "Sessions of ZooKeeper's clients.",
            sessions,
        ),
        ("nodes", gauge, "Nodes of the tree.", nodes),
        (
            "watches",
            gauge,
            "Watches: connections by paths.",
            watches.watches as u64,
        ),
        (
            "requests_total",
            counter,
            "Requests of ZooKeeper's clients.",
            counters.received,
        ),
        (
            "events_total",
            counter,
            "Events of watches sent.",
            counters.events,
        ),
        (
            "dropped_total",
            counter,
            "Connections closed because their clients did not read.",
            counters.dropped,
        ),
        (
            "skipped_total",
            counter,
            "Nodes that should stand for instances and cannot be read.",
            front.projection.skipped.value(),
        ),
    ];
    for (name, kind, help, value) in all {
        let name = format!("pointsman_zookeeper_{name}");
        out.metric(&name, kind, help);
        out.sample(&name, &[], value);
    }
}

fn workers(shared: &Shared, out: &mut Exposition) {
    let name = "pointsman_worker_connections";
    out.metric(name, Kind::Gauge, "Open client connections of a worker.");
    for (worker, connections) in shared.proxy.connections().into_iter().enumerate() {
        out.sample(name, &[("worker", &worker.to_string())], connections);
    }
    let name = "pointsman_connections_handed_over_total";
    out.metric(
        name,
        Kind::Counter,
        "Connections one worker accepted and a less busy one serves.",
    );
    out.sample(name, &[], shared.proxy.handed_over());
    let name = "pointsman_access_log_lost_total";
    out.metric(
        name,
        Kind::Counter,
        "Access records lost because the log could not keep up, or could not be written.",
    );
    out.sample(name, &[], shared.lost_records.value());
}

/// Of what there is only so much.
fn room(shared: &Shared, out: &mut Exposition) {
    let limit = proxy::rt::Descriptors::of_process().limit;
    let in_use = shared.proxy.descriptors_in_use().min(limit);
    let full = u64::from(shared.arrivals.full.load(Relaxed));
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    let failed = shared.arrivals.failed.value();
    let all = [
        (
            "descriptors_limit",
            gauge,
            "Files and sockets that this process may have open.",
            limit,
        ),
        (
            "descriptors_in_use",
            gauge,
            "Those that are open, or a few less: the lowest number that is free.",
            in_use,
        ),
        (
            "listener_rests_total",
            counter,
            "Times that a listener accepted nothing for want of descriptors.",
            shared.proxy.rests(),
        ),
        (
            "checks_postponed_total",
            counter,
            "Times that a check waited for a descriptor.",
            shared.prober.postponed(),
        ),
        (
            "api_accept_failures_total",
            counter,
            "Times that the API accepted nothing for want of descriptors.",
            failed,
        ),
        (
            "api_full",
            gauge,
            "1 while as many clients as may be are connected to the API.",
            full,
        ),
    ];
    for (name, kind, help, value) in all {
        let name = format!("pointsman_{name}");
        out.metric(&name, kind, help);
        out.sample(&name, &[], value);
    }
}

fn listeners(table: &RoutingTable, out: &mut Exposition) {
    type Count = (&'static str, &'static str, fn(&ListenerStats) -> &Counter);
    let counts: [Count; 11] = [
        (
            "pointsman_listener_accepted_total",
            "Connections accepted.",
            |s| &s.accepted,
        ),
        (
            "pointsman_listener_closed_total",
            "Connections closed.",
            |s| &s.closed,
        ),
        (
            "pointsman_listener_refused_total",
            "Requests that were no HTTP, connections and packets that broke a limit.",
            |s| &s.refused,
        ),
        (
            "pointsman_listener_timed_out_total",
            "Connections cut off for taking too long.",
            |s| &s.timed_out,
        ),
        (
            "pointsman_listener_http2_connections_total",
            "Connections in HTTP/2.",
            |s| &s.http2,
        ),
        (
            "pointsman_listener_http2_floods_total",
            "Connections in HTTP/2 that were ended for making more work than they let us do.",
            |s| &s.floods,
        ),
        (
            "pointsman_listener_tls_handshakes_total",
            "TLS handshakes that were completed.",
            |s| &s.handshakes,
        ),
        (
            "pointsman_listener_tls_resumed_total",
            "TLS handshakes that resumed an earlier session.",
            |s| &s.resumed,
        ),
        (
            "pointsman_listener_tls_failed_total",
            "TLS handshakes that failed, for whatever reason.",
            |s| &s.handshakes_failed,
        ),
        (
            "pointsman_listener_received_bytes_total",
            "Bytes read from clients.",
            |s| &s.received,
        ),
        (
            "pointsman_listener_sent_bytes_total",
            "Bytes sent to clients.",
            |s| &s.sent,
        ),
    ];
    for (name, help, count) in counts {
        out.metric(name, Kind::Counter, help);
        for listener in table.listeners.iter().flatten() {
            out.sample(
                name,
                &[("listener", &listener.name)],
                listener.stats.total(count),
            );
        }
    }
}

fn routes(table: &RoutingTable, out: &mut Exposition) {
    let routes = || {
        let listeners = table.listeners.iter().flatten();
        listeners.flat_map(|l| l.routes.iter().map(move |r| (&*l.name, &*r.name, &r.stats)))
    };
    let name = "pointsman_route_requests_total";
    out.metric(
        name,
        Kind::Counter,
        "Requests answered, by the first digit of the status.",
    );
    for (listener, route, stats) in routes() {
        for (class, code) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let labels = [("listener", listener), ("route", route), ("code", code)];
            out.sample(name, &labels, stats.total(|s| &s.answered[class]));
        }
    }
    let name = "pointsman_route_aborted_total";
    out.metric(name, Kind::Counter, "Requests that got no whole answer.");
    for (listener, route, stats) in routes() {
        let labels = [("listener", listener), ("route", route)];
        out.sample(name, &labels, stats.total(|s| &s.aborted));
    }
    let name = "pointsman_route_refused_total";
    out.metric(
        name,
        Kind::Counter,
        "Requests that a filter answered, by why.",
    );
    for (listener, route, stats) in routes() {
        for refusal in Refusal::ALL {
            let count = stats.total(|s| &s.refused[refusal as usize]);
            // Most routes refuse nobody, ever.
            if count > 0 {
                let by = ("by", refusal.as_str());
                out.sample(name, &[("listener", listener), ("route", route), by], count);
            }
        }
    }
}

fn stream_routes(table: &RoutingTable, out: &mut Exposition) {
    let routes = || {
        let listeners = table.listeners.iter().flatten();
        listeners.flat_map(|l| {
            let routes = l.speaks.stream_routes().iter();
            routes.map(move |r| (&*l.name, &*r.name, &r.stats))
        })
    };
    let name = "pointsman_route_closed_total";
    let help = "TCP connections and UDP sessions that ended, by why.";
    out.metric(name, Kind::Counter, help);
    for (listener, route, stats) in routes() {
        for why in Closed::ALL {
            let labels = [
                ("listener", listener),
                ("route", route),
                ("why", why.as_str()),
            ];
            out.sample(name, &labels, stats.total(|s| &s.closed[why as usize]));
        }
    }
    type Count = (&'static str, &'static str, fn(&StreamStats) -> &Counter);
    let counts: [Count; 2] = [
        (
            "pointsman_route_received_bytes_total",
            "Bytes from TCP and UDP clients to instances.",
            |s| &s.received,
        ),
        (
            "pointsman_route_sent_bytes_total",
            "Bytes from instances to TCP and UDP clients.",
            |s| &s.sent,
        ),
    ];
    for (name, help, count) in counts {
        out.metric(name, Kind::Counter, help);
        for (listener, route, stats) in routes() {
            out.sample(
                name,
                &[("listener", listener), ("route", route)],
                stats.total(count),
            );
        }
    }
}

fn services(table: &RoutingTable, out: &mut Exposition) {
    type Count = (
        &'static str,
        &'static str,
        fn(&model::ServiceStats) -> &Counter,
    );
    limits(table, out);
    let name = "pointsman_service_least_moves_total";
    let help = "The fewest connections to move that would have made their spread even, each time it was not.";
    out.metric(name, Kind::Counter, help);
    for service in &table.services {
        let key = service.key.to_string();
        out.sample(name, &labels(&key, service), service.least_moves.value());
    }
    let counts: [Count; 5] = [
        (
            "pointsman_service_requests_total",
            "Requests, however many attempts each took.",
            |s| &s.requests,
        ),
        (
            "pointsman_service_retries_total",
            "Attempts after the first.",
            |s| &s.retries,
        ),
        (
            "pointsman_service_hedges_total",
            "Second requests sent because the first took long.",
            |s| &s.hedges,
        ),
        (
            "pointsman_service_hedges_won_total",
            "Second requests that were answered before the first.",
            |s| &s.hedges_won,
        ),
        (
            "pointsman_service_unavailable_total",
            "Requests for which there was no instance.",
            |s| &s.unavailable,
        ),
    ];
    for (name, help, count) in counts {
        out.metric(name, Kind::Counter, help);
        for service in &table.services {
            let key = service.key.to_string();
            out.sample(name, &labels(&key, service), service.stats.total(count));
        }
    }
    let name = "pointsman_service_ejections_total";
    out.metric(name, Kind::Counter, "Instances ejected, by reason.");
    for service in &table.services {
        let key = service.key.to_string();
        for reason in Reason::ALL {
            let labels = [("service", &*key), ("reason", reason.as_str())];
            let count = &service.ejections.total[reason as usize];
            out.sample(name, &labels, count.value());
        }
    }
    histograms::render(table, out);
}

/// Of services that take only so many requests at a time.
fn limits(table: &RoutingTable, out: &mut Exposition) {
    let limited = || {
        let services = table.services.iter();
        services.filter(|s| s.balancing.limiting.is_on())
    };
    type Gauge = (&'static str, &'static str, fn(&Admission) -> u32);
    let gauges: [Gauge; 2] = [
        (
            "pointsman_service_limit",
            "How many requests it takes at a time.",
            Admission::limit,
        ),
        (
            "pointsman_service_admitted",
            "Requests that it has now.",
            Admission::admitted,
        ),
    ];
    for (name, help, value) in gauges {
        out.metric(name, Kind::Gauge, help);
        for service in limited() {
            let key = service.key.to_string();
            out.sample(name, &labels(&key, service), value(&service.admission));
        }
    }
    let name = "pointsman_service_shed_total";
    out.metric(name, Kind::Counter, "Requests that it had no room for.");
    for service in limited() {
        let key = service.key.to_string();
        for priority in Priority::ALL {
            let labels = [&*labels(&key, service), &[("priority", priority.as_str())]].concat();
            out.sample(
                name,
                &labels,
                service.admission.shed[priority as usize].value(),
            );
        }
    }
}

/// Views of one service count apart.
pub(super) fn labels<'a>(key: &'a str, service: &ServiceTable) -> Vec<(&'static str, &'a str)> {
    let role = service.role.map(|role| ("role", role.as_str()));
    [("service", key)].into_iter().chain(role).collect()
}

/// A metric of an instance: name, kind, meaning, value.
type OfEndpoint = (
    &'static str,
    Kind,
    &'static str,
    fn(&Endpoint, Moment) -> f64,
);

const ENDPOINT: [OfEndpoint; 10] = [
    (
        "pointsman_instance_in_flight",
        Kind::Gauge,
        "Requests being served, and connections and sessions that are open.",
        |e, _| e.stats.in_flight().into(),
    ),
    (
        "pointsman_instance_connections",
        Kind::Gauge,
        "TCP connections and UDP sessions that are open.",
        |e, _| e.connections.open().into(),
    ),
    (
        "pointsman_instance_connections_moved_total",
        Kind::Counter,
        "Connections closed so that their clients go where there are fewer.",
        |e, _| e.connections.moved.value() as f64,
    ),
    (
        "pointsman_instance_requests_total",
        Kind::Counter,
        "Attempts made there.",
        |e, _| e.stats.requests() as f64,
    ),
    (
        "pointsman_instance_failures_total",
        Kind::Counter,
        "Attempts that got no answer.",
        |e, _| e.stats.failures().into(),
    ),
    (
        "pointsman_instance_connects_total",
        Kind::Counter,
        "Connections tried.",
        |e, _| e.stats.connects().into(),
    ),
    (
        "pointsman_instance_connect_failures_total",
        Kind::Counter,
        "Connections that failed.",
        |e, _| e.stats.connect_failures().into(),
    ),
    (
        "pointsman_instance_errors_total",
        Kind::Counter,
        "Answers with 500, 502, 503 or 504.",
        |e, _| e.stats.errors().into(),
    ),
    (
        "pointsman_instance_ejected",
        Kind::Gauge,
        "1 while it is taken out because of what was observed.",
        |e, now| {
            u8::from(
                e.stats
                    .ejection()
                    .is_some_and(|ejection| ejection.until > now),
            )
            .into()
        },
    ),
    (
        "pointsman_instance_latency_seconds",
        Kind::Gauge,
        "Recent mean time to the first byte, as the balancer learned it; failures count as 1 s or more.",
        |e, _| f64::from(e.stats.learned().y) / 1e9,
    ),
];

fn endpoints(table: &RoutingTable, out: &mut Exposition) {
    let now = proxy::now();
    for (name, kind, help, value) in ENDPOINT {
        out.metric(name, kind, help);
        // An instance that is in several views has one set of numbers.
        let mut shown = BTreeSet::new();
        for service in &table.services {
            let key = service.key.to_string();
            for endpoint in &service.endpoints {
                if !shown.insert((&service.key, &endpoint.id)) {
                    continue;
                }
                let labels = [("service", &*key), ("instance", endpoint.id.as_str())];
                out.sample(name, &labels, value(endpoint, now));
            }
        }
    }
}

fn registry(shared: &Shared, out: &mut Exposition) {
    let name = "pointsman_registry_instances";
    out.metric(name, Kind::Gauge, "Registered instances, by health.");
    let counts = shared.registry.read(Registry::counts);
    for health in Health::ALL {
        out.sample(name, &[("health", health.as_str())], counts.of(health));
    }
    let stats = shared.registry.stats();
    for (name, kind, help, value) in REGISTRY {
        let name = format!("pointsman_registry_{name}");
        out.metric(&name, kind, help);
        out.sample(&name, &[], value(&stats));
    }
    let name = "pointsman_registry_leads";
    let help = "Whether this node leads its cluster, by the word of a majority.";
    out.metric(name, Kind::Gauge, help);
    let registry = &shared.registry;
    let confirmed = registry.number().is_none() || registry.confirmed_leader().is_some();
    out.sample(name, &[], u8::from(registry.leads() && confirmed));
    let name = "pointsman_registry_age_seconds";
    let help = "How long ago what is registered here was sure to be all there was; nothing, if nobody has confirmed that.";
    out.metric(name, Kind::Gauge, help);
    if let Some(age) = shared.registry.age() {
        out.sample(name, &[], age.as_secs_f64());
    }
}

type Number = (&'static str, Kind, &'static str, fn(&Stats) -> f64);

#[rustfmt::skip]
const REGISTRY: [Number; 15] = [
    ("revision", Kind::Counter, "The last command applied.", |s| s.revision.0 as f64),
    ("services", Kind::Gauge, "Services.", |s| s.services as f64),
    ("leases", Kind::Gauge, "Leases.", |s| s.leases as f64),
    ("leases_held", Kind::Gauge, "Leases held over by the mass-loss guard.", |s| s.held as f64),
    ("commands_total", Kind::Counter, "Commands committed.", |s| s.records as f64),
    ("commits_total", Kind::Counter, "Group commits: one write and one sync each.", |s| s.batches as f64),
    ("log_bytes_total", Kind::Counter, "Bytes written to the log.", |s| s.log_bytes as f64),
    ("sync_seconds_total", Kind::Counter, "Time spent making commits durable.", |s| s.sync_time.as_secs_f64()),
    ("sync_seconds_max", Kind::Gauge, "The longest of them.", |s| s.sync_time_max.as_secs_f64()),
    ("overloaded_total", Kind::Counter, "Commands refused for a full queue.", |s| s.overloaded as f64),
    ("not_written_total", Kind::Counter, "Commands the disk would not take.", |s| s.not_written as f64),
    ("heartbeats_total", Kind::Counter, "Heartbeats that renewed a lease.", |s| s.heartbeats as f64),
    ("watched_services", Kind::Gauge, "Services somebody waits for a change of.", |s| s.watched_services as f64),
    ("snapshots_total", Kind::Counter, "Snapshots written.", |s| s.snapshots as f64),
    ("snapshot_bytes", Kind::Gauge, "The last snapshot's size.", |s| s.snapshot_bytes as f64),
];
