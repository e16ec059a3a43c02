//! Addresses, networks and hosts.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use model::tree_pattern::TreePattern;
use model::{Host, HostPattern, Network};

use crate::tree::clip;
use crate::value::Text;

impl Text for SocketAddr {
    const EXPECTED: &'static str = "an address to listen on, such as \"127.0.0.1:8080\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!(
                "{:?} is no IP address with a port; write \"127.0.0.1:8080\", \"0.0.0.0:8080\" for \
                 every IPv4 address or \"[::]:8080\" for every address",
                clip(text)
            )
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for IpAddr {
    const EXPECTED: &'static str = "an IP address, such as \"10.0.0.1\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{:?} is no IP address", clip(text)))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for Network {
    const EXPECTED: &'static str = "a network, such as \"10.0.0.0/8\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for TreePattern {
    const EXPECTED: &'static str = "a pattern of paths, such as \"/services/{service}/{curator}\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e| format!("{:?} {e}", clip(text)))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for HostPattern {
    const EXPECTED: &'static str = "a host, such as \"shop.example.com\" or \"*.example.com\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let fault =
            |what: String| format!("{what}; write \"shop.example.com\" or \"*.example.com\"");
        if let Some(suffix) = text.strip_prefix("*.") {
            return match suffix.parse::<Host>().map_err(fault)? {
                Host::Name(name) => Ok(Self::Suffix(format!(".{name}").into())),
                Host::Ip(_) => Err(fault(format!("{text:?} has an address after the star"))),
            };
        }
        match text.parse::<Host>().map_err(fault)? {
            Host::Name(name) => Ok(Self::Exact(name)),
            // As a `Host` header has it (RFC 3986 §3.2.2).
            Host::Ip(IpAddr::V6(ip)) => Ok(Self::Exact(format!("[{ip}]").into())),
            Host::Ip(ip) => Ok(Self::Exact(ip.to_string().into())),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::Exact(host) => host.to_string(),
            Self::Suffix(suffix) => format!("*{suffix}"),
        }
    }
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Host,
    pub(crate) port: NonZeroU16,
}

impl Text for Address {
    const EXPECTED: &'static str = "an address with a port, such as \"10.0.0.5:8080\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| {
            let text = clip(text);
            format!("{text:?} {why}; write \"10.0.0.5:8080\", \"[fd00::5]:8080\" or \"db-1:5432\"")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fault("has no port"))?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let port = port.ok_or_else(|| fault("has no port from 1 to 65535 after its last colon"))?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(fault("has an IPv6 address without brackets"));
        }
        let host: Host = host
            .parse()
            .map_err(|e: String| fault(&format!("does not fit: {e}")))?;
        if let Host::Ip(ip) = host
            && (ip.is_unspecified() || ip.is_multicast())
        {
            return Err(fault("is no address of one machine"));
        }
        Ok(Self { host, port })
    }

    fn text(&self) -> String {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}
