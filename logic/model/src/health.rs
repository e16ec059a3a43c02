use std::fmt;

use serde::{Deserialize, Serialize};

/// The one verdict on an instance that every layer reads.
///
/// Ordered from best to worst, so that the verdict of several checks is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every check says it is well.
    Passing,
    /// Not known to be bad, but something is off: a lease held over by the mass-loss guard, say.
    /// Receives traffic.
    Warning,
    /// No check has answered yet. Receives no traffic while there are passing instances.
    Unknown,
    /// Known to be bad. Receives no traffic.
    Critical,
}

impl Health {
    /// All verdicts, best first.
    pub const ALL: [Self; 4] = [Self::Passing, Self::Warning, Self::Unknown, Self::Critical];

    /// The lower-case word used in the API, in metrics and on disk.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
