use std::borrow::Cow;

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
