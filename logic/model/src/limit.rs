//! Limits by a key of requests, and what is remembered of the keys. Who is within them is decided in `balance`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What a limit goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// The client's address; of IPv6 its network of 64 bits, for that is what one holder has at least.
    Source,
    /// A header field's value. Requests without it are not limited.
    Header(Box<str>),
    /// The path.
    Path,
    /// Nothing: all requests of the route together.
    Route,
}

/// What becomes of what is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It is refused.
    Reject,
    /// It waits for its turn; so many at the most, the rest is refused.
    Delay,
}

/// How many requests there may be in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time from one to the next, when they come evenly.
    pub interval: Duration,
    /// How many may come at once, or wait.
    pub burst: u32,
    /// What becomes of the rest.
    pub excess: Excess,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Keys remembered at the most.
    pub max_keys: u32,
}

/// How many requests there may be at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// So many.
    pub max: u32,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Keys remembered at the most.
    pub max_keys: u32,
}

/// A limit of requests in a time, and what came lately.
#[derive(Debug)]
pub struct RateLimit {
    /// The limit.
    pub rate: Rate,
    /// By key, when it will have all of its burst again, in nanoseconds.
    pub keys: KeyTable,
}

/// A limit of requests at a time, and how many there are.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    /// The limit.
    pub limit: Concurrency,
    /// By key, how many there are.
    pub keys: KeyTable,
}

/// A number for each of a bounded set of keys, shared by all workers without a lock: groups of eight slots, in one cache line
/// or two. A key is in the group that its hash says, or nowhere.
#[derive(Debug)]
pub struct KeyTable {
    /// As many as the keys that were asked for, in whole groups.
    pub slots: Box<[KeySlot]>,
    /// What keys are hashed with: nobody must be able to choose keys that meet in one group.
    pub secret: [u64; 2],
}

/// A key and its number.
#[derive(Debug, Default)]
pub struct KeySlot {
    /// The key's hash; 0 while there is none.
    pub key: AtomicU64,
    /// Its number.
    pub number: AtomicU64,
}

impl KeyTable {
    /// Slots in a group.
    pub const GROUP: usize = 8;

    /// A table for so many keys.
    pub fn new(keys: u32, secret: [u64; 2]) -> Self {
        let groups = (keys as usize).div_ceil(Self::GROUP).max(1);
        let slots = std::iter::repeat_with(KeySlot::default);
        Self {
            slots: slots.take(groups * Self::GROUP).collect(),
            secret,
        }
    }
}
