//! Why a TCP connection or a UDP packet goes where it goes.

use std::net::{IpAddr, Ipv4Addr};

use balance::Context;
use fronts::{ExplainedRoute, Explanation, Question};
use model::stream::{Arrival, find};
use model::{HostPattern, ListenerTable, RoutingTable, Speaks, StreamRoute};

use super::Shared;
use super::traffic::nobody;

impl Shared {
    /// The question's host is taken for the server name that a client asks for; without a client's address, one that
    /// no route names is assumed.
    pub(super) fn explain_stream(
        &self,
        table: &RoutingTable,
        listener: &ListenerTable,
        how: &str,
        question: &Question,
    ) -> Explanation {
        let protocol = match listener.speaks {
            Speaks::Udp(_) => "udp",
            _ => "tcp",
        };
        let alpn: Vec<_> = question.alpn.iter().map(String::as_bytes).collect();
        let arrival = Arrival {
            source: question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            // An address is no server name (RFC 6066 §3).
            sni: Some(&*question.host).filter(|host| host.parse::<IpAddr>().is_err()),
            alpn: &alpn,
        };
        let routes = listener.speaks.stream_routes();
        let name = Some(listener.name.to_string());
        let Some(number) = find(routes, &arrival) else {
            let client = arrival.source;
            return Explanation {
                verdict: format!(
                    "{protocol} listener {} ({how}) has no route for server name {:?} and client {client}{}: it is {}",
                    listener.name,
                    arrival.sni.unwrap_or_default(),
                    match question.alpn.is_empty() {
                        true => String::new(),
                        false => format!(", which offers {}", question.alpn.join(", ")),
                    },
                    if protocol == "tcp" {
                        "reset"
                    } else {
                        "dropped"
                    },
                ),
                listener: name,
                ..Explanation::default()
            };
        };
        let route = &routes[number];
        let service = &table.services[route.service];
        let key = |client| proxy::source_key(service.balancing.hash_secret, client);
        let context = Context {
            key: question.client.map_or_else(|| fastrand::u64(..), key),
            ..Context::default()
        };
        let choice = self.choice(service, &context);
        let verdict = match &choice.chosen {
            Some(id) => format!("goes to instance {id} of service {}", choice.service),
            None => nobody(&choice),
        };
        Explanation {
            verdict: format!(
                "{protocol} listener {} ({how}), route {}: {verdict}",
                listener.name, route.name
            ),
            reaches_instance: choice.chosen.is_some(),
            listener: name,
            route: Some(explained(route, table)),
            service: Some(choice),
            ..Explanation::default()
        }
    }
}

fn explained(route: &StreamRoute, table: &RoutingTable) -> ExplainedRoute {
    let (host, mut why) = match &route.matches.sni {
        None => ("any".to_owned(), vec!["no route names the server"]),
        Some(HostPattern::Any) => ("*".to_owned(), vec!["no route names the server"]),
        Some(HostPattern::Exact(name)) => (name.to_string(), vec!["it names the server"]),
        Some(HostPattern::Suffix(end)) => {
            let why = vec!["no other names a longer end of the server's name"];
            (format!("*{end}"), why)
        }
    };
    if route.matches.alpn.is_some() {
        why.push("the client offers its protocol");
    }
    if !route.matches.source.is_empty() {
        why.push("the client is in its networks");
    }
    ExplainedRoute {
        name: route.name.to_string(),
        host,
        path: "any".into(),
        action: format!("service {}", table.services[route.service].key),
        why: why.join(", and "),
    }
}
