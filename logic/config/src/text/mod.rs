//! Values that are written as text: units, paths, names; and in files of their own words, addresses and parts
//! of HTTP.

mod http;
mod limit;
mod network;
mod words;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use model::{
    ByteSize, CertificateName, InstanceId, Namespace, Period, RetryOn, ServiceKey, ServiceName,
    StatusRange,
};
use serde_json::{Value as Json, json};

use crate::tree::clip;
use crate::value::{Name, Text};

pub use limit::PerTime;
pub use words::{
    AccessFormat, ClientAuth, Durability, InstanceProtocol, LogTarget, Misdirected, Protocol,
    Scheme, TlsVersion, TraceContext,
};

pub(crate) use http::{
    CookiePart, FieldTemplate, FieldValue, MediaType, Method, PartRegex, RewriteTo, Token, UrlPath,
    UrlTarget, WholeRegex,
};
pub(crate) use network::Address;

/// A share of a whole, in whole per cent, written `"30%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// Implements [`Text`] by way of a type's own text form, for errors that name the text themselves.
macro_rules! by_its_own_text {
    ($($type:ty: $expected:literal, $schema:expr;)+) => {$(
        impl Text for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                from_str(text)
            }

            fn text(&self) -> String {
                self.to_string()
            }

            fn schema() -> Json {
                $schema
            }
        }
    )+};
}

by_its_own_text! {
    ByteSize: "an amount of bytes, such as \"64KiB\"", json!({ "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" });
    RetryOn: "what to try again on, such as \"connect\" or \"503\"", json!({ "type": "string" });
    StatusRange: "status codes, such as \"200\" or \"200-399\"", json!({ "type": "string" });
}

fn from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

impl Text for Duration {
    const EXPECTED: &'static str = "a length of time, such as \"5s\"";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text).map(|Period(duration)| duration)
    }

    fn text(&self) -> String {
        Period(*self).to_string()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$" })
    }
}

impl Text for Percent {
    const EXPECTED: &'static str = "a share, such as \"30%\"";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix('%').map(str::trim_end);
        // Told by the digits, because parse() would take "+30" too.
        let number = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|d| d.parse().ok()) {
            Some(n @ 0..=100) => Ok(Self(n)),
            _ => Err(format!(
                "{:?} is no share; write \"0%\" to \"100%\"",
                clip(text)
            )),
        }
    }

    fn text(&self) -> String {
        format!("{}%", self.0)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,3} ?%$" })
    }
}

impl Text for Box<str> {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{:?} is no path", clip(text)));
        }
        Ok(text.into())
    }

    fn text(&self) -> String {
        // Lossless: it was made from a text.
        self.to_string_lossy().into_owned()
    }
}

impl Text for ServiceKey {
    const EXPECTED: &'static str = "the name of a service, such as \"orders\" or \"shop/orders\"";

    fn parse(text: &str) -> Result<Self, String> {
        let (namespace, service) = match text.split_once('/') {
            Some((namespace, service)) => (named::<Namespace>(namespace)?, service),
            None => (Namespace::default(), text),
        };
        let service = named::<ServiceName>(service)?;
        Ok(Self { namespace, service })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for InstanceId {
    const EXPECTED: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, String> {
        named(text)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for CertificateName {
    const EXPECTED: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, String> {
        named(text)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

fn named<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    let with_text = |e: T::Err| format!("the name {:?} {e}", clip(text));
    text.parse().map_err(with_text)
}

impl Name for ServiceKey {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn name(&self) -> String {
        self.text()
    }
}

impl Name for Box<str> {
    fn parse_name(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn name(&self) -> String {
        self.to_string()
    }
}

/// The name of a listener, which follows the rule of the names of services.
impl Name for Arc<str> {
    fn parse_name(text: &str) -> Result<Self, String> {
        named::<ServiceName>(text).map(|name| name.as_str().into())
    }

    fn name(&self) -> String {
        self.to_string()
    }
}
