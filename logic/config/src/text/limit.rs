//! Parts of limits.

use std::time::Duration;

use model::{Excess, LimitKey};
use serde_json::{Value as Json, json};

use crate::limit::PERIODS;
use crate::text::Token;
use crate::tree::clip;
use crate::value::Text;

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerTime {
    /// How many.
    pub count: u32,
    /// In which time.
    pub period: Duration,
}

impl Text for PerTime {
    const EXPECTED: &'static str = "so many in a time, such as \"100/s\"";

    fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(count, period)| {
            let digits = count.bytes().all(|b| b.is_ascii_digit());
            let count = count
                .parse()
                .ok()
                .filter(|n| digits && (1..=1_000_000).contains(n))?;
            let (_, period) = PERIODS.into_iter().find(|(name, _)| *name == period)?;
            Some(Self { count, period })
        });
        parsed.ok_or_else(|| {
            let text = clip(text);
            format!("{text:?} is no rate; write \"100/s\", \"600/m\", \"1000/h\" or \"10000/d\", up to 1000000")
        })
    }

    fn text(&self) -> String {
        let name = PERIODS.iter().find(|(_, period)| *period == self.period);
        format!("{}/{}", self.count, name.map_or("s", |(name, _)| name))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+/[smhd]$" })
    }
}

impl Text for LimitKey {
    const EXPECTED: &'static str = "\"source_ip\", \"path\", \"route\" or \"header:NAME\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "source_ip" => Ok(Self::Source),
            "path" => Ok(Self::Path),
            "route" => Ok(Self::Route),
            _ => match text.strip_prefix("header:").map(Token::parse) {
                Some(Ok(Token(name))) => Ok(Self::Header(name)),
                _ => Err(format!(
                    "{:?} is nothing to count by; write {}",
                    clip(text),
                    Self::EXPECTED
                )),
            },
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Source => "source_ip".into(),
            Self::Path => "path".into(),
            Self::Route => "route".into(),
            Self::Header(name) => format!("header:{name}"),
        }
    }
}

impl Text for Excess {
    const EXPECTED: &'static str = "\"reject\" or \"delay\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "reject" => Ok(Self::Reject),
            "delay" => Ok(Self::Delay),
            _ => Err(format!(
                "{:?} is unknown; write {}",
                clip(text),
                Self::EXPECTED
            )),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Reject => "reject".into(),
            Self::Delay => "delay".into(),
        }
    }

    fn schema() -> Json {
        json!({ "enum": ["reject", "delay"] })
    }
}
