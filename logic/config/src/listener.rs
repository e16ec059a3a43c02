//! `[listener.NAME]`: an address where clients connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{
    ByteSize, Cannot, Conditions, Deadlines, HostPattern, Http2Limits, Network, PathPattern,
    Priority, Role, ServiceKey, StreamMatch, TcpLimits, Timeouts, UdpLimits, View,
};

use crate::aside::Aside;
use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::filter::Filters;
use crate::reader::Reader;
use crate::reference::Shape;
use crate::route::{Route, RouteAction};
use crate::rule::{absent, default, required, section};
use crate::shown::Shown;
use crate::stream::{LIFE, no_foreign_keys, own_keys};
use crate::text::{Misdirected, Protocol, TraceContext};
use crate::tls::ListenerTls;
use crate::top::{DAY, secs};
use crate::tree::Node;
use crate::value::{Resolved, Value};

/// An address where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address it listens on.
    pub bind: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// In the order in which they were written, the `service` of the listener last. At least one; no two
    /// with the same name, none with the same host and path.
    pub routes: Vec<Route>,
    /// The largest head of a request.
    pub max_head: ByteSize,
    /// The most header fields in a head.
    pub max_fields: u16,
    /// Networks whose forwarding headers are believed, as address and prefix length.
    pub trusted_peers: Vec<Network>,
    /// Its limits in time.
    pub timeouts: Timeouts,
    /// How long requests may take as a whole.
    pub deadlines: Deadlines,
    /// Peers that begin with a PROXY header.
    pub accept_proxy: Vec<Network>,
    /// TLS of its clients. There with HTTPS, may be there with TCP.
    pub tls: Option<ListenerTls>,
    /// How long a client's machine may be silent when it is asked, until its connections count as lost.
    pub peer_timeout: Duration,
    /// Limits of connections in HTTP/2, if it speaks HTTP.
    pub http2: Http2Limits,
    /// Whether gRPC-Web is translated.
    pub grpc_web: bool,
    /// What becomes of requests for another host than that of their connection.
    pub misdirected: Misdirected,
    /// Who says which trace a request belongs to.
    pub trace_context: TraceContext,
    /// What holds for the routes that do not say otherwise; it is in theirs already.
    pub filters: Filters,
    /// Limits of its connections, if it speaks TCP.
    pub tcp: TcpLimits,
    /// Limits of its sessions, if it speaks UDP.
    pub udp: UdpLimits,
}

declare! {
    /// An address where clients connect.
    pub(crate) struct ListenerKeys {
        /// The address it listens on: `"127.0.0.1:8080"`, or `"[::]:8080"` for every address.
        bind: SocketAddr => required(),
        /// What it speaks: `"http"`, `"https"`, `"tcp"` or `"udp"`.
        // What most listeners are for.
        protocol: Protocol => default(Protocol::Http),
        /// The service that gets what no route takes: `"name"` or `"namespace/name"`.
        service: Option<ServiceKey> => absent("such requests are answered with 404, such connections reset, such packets dropped"),
        /// Only to instances of that service that have this role, as its check found it: `"primary"`, of which there is
        /// one, or `"replica"`.
        role: Option<Role> => absent("all of the service"),
        /// The largest head of a request. Those of instances' answers may have 32 KiB and 100 fields, whatever this and `max_fields` say.
        // Twice what nginx and Apache take for a line. A worker reads 64 KiB at a time, and no head may be larger.
        max_head: ByteSize => default(ByteSize(16 << 10)).within(ByteSize(1 << 10)..=ByteSize(48 << 10)),
        /// The most header fields in the head of a request.
        // Apache's limit; browsers send twenty.
        max_fields: u16 => default(100u16).within(8..=128),
        /// Networks whose `Forwarded` and `X-Forwarded-*` headers are believed. From all others they are
        /// replaced.
        // Whoever may set them chooses the address that logs and rules see.
        trusted_peers: Vec<Network> => default(Vec::new()),
        /// Limits in time.
        timeouts: TimeoutKeys => section(),
        /// How long requests may take as a whole, and how that is told.
        deadline: Deadlines => section(),
        /// Networks whose connections begin with a PROXY header (version 1 or 2), from which the client's address
        /// is taken. All others must not send one.
        // Whoever may send one chooses the address that limits, logs and rules see.
        accept_proxy: Vec<Network> => default(Vec::new()),
        /// TLS, which ends here: of an `https` listener, or of a `tcp` listener whose instances speak in clear text.
        tls: Option<ListenerTls> => absent("a tcp listener passes TLS through"),
        /// How long a client's machine may give no sign of life, asked for one or sent something, until its connection
        /// counts as lost: of `tcp` listeners, and of tunnels (WebSocket).
        // Routes that break are repaired sooner, by routers or by hand; nobody wants to wait for longer.
        peer_timeout: Duration => default(secs(60)).within(secs(2)..=DAY),
        /// HTTP/2 of an `http` or `https` listener.
        http2: Http2Limits => section(),
        /// gRPC-Web is translated: instances with `protocol = "h2"` get the browsers' calls as gRPC.
        // An instance may speak gRPC-Web itself.
        grpc_web: bool => default(false),
        /// What becomes of requests of an `https` listener for another host than their connection's TLS was begun for (SNI): they are
        /// served (`"serve"`), or get 421, upon which browsers ask again on another connection (`"refuse"`).
        // Browsers use one connection for all hosts that its certificate has.
        misdirected: Misdirected => default(Misdirected::Serve),
        /// Whose word on the trace that a request belongs to (`traceparent`, `tracestate`) is taken: everybody's (`"all"`), or
        /// that of `trusted_peers`. From all others the two fields are removed, and with `[telemetry.traces]` a new trace begins.
        // Traces mostly begin in browsers and apps; what they can do by it is to have more recorded.
        trace_context: TraceContext => default(TraceContext::All),
        /// Limits of a `tcp` listener's connections.
        tcp: TcpLimits => section(),
        /// Limits of a `udp` listener's sessions.
        udp: UdpLimits => section(),
        /// What is done with requests and answers on the way, by all routes that do not say otherwise: each key holds where a route's
        /// `filters` do not have it. `rewrite` is for routes only.
        filters: Filters => section(),
        /// What to match, and what to do then. The most specific route wins: exact host (or server name)
        /// before suffix before any, then exact path before regular expressions before longest prefix, then who wants
        /// more of the request; for TCP and UDP a protocol before none, and the smaller network before the larger.
        /// The order in the file matters only between equals, as regular expressions are.
        route: Vec<Route> => default(Vec::new()),
    }
}

declare! {
    /// Limits in time; each is there because some peer, by fault or on purpose, never moves on.
    pub(crate) struct TimeoutKeys {
        /// From a request's first byte to the end of its head.
        // A head is one packet or a few; slower senders are broken, or attack by being slow.
        request_head: Duration => default(secs(10)).within(secs(1)..=DAY),
        /// How long a connection without a request is kept.
        // nginx's; longer than the 60 s of common balancers in front, which must be first to close.
        idle: Duration => default(secs(75)).within(secs(1)..=DAY),
        /// How long a body may move no byte.
        // Two of TCP's longer retransmissions.
        stall: Duration => default(secs(30)).within(secs(1)..=DAY),
        /// How long a tunnel (WebSocket and other upgrades) may move no byte.
        // An hour, as HAProxy's guides advise: many applications ping seldom or never.
        tunnel: Duration => default(secs(3_600)).within(secs(1)..=DAY),
        /// How long a tunnel may last at the most.
        tunnel_lifetime: Option<Duration> => absent("as long as its two sides like").if_given_within(secs(1)..=LIFE),
        /// How long tunnels go on whose instance or listener was drained or removed. A WebSocket's client is then told to
        /// connect again (status 1012).
        // As for TCP connections.
        tunnel_drain: Duration => default(secs(30)).within(Duration::ZERO..=LIFE),
        /// Bytes a second below which a client that has been sending or taking a message for longer than
        /// `stall` is cut off.
        // The slowest real links (GPRS) do ten times as much.
        min_rate: ByteSize => default(ByteSize(100)).within(ByteSize(0)..=ByteSize(1 << 30)),
    }
}

impl Value for Listener {
    fn shape() -> Shape {
        ListenerKeys::shape()
    }

    fn expected() -> String {
        "a table".into()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let keys = ListenerKeys::read(node, cx)?;
        Self::resolve(keys, node, cx)
    }

    fn show(&self) -> Option<Shown> {
        own_keys(self.protocol, self.keys().show())
    }
}

resolved!(Timeouts);

impl Resolved for Timeouts {
    type Keys = TimeoutKeys;

    fn resolve(keys: TimeoutKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            request_head: keys.request_head,
            idle: keys.idle,
            stall: keys.stall,
            tunnel: keys.tunnel,
            tunnel_lifetime: keys.tunnel_lifetime.unwrap_or_default(),
            tunnel_drain: keys.tunnel_drain,
            min_rate: u32::try_from(keys.min_rate.0).ok()?,
        })
    }

    fn keys(&self) -> TimeoutKeys {
        TimeoutKeys {
            request_head: self.request_head,
            idle: self.idle,
            stall: self.stall,
            tunnel: self.tunnel,
            tunnel_lifetime: (!self.tunnel_lifetime.is_zero()).then_some(self.tunnel_lifetime),
            tunnel_drain: self.tunnel_drain,
            min_rate: ByteSize(self.min_rate.into()),
        }
    }
}

impl Resolved for Listener {
    type Keys = ListenerKeys;

    fn resolve(keys: ListenerKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let mut routes = keys.route;
        for (n, route) in routes.iter_mut().enumerate() {
            if route.name.is_empty() {
                route.name = format!("{}-{}", cx.name(), n + 1).into();
            }
        }
        let as_written = routes.len();
        hand_down(&keys.filters, &mut routes, cx);
        if let Some(service) = keys.service {
            routes.push(Route {
                name: cx.name().into(),
                host: HostPattern::Any,
                path: PathPattern::Prefix("/".into()),
                conditions: Conditions::default(),
                filters: keys.filters.clone(),
                stream: StreamMatch::ANYTHING,
                priority: Priority::Normal,
                action: RouteAction::Service(View {
                    service,
                    role: keys.role,
                }),
                aside: Aside {
                    fallback_on: Cannot::ALL.to_vec(),
                    ..Aside::default()
                },
            });
        } else if keys.role.is_some() {
            let key = format!("{}.role", cx.path());
            let hint = "add service = \"…\", or give the role to a route";
            cx.at_key(Severity::Error, &key, "is there, but no service", hint);
            return None;
        }
        if routes.is_empty() {
            let hint = format!("add service = \"…\" or a [[{}.route]]", cx.path());
            cx.error(node.at, "has nothing to do with what it receives", hint);
            return None;
        }
        let before = cx.log.errors();
        no_two_alike(&routes, as_written, cx);
        no_foreign_keys(keys.protocol, as_written, cx);
        tls_fits(&keys.tls, keys.protocol, node, cx);
        (cx.log.errors() == before).then_some(Self {
            bind: keys.bind,
            protocol: keys.protocol,
            routes,
            max_head: keys.max_head,
            max_fields: keys.max_fields,
            trusted_peers: keys.trusted_peers,
            timeouts: Timeouts::resolve(keys.timeouts, node, cx)?,
            deadlines: keys.deadline,
            accept_proxy: keys.accept_proxy,
            tls: keys.tls,
            peer_timeout: keys.peer_timeout,
            http2: keys.http2,
            grpc_web: keys.grpc_web,
            trace_context: keys.trace_context,
            misdirected: keys.misdirected,
            filters: keys.filters,
            tcp: keys.tcp,
            udp: keys.udp,
        })
    }

    fn keys(&self) -> ListenerKeys {
        ListenerKeys {
            bind: self.bind,
            protocol: self.protocol,
            service: None,
            role: None,
            max_head: self.max_head,
            max_fields: self.max_fields,
            trusted_peers: self.trusted_peers.clone(),
            timeouts: self.timeouts.keys(),
            deadline: self.deadlines.clone(),
            accept_proxy: self.accept_proxy.clone(),
            tls: self.tls.clone(),
            peer_timeout: self.peer_timeout,
            http2: self.http2,
            grpc_web: self.grpc_web,
            trace_context: self.trace_context,
            misdirected: self.misdirected,
            filters: self.filters.clone(),
            tcp: self.tcp,
            udp: self.udp,
            route: self.routes.clone(),
        }
    }
}

/// Gives the listener's filters to the routes that do not say otherwise.
fn hand_down(filters: &Filters, routes: &mut [Route], cx: &mut Reader<'_, '_>) {
    let path = cx.path().to_owned();
    let hint = "write it into the filters of the routes that it is for";
    for (key, wrong, what) in [
        (
            "rewrite",
            filters.rewrite.is_some(),
            "goes by a route's path",
        ),
        ("inherit", filters.alone, "is for a route to say"),
    ] {
        if wrong {
            let key = format!("{path}.filters.{key}");
            cx.at_key(Severity::Error, &key, what, hint);
        }
    }
    for (n, route) in routes.iter_mut().enumerate() {
        let own = format!("{path}.route[{}].filters", n + 1);
        let says = |key: &str| cx.place_of(&format!("{own}.{key}")).is_some();
        route.filters.inherit(filters, says);
    }
}

/// HTTPS has TLS, and speaks HTTP over it.
fn tls_fits(tls: &Option<ListenerTls>, protocol: Protocol, node: &Node, cx: &mut Reader<'_, '_>) {
    if protocol != Protocol::Https {
        return;
    }
    match tls {
        None => {
            let table = format!("[{}.tls]", cx.path());
            let hint = format!("add {table} with certificates = [{{ cert = \"…\", key = \"…\" }}]");
            cx.error(node.at, "speaks https and has no certificate", hint);
        }
        Some(tls) if !tls.alpn.is_empty() => {
            let key = format!("{}.tls.alpn", cx.path());
            let what = "has no meaning with protocol = \"https\", which is h2 and http/1.1";
            cx.at_key(Severity::Error, &key, what, "leave it out");
        }
        Some(_) => {}
    }
}

/// No two routes have one name, or match the same requests. `as_written` of them are `[[route]]`s.
fn no_two_alike(routes: &[Route], as_written: usize, cx: &mut Reader<'_, '_>) {
    let key = |cx: &Reader<'_, '_>, n: usize| match n < as_written {
        true => format!("{}.route[{}]", cx.path(), n + 1),
        false => format!("{}.service", cx.path()),
    };
    let mut names = BTreeMap::new();
    let mut matches = BTreeMap::new();
    for (n, route) in routes.iter().enumerate() {
        let what_it_matches = format!(
            "{:?} {:?} {:?} {:?}",
            route.host, route.path, route.conditions, route.stream
        );
        let twins = [
            (
                names.insert(&route.name, n),
                format!("has the same name, {:?}, as", route.name),
                "give each a name of its own",
            ),
            (
                matches.insert(what_it_matches, n),
                "matches the same as".into(),
                "only one of them can ever match: change or remove one",
            ),
        ];
        for (twin, what, hint) in twins {
            let Some(twin) = twin else { continue };
            let twin = key(cx, twin);
            let place = cx.place_of(&twin).map(|at| cx.log.place(at).to_string());
            let what = format!("{what} {twin} at {}", place.unwrap_or_default());
            cx.at_key(Severity::Error, &key(cx, n), what, hint);
        }
    }
}
