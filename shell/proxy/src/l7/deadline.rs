//! How long a request may take: what its client says, held to our own bound, and told to instances.

use std::ops::Range;
use std::time::Duration;

use http::h1;
use model::{Deadlines, Heeded, Moment};

use super::begin::Forward;
use super::session::Session;

/// Longer than anything takes: whoever says more says nothing.
const MOST_DIGITS: usize = 12;

/// When nobody waits for a request any more.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    /// [`Moment::NEVER`] if nobody has said so.
    pub(super) at: Moment,
    /// Whether it is our own bound, and not the client's.
    pub(super) ours: bool,
}

impl Deadline {
    /// The earlier of what the client says, if it is heeded, and our own bound.
    pub(super) fn of(
        request: &h1::Request<'_>,
        deadlines: &Deadlines,
        own: Option<Duration>,
        trusted: bool,
        now: Moment,
    ) -> Self {
        let own = own.or(deadlines.timeout);
        let own = own.map_or(Moment::NEVER, |timeout| now + timeout);
        let heeded = match deadlines.accept {
            Heeded::All => true,
            Heeded::Trusted => trusted,
            Heeded::Nobody => false,
        };
        let name = deadlines.header.as_deref().filter(|_| heeded);
        let said = name.and_then(|name| request.fields.find(name));
        let said = said.and_then(millis);
        let said = said.map_or(Moment::NEVER, |left| now + left);
        Self {
            at: own.min(said),
            ours: own <= said,
        }
    }
}

/// A number of milliseconds; `None` if it is none.
fn millis(value: &[u8]) -> Option<Duration> {
    let digits = (1..=MOST_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok().map(Duration::from_millis)
}

/// Where the last field of a head that was just written has its value of one digit.
pub(super) fn told(head: &[u8]) -> Range<usize> {
    let end = head.len() - b"\r\n\r\n".len();
    end - 1..end
}

impl Session {
    /// Tells the instance that is asked now how much time is left.
    pub(super) fn tell_time(&self, forward: &mut Forward) {
        let Some(told) = &mut forward.told else {
            return;
        };
        let left = forward.deadline.at.since(self.worker.now()).as_millis();
        let digits = left.to_string();
        forward.message.splice(told.clone(), digits.bytes());
        told.end = told.start + digits.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(value: &str, accept: Heeded, trusted: bool) -> (u64, bool) {
        let deadlines = Deadlines {
            timeout: Some(Duration::from_millis(500)),
            header: Some("x-left".into()),
            accept,
        };
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Left: {value}\r\n\r\n");
        let limits = h1::Limits {
            head: 1_000,
            fields: 10,
        };
        let request = h1::parse_request(text.as_bytes(), &mut 0, &limits);
        let request = request.unwrap().unwrap();
        let now = Moment::from_millis(1_000);
        let deadline = Deadline::of(&request, &deadlines, None, trusted, now);
        (deadline.at.since(now).as_millis() as u64, deadline.ours)
    }

    #[test]
    fn a_client_may_have_less_time_and_never_more() {
        assert_eq!(deadline("200", Heeded::All, false), (200, false));
        assert_eq!(deadline("0", Heeded::All, false), (0, false));
        assert_eq!(deadline("501", Heeded::All, false), (500, true));
        assert_eq!(deadline("999999999999", Heeded::All, false), (500, true));
    }

    #[test]
    fn garbage_and_those_who_are_not_heeded_change_nothing() {
        for garbage in ["", "-1", "+1", "1e3", "0x1", "1 2", "10ms", "9999999999999"] {
            assert_eq!(
                deadline(garbage, Heeded::All, true),
                (500, true),
                "{garbage}"
            );
        }
        assert_eq!(deadline("200", Heeded::Trusted, true), (200, false));
        assert_eq!(deadline("200", Heeded::Trusted, false), (500, true));
        assert_eq!(deadline("200", Heeded::Nobody, true), (500, true));
    }
}
