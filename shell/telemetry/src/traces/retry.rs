//! What an answer of the collector means, and when to try again (OTLP 1.x, "Failures", "OTLP/HTTP Throttling").

use std::time::{Duration, SystemTime};

/// The first wait after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What is left to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Done,
    /// To forget about these spans: sent again, they would be refused again.
    Refused,
    /// To try again, and not before so long.
    Again(Option<Duration>),
}

/// What a status means, with the value of `Retry-After` if there is one.
pub(super) fn verdict(status: u16, retry_after: Option<&str>, now: SystemTime) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        429 | 502..=504 => Verdict::Again(retry_after.and_then(|text| delay(text, now))),
        _ => Verdict::Refused,
    }
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn delay(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// How long to wait after so many failures, at least 1: half as long again each time, and up to half less by the draw (from 0 to 1),
/// so that nodes do not come back together; as long as the collector asks for, if it does.
pub(super) fn wait(failures: u32, asked: Option<Duration>, draw: f64) -> Duration {
    let grown = FIRST.as_secs_f64() * 1.5_f64.powi(failures.saturating_sub(1).min(60) as i32);
    let longest = Duration::from_secs_f64(grown.min(LONGEST.as_secs_f64()));
    let ours = longest.mul_f64(1.0 - draw.clamp(0.0, 1.0) / 2.0);
    asked.map_or(ours, |asked| asked.max(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 7);
        for (status, verdict) in [
            (200, Verdict::Done),
            (202, Verdict::Done),
            (400, Verdict::Refused),
            (413, Verdict::Refused),
            (500, Verdict::Refused),
            (404, Verdict::Refused),
            (301, Verdict::Refused),
        ] {
            assert_eq!(super::verdict(status, Some("5"), now), verdict, "{status}");
        }
        let again = |seconds| Verdict::Again(Some(Duration::from_secs(seconds)));
        for status in [429, 502, 503, 504] {
            assert_eq!(verdict(status, None, now), Verdict::Again(None));
            assert_eq!(verdict(status, Some("3"), now), again(3));
            assert_eq!(
                verdict(status, Some("Sun, 06 Nov 1994 08:49:37 GMT"), now),
                again(7)
            );
            assert_eq!(verdict(status, Some("soon"), now), Verdict::Again(None));
        }
    }

    #[test]
    fn waits_grow_to_a_bound_and_are_as_long_as_the_collector_asks() {
        assert_eq!(wait(1, None, 0.0), FIRST);
        assert_eq!(wait(1, None, 1.0), FIRST / 2);
        assert_eq!(wait(2, None, 0.0), FIRST * 3 / 2);
        assert_eq!(wait(u32::MAX, None, 0.0), LONGEST);
        let asked = Some(Duration::from_secs(40));
        assert_eq!(wait(1, asked, 0.5), Duration::from_secs(40));
        assert!(wait(1, Some(Duration::ZERO), 0.5) > Duration::ZERO);
    }
}
