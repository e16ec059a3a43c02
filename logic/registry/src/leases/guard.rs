use std::time::Duration;

/// The mass-loss guard's limits.
///
/// When many leases run out together, the likelier cause is on our side: a switch, a stalled node, a slow disk.
/// Believing it would take a working service down. So only a share of a service, and of everything, may
/// be lost to silence at a time; the rest is held over as a warning, still takes traffic, and is probed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MassLoss {
    /// The share of a service's live leases that may run out within a window.
    ///
    /// 0.3: the largest failure that is still ordinary is one zone of three, and that many are gone at once only
    /// if they are really gone. One lease may always run out: of a single instance, or of a pair, there
    /// is nobody to be compared with, and a registry that cannot lose the last instance of a service is
    /// the zombie that users of others complain of.
    pub share: f64,
    /// The share of all live leases that may run out within a window, but always [`MassLoss::free`].
    ///
    /// 0.15, what Eureka's evictor found workable over a decade: losses that stay below every service's own
    /// share and still add up to this much come from the network that they have in common.
    pub global_share: f64,
    /// As many may always run out, whatever the global share says: below this the services' own floors are
    /// protection enough, and a share of a small number is noise.
    pub free: u32,
    /// The time over which losses count together. As long as common leases take to run out one after
    /// the other (30 seconds, staggered by as much), so that one event is judged as one.
    pub window: Duration,
    /// How long a lease is held over at most. Long enough for a person to mend a switch, short enough that
    /// dead instances do not stay for ever where nothing can be probed.
    pub hold: Duration,
}

impl Default for MassLoss {
    fn default() -> Self {
        Self {
            share: 0.3,
            global_share: 0.15,
            free: 100,
            window: Duration::from_secs(60),
            hold: Duration::from_secs(300),
        }
    }
}

/// Losses counted against the number alive when the window began.
///
/// Windows follow each other without overlap, so that two bursts around a border may take twice the share. A
/// sliding window would need a time for every loss, and buy little: what is held stays held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// Milliseconds of lease time.
    began: u64,
    alive: u32,
    lost: u32,
}

impl Losses {
    /// Whether one more of the `live` may be lost, without counting it yet.
    pub(super) fn allow(
        &mut self,
        share: f64,
        at_least: u32,
        window: Duration,
        live: u32,
        now: u64,
    ) -> bool {
        if self.alive == 0 || now - self.began > window.as_millis() as u64 {
            *self = Self {
                began: now,
                alive: live,
                lost: 0,
            };
        }
        // More may have been registered since the window began.
        self.alive = self.alive.max(live);
        let limit = (f64::from(self.alive) * share) as u32;
        self.lost < limit.max(at_least)
    }

    /// Counts a loss.
    pub(super) fn count(&mut self) {
        self.lost += 1;
    }
}
