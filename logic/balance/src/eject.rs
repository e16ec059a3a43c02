use model::{Ejection, EndpointStats, Moment, Reason, ServiceTable};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::key::mix;

/// Takes the endpoint with number `index` out for a while. Returns whether that is news: not when it is out
/// already, or when so many are that it has to stay.
pub(crate) fn eject(service: &ServiceTable, index: usize, reason: Reason, now: Moment) -> bool {
    let ejecting = &service.balancing.ejecting;
    let stats: &EndpointStats = &service.endpoints[index].stats;
    let before = stats.ejection();
    if before.is_some_and(|before| before.until > now) {
        return false;
    }
    // To whom there is no connection is no use whatever the others are like: the cap is for observations that
    // may be the network's fault, or ours, and for fleets that the lost capacity would overload.
    if reason != Reason::Unreachable && service.ejections.now.load(Relaxed) >= most(service) {
        return false;
    }
    let recent = |before: &Ejection| before.until + ejecting.max_time > now;
    let times = before
        .filter(recent)
        .map_or(0, |before| before.times)
        .saturating_add(1);
    let time = (ejecting.time * u32::from(times)).min(ejecting.max_time);
    stats.eject(Some(Ejection {
        until: now + jittered(time, mix(now.as_nanos(), index as u64)),
        times,
        reason,
    }));
    if reason != Reason::Unreachable {
        service.ejections.now.fetch_add(1, Relaxed);
    }
    service.ejections.total[reason as usize].add(1);
    true
}

/// How many endpoints may be ejected at a time.
pub(crate) fn most(service: &ServiceTable) -> u32 {
    let share = u64::from(service.balancing.ejecting.max_share);
    let most = service.endpoints.len() as u64 * share / 100;
    most.max(1) as u32
}

/// Up to a quarter longer: those that were ejected together come back one after the other.
fn jittered(time: Duration, bits: u64) -> Duration {
    time + time / 4 * (bits >> 48) as u32 / (1 << 16)
}
