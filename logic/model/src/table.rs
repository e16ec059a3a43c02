//! The routing table: everything the data plane needs to decide, immutable and swapped whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::{
    Admission, Aside, Balancing, Conditions, Counter, Deadlines, EndpointStats, Filters, Health,
    Incarnation, InstanceId, ListenerStats, LongConnections, Moment, Network, Persistence, Policy,
    Priority, Reason, Regex, Revision, Role, RouteIndex, RouteStats, ServiceKey, ServiceStats,
    Sharded, Speaks, Split, Template, View, Weight,
};

/// One consistent picture of listeners, routes and live instances.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable {
    /// The registry's revision it was made from.
    pub revision: Revision,
    /// By the number that a bound listener carries. A listener taken away leaves `None`.
    pub listeners: Vec<Option<Arc<ListenerTable>>>,
    /// By the number that routes carry.
    pub services: Vec<Arc<ServiceTable>>,
}

/// What one listener does with a request.
#[derive(Debug)]
pub struct ListenerTable {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it speaks.
    pub speaks: Speaks,
    /// Whether its clients speak TLS, which ends here. With what is not said here: keys stay with who needs them.
    pub tls: bool,
    /// Peers that begin with a PROXY header, which is believed; no other may send one.
    pub accept_proxy: Vec<Network>,
    /// Most specific first: see `http::route`.
    pub routes: Vec<Route>,
    /// Where to look for one of them.
    pub index: RouteIndex,
    /// Peers whose `X-Forwarded-*` and `Forwarded` headers are believed.
    pub trusted_peers: Vec<Network>,
    /// Its limits in time.
    pub timeouts: Timeouts,
    /// How long requests may take as a whole.
    pub deadlines: Deadlines,
    /// How long a client's machine may be silent when it is asked, until its connection counts as lost.
    pub peer_timeout: Duration,
    /// The largest request or response head, in bytes.
    pub max_head: usize,
    /// The most header fields in a head.
    pub max_fields: usize,
    /// Limits of connections in HTTP/2.
    pub http2: Http2Limits,
    /// Whether browsers' form of gRPC is translated for instances that speak HTTP/2.
    pub grpc_web: bool,
    /// Which traces its requests belong to.
    pub tracing: Tracing,
    /// Whether requests for another host than their connection's TLS was begun for are refused.
    pub one_host: bool,
    /// What happened here.
    pub stats: Arc<Sharded<ListenerStats>>,
}

/// Which traces the requests of a listener belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// Whether only trusted peers are believed when they say so.
    pub trusted_only: bool,
    /// Of a million traces that begin here, so many are recorded, if any are.
    pub sampled: u32,
}

/// Limits of a client's connection in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Whether it is spoken.
    pub enabled: bool,
    /// Requests at a time.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's body that are taken ahead of its instance.
    pub stream_window: u32,
    /// And of all requests together.
    pub connection_window: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            max_concurrent_streams: 128,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
        }
    }
}

/// Limits in time; each is there because some peer, by fault or on purpose, never moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From a request's first byte (or the connection's start) to the end of its head.
    pub request_head: Duration,
    /// A keep-alive connection without a request.
    pub idle: Duration,
    /// A body on which no byte moves.
    pub stall: Duration,
    /// A tunnel (WebSocket and other upgrades) on which no byte moves.
    pub tunnel: Duration,
    /// The whole life of a tunnel; zero: as long as it likes.
    pub tunnel_lifetime: Duration,
    /// How long tunnels go on whose instance or listener was drained or removed.
    pub tunnel_drain: Duration,
    /// Bytes a second below which a client that has been sending or taking a message for longer than
    /// `stall` is cut off.
    pub min_rate: u32,
}

/// What to match, and what to do then.
#[derive(Debug)]
pub struct Route {
    /// Its name in metrics, logs and `explain`.
    pub name: Arc<str>,
    /// Hosts it serves.
    pub host: HostPattern,
    /// Paths it serves.
    pub path: PathPattern,
    /// What else it wants of a request, if it wants anything.
    pub conditions: Option<Box<Conditions>>,
    /// What is done with its requests and answers on the way, if anything is.
    pub filters: Option<Arc<Filters>>,
    /// Whether its requests go first when a service has no room for all.
    pub priority: Priority,
    /// What it does.
    pub action: Action,
    /// What else it has, if it has anything.
    pub aside: Option<Arc<Aside>>,
    /// What happened here.
    pub stats: Arc<Sharded<RouteStats>>,
}

/// Which hosts a route serves. Names are lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host.
    Exact(Box<str>),
    /// Every host that ends so: `.example.com` for `*.example.com`.
    Suffix(Box<str>),
}

/// Which paths a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(Box<str>),
    /// This path and what is below it, by whole segments: `/api` serves `/api` and `/api/x`, not `/apis`.
    Prefix(Box<str>),
    /// Every path that matches as a whole.
    Regex(Regex),
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends it to an instance of the service with this number.
    Service(usize),
    /// Sends it to one of several services.
    Split(Box<Split>),
    /// Answers with another address.
    Redirect(Redirect),
    /// Answers with a text.
    Fixed {
        /// The status code.
        status: u16,
        /// The `Content-Type`.
        content_type: Box<str>,
        /// The whole body.
        body: Box<str>,
    },
}

/// An answer that points elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The new address.
    pub location: Template,
}

/// One service as the balancer sees it.
#[derive(Debug)]
pub struct ServiceTable {
    /// Its full name.
    pub key: ServiceKey,
    /// The role that the endpoints have, if this is a view of a part of the service. Connections made through
    /// such a view are bound to the role: one to an instance that is no longer among the endpoints (it was
    /// demoted, or another became the primary) is to be closed at once, for its writes would fail or be lost.
    /// That an instance is critical or draining does not take it out of the endpoints.
    pub role: Option<Role>,
    /// How an endpoint is chosen.
    pub policy: Policy,
    /// The stages around it.
    pub balancing: Balancing,
    /// Which endpoint has which keys, for the policies that go by keys.
    pub placement: Option<Arc<Placement>>,
    /// How requests of one client stay at one instance, if they do.
    pub persistence: Option<Arc<Persistence>>,
    /// Every instance with a usable address, and with the role if there is one, in the order of their ids.
    pub endpoints: Vec<Endpoint>,
    /// Instances that are not among them, for their host names have no address.
    pub unresolved: u32,
    /// Opening a connection to an instance.
    pub connect_timeout: Duration,
    /// How long an instance's machine may be silent when it is asked, until connections to it count as lost.
    pub peer_timeout: Duration,
    /// From the request sent to the response's head.
    pub response_timeout: Duration,
    /// Attempts after the first.
    pub retries: u8,
    /// How many of them there may be for each request, in percent.
    pub retry_budget: u8,
    /// How long an unused connection to an instance is kept.
    pub keep_alive: Duration,
    /// The metric of its instances' load reports that says how many requests they have, if they report.
    pub load_report: Option<Box<str>>,
    /// The PROXY header that its instances expect, if they do.
    pub send_proxy: Option<ProxyVersion>,
    /// Whether its instances speak HTTP/2 to HTTP listeners, with TLS only if they agree to.
    pub http2: bool,
    /// Whether its instances speak TLS.
    pub tls: bool,
    /// Addresses of ours to connect from, in turn; empty: the kernel's choice.
    pub connect_from: Vec<IpAddr>,
    /// What happened with it.
    pub stats: Arc<Sharded<ServiceStats>>,
    /// Who was ejected.
    pub ejections: Arc<EjectionStats>,
    /// The fewest moves that would have made the spread of long connections even, each time that it was not:
    /// [`LongConnections::moved`] has those that were made.
    pub least_moves: Arc<Counter>,
    /// Who is admitted, while their number is limited.
    pub admission: Arc<Admission>,
}

/// Ejections of one service.
#[derive(Debug, Default)]
pub struct EjectionStats {
    /// Endpoints that are ejected now and count against the cap, as of the last sweep and those since.
    pub now: AtomicU32,
    /// Ejections ever, by [`Reason`].
    pub total: [Counter; Reason::ALL.len()],
}

/// A table from keys to endpoints, made by `balance` whenever the service changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// By a key's uppermost bits: the number of a member.
    pub slots: Box<[u32]>,
    /// Members keep their numbers as long as they are there; a number that is free has `None`.
    pub members: Vec<Option<PlacedMember>>,
    /// All members' weights.
    pub weight: u64,
}

/// An endpoint that has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedMember {
    /// Made from its id alone, so that every node and every order of arrival gives the same table.
    pub identity: u64,
    /// Its weight when the table was made.
    pub weight: Weight,
    /// Its number among the service's endpoints.
    pub endpoint: u32,
}

impl ServiceTable {
    /// What of which service it is.
    pub fn view(&self) -> View {
        View {
            service: self.key.clone(),
            role: self.role,
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// An instance as a balancer sees it: an address and live statistics.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The instance.
    pub id: InstanceId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// Where it is.
    pub address: SocketAddr,
    /// Its share of the traffic; 0 drains.
    pub weight: Weight,
    /// The registry's verdict.
    pub health: Health,
    /// Takes no new work.
    pub drain: bool,
    /// Taken out of traffic by hand.
    pub enabled: bool,
    /// 0 gets the traffic; what it cannot take spills over to 1, and so on. By the instance's tier, and within it by zone:
    /// those of this node's own come first.
    pub tier: u8,
    /// When it came, or became well again: slow start begins here.
    pub since: Moment,
    /// What is known of it, shared with every other table that lists it.
    pub stats: Arc<EndpointStats>,
    /// Its long connections, shared in the same way.
    pub connections: Arc<LongConnections>,
}

impl Endpoint {
    /// The endpoint's tier for an instance of this tier: two for each, the first of them for those that are not `away`.
    pub const fn tier_of(instance: u8, away: bool) -> u8 {
        2 * instance + away as u8
    }

    /// The instance's tier, wherever the instance is.
    pub const fn instance_tier(&self) -> u8 {
        self.tier / 2
    }
}
