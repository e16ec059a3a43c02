use serde::{Deserialize, Serialize};

/// A balancing algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Independent draws, P(i) = W(i) / ΣW. No state, no herding; uneven in the short run.
    Random,
    /// In turn, by earliest deadline, so that weights interleave smoothly.
    RoundRobin,
    /// The fewest requests in flight per unit of weight.
    #[default]
    LeastConn,
    /// The shortest latency predicted from what was learned of each instance and is in flight there now.
    LeastTime,
    /// The better of two by a moving average of latency that follows peaks at once, times what is in flight.
    PeakEwma,
    /// The same key to the same instance; a change of instances moves the keys it must and no others; no
    /// instance gets far more than its share even so.
    ConsistentHash,
    /// The same key to the same instance, shares as even as can be; a change moves a few more keys.
    Maglev,
}

impl Policy {
    /// All of them, the default first.
    pub const ALL: [Self; 7] = [
        Self::LeastConn,
        Self::LeastTime,
        Self::PeakEwma,
        Self::RoundRobin,
        Self::Random,
        Self::ConsistentHash,
        Self::Maglev,
    ];

    /// The word used in configuration, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::LeastConn => "least_conn",
            Self::LeastTime => "least_time",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash => "consistent_hash",
            Self::Maglev => "maglev",
        }
    }

    /// Whether it looks at what instances have, so that a connection that comes back is placed where there are fewer.
    pub const fn is_load_aware(self) -> bool {
        matches!(self, Self::LeastConn | Self::LeastTime | Self::PeakEwma)
    }

    /// Whether it goes by a key of the request.
    pub const fn is_hash(self) -> bool {
        matches!(self, Self::ConsistentHash | Self::Maglev)
    }
}
