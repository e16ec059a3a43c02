//! How a service is balanced, beyond the policy: settings of the stages around the pick.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Breaking, Hedging, Moment, Retrying};

/// Settings of the stages around a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    /// What `consistent_hash` and `maglev` look at.
    pub hash_on: HashOn,
    /// Keyed hashing of what clients choose: nobody who does not know it can aim at one instance.
    pub hash_secret: [u64; 2],
    /// How long an instance that is new, or well again, takes to its full share; zero for at once.
    pub slow_start: Duration,
    /// Instances that this node uses at the most; 0 for all.
    pub subset: u32,
    /// Which of the many subsets is this node's.
    pub subset_salt: u64,
    /// With less than this share of the undrained instances (percent, by weight) healthy, health is ignored.
    pub panic_below: u8,
    /// When instances are ejected.
    pub ejecting: Ejecting,
    /// How fast long connections follow a change of what instances should have.
    pub respreading: Respreading,
    /// How many requests the service takes at a time.
    pub limiting: Limiting,
    /// When it is left alone for a while, if ever.
    pub breaking: Option<Breaking>,
    /// What is tried again, and when.
    pub retrying: Retrying,
    /// When a second instance is asked, if ever.
    pub hedging: Option<Hedging>,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            hash_on: HashOn::default(),
            hash_secret: [0; 2],
            slow_start: Duration::ZERO,
            subset: 0,
            subset_salt: 0,
            panic_below: 0,
            ejecting: Ejecting::default(),
            respreading: Respreading::default(),
            limiting: Limiting::default(),
            breaking: None,
            retrying: Retrying::default(),
            hedging: None,
        }
    }
}

/// How fast long connections follow a change of what instances should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Respreading {
    /// The share (percent) of a service's connections that may be closed each second; 0 never.
    pub rate: u8,
    /// How long a connection has been at rest before it may be closed.
    pub rest: Duration,
    /// Whether a connection can have a transaction open, which must not be broken, and says so as PostgreSQL does.
    pub transactions: bool,
}

/// How many requests a service takes at a time, and how long others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limiting {
    /// Requests at all instances together, from this node; 0 for any number.
    pub max: u32,
    /// Whether the limit follows the instances' latency. It never exceeds `max`.
    pub adaptive: bool,
    /// Nor falls below this.
    pub min: u32,
    /// Requests that wait, on each worker.
    pub queue: u32,
    /// How long, while the queue empties now and then.
    pub wait: Duration,
    /// And while it does not.
    pub wait_overloaded: Duration,
}

impl Limiting {
    /// Whether there is any limit.
    pub const fn is_on(&self) -> bool {
        self.adaptive || self.max != 0
    }
}

/// Who goes first when not all can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// What can be left undone: prefetching, reports.
    Low,
    /// What people wait for.
    #[default]
    Normal,
    /// What must not fail: logging in, paying.
    High,
}

impl Priority {
    /// All of them, by their number.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word used in configuration and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// What the hashing policies look at. What has none is sent anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    #[default]
    SourceIp,
    /// Path and query.
    Url,
    /// The header field of this name, in lower case.
    Header(Box<str>),
    /// The cookie of this name.
    Cookie(Box<str>),
    /// The query parameter of this name.
    Query(Box<str>),
}

/// When an instance is ejected because of what was observed, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejecting {
    /// Attempts in a row without connection or answer; 0 never.
    pub failures: u16,
    /// Answers in a row that are errors (5xx); 0 never.
    pub errors: u16,
    /// The share of failures and errors (percent) above which an instance can be an outlier; 100 never.
    pub error_rate: u8,
    /// An instance is too slow whose latency is so many times the median of the service's; 0 never.
    pub slow_factor: u16,
    /// The first ejection's time; the n-th in close succession takes n times as long.
    pub time: Duration,
    /// The longest of them.
    pub max_time: Duration,
    /// The share of instances (percent) that may be ejected at a time. At least one may; those that cannot be
    /// connected to do not count.
    pub max_share: u8,
}

impl Default for Ejecting {
    /// The configuration's defaults, where their reasons stand.
    fn default() -> Self {
        Self {
            failures: 1,
            errors: 5,
            error_rate: 20,
            slow_factor: 0,
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(60),
            max_share: 50,
        }
    }
}

/// An endpoint's record: taken out until a moment, for a reason, for the n-th time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When it may be tried again. To the millisecond.
    pub until: Moment,
    /// How often it was ejected in close succession.
    pub times: u8,
    /// Why.
    pub reason: Reason,
}

impl Ejection {
    pub(crate) const fn pack(self) -> u64 {
        // Rounded up, so that it is never 0.
        let millis = self.until.as_nanos().div_ceil(1_000_000);
        millis << 16 | (self.reason as u64) << 8 | self.times as u64
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            until: Moment::from_millis(packed >> 16),
            times: packed as u8,
            reason: Reason::numbered((packed >> 8) as u8),
        }
    }
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No connection.
    Unreachable,
    /// No answer, or none that was whole.
    Failures,
    /// One error after the other.
    Errors,
    /// Far more errors than the others have.
    ErrorRate,
    /// Far slower than the others.
    Slow,
}

impl Reason {
    /// All of them, by their number.
    pub const ALL: [Self; 5] = [
        Self::Unreachable,
        Self::Failures,
        Self::Errors,
        Self::ErrorRate,
        Self::Slow,
    ];

    const fn numbered(number: u8) -> Self {
        match number {
            0 => Self::Unreachable,
            1 => Self::Failures,
            2 => Self::Errors,
            3 => Self::ErrorRate,
            _ => Self::Slow,
        }
    }

    /// The word used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Failures => "failures",
            Self::Errors => "errors",
            Self::ErrorRate => "error_rate",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "a connection to it failed a moment ago",
            Self::Failures => "it failed a moment ago",
            Self::Errors => "it answered with errors only",
            Self::ErrorRate => "it errs far more often than the others",
            Self::Slow => "it is far slower than the others",
        })
    }
}
