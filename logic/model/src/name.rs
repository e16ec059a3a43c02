//! Names, parsed once at the edge and trusted from there on.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name, in bytes. DNS labels stop at 63 and full names at 253; Dubbo's interface names with
/// group and version are the longest seen in the field, at about 200.
const MAX_NAME: usize = 255;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty; a name has 1 to {MAX_NAME} characters")]
    Empty,
    /// More than 255 bytes.
    #[error("is {0} bytes long; a name has 1 to {MAX_NAME} characters")]
    TooLong(usize),
    /// A character that is not printable ASCII, or one that URLs and shells give a meaning of their own.
    #[error(
        "has {0:?} in it; a name is printable ASCII without spaces, quotes, '/', '\\', '?', '#' or '%'"
    )]
    Character(char),
    /// `.` and `..` are rewritten by URL libraries before they reach us.
    #[error("is {0:?}, which URLs give a meaning of its own")]
    Dots(&'static str),
}

fn parse(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.len()));
    }
    let odd = |c: &char| !c.is_ascii_graphic() || "/\\?#%\"'`".contains(*c);
    if let Some(c) = text.chars().find(odd) {
        return Err(NameError::Character(c));
    }
    match text {
        "." => Err(NameError::Dots(".")),
        ".." => Err(NameError::Dots("..")),
        _ => Ok(text.into()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// The name of a service within its namespace.
    ServiceName
}
name! {
    /// The name of an instance within its service.
    InstanceId
}
name! {
    /// The name of a certificate that a node was given.
    CertificateName
}
name! {
    /// A separate world of services: two namespaces share no names.
    Namespace
}

impl Default for Namespace {
    /// `default`, the namespace of every request that names none.
    fn default() -> Self {
        Self("default".into())
    }
}

/// A service's full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The world it lives in.
    pub namespace: Namespace,
    /// Its name there.
    pub service: ServiceName,
}

impl ServiceKey {
    /// The service of that name in the default namespace.
    pub fn in_default(service: ServiceName) -> Self {
        Self {
            namespace: Namespace::default(),
            service,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// `service` in the default namespace, `namespace/service` elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.as_str() != "default" {
            write!(f, "{}/", self.namespace)?;
        }
        self.service.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_dialect_are_accepted() {
        for name in [
            "shop-api",
            "com.acme.Orders:1.0.0@blue",
            "DEFAULT_GROUP@@orders",
            "10.0.0.1:8080",
            "SHOP_API",
        ] {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        assert_eq!("".parse::<ServiceName>(), Err(NameError::Empty));
        assert_eq!(
            "x".repeat(256).parse::<InstanceId>(),
            Err(NameError::TooLong(256))
        );
        assert_eq!("..".parse::<ServiceName>(), Err(NameError::Dots("..")));
        for (text, c) in [("a b", ' '), ("a/b", '/'), ("é", 'é'), ("a\n", '\n')] {
            assert_eq!(text.parse::<Namespace>(), Err(NameError::Character(c)));
        }
    }
}
