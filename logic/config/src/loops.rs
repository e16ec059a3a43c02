//! No listener that is an instance of what it leads to: its connections would come in again until nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::{Host, Instance, ServiceKey};

use crate::reader::Log;
use crate::tree::{At, join};
use crate::{Config, Listener, Protocol, Route, RouteAction, Service};

/// A listener that sends connections to a listener, by way of a static instance.
struct Step<'a> {
    from: &'a str,
    to: &'a str,
    instance: (&'a ServiceKey, usize),
}

/// Refuses an instance that can only be a mistake. Where another route than the one that a connection came by may take it
/// the second time, it may be meant so.
pub(crate) fn none(config: &Config, places: &BTreeMap<String, At>, log: &mut Log<'_>) {
    let steps = steps(config);
    for step in steps.iter().filter(|step| leads_back(&steps, step)) {
        let (key, number) = step.instance;
        // Items are counted from 1, as everywhere.
        let item = format!(
            "{}.instance[{}]",
            join("service", &key.to_string()),
            number + 1
        );
        let path = join(&item, "address");
        let at = places.get(&path).copied().unwrap_or_default();
        let what = format!(
            "is where listener.{} listens, which leads here again: a connection would come in until no descriptors are left",
            step.to
        );
        log.error(
            at,
            path,
            what,
            "give the address of the server that is meant",
        );
    }
}

fn steps(config: &Config) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for (name, listener) in &config.listener {
        let routes = listener.routes.iter();
        let again = routes.filter(|route| comes_again(listener, route));
        // Thousands of routes may lead to a few services.
        let keys: BTreeSet<_> = again.flat_map(services).collect();
        for (key, service) in keys
            .iter()
            .filter_map(|key| config.service.get_key_value(*key))
        {
            for (to, there) in &config.listener {
                // Another listener that chooses among routes may choose one that ends it.
                let sure = to == name || (there.routes.len() == 1 && listener.routes.len() == 1);
                if !sure || !understands(listener, there, service) {
                    continue;
                }
                let instances = service.instances.iter().enumerate();
                let own = instances.filter(|(_, instance)| is_at(instance, there.bind));
                steps.extend(own.map(|(number, _)| Step {
                    from: name,
                    to,
                    instance: (key, number),
                }));
            }
        }
    }
    steps
}

/// Whether its end leads to its beginning.
fn leads_back(steps: &[Step<'_>], step: &Step<'_>) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![step.to]);
    while let Some(at) = next.pop() {
        if at == step.from {
            return true;
        }
        if seen.insert(at) {
            next.extend(steps.iter().filter(|s| s.from == at).map(|s| s.to));
        }
    }
    false
}

/// Whether what the route has sent on would be taken by it again: nothing that it goes by has changed.
fn comes_again(listener: &Listener, route: &Route) -> bool {
    let filters = &route.filters;
    match listener.protocol {
        Protocol::Http | Protocol::Https => {
            let fields = &filters.request_headers;
            filters.rewrite.is_none() && filters.host.is_none() && fields.is_empty()
        }
        // Where TLS ends, what a hello asked for is not asked for again.
        Protocol::Tcp | Protocol::Udp => {
            route.stream.source.is_empty()
                && (listener.tls.is_none() || !route.stream.asks_for_hello())
        }
    }
}

fn services(route: &Route) -> Vec<&ServiceKey> {
    match &route.action {
        RouteAction::Service(view) => vec![&view.service],
        RouteAction::Split(split) => split.shares.iter().map(|(view, _)| &view.service).collect(),
        RouteAction::Redirect(_) | RouteAction::Answer(_) => Vec::new(),
    }
}

/// Whether the instance is at this address of ours, as far as can be seen without asking for the machine's own.
fn is_at(instance: &Instance, bind: SocketAddr) -> bool {
    let here = match &instance.host {
        Host::Ip(ip) => {
            let own = ip.is_loopback() || ip.is_unspecified();
            *ip == bind.ip()
                || (bind.ip().is_unspecified() && own)
                || (ip.is_unspecified() && bind.ip().is_loopback())
        }
        Host::Name(name) => {
            &**name == "localhost" && (bind.ip().is_loopback() || bind.ip().is_unspecified())
        }
    };
    here && instance.port.get() == bind.port()
}

/// Whether a listener takes what this one sends to the service: else it ends with a handshake that fails, or a fault.
fn understands(from: &Listener, there: &Listener, service: &Service) -> bool {
    let is_http =
        |listener: &Listener| matches!(listener.protocol, Protocol::Http | Protocol::Https);
    let kinds = [from, there].map(|l| (is_http(l), l.protocol == Protocol::Udp));
    let tls = service.tls.is_some();
    kinds[0] == kinds[1]
        && match there.protocol {
            Protocol::Http => !tls,
            Protocol::Https => tls,
            Protocol::Tcp | Protocol::Udp => tls || there.tls.is_none(),
        }
}
