//! Bodies that move no faster than their route lets them.

use std::time::Duration;

use model::{Bandwidth, Moment};

use super::session::Session;

/// How late a timer may be.
const COARSE: Duration = Duration::from_millis(35);

/// A body that is held back.
pub(super) struct Throttle {
    /// Bytes a second.
    rate: u64,
    began: Moment,
    moved: u64,
}

impl Throttle {
    /// When so many bytes more may have moved. What was late by a timer is caught up with: what counts is the whole body.
    fn due(&mut self, bytes: usize) -> Moment {
        self.moved += bytes as u64;
        let nanos = u128::from(self.moved) * 1_000_000_000 / u128::from(self.rate);
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Session {
    /// What holds back a body of the present request, if anything does.
    pub(super) fn throttle(&self, of: fn(&Bandwidth) -> Option<u64>) -> Option<Throttle> {
        let filtered = self.filtered.take()?;
        let rate = of(filtered.bandwidth());
        self.filtered.set(Some(filtered));
        Some(Throttle {
            rate: rate?,
            began: self.worker.now(),
            moved: 0,
        })
    }

    /// Waits until so many bytes more may have moved.
    pub(super) async fn hold_back(&self, throttle: &mut Throttle, bytes: usize) {
        let due = throttle.due(bytes);
        let reactor = self.worker.reactor();
        loop {
            let left = due.since(self.worker.now());
            if left.is_zero() {
                return;
            }
            // While a request is still coming in, both ways share the task's one deadline.
            match left.checked_sub(COARSE) {
                Some(most) if !most.is_zero() && !self.uploading.get() => reactor.sleep(most).await,
                _ => reactor.a_moment().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_by_the_rate_of_the_whole() {
        let mut throttle = Throttle {
            rate: 1_000,
            began: Moment::from_millis(5_000),
            moved: 0,
        };
        assert_eq!(throttle.due(500), Moment::from_millis(5_500));
        assert_eq!(throttle.due(2_000), Moment::from_millis(7_500));
        throttle.rate = 1;
        throttle.due(usize::MAX / 2);
    }
}
