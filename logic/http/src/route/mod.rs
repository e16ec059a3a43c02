//! Which route a request takes.
//!
//! The most specific match wins, whatever the order in the file: an exact host before the longest
//! wildcard before any host; then an exact path before a pattern before the longest prefix; then whoever wants more of
//! the rest of the request. [`order`] sorts routes so that the first match is that one, and [`index`] makes of
//! them what [`find`] looks it up in.

mod conditions;
mod index;
mod path;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use model::{HostPattern, ListenerTable, PathPattern, Route};

pub use conditions::Unmet;
pub use index::index;
pub use path::normal_path;

use crate::h1::{Request, Target};

/// Sorts routes by how specific they are; equals keep their order.
pub fn order(routes: &mut [Route]) {
    routes.sort_by(|a, b| {
        host_order(&a.host, &b.host)
            .then_with(|| path_order(&a.path, &b.path))
            .then_with(|| conditions::order(a.conditions.as_deref(), b.conditions.as_deref()))
    });
}

fn host_order(a: &HostPattern, b: &HostPattern) -> Ordering {
    let rank = |host: &HostPattern| match host {
        HostPattern::Exact(_) => (0, 0),
        HostPattern::Suffix(suffix) => (1, usize::MAX - suffix.len()),
        HostPattern::Any => (2, 0),
    };
    rank(a).cmp(&rank(b))
}

fn path_order(a: &PathPattern, b: &PathPattern) -> Ordering {
    let rank = |path: &PathPattern| match path {
        PathPattern::Exact(_) => (0, 0),
        // No measure of patterns is what anybody means: they stay in the order in which they are written.
        PathPattern::Regex(_) => (1, 0),
        PathPattern::Prefix(prefix) => (2, usize::MAX - prefix.len()),
    };
    rank(a).cmp(&rank(b))
}

/// The number of the route for a request that came from `client`.
pub fn find(listener: &ListenerTable, request: &Request<'_>, client: IpAddr) -> Option<usize> {
    let host = host_of(request.authority);
    let path = normal_path(path_of(request));
    index::find(&listener.index, host, &path, |number| {
        let conditions = listener.routes[number].conditions.as_deref();
        conditions.is_none_or(|wanted| conditions::unmet(wanted, request, client).is_none())
    })
}

/// Why a route does not take a request; `None` if it would.
pub fn passed_over<'r>(route: &'r Route, request: &Request<'_>, client: IpAddr) -> Option<Why<'r>> {
    let path = normal_path(path_of(request));
    if !host_matches(&route.host, host_of(request.authority)) {
        return Some(Why::Host);
    }
    if !path_matches(&route.path, &path) {
        return Some(Why::Path);
    }
    let wanted = route.conditions.as_deref()?;
    conditions::unmet(wanted, request, client).map(Why::Unmet)
}

/// Why a route was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why<'r> {
    /// It serves another host.
    Host,
    /// It serves another path.
    Path,
    /// It wants something else of the request.
    Unmet(Unmet<'r>),
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("it serves another host"),
            Self::Path => f.write_str("it serves another path"),
            Self::Unmet(unmet) => unmet.fmt(f),
        }
    }
}

/// `OPTIONS *` is about the server as a whole: the route for everything has it.
fn path_of<'b>(request: &Request<'b>) -> &'b [u8] {
    match request.target {
        Target::Asterisk => b"/",
        target => target.path(),
    }
}

/// The host of an authority: without its port, without a trailing dot.
pub fn host_of(authority: &[u8]) -> &[u8] {
    let host = match memchr::memrchr(b':', authority) {
        // The colons of `[::1]` are no port's.
        Some(colon) if !authority[colon..].contains(&b']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}

/// Whether `pattern` serves `host`, in any letter case.
pub fn host_matches(pattern: &HostPattern, host: &[u8]) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name.as_bytes().eq_ignore_ascii_case(host),
        HostPattern::Suffix(suffix) => {
            let start = host.len().checked_sub(suffix.len());
            start.is_some_and(|s| s > 0 && host[s..].eq_ignore_ascii_case(suffix.as_bytes()))
        }
    }
}

/// Whether `pattern` serves the normal path `path`.
pub fn path_matches(pattern: &PathPattern, path: &[u8]) -> bool {
    match pattern {
        PathPattern::Exact(exact) => exact.as_bytes() == path,
        PathPattern::Regex(regex) => regex.is_match(path),
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.as_bytes();
            let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
            path.strip_prefix(prefix)
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        }
    }
}
