//! Where a route's requests go beside one service: shares of several, a stand-in, a mirror; and how long they may take.

use std::sync::Arc;
use std::time::Duration;

use crate::{Counter, HashOn, Sharded, Weight};

/// Several services that share a route's requests by weight.
#[derive(Clone, Debug)]
pub struct Split {
    /// The services.
    pub shares: Vec<Share>,
    /// What keeps a client on its side, if anything does.
    pub sticky: Option<Sticky>,
    /// Keyed hashing of what clients choose.
    pub secret: [u64; 2],
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its number in the table.
    pub service: usize,
    /// Its part of the sum of all weights; 0 for none.
    pub weight: Weight,
    /// Made from its name, so that the order in the file does not matter.
    pub identity: u64,
    /// Requests it was given.
    pub given: Arc<Sharded<Counter>>,
}

/// What keeps a client on its side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// A cookie of ours.
    Cookie,
    /// What its requests have anyway.
    By(HashOn),
}

/// By what it does, whatever was counted.
impl PartialEq for Split {
    fn eq(&self, other: &Self) -> bool {
        let parts = |split: &Self| -> Vec<_> {
            let shares = split.shares.iter();
            shares.map(|share| (share.service, share.weight)).collect()
        };
        parts(self) == parts(other) && self.sticky == other.sticky && self.secret == other.secret
    }
}

impl Eq for Split {}

/// What a route has beside what it does. Most have nothing of it.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// Who answers when the route's service cannot.
    pub fallback: Option<Fallback>,
    /// Who gets a copy of its requests.
    pub mirror: Option<Mirror>,
    /// The longest that a request may take, from its head to the answer's last byte.
    pub timeout: Option<Duration>,
}

/// The service that answers when a route's own cannot.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Its number in the table.
    pub service: usize,
    /// When, by [`Cannot`].
    pub on: [bool; Cannot::ALL.len()],
    /// Requests it was given.
    pub given: Arc<Sharded<Counter>>,
}

/// Why a service cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cannot {
    /// No instance can be chosen, or none of those that were tried could be reached or answered.
    Unavailable,
    /// Its circuit is open.
    Open,
    /// It has no room for more requests.
    Full,
}

impl Cannot {
    /// All of them, by their number.
    pub const ALL: [Self; 3] = [Self::Unavailable, Self::Open, Self::Full];

    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Open => "circuit_open",
            Self::Full => "overloaded",
        }
    }
}

/// A service that gets copies of a route's requests. Nobody waits for its answers.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its number in the table.
    pub service: usize,
    /// The share of the requests, in percent.
    pub share: u8,
    /// Whether the host's name ends with `-shadow`, so that nobody takes a copy for a request.
    pub mark_host: bool,
    /// Copies under way at a time, on each worker.
    pub most: u32,
    /// The longest request that is copied, in bytes.
    pub max_body: usize,
    /// What became of them.
    pub stats: Arc<Sharded<MirrorStats>>,
}

/// What became of copies.
#[derive(Debug, Default)]
pub struct MirrorStats {
    /// Copies that were begun. Those that are neither answered nor failed nor dropped are under way.
    pub begun: Counter,
    /// Copies that were given up before they were whole.
    pub dropped: Counter,
    /// Copies that were answered.
    pub answered: Counter,
    /// Copies that were sent, or could not be, and not answered.
    pub failed: Counter,
    /// Requests that were not copied, for want of room or because their body was too long.
    pub skipped: Counter,
}
