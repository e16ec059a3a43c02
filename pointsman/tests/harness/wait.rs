//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long anything may take that must happen. Machines that run tests are busy ones.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "within {PATIENCE:?} there was never: {what}"
        );
        std::thread::sleep(Duration::from_millis(3));
    }
}
