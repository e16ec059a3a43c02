//! Values that are written as text: units, addresses, names, words.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use model::{
    ByteSize, Host, HostPattern, InstanceId, Namespace, Network, Period, Policy, ServiceKey,
    ServiceName, StatusRange,
};
use serde_json::{Value as Json, json};

use crate::tree::clip;
use crate::value::{Name, Text};

/// A share of a whole, in whole per cent, written `"30%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// Declares an enumeration whose members are words.
macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $($(#[doc = $word_doc:literal])+ $word:ident = $text:literal,)+
        }
        expected $expected:literal
        later $later:expr
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $word,)+
        }

        impl Text for $name {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$word),)+
                    _ => Err(no_such_word(text, &[$($text),+], $later)),
                }
            }

            fn text(&self) -> String {
                match self { $(Self::$word => $text.into(),)+ }
            }

            fn schema() -> Json {
                json!({ "enum": [$($text),+] })
            }
        }
    };
}

words! {
    /// Where the registry keeps what must outlive a restart.
    pub enum Durability {
        /// On disk: a write is confirmed when the disk has it.
        Disk = "disk",
        /// In memory only: a restart begins with an empty registry and the configuration.
        Memory = "memory",
    }
    expected "\"disk\" or \"memory\""
    later &[]
}

words! {
    /// What a listener speaks.
    pub enum Protocol {
        /// HTTP/1.1 in clear text.
        Http = "http",
    }
    expected "the name of a protocol, such as \"http\""
    later &["http2", "http3", "https", "grpc", "tcp", "tls", "tls-passthrough", "udp", "dns"]
}

words! {
    /// How an access log's lines look.
    pub enum AccessFormat {
        /// One JSON object a line.
        Json = "json",
        /// The combined log format that Apache and nginx write.
        Combined = "combined",
        /// No access log.
        Off = "off",
    }
    expected "\"json\", \"combined\" or \"off\""
    later &[]
}

fn no_such_word(text: &str, words: &[&str], later: &[&str]) -> String {
    let known = words.join(", ");
    if later.contains(&text) {
        return format!("{text:?} is not in this version; use one of {known}");
    }
    format!("{:?} is not known; use one of {known}", clip(text))
}

/// Implements [`Text`] by way of a type's own text form, for errors that name the text themselves.
macro_rules! by_its_own_text {
    ($($type:ty: $expected:literal, $schema:expr;)+) => {$(
        impl Text for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                from_str(text)
            }

            fn text(&self) -> String {
                self.to_string()
            }

            fn schema() -> Json {
                $schema
            }
        }
    )+};
}

by_its_own_text! {
    ByteSize: "an amount of bytes, such as \"64KiB\"", json!({ "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" });
    StatusRange: "status codes, such as \"200\" or \"200-399\"", json!({ "type": "string" });
}

fn from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

impl Text for Duration {
    const EXPECTED: &'static str = "a length of time, such as \"5s\"";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text).map(|Period(duration)| duration)
    }

    fn text(&self) -> String {
        Period(*self).to_string()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$" })
    }
}

impl Text for Percent {
    const EXPECTED: &'static str = "a share, such as \"30%\"";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix('%').map(str::trim_end);
        // Told by the digits, because parse() would take "+30" too.
        let number = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|d| d.parse().ok()) {
            Some(n @ 0..=100) => Ok(Self(n)),
            _ => Err(format!(
                "{:?} is no share; write \"0%\" to \"100%\"",
                clip(text)
            )),
        }
    }

    fn text(&self) -> String {
        format!("{}%", self.0)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,3} ?%$" })
    }
}

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

impl Text for Box<str> {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{:?} is no path", clip(text)));
        }
        Ok(text.into())
    }

    fn text(&self) -> String {
        // Lossless: it was made from a text.
        self.to_string_lossy().into_owned()
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard output, written `"stdout"`.
    Stdout,
    /// This file, appended to.
    File(PathBuf),
}

impl Text for LogTarget {
    const EXPECTED: &'static str = "\"stdout\" or a path";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => Ok(Self::Stdout),
            path => PathBuf::parse(path).map(Self::File),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Stdout => "stdout".into(),
            Self::File(path) => path.text(),
        }
    }
}

impl Text for Policy {
    const EXPECTED: &'static str = "the name of a policy, such as \"least_conn\"";

    fn parse(text: &str) -> Result<Self, String> {
        const LATER: &[&str] = &["consistent_hash", "least_time", "maglev", "peak_ewma"];
        let known = POLICIES.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| no_such_word(text, &POLICIES.map(Self::as_str), LATER))
    }

    fn text(&self) -> String {
        self.as_str().into()
    }

    fn schema() -> Json {
        json!({ "enum": POLICIES.map(Self::as_str) })
    }
}

const POLICIES: [Policy; 3] = [Policy::LeastConn, Policy::RoundRobin, Policy::Random];

impl Text for Network {
    const EXPECTED: &'static str = "a network, such as \"10.0.0.0/8\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
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

impl Text for ServiceKey {
    const EXPECTED: &'static str = "the name of a service, such as \"orders\" or \"shop/orders\"";

    fn parse(text: &str) -> Result<Self, String> {
        let (namespace, service) = match text.split_once('/') {
            Some((namespace, service)) => (named::<Namespace>(namespace)?, service),
            None => (Namespace::default(), text),
        };
        let service = named::<ServiceName>(service)?;
        Ok(Self { namespace, service })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for InstanceId {
    const EXPECTED: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, String> {
        named(text)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

fn named<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    let with_text = |e: T::Err| format!("the name {:?} {e}", clip(text));
    text.parse().map_err(with_text)
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

/// A path in a request's target: starts with `/`, without query, in the characters that a request line
/// may have (RFC 3986 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlPath(pub(crate) Box<str>);

impl Text for UrlPath {
    const EXPECTED: &'static str = "a path, such as \"/api\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("{:?} {why}", clip(text)));
        if !text.starts_with('/') {
            return fault("is no path; begin it with a slash");
        }
        if text
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b"\"<>\\^`{|}?#".contains(&b))
        {
            return fault(
                "has a character that no path in a request has; write it percent-encoded, and leave \
                 out any query",
            );
        }
        // Requests' paths have these resolved before they are matched.
        if text
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return fault("has a segment \".\" or \"..\", which no request matches; resolve it");
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The target of a request, in origin form (RFC 9112 §3.2.1): a path, with a query or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlTarget(pub(crate) Box<str>);

impl Text for UrlTarget {
    const EXPECTED: &'static str = "a path, such as \"/healthz\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() && b != b'#';
        if !text.starts_with('/') || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is nothing to ask a server for; write a path such as \"/healthz\", without \
                 spaces and fragment",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The value of a header field: visible ASCII with single spaces or tabs inside (RFC 9110 §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldValue(pub(crate) Box<str>);

impl Text for FieldValue {
    const EXPECTED: &'static str = "the value of a header field";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
        if text.is_empty() || !text.bytes().all(fits) || text.trim() != text {
            return Err(format!(
                "{:?} fits into no header field; use visible ASCII, without spaces around it",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A method or the name of a header field (RFC 9110 §5.6.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) Box<str>);

impl Text for Token {
    const EXPECTED: &'static str = "one word";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is no token of HTTP; use letters, digits and dashes",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Name for Token {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn name(&self) -> String {
        self.text()
    }
}

impl Name for ServiceKey {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn name(&self) -> String {
        self.text()
    }
}

impl Name for Box<str> {
    fn parse_name(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn name(&self) -> String {
        self.to_string()
    }
}

/// The name of a listener, which follows the rule of the names of services.
impl Name for Arc<str> {
    fn parse_name(text: &str) -> Result<Self, String> {
        named::<ServiceName>(text).map(|name| name.as_str().into())
    }

    fn name(&self) -> String {
        self.to_string()
    }
}
