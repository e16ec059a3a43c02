//! Which route a request takes.
//!
//! The most specific match wins, whatever the order in the file: an exact host before the longest
//! wildcard before any host; then an exact path before the longest prefix. [`order`] sorts routes so
//! that the first match is that one.

use std::borrow::Cow;
use std::cmp::Ordering;

use model::{HostPattern, ListenerTable, PathPattern, Route};

/// Sorts routes by how specific they are; equals keep their order.
pub fn order(routes: &mut [Route]) {
    routes.sort_by(|a, b| host_order(&a.host, &b.host).then_with(|| path_order(&a.path, &b.path)));
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
        PathPattern::Prefix(prefix) => (1, usize::MAX - prefix.len()),
    };
    rank(a).cmp(&rank(b))
}

/// The number of the route for a request to `authority` (host, perhaps with port) and `path` (raw,
/// without query).
pub fn find(listener: &ListenerTable, authority: &[u8], path: &[u8]) -> Option<usize> {
    let host = host_of(authority);
    let path = normal_path(path);
    listener
        .routes
        .iter()
        .position(|route| host_matches(&route.host, host) && path_matches(&route.path, &path))
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
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.as_bytes();
            let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
            path.strip_prefix(prefix)
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        }
    }
}

/// The path that routes are compared with: percent-encoded unreserved characters decoded, dot segments
/// resolved (RFC 3986 §6.2.2), doubled slashes merged. Instances get the path as it was sent; this form
/// keeps `/public/%2e%2e/admin` and `//admin` from slipping past a route for `/admin`.
pub fn normal_path(path: &[u8]) -> Cow<'_, [u8]> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let decoded = decode_unreserved(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|&b| b == b'/').skip(1) {
        match segment {
            b"." | b"" => {}
            b".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len());
    for segment in &segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    let directory = [&b"/"[..], b"/.", b"/.."];
    if directory.iter().any(|end| decoded.ends_with(end)) || normal.is_empty() {
        normal.push(b'/');
    }
    Cow::Owned(normal)
}

/// Whether a path is in its normal form as it stands: nothing encoded, no dot or empty segments (nor what may be one).
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        if byte == b'%' || before == b'/' && matches!(byte, b'.' | b'/') {
            return false;
        }
        before = byte;
    }
    true
}

fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        match encoded(from).filter(|c| c.is_ascii_alphanumeric() || b"-._~".contains(c)) {
            Some(byte) => {
                out.push(byte);
                rest = &from[3..];
            }
            None => {
                out.push(b'%');
                rest = &from[1..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The byte that `%41…` stands for.
fn encoded(from: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*from.get(at)?).to_digit(16);
    Some((digit(1)? << 4 | digit(2)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_trailing_dots_are_no_part_of_the_host() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example.:80", "a.example"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
        }
    }

    #[test]
    fn a_wildcard_serves_subdomains_and_not_the_domain_itself() {
        let pattern = HostPattern::Suffix(".example.com".into());
        assert!(host_matches(&pattern, "a.Example.com".as_bytes()));
        assert!(host_matches(&pattern, "a.b.example.com".as_bytes()));
        assert!(!host_matches(&pattern, "example.com".as_bytes()));
        assert!(!host_matches(&pattern, ".example.com".as_bytes()));
        assert!(!host_matches(&pattern, "badexample.com".as_bytes()));
        assert!(!host_matches(&pattern, "é.org".as_bytes()));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        for prefix in ["/api", "/api/"] {
            let pattern = PathPattern::Prefix(prefix.into());
            assert!(path_matches(&pattern, "/api".as_bytes()));
            assert!(path_matches(&pattern, "/api/x".as_bytes()));
            assert!(!path_matches(&pattern, "/apis".as_bytes()));
        }
        assert!(path_matches(&PathPattern::Prefix("/".into()), b"/anything"));
    }

    #[test]
    fn disguised_paths_are_seen_through() {
        for (path, normal) in [
            ("/a/b", "/a/b"),
            ("/public/../admin", "/admin"),
            ("/public/%2e%2E/admin", "/admin"),
            ("//admin", "/admin"),
            ("/a/./b/", "/a/b/"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/%61dmin", "/admin"),
            ("/a%2Fb", "/a%2Fb"),
            ("/100%", "/100%"),
            ("/%4", "/%4"),
            ("/%é1", "/%é1"),
        ] {
            assert_eq!(&*normal_path(path.as_bytes()), normal.as_bytes(), "{path}");
        }
    }
}
