//! The `Date` field of answers made here, formatted once a second.

use std::cell::RefCell;
use std::time::SystemTime;

use model::Moment;

/// The present date in the form of RFC 9110 §5.6.7.
#[derive(Default)]
pub(crate) struct Date(RefCell<(u64, String)>);

impl Date {
    /// Calls `f` with the date at `now`.
    pub(crate) fn with<R>(&self, now: Moment, f: impl FnOnce(&str) -> R) -> R {
        let mut cached = self.0.borrow_mut();
        // Seconds of the worker's clock, plus one so that the first second is not taken for cached.
        let second = now.as_millis() / 1_000 + 1;
        if cached.0 != second {
            *cached = (second, httpdate::fmt_http_date(SystemTime::now()));
        }
        f(&cached.1)
    }
}
