//! How an instance's health is probed.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// An active check of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// What is sent, and what counts as well.
    pub kind: CheckKind,
    /// The port to probe, if it is not the instance's own.
    pub port: Option<NonZeroU16>,
    /// Time from one probe to the next, before jitter.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Successes in a row that turn an instance passing.
    pub rise: u16,
    /// Failures in a row that turn an instance critical.
    pub fall: u16,
}

/// What an active check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP request is answered as expected.
    Http(HttpCheck),
    /// Bytes are sent, and others come back.
    Exchange(Exchange),
    /// A gRPC server says that it is well (`grpc.health.v1.Health/Check`).
    Grpc(GrpcCheck),
    /// A server answers in its protocol, and says whether it is a primary or a replica.
    Protocol(ProtocolCheck),
}

/// What a gRPC server is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcCheck {
    /// The name of a service, such as `shop.Cart`; empty: the server as a whole.
    pub service: Box<str>,
}

/// Bytes to send, and what must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// How they travel.
    pub transport: Transport,
    /// What is sent first. Over TCP nothing if it is not given, over UDP an empty datagram.
    pub send: Option<Box<str>>,
    /// A text that the first 64 KiB of what comes back must hold. If it is not given, over TCP the connection
    /// is enough; over UDP silence is, but not an ICMP error.
    pub expect: Option<Box<str>>,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a connection.
    Tcp,
    /// In datagrams.
    Udp,
}

/// A check that speaks a server's own protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolCheck {
    /// Which.
    pub protocol: CheckProtocol,
    /// Who logs in. Without, it is enough that the server answers.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Secret>,
    /// The database to log in to.
    pub database: Option<Box<str>>,
}

/// A protocol that checks speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckProtocol {
    /// PostgreSQL. Tells the role to a user who is logged in.
    PostgreSql,
    /// MySQL and MariaDB. Tells the role to a user who is logged in.
    MySql,
    /// Redis and its like. Tells the role.
    Redis,
    /// Mail, taken in.
    Smtp,
    /// Mail, read.
    Imap,
    /// Mail, fetched.
    Pop3,
}

impl CheckProtocol {
    /// All protocols.
    pub const ALL: [Self; 6] = [
        Self::PostgreSql,
        Self::MySql,
        Self::Redis,
        Self::Smtp,
        Self::Imap,
        Self::Pop3,
    ];

    /// The word used in configuration and API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
            Self::Redis => "redis",
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
        }
    }

    /// Whether it has users, and passwords.
    pub const fn has_login(self) -> bool {
        matches!(self, Self::PostgreSql | Self::MySql | Self::Redis)
    }

    /// Whether it has databases to choose from at the login.
    pub const fn has_databases(self) -> bool {
        matches!(self, Self::PostgreSql | Self::MySql)
    }
}

impl FromStr for CheckProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|p| p.as_str() == text);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no protocol that checks speak; use one of {words}")
        })
    }
}

/// An HTTP probe and the answer that passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// The request's method.
    pub method: Box<str>,
    /// The request's target, in origin form.
    pub path: Box<str>,
    /// The `Host` header, if it is not the instance's address.
    pub host: Option<Box<str>>,
    /// More headers, in order.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Status codes that pass.
    pub status: Vec<StatusRange>,
    /// A text that the first 64 KiB of the answer's body must hold.
    pub body: Option<Box<str>>,
}

/// Status codes from `first` to `last`, both included. Written `200` or `200-399`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusRange {
    /// The lowest code that passes.
    pub first: u16,
    /// The highest code that passes.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is within the range.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |t: &str| t.trim().parse().ok().filter(|c| (100..=599).contains(c));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "{text:?} is no range of status codes; write 200 or 200-399"
            )),
        }
    }
}

impl TryFrom<String> for StatusRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StatusRange> for String {
    fn from(range: StatusRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}
