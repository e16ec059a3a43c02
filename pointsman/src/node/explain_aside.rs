//! Which of several services a request goes to, and who stands in for one that cannot answer.

use std::net::IpAddr;

use balance::{Balancer, Context};
use fronts::Choice;
use http::h1;
use model::{Aside, Cannot, HashOn, Phase, Route, RoutingTable, ServiceTable, Split, Sticky};

use super::Shared;
use super::explain_http::Of;

impl Shared {
    /// Which instance of a service gets the request, or of the one that stands in for it; and whether it does not, for the
    /// service's circuit is open.
    pub(super) fn choice_of(
        &self,
        service: &ServiceTable,
        of: &Of<'_>,
        route: &Route,
        table: &RoutingTable,
        (verdict, lines): (&mut String, &mut Vec<String>),
    ) -> (Choice, bool) {
        let context = of.context(service, of.kept(service, lines));
        of.describe_key(service, lines);
        let choice = self.choice(service, &context);
        let own = service.view();
        let cannot = match is_open(service, lines) {
            true => Some((
                Cannot::Open,
                format!("the circuit of service {own} is open"),
            )),
            false if !can_answer(service, &context) => {
                let why = format!("service {own} has no instance that can answer");
                Some((Cannot::Unavailable, why))
            }
            false => None,
        };
        if let Some(hedging) = &service.balancing.hedging {
            let long = match hedging.delay {
                Some(delay) => format!("{delay:?}"),
                None => format!("{} % of requests do", hedging.quantile),
            };
            lines.push(format!(
                "a second instance is asked when the first takes longer than {long}"
            ));
        }
        let aside = route.aside.as_deref();
        if let Some(aside) = aside {
            describe(aside, table, lines);
        }
        let fallback = aside.and_then(|aside| aside.fallback.as_ref());
        match (cannot, fallback) {
            (Some((cannot, why)), Some(fallback)) if fallback.on[cannot as usize] => {
                *verdict = format!("{why}, and another stands in: ");
                let service = &table.services[fallback.service];
                (self.choice(service, &of.context(service, None)), false)
            }
            (Some((Cannot::Open, why)), _) => {
                *verdict = format!("{why}, and it gets 503; were it closed, it ");
                (choice, true)
            }
            _ => (choice, false),
        }
    }
}

/// Whether any instance can, as requests see it that another service could answer.
fn can_answer(service: &ServiceTable, context: &Context) -> bool {
    let context = Context {
        stand_in: true,
        ..*context
    };
    let mut balancer = Balancer::new(service, 0, fastrand::u64(..));
    balancer.choose(service, &context, proxy::now()).is_ok()
}

/// What a route has beside what it does.
fn describe(aside: &Aside, table: &RoutingTable, lines: &mut Vec<String>) {
    let name = |number: usize| table.services[number].view().to_string();
    if let Some(timeout) = aside.timeout {
        lines.push(format!("its answer has to be whole within {timeout:?}"));
    }
    if let Some(mirror) = &aside.mirror {
        let (share, name) = (mirror.share, name(mirror.service));
        lines.push(format!("{share} % of the requests are copied to {name}"));
    }
    if let Some(fallback) = &aside.fallback {
        let on = Cannot::ALL.into_iter();
        let on = on.filter(|&why| fallback.on[why as usize]);
        let on: Vec<_> = on.map(Cannot::as_str).collect();
        let name = name(fallback.service);
        lines.push(format!("{name} stands in on {}", on.join(", ")));
    }
}

/// Whether a service is left alone at present.
fn is_open(service: &ServiceTable, lines: &mut Vec<String>) -> bool {
    if service.balancing.breaking.is_none() {
        return false;
    }
    let (state, now) = (service.admission.circuit.state(), proxy::now());
    let open = state.phase == Phase::Open && now < state.at;
    lines.push(match state.phase {
        Phase::Closed => "the service's circuit is closed".into(),
        Phase::Open if open => {
            let left = state.at.since(now);
            format!("the service's circuit is open, for {left:?} more")
        }
        Phase::Open => "the service's circuit is open, and the next request is to try it".into(),
        Phase::HalfOpen => "the service's circuit is half-open: a few requests try it".into(),
    });
    open
}

/// The service whose share a request is. Where nothing keeps its client on a side, any.
pub(super) fn share_of(request: &h1::Request<'_>, client: IpAddr, split: &Split) -> Option<usize> {
    let key = proxy::split_key(request, client, split);
    let key = key.unwrap_or_else(|| fastrand::u64(..));
    balance::split(&split.shares, key).map(|n| split.shares[n].service)
}

/// The services and their weights.
pub(super) fn shares(split: &Split, table: &RoutingTable) -> String {
    let shares = split.shares.iter();
    let named = shares.map(|share| {
        let view = table.services[share.service].view();
        format!("{view} ({})", share.weight.0)
    });
    named.collect::<Vec<_>>().join(", ")
}

pub(super) fn described_split(
    split: &Split,
    chosen: Option<usize>,
    table: &RoutingTable,
) -> String {
    let by = match &split.sticky {
        None => "by weight alone: the next may go elsewhere".to_owned(),
        Some(Sticky::Cookie) => "by a cookie of ours".into(),
        Some(Sticky::By(on)) => format!("by {}", named(on)),
    };
    let to = chosen.map(|number| table.services[number].view().to_string());
    let to = to.unwrap_or_else(|| "nobody".into());
    format!(
        "of the services {} it goes to {to}, {by}",
        shares(split, table)
    )
}

/// What a key is made of.
pub(super) fn named(on: &HashOn) -> String {
    match on {
        HashOn::SourceIp => "the client's address".into(),
        HashOn::Url => "the path and query".into(),
        HashOn::Header(name) => format!("the header field {name}"),
        HashOn::Cookie(name) => format!("the cookie {name}"),
        HashOn::Query(name) => format!("the parameter {name}"),
    }
}
