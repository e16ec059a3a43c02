//! Where a route's requests go beside one service: `services`, `fallback` and `mirror`.

use std::time::Duration;

use model::{ByteSize, Cannot, Role, ServiceKey, Sticky, View};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::route::RouteAction;
use crate::rule::{default, required};
use crate::text::Percent;
use crate::tree::Node;
use crate::value::Resolved;

/// Several services that share a route's requests by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The services, or what has the route's role in them, and their weights.
    pub shares: Vec<(View, u16)>,
    /// What keeps a client on its side, if anything does.
    pub sticky: Option<Sticky>,
}

/// What a route has beside what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Who answers when the route's service cannot.
    pub fallback: Option<View>,
    /// When.
    pub fallback_on: Vec<Cannot>,
    /// Who gets a copy of its requests.
    pub mirror: Option<Mirror>,
    /// The longest that a request may take.
    pub timeout: Option<Duration>,
}

impl Aside {
    /// Whether there is nothing of it. When to fall back means nothing by itself.
    pub fn is_empty(&self) -> bool {
        self.fallback.is_none() && self.mirror.is_none() && self.timeout.is_none()
    }
}

declare! {
    /// One of several services that share a route's requests.
    pub(crate) struct ShareKeys {
        /// The service: `"name"` or `"namespace/name"`. It may register later.
        service: ServiceKey => required(),
        /// Its part of the sum of all weights; 0 for none.
        // The same for all, as long as nobody says otherwise.
        weight: u16 => default(1u16).within(0..=u16::MAX),
    }
}

declare! {
    /// A service that gets copies of a route's requests. Its answers are thrown away, and nobody waits for them.
    pub struct Mirror {
        /// The service: `"name"` or `"namespace/name"`. It may register later.
        service: ServiceKey => required(),
        /// The share of the requests that are copied.
        // Whoever writes no share wants to see what the service does with all of it.
        share: Percent => default(Percent(100)).within(Percent(0)..=Percent(100)),
        /// Whether the host's name gets the ending `-shadow`, so that nobody takes a copy for a request.
        // As Envoy does: logs and counts of the other service tell them apart.
        mark_host: bool => default(true),
        /// Copies under way at a time, on each worker. Beyond, requests are not copied.
        // A slow mirror holds so many connections and requests in memory, and no more.
        max_in_flight: u32 => default(100u32).within(1..=100_000),
        /// The longest body that is copied; requests with longer ones are not.
        // What is read at a time: most forms and calls.
        max_body: ByteSize => default(ByteSize(64 << 10)).within(ByteSize(0)..=ByteSize(16 << 20)),
    }
}

/// One of several services, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) service: ServiceKey,
    pub(crate) weight: u16,
}

resolved!(Share);

impl Resolved for Share {
    type Keys = ShareKeys;

    fn resolve(keys: ShareKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            service: keys.service,
            weight: keys.weight,
        })
    }

    fn keys(&self) -> ShareKeys {
        ShareKeys {
            service: self.service.clone(),
            weight: self.weight,
        }
    }
}

/// Makes a split of what was written. `None` after a fault.
pub(crate) fn split(
    shares: Vec<Share>,
    sticky: Option<Sticky>,
    role: Option<Role>,
    node: &Node,
    cx: &mut Reader<'_, '_>,
) -> Option<Split> {
    if shares.iter().all(|share| share.weight == 0) {
        let hint = "give one of them a weight, or write answer = { status = 503 } in their place";
        cx.error(
            node.at,
            "has services of which none has a weight above 0",
            hint,
        );
        return None;
    }
    for (n, share) in shares.iter().enumerate() {
        if shares[..n].iter().any(|s| s.service == share.service) {
            let what = format!("has the service {} twice among its services", share.service);
            cx.error(node.at, what, "add their weights up");
            return None;
        }
    }
    let view = |share: Share| {
        let service = share.service;
        (View { service, role }, share.weight)
    };
    Some(Split {
        shares: shares.into_iter().map(view).collect(),
        sticky,
    })
}

/// Checks what a route has beside `action`. `None` after a fault.
pub(crate) fn beside(
    aside: Aside,
    action: Option<&RouteAction>,
    cx: &mut Reader<'_, '_>,
) -> Option<Aside> {
    let views: Vec<&View> = match action {
        Some(RouteAction::Service(view)) => vec![view],
        Some(RouteAction::Split(split)) => split.shares.iter().map(|(view, _)| view).collect(),
        Some(RouteAction::Redirect(_) | RouteAction::Answer(_)) => Vec::new(),
        None => return None,
    };
    let before = cx.log.errors();
    let mut fault = |key: &str, what: &str, hint: &str| {
        let key = format!("{}.{key}", cx.path());
        cx.at_key(Severity::Error, &key, what, hint);
    };
    if views.is_empty() {
        let what = "is there, but no service";
        let given = [
            ("fallback", aside.fallback.is_some()),
            ("mirror", aside.mirror.is_some()),
            ("timeout", aside.timeout.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            fault(key, what, "leave it out, or add service = \"…\"");
        }
    }
    if let Some(fallback) = &aside.fallback
        && views.contains(&fallback)
    {
        let what = "is the service that it is to stand in for";
        fault("fallback", what, "name another service, or leave it out");
    }
    if let Some(mirror) = &aside.mirror
        && views.iter().any(|view| view.service == mirror.service)
    {
        let what = "is the route's own service, which would get each request twice";
        fault("mirror.service", what, "name another service");
    }
    (cx.log.errors() == before).then_some(aside)
}
