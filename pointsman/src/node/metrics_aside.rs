//! What routes have beside one service, counted.

use model::{
    Action, Circuit, Counter, MirrorStats, Phase, Route, RoutingTable, ServiceTable, Sharded,
};
use telemetry::{Exposition, Kind};

use super::metrics::labels;

pub(super) fn render(table: &RoutingTable, out: &mut Exposition) {
    split(table, out);
    fallback(table, out);
    circuits(table, out);
    mirrors(table, out);
}

fn routes(table: &RoutingTable) -> impl Iterator<Item = (&str, &Route)> {
    let listeners = table.listeners.iter().flatten();
    listeners.flat_map(|l| l.routes.iter().map(move |route| (&*l.name, route)))
}

fn sample(
    out: &mut Exposition,
    name: &str,
    (listener, route): (&str, &Route),
    (table, service): (&RoutingTable, usize),
    given: &Sharded<Counter>,
) {
    let view = table.services[service].view().to_string();
    let labels = [
        ("listener", listener),
        ("route", &*route.name),
        ("service", &*view),
    ];
    out.sample(name, &labels, given.total(|count| count));
}

fn split(table: &RoutingTable, out: &mut Exposition) {
    let name = "pointsman_route_split_total";
    let help = "Requests given to each of the services that share a route.";
    out.metric(name, Kind::Counter, help);
    for (listener, route) in routes(table) {
        if let Action::Split(split) = &route.action {
            for share in &split.shares {
                let to = (table, share.service);
                sample(out, name, (listener, route), to, &share.given);
            }
        }
    }
}

fn mirrors(table: &RoutingTable, out: &mut Exposition) {
    let name = "pointsman_route_mirrored_total";
    let help = "Copies of a route's requests, by what became of them.";
    out.metric(name, Kind::Counter, help);
    type Count = (&'static str, fn(&MirrorStats) -> &Counter);
    let counts: [Count; 3] = [
        ("answered", |stats| &stats.answered),
        ("failed", |stats| &stats.failed),
        ("skipped", |stats| &stats.skipped),
    ];
    for (listener, route) in routes(table) {
        let Some(mirror) = route.aside.as_ref().and_then(|aside| aside.mirror.as_ref()) else {
            continue;
        };
        let view = table.services[mirror.service].view().to_string();
        for (outcome, count) in counts {
            let labels = [
                ("listener", listener),
                ("route", &*route.name),
                ("service", &*view),
                ("outcome", outcome),
            ];
            out.sample(name, &labels, mirror.stats.total(count));
        }
    }
}

fn circuits(table: &RoutingTable, out: &mut Exposition) {
    let breaking = |service: &&std::sync::Arc<ServiceTable>| service.balancing.breaking.is_some();
    let services = || table.services.iter().filter(breaking);
    let name = "pointsman_service_circuit_state";
    let help = "1 for what the circuit breaker of a service is at.";
    out.metric(name, Kind::Gauge, help);
    for service in services() {
        let (key, now) = (service.key.to_string(), service.admission.circuit.state());
        for phase in Phase::ALL {
            let labels = [&*labels(&key, service), &[("state", phase.as_str())]].concat();
            out.sample(name, &labels, u64::from(phase == now.phase));
        }
    }
    type Count = (&'static str, &'static str, fn(&Circuit) -> &Counter);
    let counts: [Count; 2] = [
        (
            "pointsman_service_circuit_opened_total",
            "How often the circuit breaker of a service opened.",
            |circuit| &circuit.opened,
        ),
        (
            "pointsman_service_circuit_refused_total",
            "Requests that were not sent because the circuit was open.",
            |circuit| &circuit.refused,
        ),
    ];
    for (name, help, count) in counts {
        out.metric(name, Kind::Counter, help);
        for service in services() {
            let key = service.key.to_string();
            let count = count(&service.admission.circuit).value();
            out.sample(name, &labels(&key, service), count);
        }
    }
}

fn fallback(table: &RoutingTable, out: &mut Exposition) {
    let name = "pointsman_route_fallback_total";
    let help = "Requests given to the service that stands in for a route's own.";
    out.metric(name, Kind::Counter, help);
    for (listener, route) in routes(table) {
        if let Some(fallback) = route
            .aside
            .as_ref()
            .and_then(|aside| aside.fallback.as_ref())
        {
            let to = (table, fallback.service);
            sample(out, name, (listener, route), to, &fallback.given);
        }
    }
}
