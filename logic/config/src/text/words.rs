//! Words to choose from.

use std::path::PathBuf;

use model::{
    Cannot, CheckProtocol, FourLetterWord, HashOn, Heeded, PersistBy, Policy, Priority,
    ProxyVersion, Role, SameSite, Sticky,
};
use serde_json::{Value as Json, json};

use crate::text::Token;
use crate::tree::clip;
use crate::value::Text;

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

        impl $name {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }
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
                self.as_str().into()
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
        /// HTTP/1.1 by TLS, which ends here.
        Https = "https",
        /// Bytes both ways, whatever they mean; TLS is passed through, or ends here if there is a `tls` table.
        Tcp = "tcp",
        /// Packets both ways, whatever they mean.
        Udp = "udp",
    }
    expected "the name of a protocol, such as \"http\""
    later &["http2", "http3", "grpc", "tls", "dns"]
}

words! {
    /// What a service's instances speak.
    pub enum InstanceProtocol {
        /// HTTP/1.1.
        Http1 = "http/1.1",
        /// HTTP/2, many requests on a connection.
        Http2 = "h2",
    }
    expected "\"http/1.1\" or \"h2\""
    later &["h3"]
}

words! {
    /// The protocol of a URL.
    pub enum Scheme {
        /// In clear text.
        Http = "http",
        /// By TLS.
        Https = "https",
    }
    expected "\"http\" or \"https\""
    later &[]
}

words! {
    /// What becomes of requests for another host than their connection's TLS was begun for.
    pub enum Misdirected {
        /// They are served as any other.
        Serve = "serve",
        /// They get 421, so that their client asks again on a connection of their own.
        Refuse = "refuse",
    }
    expected "\"serve\" or \"refuse\""
    later &[]
}

words! {
    /// Who is believed when requests say which trace they belong to.
    pub enum TraceContext {
        /// Everybody.
        All = "all",
        /// Those in `trusted_peers`.
        TrustedPeers = "trusted_peers",
    }
    expected "\"all\" or \"trusted_peers\""
    later &[]
}

words! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// RFC 5246, with forward secrecy and authenticated encryption only.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
    expected "\"1.2\" or \"1.3\""
    later &[]
}

words! {
    /// Whether clients show a certificate.
    pub enum ClientAuth {
        /// No client without one that is good.
        Required = "required",
        /// Those without are served, too.
        Optional = "optional",
    }
    expected "\"required\" or \"optional\""
    later &[]
}

words! {
    /// How an access log's lines look.
    pub enum AccessFormat {
        /// One JSON object a line.
        Json = "json",
        /// The combined log format that Apache and nginx write.
        Combined = "combined",
        /// The same, and behind it `key=value` with the trace, timings and every attempt.
        Extended = "extended",
        /// No access log.
        Off = "off",
    }
    expected "\"json\", \"combined\", \"extended\" or \"off\""
    later &[]
}

fn no_such_word(text: &str, words: &[&str], later: &[&str]) -> String {
    let known = words.join(", ");
    if later.contains(&text) {
        return format!("{text:?} is not in this version; use one of {known}");
    }
    format!("{:?} is not known; use one of {known}", clip(text))
}

impl Text for ProxyVersion {
    const EXPECTED: &'static str = "\"v1\" or \"v2\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(no_such_word(text, &["v1", "v2"], &[])),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::V1 => "v1".into(),
            Self::V2 => "v2".into(),
        }
    }

    fn schema() -> Json {
        json!({ "enum": ["v1", "v2"] })
    }
}

impl Text for Policy {
    const EXPECTED: &'static str = "the name of a policy, such as \"least_conn\"";

    fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| no_such_word(text, &Self::ALL.map(Self::as_str), &[]))
    }

    fn text(&self) -> String {
        self.as_str().into()
    }

    fn schema() -> Json {
        json!({ "enum": Self::ALL.map(Self::as_str) })
    }
}

impl Text for CheckProtocol {
    const EXPECTED: &'static str = "the name of a protocol, such as \"postgresql\"";

    fn parse(text: &str) -> Result<Self, String> {
        const LATER: &[&str] = &["ldap", "dns", "mongodb"];
        let known = Self::ALL.into_iter().find(|p| p.as_str() == text);
        known.ok_or_else(|| no_such_word(text, &Self::ALL.map(Self::as_str), LATER))
    }

    fn text(&self) -> String {
        self.as_str().into()
    }

    fn schema() -> Json {
        json!({ "enum": Self::ALL.map(Self::as_str) })
    }
}

/// Enumerations of the model with few members, all of them known by `ALL` and `as_str`.
macro_rules! known {
    ($($name:ident: $expected:literal,)+) => {$(
        impl Text for $name {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                let known = Self::ALL.into_iter().find(|word| word.as_str() == text);
                known.ok_or_else(|| no_such_word(text, &Self::ALL.map(Self::as_str), &[]))
            }

            fn text(&self) -> String {
                self.as_str().into()
            }

            fn schema() -> Json {
                json!({ "enum": Self::ALL.map(Self::as_str) })
            }
        }
    )+};
}

known! {
    Cannot: "\"unavailable\", \"circuit_open\" or \"overloaded\"",
    Heeded: "\"all\", \"trusted\" or \"none\"",
    FourLetterWord: "a four-letter word, such as \"ruok\"",
    Priority: "\"high\", \"normal\" or \"low\"",
    Role: "\"primary\" or \"replica\"",
}

impl Text for HashOn {
    const EXPECTED: &'static str =
        "\"source_ip\", \"url\", or \"header:\", \"cookie:\" or \"query:\" and a name";

    fn parse(text: &str) -> Result<Self, String> {
        let fault = || format!("{:?} is not {}", clip(text), Self::EXPECTED);
        let (kind, name) = match text {
            "source_ip" => return Ok(Self::SourceIp),
            "url" => return Ok(Self::Url),
            _ => text.split_once(':').ok_or_else(fault)?,
        };
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b";,=&".contains(&b))
        {
            return Err(fault());
        }
        match kind {
            "header" => Ok(Self::Header(
                Token::parse(name)?.text().to_ascii_lowercase().into(),
            )),
            "cookie" => Ok(Self::Cookie(name.into())),
            "query" => Ok(Self::Query(name.into())),
            _ => Err(fault()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::SourceIp => "source_ip".into(),
            Self::Url => "url".into(),
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Query(name) => format!("query:{name}"),
        }
    }
}

impl Text for Sticky {
    const EXPECTED: &'static str =
        "\"cookie\", \"source_ip\", \"url\", or \"header:\", \"cookie:\" or \"query:\" and a name";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "cookie" => Ok(Self::Cookie),
            _ => HashOn::parse(text)
                .map(Self::By)
                .map_err(|_| format!("{:?} is not {}", clip(text), Self::EXPECTED)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Cookie => "cookie".into(),
            Self::By(by) => by.text(),
        }
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

impl Text for PersistBy {
    const EXPECTED: &'static str =
        "\"cookie\", \"source_ip\", or \"header:\" or \"query:\" and a name";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "cookie" {
            return Ok(Self::Cookie);
        }
        match HashOn::parse(text) {
            Ok(HashOn::SourceIp) => Ok(Self::SourceIp),
            Ok(HashOn::Header(name)) => Ok(Self::Header(name)),
            Ok(HashOn::Query(name)) => Ok(Self::Query(name)),
            _ => Err(format!("{:?} is not {}", clip(text), Self::EXPECTED)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Cookie => "cookie".into(),
            Self::SourceIp => "source_ip".into(),
            Self::Header(name) => format!("header:{name}"),
            Self::Query(name) => format!("query:{name}"),
        }
    }
}

impl Text for SameSite {
    const EXPECTED: &'static str = "\"strict\", \"lax\" or \"none\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "strict" => Ok(Self::Strict),
            "lax" => Ok(Self::Lax),
            "none" => Ok(Self::None),
            _ => Err(no_such_word(text, &["strict", "lax", "none"], &[])),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Strict => "strict".into(),
            Self::Lax => "lax".into(),
            Self::None => "none".into(),
        }
    }

    fn schema() -> Json {
        json!({ "enum": ["strict", "lax", "none"] })
    }
}
