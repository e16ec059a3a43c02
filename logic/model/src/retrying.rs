//! What is tried again, and after which time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::StatusRange;

/// What is tried again, and after which time. What may not be repeated is not, whatever stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrying {
    /// After what.
    pub on: Vec<RetryOn>,
    /// The longest that the first attempt waits that waits at all; each further one twice as long.
    pub backoff: Duration,
    /// And none longer than this.
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is waited for.
    pub max_retry_after: Duration,
}

/// What may be followed by another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection, or no room on one.
    Connect,
    /// The instance says that it has not looked at the request.
    Refused,
    /// The connection ended without an answer, or with one that makes no sense.
    Reset,
    /// No answer in time.
    Timeout,
    /// An answer with such a status.
    Status(StatusRange),
    /// An answer of gRPC that consists of such a status.
    Grpc(u8),
}

/// Names of gRPC's statuses, by their numbers.
const GRPC: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// Conditions that are words.
const WORDS: [(&str, RetryOn); 4] = [
    ("connect", RetryOn::Connect),
    ("refused", RetryOn::Refused),
    ("reset", RetryOn::Reset),
    ("timeout", RetryOn::Timeout),
];

impl RetryOn {
    /// What is tried again unless something else is said: whatever says nothing of the request itself.
    pub const USUAL: [Self; 3] = [Self::Connect, Self::Refused, Self::Reset];
}

impl FromStr for RetryOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == text) {
            return Ok(*word);
        }
        if let Some(name) = text.strip_prefix("grpc:") {
            // What is well is not tried again.
            let known = GRPC.iter().skip(1).position(|known| *known == name);
            if let Some(number) = known {
                return Ok(Self::Grpc(number as u8 + 1));
            }
        }
        text.parse().map(Self::Status).map_err(|_| {
            format!(
                "{text:?} is nothing to try again on; write \"connect\", \"refused\", \"reset\", \"timeout\", \
                 status codes such as \"503\" or \"502-504\", or a status of gRPC such as \"grpc:unavailable\""
            )
        })
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(range) => range.fmt(f),
            Self::Grpc(number) => write!(f, "grpc:{}", GRPC[usize::from(*number) % GRPC.len()]),
            word => {
                let named = WORDS.iter().find(|(_, other)| other == word);
                f.write_str(named.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Default for Retrying {
    /// The configuration's defaults, where their reasons stand.
    fn default() -> Self {
        Self {
            on: RetryOn::USUAL.to_vec(),
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            max_retry_after: Duration::from_secs(1),
        }
    }
}

impl Retrying {
    /// Whether this is tried again.
    pub fn has(&self, what: RetryOn) -> bool {
        self.on.contains(&what)
    }

    /// Whether an answer with this status is.
    pub fn has_status(&self, status: u16) -> bool {
        self.on
            .iter()
            .any(|on| matches!(on, RetryOn::Status(range) if range.contains(status)))
    }

    /// Whether any answer is because of gRPC's status.
    pub fn has_grpc(&self) -> bool {
        self.on.iter().any(|on| matches!(on, RetryOn::Grpc(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_written_as_they_are_read() {
        for text in [
            "connect",
            "refused",
            "reset",
            "timeout",
            "503",
            "500-599",
            "grpc:unavailable",
            "grpc:unauthenticated",
        ] {
            let on: RetryOn = text.parse().unwrap();
            assert_eq!(on.to_string(), text);
        }
        assert_eq!("grpc:unavailable".parse(), Ok(RetryOn::Grpc(14)));
        for text in ["", "5xx", "grpc:ok", "grpc:", "600", "always"] {
            assert!(text.parse::<RetryOn>().is_err(), "{text}");
        }
    }
}
