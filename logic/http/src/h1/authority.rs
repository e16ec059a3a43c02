//! `host [":" port]` (RFC 3986 §3.2, RFC 9110 §7.2), as far as a reverse proxy has use for it.

use std::net::Ipv6Addr;

use super::class::{self, HOST};
use super::fault::Fault;

/// Checks an authority. User names are refused (RFC 9110 §4.2.4), and so is an empty port: `host:` is the same as
/// `host` to some and another key to others.
pub(crate) fn parse(bytes: &[u8]) -> Result<&[u8], Fault> {
    let port = if bytes.first() == Some(&b'[') {
        let end = memchr::memchr(b']', bytes).ok_or(Fault::Authority)?;
        // Neither zones ("%eth0") nor versions yet to come ("v7.x") mean anything from afar.
        let inside = str::from_utf8(&bytes[1..end]).map_err(|_| Fault::Authority)?;
        inside.parse::<Ipv6Addr>().map_err(|_| Fault::Authority)?;
        &bytes[end + 1..]
    } else {
        let end = class::end_of(bytes, 0, HOST);
        if end == 0 {
            return Err(odd(bytes));
        }
        &bytes[end..]
    };
    match port {
        [] => Ok(bytes),
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && is_port(digits) => Ok(bytes),
        _ => Err(odd(bytes)),
    }
}

fn is_port(digits: &[u8]) -> bool {
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        number = number * 10 + u32::from(digit - b'0');
    }
    number <= 65_535
}

#[cold]
fn odd(bytes: &[u8]) -> Fault {
    if bytes.contains(&b'@') {
        Fault::Userinfo
    } else {
        Fault::Authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port_are_accepted() {
        for good in [
            "a",
            "shop.example.com",
            "shop.example.com.",
            "10.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8443",
            "[::ffff:10.0.0.1]",
            "xn--bcher-kva.example",
            "under_score",
            "a:65535",
            "a:0",
        ] {
            assert_eq!(parse(good.as_bytes()), Ok(good.as_bytes()));
        }
    }

    #[test]
    fn what_others_may_read_as_another_host_is_refused() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:000080",
            "a:+80",
            "a:8 0",
            "a b",
            "a,b",
            "a/b",
            "a\\b",
            "a%2eb",
            "[::1",
            "::1",
            "[::1]x",
            "[fe80::1%eth0]",
            "[v7.x]",
            "[]",
            "a:80:80",
            "a?",
            "a;b",
            "[::1]:",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Fault::Authority), "{bad}");
        }
        for bad in ["user@a", "user:secret@a:80", "@a"] {
            assert_eq!(parse(bad.as_bytes()), Err(Fault::Userinfo), "{bad}");
        }
        assert_eq!(parse(b"caf\xe9.example"), Err(Fault::Authority));
    }
}
