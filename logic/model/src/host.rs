use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an instance is: an IP address, or a DNS name that the node resolves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// An address, ready to use.
    Ip(IpAddr),
    /// A DNS name (RFC 1123 labels), lower case.
    Name(Box<str>),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        // "10.0.0.300" is a mistyped address, not a host name: no top-level domain is all digits (RFC 3696 §2).
        let digits = name
            .rsplit('.')
            .next()
            .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > 253 || digits || !name.split('.').all(label) {
            return Err(format!(
                "{:?} is neither an IP address nor a host name",
                text.chars().take(80).collect::<String>()
            ));
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        assert_eq!("::1".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("[::1]".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("Db-1.Local.".parse(), Ok(Host::Name("db-1.local".into())));
    }

    #[test]
    fn mistyped_addresses_are_not_taken_for_names() {
        for text in ["", "10.0.0.300", "a..b", "-a", "a b", "1.2.3", "x:80"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }
}
