//! `[[listener.NAME.route]]`: what to match, and what to do then.

use std::sync::Arc;
use std::time::Duration;

use model::{
    Cannot, Conditions, HostPattern, Network, PartCondition, PathPattern, Priority, Redirect,
    Rewrite, Role, ServiceKey, Sticky, StreamMatch, Template, View,
};

use crate::aside::{Aside, Mirror, Share, Split, beside, split};
use crate::declare::{declare, resolved};
use crate::filter::Filters;
use crate::reader::Reader;
use crate::rule::{absent, default, section};
use crate::text::{FieldTemplate, FieldValue, Method, Scheme, Token, UrlPath, WholeRegex};
use crate::top::{DAY, millis};
use crate::tree::{Node, clip};
use crate::value::{Resolved, Text};

/// What to match, and what to do then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in metrics, logs and `explain`; unique in its listener.
    pub name: Arc<str>,
    /// Hosts it serves.
    pub host: HostPattern,
    /// Paths it serves.
    pub path: PathPattern,
    /// What else it wants of a request.
    pub conditions: Conditions,
    /// Connections it takes, if its listener speaks no HTTP.
    pub stream: StreamMatch,
    /// What is done with its requests and answers on the way.
    pub filters: Filters,
    /// Whether its requests go first when a service has no room for all.
    pub priority: Priority,
    /// What it does.
    pub action: RouteAction,
    /// What else it has.
    pub aside: Aside,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Sends it to an instance of this service, or of this role in it, which need not be known yet.
    Service(View),
    /// Sends it to one of several services.
    Split(Split),
    /// Answers with another address.
    Redirect(Redirect),
    /// Answers with a text.
    Answer(Answer),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code, 200 to 599.
    pub status: u16,
    /// The whole body; empty where the status allows none.
    pub body: Box<str>,
    /// The `Content-Type`.
    pub content_type: Box<str>,
}

declare! {
    /// What to match, and what to do then: exactly one of `service`, `services`, `redirect` and `answer`.
    pub(crate) struct RouteKeys {
        /// Its name in metrics, logs and `explain`.
        name: Option<Box<str>> => absent("the listener's name and the route's number, such as web-1"),
        /// The host it serves: `"shop.example.com"`, `"*.example.com"` or `"*"` for every host. Ports do
        /// not matter.
        host: HostPattern => default(HostPattern::Any),
        /// The one path it serves.
        path: Option<UrlPath> => absent("see path_prefix"),
        /// The path it serves with everything below it, by whole segments: `"/api"` serves `/api` and
        /// `/api/x`, not `/apis`. A slash at the end does not matter.
        path_prefix: Option<UrlPath> => absent("every path, unless there is a path or path_regex"),
        /// A regular expression that the whole path must match, such as `"/v[0-9]+/users"`. It takes linear time, and knows
        /// ASCII only.
        path_regex: Option<WholeRegex> => absent("see path_prefix"),
        /// The methods it serves.
        method: Vec<Method> => default(Vec::new()),
        /// What header fields must be; all of it must hold.
        header: Vec<PartCondition> => default(Vec::new()),
        /// What cookies must be; all of it must hold.
        cookie: Vec<PartCondition> => default(Vec::new()),
        /// What query parameters must be, as they are sent; all of it must hold.
        query: Vec<PartCondition> => default(Vec::new()),
        /// The server name in the TLS hello, of a `tcp` listener: `"db.example.com"`, `"*.example.com"`, or `"*"`
        /// for every one. TLS is passed through.
        sni: Option<HostPattern> => absent("every connection, with and without TLS"),
        /// The application protocol that the TLS hello must offer, such as `"h2"`.
        alpn: Option<Box<str>> => absent("whatever it offers"),
        /// Networks that clients are in: those of the connection, and of HTTP behind one of `trusted_peers` those that it names.
        source: Vec<Network> => default(Vec::new()),
        /// The service that gets the requests: `"name"` or `"namespace/name"`. It may register later.
        service: Option<ServiceKey> => absent("see services, redirect and answer"),
        /// Several services that share the requests by weight, in the place of `service`: a split, or a canary.
        services: Vec<Share> => default(Vec::new()),
        /// What keeps a client at one of `services`: `"cookie"`, one that is set with the first answer; or what its requests have
        /// anyway, `"source_ip"`, `"header:NAME"`, `"cookie:NAME"`, `"query:NAME"` or `"url"`. A weight that changes moves those that
        /// it must.
        sticky: Option<Sticky> => absent("each request goes by the weights alone"),
        /// The service that answers when the route's own cannot. It has none itself.
        fallback: Option<ServiceKey> => absent("such requests are answered with 503, or 502"),
        /// When that is: `"unavailable"`, no instance can be chosen, reached, or made to answer; `"circuit_open"`, of its
        /// `circuit_breaker`; `"overloaded"`, there is no room within its `limits`.
        // Whatever keeps the service from answering, an answer is better than none.
        fallback_on: Vec<Cannot> => default(Cannot::ALL.to_vec()),
        /// A service that gets copies of the requests.
        mirror: Option<Mirror> => absent("nobody does"),
        /// The longest that a request may take, from its head to the last byte of its answer; then it is answered with 504, or
        /// broken off. Tunnels have limits of their own.
        timeout: Option<Duration> => absent("the listener's deadline.timeout").if_given_within(millis(1)..=DAY),
        /// Only to instances of the service that have this role, as its check found it: `"primary"`, of which there is
        /// one, or `"replica"`.
        role: Option<Role> => absent("all of the service"),
        /// Who goes first when the service has no room for all (its `limits`): `"high"`, `"normal"` or `"low"`.
        // Nobody's requests matter less than others' unless somebody says so.
        priority: Priority => default(Priority::Normal),
        /// Answers with another address.
        redirect: Option<Redirect> => absent("see service and answer"),
        /// Answers with a text.
        answer: Option<Answer> => absent("see service and redirect"),
        /// What is done with its requests and answers on the way.
        filters: Filters => section(),
    }
}

declare! {
    /// Answers with another address.
    pub(crate) struct RedirectKeys {
        /// 301, 302, 303, 307 or 308.
        // Keeps method and body, and no browser remembers a mistake in it for ever.
        status: u16 => default(307u16),
        /// The new address. `{host}`, `{path}`, `{query}` and the other variables of filters stand for the request's own;
        /// `{query}` brings its question mark along.
        location: Option<FieldTemplate> => absent("made of scheme, host and path"),
        /// The protocol of the new address: `"https"` or `"http"`.
        scheme: Option<Scheme> => absent("the request's own"),
        /// The host of the new address, with a port or without.
        host: Option<FieldTemplate> => absent("the request's own, without its port if there is a scheme"),
        /// The path of the new address. The query stays.
        path: Option<FieldTemplate> => absent("the request's own"),
    }
}

declare! {
    /// Answers with a text.
    pub(crate) struct AnswerKeys {
        /// The status code.
        status: u16 => default(200u16).within(200..=599),
        /// The whole body.
        body: Box<str> => default(""),
        /// The `Content-Type`.
        // What a text written in TOML is, unless said otherwise.
        content_type: FieldValue => default(FieldValue("text/plain; charset=utf-8".into())),
    }
}

resolved!(Route);
resolved!(Redirect);
resolved!(Answer);

impl Resolved for Route {
    type Keys = RouteKeys;

    fn resolve(keys: RouteKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let path = path(keys.path, keys.path_prefix, keys.path_regex, node, cx);
        let role = keys.role;
        let aside = Aside {
            fallback: keys.fallback.map(|service| View {
                service,
                role: None,
            }),
            fallback_on: keys.fallback_on,
            mirror: keys.mirror,
            timeout: keys.timeout,
        };
        let own = (keys.service, keys.redirect, keys.answer);
        let action = action(own, (keys.services, keys.sticky), role, node, cx);
        let aside = beside(aside, action.as_ref(), cx);
        if let Some(odd) = keys.header.iter().find(|h| Token::parse(&h.name).is_err()) {
            let what = format!(
                "wants the header field {:?}, which is no name of one",
                clip(&odd.name)
            );
            cx.error(node.at, what, "use letters, digits and dashes");
            return None;
        }
        if keys.name.as_deref() == Some("") {
            cx.error(node.at, "has an empty name", "leave it out, or write one");
            return None;
        }
        Some(Self {
            // Empty until the listener names it.
            name: keys.name.unwrap_or_default().into(),
            host: keys.host,
            conditions: Conditions {
                methods: keys
                    .method
                    .into_iter()
                    .map(|Method(method)| method)
                    .collect(),
                headers: keys.header,
                cookies: keys.cookie,
                query: keys.query,
                source: keys.source.clone(),
            },
            stream: StreamMatch {
                sni: keys.sni,
                alpn: keys.alpn,
                source: keys.source,
            },
            filters: filters(keys.filters, path.as_ref(), node, cx)?,
            path: path?,
            priority: keys.priority,
            action: action?,
            aside: aside?,
        })
    }

    fn keys(&self) -> RouteKeys {
        let (path, path_prefix, path_regex) = match self.path.clone() {
            PathPattern::Exact(path) => (Some(UrlPath(path)), None, None),
            PathPattern::Prefix(path) => (None, Some(UrlPath(path)), None),
            PathPattern::Regex(regex) => (None, None, Some(WholeRegex(regex))),
        };
        let wanted = &self.conditions;
        let role = match &self.action {
            RouteAction::Service(view) => view.role,
            RouteAction::Split(split) => split.shares.first().and_then(|(view, _)| view.role),
            _ => None,
        };
        let (mut services, mut sticky) = (Vec::new(), None);
        let (service, redirect, answer) = match self.action.clone() {
            RouteAction::Service(view) => (Some(view.service), None, None),
            RouteAction::Split(split) => {
                let share = |(view, weight): (View, u16)| Share {
                    service: view.service,
                    weight,
                };
                services = split.shares.into_iter().map(share).collect();
                sticky = split.sticky;
                (None, None, None)
            }
            RouteAction::Redirect(redirect) => (None, Some(redirect), None),
            RouteAction::Answer(answer) => (None, None, Some(answer)),
        };
        let aside = self.aside.clone();
        RouteKeys {
            name: Some((&*self.name).into()),
            host: self.host.clone(),
            path,
            path_prefix,
            path_regex,
            method: wanted.methods.iter().cloned().map(Method).collect(),
            header: wanted.headers.clone(),
            cookie: wanted.cookies.clone(),
            query: wanted.query.clone(),
            sni: self.stream.sni.clone(),
            alpn: self.stream.alpn.clone(),
            source: self.stream.source.clone(),
            service,
            services,
            sticky,
            fallback: aside.fallback.map(|view| view.service),
            fallback_on: aside.fallback_on,
            mirror: aside.mirror,
            timeout: aside.timeout,
            role,
            priority: self.priority,
            redirect,
            answer,
            filters: self.filters.clone(),
        }
    }
}

/// What the route does. `None` after a fault.
fn action(
    own: (Option<ServiceKey>, Option<Redirect>, Option<Answer>),
    (services, sticky): (Vec<Share>, Option<Sticky>),
    role: Option<Role>,
    node: &Node,
    cx: &mut Reader<'_, '_>,
) -> Option<RouteAction> {
    if sticky.is_some() && services.is_empty() {
        let what = "is sticky, but has no services to choose from";
        let hint = "add services = [{ service = \"…\", weight = 90 }, …], or leave sticky out";
        cx.error(node.at, what, hint);
        return None;
    }
    let action = match (own, services.is_empty()) {
        ((Some(service), None, None), true) => RouteAction::Service(View { service, role }),
        ((None, Some(redirect), None), true) => RouteAction::Redirect(redirect),
        ((None, None, Some(answer)), true) => RouteAction::Answer(answer),
        ((None, None, None), false) => RouteAction::Split(split(services, sticky, role, node, cx)?),
        ((None, None, None), true) => {
            let hint = "add service = \"…\", redirect = {…} or answer = {…}";
            cx.error(node.at, "does not say what to do", hint);
            return None;
        }
        _ => {
            let what = "has more than one of service, services, redirect and answer";
            cx.error(node.at, what, "keep one of them");
            return None;
        }
    };
    let to_service = matches!(action, RouteAction::Service(_) | RouteAction::Split(_));
    if role.is_some() && !to_service {
        let what = "has a role, but no service";
        cx.error(node.at, what, "leave the role out");
        return None;
    }
    Some(action)
}

/// The route's filters, which may go by its path.
fn filters(
    mut filters: Filters,
    path: Option<&PathPattern>,
    node: &Node,
    cx: &mut Reader<'_, '_>,
) -> Option<Filters> {
    if let (Some(Rewrite::Prefix { from, .. }), Some(path)) = (&mut filters.rewrite, path) {
        let PathPattern::Prefix(prefix) = path else {
            let what = "rewrites a prefix, and has no path_prefix";
            cx.error(
                node.at,
                what,
                "use path_prefix, or rewrite with regex or path",
            );
            return None;
        };
        *from = prefix.trim_end_matches('/').into();
    }
    Some(filters)
}

fn path(
    exact: Option<UrlPath>,
    prefix: Option<UrlPath>,
    regex: Option<WholeRegex>,
    node: &Node,
    cx: &mut Reader<'_, '_>,
) -> Option<PathPattern> {
    match (exact, prefix, regex) {
        (Some(UrlPath(path)), None, None) => Some(PathPattern::Exact(path)),
        (None, None, Some(WholeRegex(regex))) => Some(PathPattern::Regex(regex)),
        (None, prefix, None) => Some(PathPattern::Prefix(trimmed(prefix))),
        _ => {
            let what = "has more than one of path, path_prefix and path_regex";
            cx.error(node.at, what, "keep one of them");
            None
        }
    }
}

/// The prefix without slashes at its end; a lone slash without a prefix.
fn trimmed(prefix: Option<UrlPath>) -> Box<str> {
    let prefix = prefix.map_or_else(|| "/".into(), |UrlPath(prefix)| prefix);
    match prefix.trim_end_matches('/') {
        "" => "/".into(),
        rest => rest.into(),
    }
}

impl Resolved for Redirect {
    type Keys = RedirectKeys;

    fn resolve(keys: RedirectKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if !matches!(keys.status, 301 | 302 | 303 | 307 | 308) {
            let what = format!("has the status {}, which is no redirect", keys.status);
            cx.error(node.at, what, "use 301, 302, 303, 307 or 308");
        }
        let location = location(&keys, node, cx)?;
        if location.to_string().contains(' ') {
            cx.error(node.at, "has a space in its location", "write it as %20");
        }
        (cx.log.errors() == before).then_some(Self {
            status: keys.status,
            location,
        })
    }

    fn keys(&self) -> RedirectKeys {
        RedirectKeys {
            status: self.status,
            location: Some(FieldTemplate(self.location.clone())),
            scheme: None,
            host: None,
            path: None,
        }
    }
}

/// The new address, from its parts if it is not given whole.
fn location(keys: &RedirectKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Template> {
    let part = |part: &Option<FieldTemplate>| part.as_ref().map(|FieldTemplate(t)| t.to_string());
    let (host, path) = (part(&keys.host), part(&keys.path));
    let parts = keys.scheme.is_some() || host.is_some() || path.is_some();
    match (&keys.location, parts) {
        (Some(FieldTemplate(location)), false) => return Some(location.clone()),
        (None, true) => {}
        (given, _) => {
            let (what, hint) = match given {
                Some(_) => (
                    "has a location beside its parts",
                    "keep the one or the others",
                ),
                None => (
                    "does not say where to",
                    "add location, or scheme, host or path",
                ),
            };
            cx.error(node.at, what, hint);
            return None;
        }
    }
    let scheme = keys.scheme.map_or("{scheme}", Scheme::as_str);
    // A port belongs to the protocol that was spoken there.
    let own = match keys.scheme {
        Some(_) => "{host}",
        None => "{authority}",
    };
    let host = host.unwrap_or_else(|| own.into());
    let path = path.unwrap_or_else(|| "{path}".into());
    let slash = if path.starts_with(['/', '{']) {
        ""
    } else {
        "/"
    };
    let location = format!("{scheme}://{host}{slash}{path}{{query}}");
    location
        .parse()
        .map_err(|what: String| cx.error(node.at, what, ""))
        .ok()
}

impl Resolved for Answer {
    type Keys = AnswerKeys;

    fn resolve(keys: AnswerKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        // RFC 9110 §15.3.5, §15.3.6 and §15.4.5: these end with their head.
        if matches!(keys.status, 204 | 205 | 304) && !keys.body.is_empty() {
            let what = format!("has a body, which no answer with {} has", keys.status);
            cx.error(node.at, what, "leave the body out, or use another status");
            return None;
        }
        let FieldValue(content_type) = keys.content_type;
        Some(Self {
            status: keys.status,
            body: keys.body,
            content_type,
        })
    }

    fn keys(&self) -> AnswerKeys {
        AnswerKeys {
            status: self.status,
            body: self.body.clone(),
            content_type: FieldValue(self.content_type.clone()),
        }
    }
}
