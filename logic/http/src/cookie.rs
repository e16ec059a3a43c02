//! Cookies (RFC 6265): finding one in a request, and writing one into an answer.

use std::fmt::Write as _;
use std::time::Duration;

use model::{Cookie, SameSite};

use crate::h1::Fields;

/// A cookie's value in a request.
pub fn find<'b>(fields: &Fields<'b>, name: &str) -> Option<&'b [u8]> {
    let all = fields.iter();
    let mut cookies = all.filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    cookies.find_map(|field| value(field.value, name))
}

/// A cookie's value in one `Cookie` field (§4.2.1).
pub fn value<'b>(field: &'b [u8], name: &str) -> Option<&'b [u8]> {
    field.split(|&b| b == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?;
        let value = value.strip_prefix(b"=")?;
        // Some clients quote what they were given bare.
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|v| v.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

/// The value of the `Set-Cookie` field that sets it (§4.1.1), for a client that speaks TLS or does not.
pub fn set(cookie: &Cookie, value: &str, lifetime: Option<Duration>, tls: bool) -> String {
    let mut out = format!("{}={value}; Path={}", cookie.name, cookie.path);
    // A text takes everything.
    if let Some(domain) = &cookie.domain {
        let _ = write!(out, "; Domain={domain}");
    }
    if let Some(lifetime) = lifetime {
        let _ = write!(out, "; Max-Age={}", lifetime.as_secs());
    }
    if cookie
        .secure
        .unwrap_or(tls || cookie.same_site == SameSite::None)
    {
        out.push_str("; Secure");
    }
    if cookie.http_only {
        out.push_str("; HttpOnly");
    }
    out.push_str(match cookie.same_site {
        SameSite::Strict => "; SameSite=Strict",
        SameSite::Lax => "; SameSite=Lax",
        SameSite::None => "; SameSite=None",
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let field = b"xsid=1; sid=abc=; id=2;q=\"3\"";
        assert_eq!(value(field, "sid"), Some(&b"abc="[..]));
        assert_eq!(value(field, "id"), Some(&b"2"[..]));
        assert_eq!(value(field, "q"), Some(&b"3"[..]));
        assert_eq!(value(field, "si"), None);
        assert_eq!(value(b"sid", "sid"), None);
        assert_eq!(value(b"", "sid"), None);
    }

    #[test]
    fn attributes_say_where_it_goes() {
        let mut cookie = Cookie {
            name: "stay".into(),
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
        };
        let plain = set(&cookie, "x", None, false);
        assert_eq!(plain, "stay=x; Path=/; HttpOnly; SameSite=Lax");
        let secure = set(&cookie, "x", Some(Duration::from_secs(60)), true);
        assert_eq!(
            secure,
            "stay=x; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
        cookie.domain = Some("example.com".into());
        cookie.secure = Some(false);
        cookie.http_only = false;
        cookie.same_site = SameSite::Strict;
        let all = set(&cookie, "x", None, true);
        assert_eq!(all, "stay=x; Path=/; Domain=example.com; SameSite=Strict");
    }
}
