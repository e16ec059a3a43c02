use crate::{Network, Regex};

/// What a route wants of a request beside its host and path. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Methods, as they are sent; none: every method.
    pub methods: Vec<Box<str>>,
    /// Header fields.
    pub headers: Vec<PartCondition>,
    /// Cookies.
    pub cookies: Vec<PartCondition>,
    /// Query parameters.
    pub query: Vec<PartCondition>,
    /// Networks that the client is in; none: anywhere.
    pub source: Vec<Network>,
}

/// What is wanted of a header field, a cookie or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartCondition {
    /// Its name. Of a field in lower case, of others as they are sent.
    pub name: Box<str>,
    /// Its value.
    pub value: Expected,
}

/// A value that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any, as long as there is one.
    Present,
    /// None at all.
    Absent,
    /// This one.
    Exact(Box<str>),
    /// One that matches as a whole.
    Regex(Regex),
}

impl Conditions {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
