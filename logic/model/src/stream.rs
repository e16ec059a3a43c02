//! What TCP and UDP listeners do: routes without requests, limits without heads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Counter, HostPattern, Network, Sharded};

/// What a listener speaks, with what only such listeners have.
#[derive(Debug)]
pub enum Speaks {
    /// HTTP.
    Http,
    /// TCP, whatever is spoken on it.
    Tcp(Stream<TcpLimits>),
    /// UDP, whatever is spoken on it.
    Udp(Stream<UdpLimits>),
}

impl Speaks {
    /// Its routes, if it speaks no HTTP.
    pub fn stream_routes(&self) -> &[StreamRoute] {
        match self {
            Self::Http => &[],
            Self::Tcp(stream) => &stream.routes,
            Self::Udp(stream) => &stream.routes,
        }
    }
}

/// Routes and limits of a TCP or UDP listener.
#[derive(Debug)]
pub struct Stream<L> {
    /// Most specific first: see [`order`].
    pub routes: Vec<StreamRoute>,
    /// What connections or sessions may take.
    pub limits: L,
}

/// What to match of a connection, and the service that gets it.
#[derive(Debug)]
pub struct StreamRoute {
    /// Its name in metrics, logs and `explain`.
    pub name: Arc<str>,
    /// What it matches.
    pub matches: StreamMatch,
    /// The number of the service.
    pub service: usize,
    /// What happened here.
    pub stats: Arc<Sharded<StreamStats>>,
}

/// Which connections a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMatch {
    /// The server name in the TLS hello (RFC 6066 §3); `None` takes those without one, too.
    pub sni: Option<HostPattern>,
    /// A protocol that the TLS hello must offer (RFC 7301).
    pub alpn: Option<Box<str>>,
    /// Where clients may be; empty: anywhere.
    pub source: Vec<Network>,
}

/// Limits of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// A connection on which no byte moves.
    pub idle: Duration,
    /// The whole life of a connection; zero: as long as it likes.
    pub lifetime: Duration,
    /// How long connections go on whose instance or listener was drained or removed.
    pub drain: Duration,
    /// How long a client may take for its TLS hello, where routes ask for one.
    pub hello: Duration,
    /// Limits by the client's address.
    pub sources: SourceLimits,
    /// Connections at a time; 0: no limit.
    pub max_connections: u32,
}

/// Limits of UDP sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpLimits {
    /// A session in which no packet moves.
    pub idle: Duration,
    /// Answers after which a session ends, for each packet of the client's; 0: only `idle` ends it.
    pub responses: u32,
    /// Sessions at a time, of all workers together.
    pub max_sessions: u32,
    /// Limits by the client's address.
    pub sources: SourceLimits,
}

/// Limits by the client's address. An IPv6 client counts by its /64: it has all of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections or sessions at a time; 0: no limit.
    pub open: u32,
    /// New ones a second, with a burst of as many; 0: no limit.
    pub rate: u32,
}

/// What happened on a TCP or UDP route. One count for each way in which a connection or session ends.
#[derive(Debug, Default)]
pub struct StreamStats {
    /// By [`Closed`], in its order.
    pub closed: [Counter; Closed::ALL.len()],
    /// Bytes from clients to instances.
    pub received: Counter,
    /// Bytes from instances to clients.
    pub sent: Counter,
}

/// Why a connection or session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Both sides had ended it, or a session had its answers.
    Done,
    /// The client's side broke.
    ClientReset,
    /// The instance's side broke, or it answered with an ICMP error.
    InstanceReset,
    /// Nothing came from the client's machine any more, not even that it had got what it was sent.
    ClientLost,
    /// Nothing came from the instance's machine any more, likewise.
    InstanceLost,
    /// Nothing moved for too long.
    Idle,
    /// It lived for as long as it may.
    Lifetime,
    /// Its instance or listener went away, and the time to drain was over.
    Drained,
    /// Its instance had more than its share, and its client will be given another.
    Moved,
    /// It made room for others.
    Evicted,
    /// No instance could be chosen or reached.
    Unavailable,
    /// It broke a limit, or began with garbage.
    Refused,
}

impl Closed {
    /// Every way to end.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::ClientReset,
        Self::InstanceReset,
        Self::ClientLost,
        Self::InstanceLost,
        Self::Idle,
        Self::Lifetime,
        Self::Drained,
        Self::Moved,
        Self::Evicted,
        Self::Unavailable,
        Self::Refused,
    ];

    /// A word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::ClientReset => "client_reset",
            Self::InstanceReset => "instance_reset",
            Self::ClientLost => "client_lost",
            Self::InstanceLost => "instance_lost",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::Moved => "moved",
            Self::Evicted => "evicted",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

impl StreamStats {
    /// Counts an end.
    pub fn ended(&self, closed: Closed) {
        self.closed[closed as usize].bump(1);
    }
}

/// What is known of a connection when its route is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The client's address.
    pub source: IpAddr,
    /// The server name it asked for, in lower case.
    pub sni: Option<&'a str>,
    /// The protocols it offered.
    pub alpn: &'a [&'a [u8]],
}

impl StreamMatch {
    /// Takes everything.
    pub const ANYTHING: Self = Self {
        sni: None,
        alpn: None,
        source: Vec::new(),
    };

    /// Whether the route takes it.
    pub fn takes(&self, arrival: &Arrival<'_>) -> bool {
        let name = match (&self.sni, arrival.sni) {
            (None | Some(HostPattern::Any), _) => true,
            (Some(HostPattern::Exact(name)), Some(sni)) => **name == *sni,
            (Some(HostPattern::Suffix(end)), Some(sni)) => sni.ends_with(&**end),
            (Some(_), None) => false,
        };
        let offered = |alpn: &str| arrival.alpn.contains(&alpn.as_bytes());
        let from = |networks: &[Network]| networks.iter().any(|n| n.contains(arrival.source));
        name && self.alpn.as_deref().is_none_or(offered)
            && (self.source.is_empty() || from(&self.source))
    }

    /// Whether the TLS hello must be seen to decide.
    pub fn asks_for_hello(&self) -> bool {
        self.alpn.is_some() || !matches!(self.sni, None | Some(HostPattern::Any))
    }

    /// Greater is more specific: by name, then protocol, then the smallest network.
    fn specificity(&self) -> (u8, usize, bool, u8) {
        let (kind, length) = match &self.sni {
            None | Some(HostPattern::Any) => (0, 0),
            Some(HostPattern::Suffix(end)) => (1, end.len()),
            Some(HostPattern::Exact(name)) => (2, name.len()),
        };
        // The widest of its networks: a list is as specific as its least specific member.
        let prefix = self.source.iter().map(Network::prefix).min();
        (
            kind,
            length,
            self.alpn.is_some(),
            prefix.map_or(0, |p| p.saturating_add(1)),
        )
    }
}

/// Puts the most specific routes first; equals stay in their order.
pub fn order(routes: &mut [StreamRoute]) {
    routes.sort_by_key(|route| std::cmp::Reverse(route.matches.specificity()));
}

/// The first route that takes it.
pub fn find(routes: &[StreamRoute], arrival: &Arrival<'_>) -> Option<usize> {
    routes.iter().position(|route| route.matches.takes(arrival))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        name: &str,
        sni: Option<HostPattern>,
        alpn: Option<&str>,
        source: &[&str],
    ) -> StreamRoute {
        StreamRoute {
            name: name.into(),
            matches: StreamMatch {
                sni,
                alpn: alpn.map(Into::into),
                source: source.iter().map(|s| s.parse().unwrap()).collect(),
            },
            service: 0,
            stats: Arc::new(Sharded::new(1)),
        }
    }

    fn found(routes: &[StreamRoute], source: &str, sni: Option<&str>, alpn: &[&[u8]]) -> String {
        let source = source.parse().unwrap();
        let arrival = Arrival { source, sni, alpn };
        find(routes, &arrival).map_or_else(String::new, |n| routes[n].name.to_string())
    }

    #[test]
    fn the_most_specific_route_takes_a_connection() {
        let exact = HostPattern::Exact("a.example.com".into());
        let suffix = HostPattern::Suffix(".example.com".into());
        let mut routes = vec![
            route("rest", None, None, &[]),
            route("inside", None, None, &["10.0.0.0/8"]),
            route("rack", None, None, &["10.1.0.0/16"]),
            route("suffix", Some(suffix), None, &[]),
            route("exact", Some(exact.clone()), None, &[]),
            route("h2", Some(exact), Some("h2"), &[]),
        ];
        order(&mut routes);
        assert_eq!(found(&routes, "192.0.2.1", None, &[]), "rest");
        assert_eq!(found(&routes, "10.2.0.1", None, &[]), "inside");
        assert_eq!(found(&routes, "10.1.0.1", None, &[]), "rack");
        assert_eq!(
            found(&routes, "10.1.0.1", Some("b.example.com"), &[]),
            "suffix"
        );
        assert_eq!(
            found(&routes, "10.1.0.1", Some("a.example.com"), &[b"http/1.1"]),
            "exact"
        );
        assert_eq!(
            found(
                &routes,
                "10.1.0.1",
                Some("a.example.com"),
                &[b"http/1.1", b"h2"]
            ),
            "h2"
        );
        assert_eq!(
            found(&routes[..1], "10.1.0.1", None, &[]),
            "",
            "a name is asked for"
        );
    }

    #[test]
    fn every_way_to_end_has_its_place() {
        for (place, closed) in Closed::ALL.into_iter().enumerate() {
            assert_eq!(closed as usize, place);
        }
    }
}
