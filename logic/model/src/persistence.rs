//! Which instance a client's requests stay at.

use std::sync::Arc;
use std::time::Duration;

use crate::KeyTable;

/// How requests of one client stay at one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisting {
    /// How a client is known again.
    pub by: PersistBy,
    /// The cookie, if it is by that.
    pub cookie: Cookie,
    /// How long: a cookie's life, or how long a key is remembered after its last request. `None`: as long as the browser is
    /// open, or an hour.
    pub lifetime: Option<Duration>,
    /// Keys remembered at the most.
    pub max_keys: u32,
}

/// How a client is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersistBy {
    /// By a cookie that names the instance.
    Cookie,
    /// By its address.
    SourceIp,
    /// By a header field.
    Header(Box<str>),
    /// By a query parameter.
    Query(Box<str>),
}

/// A cookie's name and attributes (RFC 6265bis).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: Box<str>,
    /// Where it is sent to.
    pub path: Box<str>,
    /// To which hosts beside the one that set it.
    pub domain: Option<Box<str>>,
    /// Whether it is sent over TLS only; `None`: if it was set so.
    pub secure: Option<bool>,
    /// Whether scripts cannot see it.
    pub http_only: bool,
    /// Whether it is sent with requests that come from other sites.
    pub same_site: SameSite,
}

/// Whether a cookie is sent with requests that come from other sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// With those that lead here.
    Lax,
    /// With all; browsers want `secure` then.
    None,
}

/// What a service's table knows of sessions.
#[derive(Debug)]
pub struct Persistence {
    /// How requests stay.
    pub how: Persisting,
    /// What a cookie has for each endpoint, by its number: made of its id and a secret, so that nobody else can make it, and
    /// nobody learns anything from it. Empty where it is not by cookie.
    pub tokens: Vec<Box<str>>,
    /// Endpoints in the order of their tokens; where it is not by cookie, in the order of their marks.
    pub sorted: Vec<u32>,
    /// A number for each endpoint that is remembered in the place of it.
    pub marks: Vec<u32>,
    /// By key, an endpoint's mark and when it was last used, in seconds.
    pub keys: Arc<KeyTable>,
}
