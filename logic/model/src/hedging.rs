use std::time::Duration;

/// When a request that takes long is sent to a second instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedging {
    /// When it has taken longer than this share (percent) of requests do.
    pub quantile: u8,
    /// Second requests for each hundred at the most.
    pub budget: u8,
    /// And no sooner than this.
    pub min_delay: Duration,
    /// After this time instead, whatever others take.
    pub delay: Option<Duration>,
}
