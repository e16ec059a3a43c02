use std::time::Duration;

use model::{EndpointStats, Moment, ServiceStats, ServiceTable};

use crate::Random;
use crate::pool::Candidate;

/// The endpoints already tried for a request. Attempts are few: 8 are remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    endpoints: [u32; 8],
    len: u8,
}

impl Tried {
    /// Remembers the endpoint with number `index`.
    pub fn add(&mut self, index: usize) {
        if let Some(slot) = self.endpoints.get_mut(usize::from(self.len)) {
            *slot = index as u32;
            self.len += 1;
        }
    }

    /// Whether nobody was.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn has(&self, index: u32) -> bool {
        // Most often nobody was tried yet.
        self.len != 0 && self.endpoints[..usize::from(self.len)].contains(&index)
    }
}

/// What one pick sees of the endpoints.
pub(crate) struct View<'a> {
    pub(crate) service: &'a ServiceTable,
    pub(crate) worker: usize,
    pub(crate) tried: &'a Tried,
    pub(crate) now: Moment,
    pub(crate) random: &'a mut Random,
    /// Whether some endpoint of the service may be starting slowly.
    ramping: bool,
    /// Whether neither that nor those who were tried have to be considered: nearly always.
    plain: bool,
    /// Whether observations are left out of account, for want of anybody better.
    pub(crate) desperate: bool,
}

/// An endpoint never gets less than this part of its share while it starts: it has to be seen working.
const LEAST_RAMP: f32 = 0.1;

impl<'a> View<'a> {
    #[inline]
    pub(crate) fn new(
        service: &'a ServiceTable,
        worker: usize,
        tried: &'a Tried,
        now: Moment,
        random: &'a mut Random,
        ramping: bool,
    ) -> Self {
        Self {
            service,
            worker,
            tried,
            now,
            random,
            ramping,
            plain: tried.is_empty() && !ramping,
            desperate: false,
        }
    }

    /// What this worker has done with the service.
    #[inline]
    pub(crate) fn worked(&self) -> &'a ServiceStats {
        self.service.stats.of(self.worker)
    }

    /// Whether there is nothing to consider about an endpoint: nearly always.
    #[inline]
    pub(crate) fn is_ordinary(&self, stats: &EndpointStats) -> bool {
        self.plain && stats.ejection().is_none()
    }

    /// The part of its share that a candidate gets now: 0 is nothing, 1 all.
    #[inline]
    pub(crate) fn share(&self, candidate: &Candidate) -> f32 {
        let share = self.share_of(&candidate.stats, candidate.endpoint);
        if self.ramping && !self.desperate {
            let since = self.service.endpoints[candidate.endpoint as usize].since;
            return share * ramp(since, self.service.balancing.slow_start, self.now);
        }
        share
    }

    /// The same, but for slow start: keys that come and go would gain nothing by it.
    #[inline]
    pub(crate) fn share_of(&self, stats: &EndpointStats, endpoint: u32) -> f32 {
        if self.tried.has(endpoint) {
            return 0.0;
        }
        match stats.ejection() {
            None => 1.0,
            Some(_) if self.desperate => 1.0,
            Some(ejection) if ejection.until > self.now => 0.0,
            // On probation. Those that were ejected together do not come back like a wave.
            Some(ejection) => ramp(
                ejection.until,
                self.service.balancing.ejecting.time,
                self.now,
            ),
        }
    }

    /// Whether a candidate gets its whole share.
    #[inline]
    pub(crate) fn is_full(&self, candidate: &Candidate) -> bool {
        self.is_ordinary(&candidate.stats) || self.is_full_all_the_same(candidate)
    }

    #[cold]
    fn is_full_all_the_same(&self, candidate: &Candidate) -> bool {
        self.share(candidate) >= 1.0
    }

    /// Whether a candidate that came up in a draw or in turn takes it. One that has part of its share takes
    /// that part of them.
    #[inline]
    pub(crate) fn takes(&mut self, candidate: &Candidate) -> bool {
        let share = self.share(candidate);
        self.accepts(share)
    }

    #[inline]
    pub(crate) fn accepts(&mut self, share: f32) -> bool {
        share >= 1.0 || share > 0.0 && (self.random.draw() >> 40) as f32 * EVENLY < share
    }
}

/// Makes 24 random bits a number from 0 to 1.
const EVENLY: f32 = 1.0 / (1 << 24) as f32;

fn ramp(since: Moment, window: Duration, now: Moment) -> f32 {
    // A clock that stepped back: it has just begun.
    let elapsed = now.since(since);
    match elapsed >= window {
        true => 1.0,
        false => (elapsed.as_secs_f32() / window.as_secs_f32()).max(LEAST_RAMP),
    }
}
