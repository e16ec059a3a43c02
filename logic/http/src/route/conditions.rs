//! What a route wants of a request beside its host and path.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use model::{Conditions, Expected, PartCondition};

use crate::cookie;
use crate::h1::{Fields, Request, Target};

/// The first thing that a route wants and a request does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'r> {
    /// One of its methods.
    Method,
    /// A header field.
    Header(&'r str),
    /// A cookie.
    Cookie(&'r str),
    /// A query parameter.
    Query(&'r str),
    /// A client within its networks.
    Source,
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("it wants another method"),
            Self::Header(name) => write!(f, "the header field {name} is not as it wants it"),
            Self::Cookie(name) => write!(f, "the cookie {name} is not as it wants it"),
            Self::Query(name) => write!(f, "the query parameter {name} is not as it wants it"),
            Self::Source => f.write_str("the client is in none of its networks"),
        }
    }
}

/// Whoever wants more comes first: a method, then more header fields, more cookies, more query parameters, and a smaller
/// network.
pub(super) fn order(a: Option<&Conditions>, b: Option<&Conditions>) -> Ordering {
    let rank = |conditions: Option<&Conditions>| {
        conditions.map_or((false, 0, 0, 0, 0), |wanted| {
            let smallest = wanted.source.iter().map(|n| 1 + u32::from(n.prefix()));
            (
                !wanted.methods.is_empty(),
                wanted.headers.len(),
                wanted.cookies.len(),
                wanted.query.len(),
                // The largest of them says how far it reaches.
                smallest.min().unwrap_or_default(),
            )
        })
    };
    rank(b).cmp(&rank(a))
}

/// What of it a request from `client` does not have.
pub(super) fn unmet<'r>(
    wanted: &'r Conditions,
    request: &Request<'_>,
    client: IpAddr,
) -> Option<Unmet<'r>> {
    let methods = &wanted.methods;
    if !methods.is_empty() && !methods.iter().any(|m| m.as_bytes() == request.method) {
        return Some(Unmet::Method);
    }
    let source = &wanted.source;
    if !source.is_empty() && !source.iter().any(|network| network.contains(client)) {
        return Some(Unmet::Source);
    }
    let header = |wanted: &&PartCondition| !holds(wanted, values(&request.fields, &wanted.name));
    if let Some(unmet) = wanted.headers.iter().find(header) {
        return Some(Unmet::Header(&unmet.name));
    }
    let cookie = |wanted: &&PartCondition| {
        let given = cookie::find(&request.fields, &wanted.name);
        !holds(wanted, given.into_iter())
    };
    if let Some(unmet) = wanted.cookies.iter().find(cookie) {
        return Some(Unmet::Cookie(&unmet.name));
    }
    let query = |wanted: &&PartCondition| {
        let given = parameter(&request.target, &wanted.name);
        !holds(wanted, given.into_iter())
    };
    let unmet = wanted.query.iter().find(query)?;
    Some(Unmet::Query(&unmet.name))
}

/// Every value of the fields of that name, which is in lower case.
fn values<'b>(fields: &Fields<'b>, name: &str) -> impl Iterator<Item = &'b [u8]> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value)
}

/// The first value of a parameter as it was sent, percent codes and all.
fn parameter<'b>(target: &Target<'b>, name: &str) -> Option<&'b [u8]> {
    let mut pairs = target.query()?.split(|&b| b == b'&');
    pairs.find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        [b'=', value @ ..] => Some(value),
        [] => Some(&[][..]),
        _ => None,
    })
}

fn holds<'b>(wanted: &PartCondition, mut values: impl Iterator<Item = &'b [u8]>) -> bool {
    match &wanted.value {
        Expected::Present => values.next().is_some(),
        Expected::Absent => values.next().is_none(),
        Expected::Exact(exact) => values.any(|value| value == exact.as_bytes()),
        Expected::Regex(regex) => values.any(|value| regex.is_match(value)),
    }
}
