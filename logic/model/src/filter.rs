//! What is done with a route's requests and answers on their way.

use std::sync::Arc;
use std::time::Duration;

use crate::{BasicAuth, ConcurrencyLimit, Network, RateLimit, Regex, StatusRange, Template};

/// What is done with a route's requests and answers, in this order: who may not is refused, then the request is changed, and
/// then its answer.
#[derive(Debug, Default)]
pub struct Filters {
    /// Who may.
    pub access: Access,
    /// Which pages of other sites may read answers.
    pub cors: Option<Cors>,
    /// How many requests in a time.
    pub rate_limits: Vec<Arc<RateLimit>>,
    /// The largest body of a request, if there is a limit.
    pub max_body: Option<u64>,
    /// Whose passwords open it.
    pub basic_auth: Option<BasicAuth>,
    /// How many requests at a time.
    pub concurrency: Vec<Arc<ConcurrencyLimit>>,
    /// The path that instances get, if not the one that was sent.
    pub rewrite: Option<Rewrite>,
    /// The `Host` that instances get, if not the one that was sent.
    pub host: Option<Template>,
    /// Changes of requests' fields.
    pub request_headers: HeaderEdits,
    /// Which answers are compressed.
    pub compress: Option<Compress>,
    /// How fast bodies move.
    pub bandwidth: Bandwidth,
    /// Pages in the place of answers' own texts.
    pub error_pages: Vec<ErrorPage>,
    /// Changes of answers' fields.
    pub response_headers: HeaderEdits,
}

/// Which pages of other sites may read answers (the Fetch standard, §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The sites.
    pub origins: Vec<OriginPattern>,
    /// The methods that they may use.
    pub methods: Vec<Box<str>>,
    /// The fields that they may send; `*`: whatever they ask for.
    pub headers: Vec<Box<str>>,
    /// The fields that they may read.
    pub expose: Vec<Box<str>>,
    /// Whether requests may have cookies and passwords with them.
    pub credentials: bool,
    /// How long browsers need not ask again.
    pub max_age: Duration,
}

/// Sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// All.
    Any,
    /// This one: `https://app.example.com`.
    Exact(Box<str>),
    /// All below a domain.
    Below {
        /// `https://`
        scheme: Box<str>,
        /// `.example.com`, perhaps with a port.
        suffix: Box<str>,
    },
}

/// Which answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The codings, the one to be preferred first.
    pub codings: Vec<Coding>,
    /// Answers that are shorter go as they are, in bytes.
    pub min_size: u64,
    /// The `Content-Type`s: `text/html`, `text/*`, `*/*+json`.
    pub types: Vec<Box<str>>,
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// All of them, each at its own number.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// How fast bodies move, in bytes a second; `None`: as fast as they can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// A request's.
    pub request: Option<u64>,
    /// An answer's.
    pub response: Option<u64>,
}

/// A page in the place of an answer's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// The status codes it is for.
    pub status: Vec<StatusRange>,
    /// What it says.
    pub body: Arc<str>,
    /// Its `Content-Type`.
    pub content_type: Box<str>,
    /// Whether it also takes the place of what instances say.
    pub intercept: bool,
}

impl ErrorPage {
    /// Whether it is for answers with this status.
    pub fn is_for(&self, status: u16) -> bool {
        self.status
            .iter()
            .any(|range| (range.first..=range.last).contains(&status))
    }
}

impl Filters {
    /// Whether instances get requests otherwise than they came.
    pub fn change_requests(&self) -> bool {
        self.rewrite.is_some() || self.host.is_some() || !self.request_headers.is_empty()
    }
}

/// Who may, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Those who may; empty: everybody.
    pub allow: Vec<Network>,
    /// Those of them who may not.
    pub deny: Vec<Network>,
}

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// What the route's prefix matched becomes this.
    Prefix {
        /// The route's prefix, without a slash at its end.
        from: Box<str>,
        /// What comes in its place, without a slash at its end.
        to: Box<str>,
    },
    /// The first match becomes this; `$1` stands for what a group has matched.
    Regex(Regex, Box<str>),
    /// All of it becomes this.
    Whole(Box<str>),
}

/// Changes of a message's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names of fields that are taken away.
    pub remove: Vec<Box<str>>,
    /// Fields that take the place of those of their name.
    pub set: Vec<(Box<str>, Template)>,
    /// Fields beside those of their name.
    pub add: Vec<(Box<str>, Template)>,
}

/// Why a filter answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client's address.
    Address,
    /// Too many requests in a time.
    Rate,
    /// Too large a body.
    Body,
    /// Too many requests at a time.
    Concurrency,
    /// No password, or a wrong one.
    Password,
    /// A password that nobody has time to verify.
    Busy,
    /// The site that a browser asks for.
    Origin,
}

impl Refusal {
    /// All of them, each at its own number.
    pub const ALL: [Self; 7] = [
        Self::Address,
        Self::Rate,
        Self::Body,
        Self::Concurrency,
        Self::Password,
        Self::Busy,
        Self::Origin,
    ];

    /// A word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Rate => "rate",
            Self::Body => "body",
            Self::Concurrency => "concurrency",
            Self::Password => "password",
            Self::Busy => "busy",
            Self::Origin => "origin",
        }
    }
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Names of the fields of which those that are there go.
    pub fn gone(&self) -> impl Iterator<Item = &str> {
        let set = self.set.iter().map(|(name, _)| &**name);
        self.remove.iter().map(|name| &**name).chain(set)
    }
}

impl Access {
    /// Whether a client at `address` may.
    pub fn allows(&self, address: std::net::IpAddr) -> bool {
        let among = |networks: &[Network]| networks.iter().any(|n| n.contains(address));
        (self.allow.is_empty() || among(&self.allow)) && !among(&self.deny)
    }
}
