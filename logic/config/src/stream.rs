//! `[listener.NAME.tcp]` and `[listener.NAME.udp]`: limits of listeners that speak no HTTP; and which keys
//! belong to which protocol.

use std::time::Duration;

use model::{SourceLimits, TcpLimits, UdpLimits};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::shown::{Shown, ShownKey};
use crate::text::Protocol;
use crate::top::{DAY, secs};
use crate::tree::Node;
use crate::value::Resolved;

/// Twenty years: a connection's life may well be longer than the day that bounds other periods.
pub(crate) const LIFE: Duration = secs(20 * 365 * 86_400);

/// More than any machine has descriptors for.
const MOST: u32 = 100_000_000;

declare! {
    /// Limits of a `tcp` listener's connections.
    pub(crate) struct TcpKeys {
        /// How long a connection may move no byte.
        // Pools of database clients keep theirs for half an hour; a peer that is gone without a word must end some time.
        idle: Duration => default(secs(3_600)).within(secs(1)..=LIFE),
        /// How long a connection may last at the most.
        lifetime: Option<Duration> => absent("as long as its two sides like").if_given_within(secs(1)..=LIFE),
        /// How long connections go on whose instance or listener was drained or removed.
        // As long as the process itself takes to drain.
        drain: Duration => default(secs(30)).within(Duration::ZERO..=LIFE),
        /// How long a client may take for its PROXY header and its TLS hello, where they are needed.
        // Both are a packet or two, sent at once.
        hello: Duration => default(secs(5)).within(secs(1)..=DAY),
        /// The most connections at a time.
        max_connections: Option<u32> => absent("as many as the process may have descriptors for").if_given_within(1..=MOST),
        /// The most connections at a time from one address. An IPv6 client counts by its /64.
        max_per_source: Option<u32> => absent("no limit").if_given_within(1..=MOST),
        /// The most new connections a second from one address; as many may come at once.
        rate_per_source: Option<u32> => absent("no limit").if_given_within(1..=1_000_000),
    }
}

declare! {
    /// Limits of a `udp` listener's sessions. A session is what one client address and port sends, and what
    /// comes back.
    pub(crate) struct UdpKeys {
        /// How long a session may move no packet.
        // The kernel's own connection tracking forgets after half a minute to two minutes; clients expect no more.
        idle: Duration => default(secs(60)).within(Duration::from_millis(1)..=DAY),
        /// Answers that one packet of a client's gets. A session ends as soon as it has them: 1 for DNS.
        responses: Option<u32> => absent("only idle ends a session").if_given_within(1..=1_000_000),
        /// The most sessions at a time. A new one then takes the place of the least alive.
        // Each costs about half a KiB of ours and three of the kernel's.
        max_sessions: u32 => default(100_000u32).within(1..=MOST),
        /// The most sessions at a time from one address. A new one then takes the place of the least alive of that
        /// address.
        // A hundredth of all: no source, however loud, takes more than that from the others.
        max_per_source: u32 => default(1_000u32).within(1..=MOST),
        /// The most new sessions a second from one address; as many may come at once.
        rate_per_source: Option<u32> => absent("no limit").if_given_within(1..=1_000_000),
    }
}

resolved!(TcpLimits);
resolved!(UdpLimits);

impl Resolved for TcpLimits {
    type Keys = TcpKeys;

    fn resolve(keys: TcpKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            idle: keys.idle,
            lifetime: keys.lifetime.unwrap_or_default(),
            drain: keys.drain,
            hello: keys.hello,
            max_connections: keys.max_connections.unwrap_or_default(),
            sources: SourceLimits {
                open: keys.max_per_source.unwrap_or_default(),
                rate: keys.rate_per_source.unwrap_or_default(),
            },
        })
    }

    fn keys(&self) -> TcpKeys {
        TcpKeys {
            idle: self.idle,
            lifetime: (!self.lifetime.is_zero()).then_some(self.lifetime),
            drain: self.drain,
            hello: self.hello,
            max_connections: given(self.max_connections),
            max_per_source: given(self.sources.open),
            rate_per_source: given(self.sources.rate),
        }
    }
}

impl Resolved for UdpLimits {
    type Keys = UdpKeys;

    fn resolve(keys: UdpKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            idle: keys.idle,
            responses: keys.responses.unwrap_or_default(),
            max_sessions: keys.max_sessions,
            sources: SourceLimits {
                open: keys.max_per_source,
                rate: keys.rate_per_source.unwrap_or_default(),
            },
        })
    }

    fn keys(&self) -> UdpKeys {
        UdpKeys {
            idle: self.idle,
            responses: given(self.responses),
            max_sessions: self.max_sessions,
            max_per_source: self.sources.open,
            rate_per_source: given(self.sources.rate),
        }
    }
}

fn given(limit: u32) -> Option<u32> {
    (limit != 0).then_some(limit)
}

/// Those that speak HTTP.
const HTTP: &[Protocol] = &[Protocol::Http, Protocol::Https];

/// Keys of listeners that only some protocols have.
const LISTENER_KEYS: &[(&str, &[Protocol])] = &[
    ("max_head", HTTP),
    ("max_fields", HTTP),
    ("trusted_peers", HTTP),
    ("timeouts", HTTP),
    ("deadline", HTTP),
    ("http2", HTTP),
    ("grpc_web", HTTP),
    ("trace_context", HTTP),
    ("misdirected", HTTP),
    ("filters", HTTP),
    (
        "accept_proxy",
        &[Protocol::Http, Protocol::Https, Protocol::Tcp],
    ),
    ("tls", &[Protocol::Https, Protocol::Tcp]),
    (
        "peer_timeout",
        &[Protocol::Http, Protocol::Https, Protocol::Tcp],
    ),
    ("tcp", &[Protocol::Tcp]),
    ("udp", &[Protocol::Udp]),
];

/// Keys of routes that only some protocols have.
const ROUTE_KEYS: &[(&str, &[Protocol])] = &[
    ("host", HTTP),
    ("path", HTTP),
    ("path_prefix", HTTP),
    ("path_regex", HTTP),
    ("method", HTTP),
    ("header", HTTP),
    ("cookie", HTTP),
    ("query", HTTP),
    ("filters", HTTP),
    ("redirect", HTTP),
    ("answer", HTTP),
    ("services", HTTP),
    ("sticky", HTTP),
    ("fallback", HTTP),
    ("fallback_on", HTTP),
    ("mirror", HTTP),
    ("timeout", HTTP),
    ("sni", &[Protocol::Tcp]),
    ("alpn", &[Protocol::Tcp]),
];

/// Finds keys of other protocols' in the present listener, which has so many `[[route]]`s.
pub(crate) fn no_foreign_keys(protocol: Protocol, routes: usize, cx: &mut Reader<'_, '_>) {
    let path = cx.path().to_owned();
    let routes = (1..=routes).map(|n| (format!("{path}.route[{n}]"), ROUTE_KEYS));
    for (path, keys) in std::iter::once((path.clone(), LISTENER_KEYS)).chain(routes) {
        for (key, protocols) in keys {
            if !protocols.contains(&protocol) {
                let what = format!("has no meaning with protocol = \"{}\"", protocol.as_str());
                let key = format!("{path}.{key}");
                cx.at_key(Severity::Error, &key, what, "leave it out");
            }
        }
    }
}

/// Leaves out what only other protocols have.
pub(crate) fn own_keys(protocol: Protocol, shown: Option<Shown>) -> Option<Shown> {
    let own = |keys: &'static [(&str, &[Protocol])]| {
        move |shown: &ShownKey| {
            let found = keys.iter().find(|(key, _)| *key == shown.name);
            found.is_none_or(|(_, protocols)| protocols.contains(&protocol))
        }
    };
    let Some(Shown::Table(mut keys)) = shown else {
        return shown;
    };
    keys.retain(own(LISTENER_KEYS));
    for key in &mut keys {
        if let (true, Some(Shown::Many(routes))) = (key.name == "route", &mut key.value) {
            routes.iter_mut().for_each(|r| r.retain(own(ROUTE_KEYS)));
        }
    }
    Some(Shown::Table(keys))
}
