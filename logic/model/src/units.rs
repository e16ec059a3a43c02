//! Values that carry their unit: `"5s"`, `"64KiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no value with a unit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not {what}")]
pub struct UnitError {
    text: String,
    what: &'static str,
}

/// A length of time, written as a number and a unit: `250ms`, `5s`, `1.5m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

/// An amount of bytes, written as a whole number and a unit: `512B`, `64KiB`, `1MiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError {
            text: text.chars().take(80).collect(),
            what: "a length of time; write a number and ms, s, m, h or d, such as \"500ms\" or \"5s\"",
        };
        let (number, unit) = split(text);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(fault()),
        };
        let number: f64 = number.parse().map_err(|_| fault())?;
        // A thousand years: longer than any timer, short enough that adding it never overflows.
        if !(0.0..=3.2e10).contains(&(number * seconds)) {
            return Err(fault());
        }
        // Through whole microseconds, so that "0.1s" is exactly 100 ms.
        let micros = (number * seconds * 1e6).round() as u64;
        Ok(Self(Duration::from_micros(micros)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        for (unit, size) in [
            ("d", 86_400_000_000),
            ("h", 3_600_000_000),
            ("m", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1_000),
        ] {
            if micros >= size && micros.is_multiple_of(size) {
                return write!(f, "{}{unit}", micros / size);
            }
        }
        write!(f, "{}ms", micros as f64 / 1e3)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError {
            text: text.chars().take(80).collect(),
            what: "an amount of bytes; write a whole number and B, KiB, MiB or GiB, such as \"64KiB\"",
        };
        let (number, unit) = split(text);
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(fault()),
        };
        let number: u64 = number.parse().map_err(|_| fault())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(fault)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

fn split(text: &str) -> (&str, &str) {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let (number, unit) = text.split_at(text.len() - unit.len());
    (number, unit.trim_start())
}

macro_rules! through_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

through_text!(Period);
through_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["250ms", "5s", "90s", "2h", "7d", "0ms", "1500ms"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
        assert_eq!("1.5m".parse::<Period>().unwrap().0.as_secs(), 90);
        assert_eq!("0.1s".parse::<Period>().unwrap().0.as_millis(), 100);
        assert_eq!("64KiB".parse::<ByteSize>().unwrap(), ByteSize(65_536));
        assert_eq!(ByteSize(65_536).to_string(), "64KiB");
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in [
            "5",
            "",
            "s",
            "-5s",
            "5 parsecs",
            "1e9s",
            "NaNs",
            "9999999999999d",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        for text in ["64", "64K", "1.5MiB", "99999999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
