use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ServiceKey;

/// What an instance of a replicated database is to the others of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows the primary, and can be read from.
    Replica,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Replica];

    /// The word used in configuration, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no role; write primary or replica"))
    }
}

/// What of a service is meant: all of it, or its instances of one role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// The service.
    pub service: ServiceKey,
    /// `Primary`: the one instance that takes writes. `Replica`: those that follow it. `None`: all.
    pub role: Option<Role>,
}

impl View {
    /// All of a service.
    pub const fn whole(service: ServiceKey) -> Self {
        Self {
            service,
            role: None,
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            None => write!(f, "{}", self.service),
            Some(role) => write!(f, "{} ({role})", self.service),
        }
    }
}
