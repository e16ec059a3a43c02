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
}

impl Policy {
    /// The word used in configuration, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::LeastConn => "least_conn",
        }
    }
}
