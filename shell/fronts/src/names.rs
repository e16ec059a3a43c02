//! By which names a front may be called.
//!
//! A page's owner can have the page's name lead to this machine once a browser has loaded it (DNS rebinding). The browser takes
//! what answers there for a part of the page, and lets it read everything. Of all that such a request says, only its `Host` tells it
//! from a program's: over plain HTTP, browsers send a GET to their page's own host without `Origin` and without `Sec-Fetch-Site`.

use std::net::IpAddr;
use std::sync::Arc;

use ::http::route::{host_matches, host_of};
use axum::http::{HeaderMap, Uri, header};
use model::HostPattern;

/// The names that a front answers to, besides addresses and `localhost`, which nobody can lead elsewhere. By default, none.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<[HostPattern]>);

impl From<Vec<HostPattern>> for Names {
    fn from(patterns: Vec<HostPattern>) -> Self {
        Self(patterns.into())
    }
}

impl Names {
    /// The first host that a request names and that is none of these. A request that names none, as HTTP/1.0 allows, comes from no
    /// browser.
    pub(crate) fn stranger(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let named = headers.get_all(header::HOST).iter();
        let named = named.map(|host| String::from_utf8_lossy(host.as_bytes()));
        // As a proxy is asked: it is what counts then (RFC 9112 §3.2.2).
        let authority = uri.authority().map(|authority| authority.as_str().into());
        let mut named = named.chain(authority);
        let stranger = named.find(|host| !self.have(host));
        stranger.map(std::borrow::Cow::into_owned)
    }

    /// Whether a request for a host, with its port or without, is answered.
    fn have(&self, host: &str) -> bool {
        self.0.contains(&HostPattern::Any) || self.own(host)
    }

    /// Whether a host, with its port or without, is one that nobody else could lead here. Where every name is answered to, that is
    /// not said of any.
    pub(crate) fn own(&self, host: &str) -> bool {
        let host = String::from_utf8_lossy(host_of(host.as_bytes())).to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        // Such names lead to the machine that asks, wherever that is (RFC 6761 §6.3).
        let is_local = host == "localhost" || host.ends_with(".localhost");
        let mut said = self.0.iter().filter(|own| **own != HostPattern::Any);
        address.parse::<IpAddr>().is_ok()
            || is_local
            || said.any(|own| host_matches(own, host.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Names {
        let pattern = |text: &&str| match text.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(end) => HostPattern::Suffix(end.into()),
            None => HostPattern::Exact((*text).into()),
        };
        patterns.iter().map(pattern).collect::<Vec<_>>().into()
    }

    #[test]
    fn what_nobody_can_lead_elsewhere_is_always_ones_own() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:7070",
            "[::1]",
            "[::1]:7070",
            "10.1.2.3:80",
            "localhost",
            "LocalHost:7070",
            "localhost.",
            "shop.localhost:7070",
        ] {
            assert!(names(&[]).have(host), "{host}");
        }
    }

    #[test]
    fn a_name_is_ones_own_only_if_it_was_said_so() {
        for host in [
            "evil.example",
            "evil.example:7070",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "",
            ":7070",
        ] {
            assert!(!names(&[]).have(host), "{host}");
            assert!(!names(&["registry.internal"]).have(host), "{host}");
            assert!(names(&["*"]).have(host), "{host}");
            assert!(!names(&["*"]).own(host), "{host}");
        }
        let own = names(&["registry.internal", "*.nodes.internal"]);
        assert!(own.have("Registry.Internal:7070"));
        assert!(own.have("registry.internal."));
        assert!(own.have("a.nodes.internal"));
        assert!(!own.have("nodes.internal"));
        assert!(!own.have("a.registry.internal"));
    }
}
