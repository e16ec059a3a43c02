//! Why an HTTP request goes where it goes.

use std::net::{IpAddr, Ipv4Addr};

use balance::Context;
use fronts::{Choice, ExplainedRoute, Explanation, PassedOver, Question};
use http::{h1, route};
use model::{
    Action, Conditions, Expected, HashOn, HostPattern, ListenerTable, PartCondition, PathPattern,
    PersistBy, Route, RoutingTable, ServiceTable,
};

use super::Shared;
use super::explain_aside::{described_split, named, share_of, shares};
use super::explain_filters::described;
use super::traffic::nobody;

/// Routes named at the most; whoever has ten thousand does not want to read of all of them.
const MOST: usize = 200;

impl Shared {
    /// Without a client's address, one that no route names is assumed.
    pub(super) fn explain_http(
        &self,
        table: &RoutingTable,
        listener: &ListenerTable,
        how: &str,
        question: &Question,
    ) -> Explanation {
        let head = head(question);
        let limits = h1::Limits {
            head: listener.max_head,
            fields: listener.max_fields,
        };
        let name = Some(listener.name.to_string());
        let request = match h1::parse_request(head.as_bytes(), &mut 0, &limits) {
            Ok(Some(request)) => request,
            refused => {
                let fault = refused.err().unwrap_or(h1::Fault::HeadTooLarge);
                return Explanation {
                    verdict: format!(
                        "listener {} ({how}) answers it with {}: {fault}",
                        listener.name,
                        fault.status()
                    ),
                    listener: name,
                    ..Explanation::default()
                };
            }
        };
        let client = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let client = http::client_of(&request, client, &listener.trusted_peers);
        let found = route::find(listener, &request, client);
        let passed_over = passed_over(listener, found, &request, client);
        let Some(number) = found else {
            return Explanation {
                verdict: format!(
                    "listener {} has no route for host {:?} and path {:?}: 404",
                    listener.name,
                    question.host,
                    question.path.split('?').next().unwrap_or_default()
                ),
                listener: name,
                passed_over,
                ..Explanation::default()
            };
        };
        let route = &listener.routes[number];
        let mut filters = route.filters.as_deref().map(described).unwrap_or_default();
        let of = Of {
            request: &request,
            client,
            peer: question.client,
        };
        let (service, reaches_instance, verdict) =
            self.destination(route, table, &of, &mut filters);
        Explanation {
            verdict: format!(
                "listener {} ({how}), route {}: {verdict}",
                listener.name, route.name
            ),
            reaches_instance,
            listener: name,
            route: Some(explained(route, table)),
            passed_over,
            filters,
            service,
        }
    }

    /// What becomes of a request that takes `route`, and whether an instance gets it.
    fn destination(
        &self,
        route: &Route,
        table: &RoutingTable,
        of: &Of<'_>,
        lines: &mut Vec<String>,
    ) -> (Option<Choice>, bool, String) {
        let number = match &route.action {
            Action::Service(number) => Some(*number),
            Action::Split(split) => {
                let number = share_of(of.request, of.client, split);
                lines.push(described_split(split, number, table));
                number
            }
            Action::Redirect(_) | Action::Fixed { .. } => None,
        };
        let (mut said, mut open) = (String::new(), false);
        let choice = number.map(|number| {
            let service = &table.services[number];
            let (choice, cannot) = self.choice_of(service, of, route, table, (&mut said, lines));
            open = cannot;
            choice
        });
        said += &verdict(route, choice.as_ref());
        let chosen = choice
            .as_ref()
            .is_some_and(|choice| choice.chosen.is_some());
        (choice, chosen && !open, said)
    }
}

/// What is asked about.
pub(super) struct Of<'a> {
    request: &'a h1::Request<'a>,
    /// Whose request it is.
    client: IpAddr,
    /// Whose connection it comes by, if that was said.
    peer: Option<IpAddr>,
}

impl Of<'_> {
    /// What `service` chooses by; `kept` has the session.
    pub(super) fn context(&self, service: &ServiceTable, kept: Option<u32>) -> Context {
        Context {
            key: self.key(service).unwrap_or_else(|| fastrand::u64(..)),
            kept,
            ..Context::default()
        }
    }

    fn key(&self, service: &ServiceTable) -> Option<u64> {
        let peer = match (self.peer, &service.balancing.hash_on) {
            (None, HashOn::SourceIp) => return None,
            (peer, _) => peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        proxy::hash_key(self.request, peer, service)
    }

    pub(super) fn describe_key(&self, service: &ServiceTable, lines: &mut Vec<String>) {
        if service.policy.is_hash() {
            let by = named(&service.balancing.hash_on);
            lines.push(match self.key(service) {
                Some(_) => format!("the instance goes by {by}"),
                None => format!("the instance goes by {by}, and without that it is any"),
            });
        }
    }

    /// The endpoint that a cookie of the request names. (What workers remember of keys, they use; it is not asked here.)
    pub(super) fn kept(&self, service: &ServiceTable, lines: &mut Vec<String>) -> Option<u32> {
        let persistence = service.persistence.as_ref()?;
        let (by, cookie) = (&persistence.how.by, &persistence.how.cookie.name);
        lines.push(match by {
            PersistBy::Cookie => format!("sessions stay at an instance by the cookie {cookie}"),
            PersistBy::SourceIp => "sessions stay at an instance by the client's address".into(),
            PersistBy::Header(name) => format!("sessions stay at an instance by the field {name}"),
            PersistBy::Query(name) => {
                format!("sessions stay at an instance by the parameter {name}")
            }
        });
        let value = http::cookie::find(&self.request.fields, cookie);
        value
            .filter(|_| *by == PersistBy::Cookie)
            .and_then(|value| balance::named(persistence, value))
    }
}

fn verdict(route: &Route, service: Option<&Choice>) -> String {
    match (&route.action, service) {
        (_, Some(choice)) => match &choice.chosen {
            Some(id) => format!("goes to instance {id} of service {}", choice.service),
            None => format!("{}: 503", nobody(choice)),
        },
        (Action::Redirect(to), _) => {
            format!("is answered with {} to {}", to.status, to.location)
        }
        (Action::Fixed { status, .. }, _) => format!("is answered with {status}"),
        (Action::Split(_), None) => "no service has a share of it: 503".into(),
        (Action::Service(_), None) => unreachable!("a service's route has a choice"),
    }
}

/// The request as a client would send it.
fn head(question: &Question) -> String {
    let has_host = question
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let own = match has_host {
        true => None,
        false => Some(("Host".to_owned(), authority(question))),
    };
    let fields = own.iter().chain(&question.headers);
    let fields: String = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{} {} HTTP/1.1\r\n{fields}\r\n",
        question.method, question.path
    )
}

fn authority(question: &Question) -> String {
    match question.host.contains(':') {
        true => format!("[{}]", question.host),
        false => question.host.clone(),
    }
}

/// The routes before the one that was found, or all of them, in their order.
fn passed_over(
    listener: &ListenerTable,
    found: Option<usize>,
    request: &h1::Request<'_>,
    client: IpAddr,
) -> Vec<PassedOver> {
    let before = &listener.routes[..found.unwrap_or(listener.routes.len())];
    let whys = before.iter().map(|route| {
        let why = route::passed_over(route, request, client);
        (route, why)
    });
    // Of many, those of the host and the path asked for are those that somebody wonders about.
    let many = before.len() > MOST;
    let whys = whys.filter(|(_, why)| !many || matches!(why, Some(route::Why::Unmet(_))));
    let named = whys.take(MOST).map(|(route, why)| PassedOver {
        id: route.name.to_string(),
        why: why.map_or_else(String::new, |why| why.to_string()),
    });
    named.collect()
}

fn explained(route: &Route, table: &RoutingTable) -> ExplainedRoute {
    let (host, by_host) = match &route.host {
        HostPattern::Any => ("any".to_owned(), "no route names the host"),
        HostPattern::Exact(name) => (name.to_string(), "it names the host"),
        HostPattern::Suffix(suffix) => (
            format!("*{suffix}"),
            "no other names a longer end of the host",
        ),
    };
    let (path, by_path) = match &route.path {
        PathPattern::Exact(path) => (path.to_string(), "it names the path"),
        PathPattern::Prefix(path) => (format!("{path}*"), "no other names more of the path"),
        PathPattern::Regex(regex) => (
            format!("~ {}", regex.as_str()),
            "it is the first pattern of its host that matches the path",
        ),
    };
    let wanted = route.conditions.as_deref().map(wanted).unwrap_or_default();
    ExplainedRoute {
        name: route.name.to_string(),
        host,
        path,
        action: match &route.action {
            Action::Service(number) => format!("service {}", table.services[*number].view()),
            Action::Split(split) => format!("services {}", shares(split, table)),
            Action::Redirect(to) => format!("redirect {} to {}", to.status, to.location),
            Action::Fixed { status, .. } => format!("answer {status}"),
        },
        why: match wanted.is_empty() {
            true => format!("{by_host}, and {by_path}"),
            false => format!("{by_host}, {by_path}, and there is all that it wants: {wanted}"),
        },
    }
}

/// What a route wants beside host and path, in words.
fn wanted(conditions: &Conditions) -> String {
    let part = |kind: &'static str| {
        move |part: &PartCondition| {
            let name = &part.name;
            match &part.value {
                Expected::Present => format!("a {kind} {name}"),
                Expected::Absent => format!("no {kind} {name}"),
                Expected::Exact(value) => format!("the {kind} {name} with {value:?}"),
                Expected::Regex(regex) => format!("a {kind} {name} like {:?}", regex.as_str()),
            }
        }
    };
    let methods = &conditions.methods;
    let method = (!methods.is_empty()).then(|| format!("a method of {}", methods.join(", ")));
    let source = &conditions.source;
    let networks: Vec<_> = source.iter().map(ToString::to_string).collect();
    let source = (!source.is_empty()).then(|| format!("a client in {}", networks.join(", ")));
    let headers = conditions.headers.iter().map(part("header field"));
    let cookies = conditions.cookies.iter().map(part("cookie"));
    let query = conditions.query.iter().map(part("query parameter"));
    let all: Vec<String> = method
        .into_iter()
        .chain(headers)
        .chain(cookies)
        .chain(query)
        .chain(source)
        .collect();
    all.join("; ")
}
