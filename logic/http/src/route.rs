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
pub fn find(listener: &ListenerTable, authority: &str, path: &str) -> Option<usize> {
    let host = host_of(authority);
    let path = normal_path(path);
    listener
        .routes
        .iter()
        .position(|route| host_matches(&route.host, host) && path_matches(&route.path, &path))
}

/// The host of an authority: without its port, without a trailing dot.
pub fn host_of(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        // The colons of `[::1]` are no port's.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether `pattern` serves `host`, in any letter case.
pub fn host_matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name.eq_ignore_ascii_case(host),
        HostPattern::Suffix(suffix) => {
            let start = host.len().checked_sub(suffix.len());
            start.is_some_and(|s| {
                s > 0 && host.as_bytes()[s..].eq_ignore_ascii_case(suffix.as_bytes())
            })
        }
    }
}

/// Whether `pattern` serves the normal path `path`.
pub fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => **exact == *path,
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// The path that routes are compared with: percent-encoded unreserved characters decoded, dot segments
/// resolved (RFC 3986 §6.2.2), doubled slashes merged. Instances get the path as it was sent; this form
/// keeps `/public/%2e%2e/admin` and `//admin` from slipping past a route for `/admin`.
pub fn normal_path(path: &str) -> Cow<'_, str> {
    let plain = |p: &str| !p.contains('%') && !p.contains("/.") && !p.contains("//");
    if plain(path) {
        return Cow::Borrowed(path);
    }
    let decoded = decode_unreserved(path);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').skip(1) {
        match segment {
            "." | "" => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    let directory = ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end));
    if directory || normal.is_empty() {
        normal.push('/');
    }
    Cow::Owned(normal)
}

fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let code = from
            .get(1..3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(|c| c.is_ascii_alphanumeric() || b"-._~".contains(c)) {
            Some(c) => {
                out.push(char::from(c));
                rest = &from[3..];
            }
            None => {
                out.push('%');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
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
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn a_wildcard_serves_subdomains_and_not_the_domain_itself() {
        let pattern = HostPattern::Suffix(".example.com".into());
        assert!(host_matches(&pattern, "a.Example.com"));
        assert!(host_matches(&pattern, "a.b.example.com"));
        assert!(!host_matches(&pattern, "example.com"));
        assert!(!host_matches(&pattern, ".example.com"));
        assert!(!host_matches(&pattern, "badexample.com"));
        assert!(!host_matches(&pattern, "é.org"));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        for prefix in ["/api", "/api/"] {
            let pattern = PathPattern::Prefix(prefix.into());
            assert!(path_matches(&pattern, "/api"));
            assert!(path_matches(&pattern, "/api/x"));
            assert!(!path_matches(&pattern, "/apis"));
        }
        assert!(path_matches(&PathPattern::Prefix("/".into()), "/anything"));
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
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }
}
