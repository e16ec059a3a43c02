//! What routes have beside one service, counted.

use model::{Action, Counter, Route, RoutingTable, Sharded};
use telemetry::{Exposition, Kind};

pub(super) fn render(table: &RoutingTable, out: &mut Exposition) {
    split(table, out);
    fallback(table, out);
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
