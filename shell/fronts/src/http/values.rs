//! Readers of single values. Their errors continue a sentence that begins with the value's name.

use std::fmt::Display;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use model::{Instance, Period, Weight};

use super::json::Node;

/// Text.
pub(crate) fn text<'n>(node: &'n Node<'_>) -> Result<&'n str, String> {
    match node {
        Node::Text(text) => Ok(text),
        other => Err(format!("must be a text, and is {}", other.found())),
    }
}

/// Text that stands for something else.
pub(crate) fn parsed<T>(node: &Node<'_>) -> Result<T, String>
where
    T: FromStr<Err: Display>,
{
    text(node)?.parse().map_err(|e: T::Err| e.to_string())
}

/// Text of 1 to `limit` bytes without control characters.
pub(crate) fn line(node: &Node<'_>, limit: usize) -> Result<Box<str>, String> {
    let text = text(node)?;
    if text.is_empty() || text.len() > limit {
        let length = text.len();
        return Err(format!("is {length} bytes long; 1 to {limit} are possible"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("has {c:?} in it; no control characters")),
        None => Ok(text.into()),
    }
}

/// The name that a subscriber goes by.
pub(crate) fn subscriber(text: &str) -> Result<Box<str>, String> {
    match text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        true => Err("must have 1 to 255 bytes, without control characters".into()),
        false => Ok(text.into()),
    }
}

/// `true` or `false`.
pub(crate) fn flag(node: &Node<'_>) -> Result<bool, String> {
    match node {
        Node::Bool(value) => Ok(*value),
        other => Err(format!("must be true or false, and is {}", other.found())),
    }
}

/// A whole number within `range`.
pub(crate) fn whole(node: &Node<'_>, range: RangeInclusive<u16>) -> Result<u16, String> {
    let number = match node {
        Node::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        _ => None,
    };
    number.filter(|n| range.contains(n)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        let found = node.found();
        format!("must be a whole number from {least} to {most}, and is {found}")
    })
}

/// A port.
pub(crate) fn port(node: &Node<'_>) -> Result<NonZeroU16, String> {
    let number = whole(node, 1..=u16::MAX)?;
    NonZeroU16::new(number).ok_or_else(|| "is 0".into())
}

/// A weight.
pub(crate) fn weight(node: &Node<'_>) -> Result<Weight, String> {
    whole(node, 0..=u16::MAX).map(Weight)
}

/// A tier.
pub(crate) fn tier(node: &Node<'_>) -> Result<u8, String> {
    // What is within those bounds is within a byte.
    whole(node, 0..=u16::from(Instance::LAST_TIER)).map(|tier| tier as u8)
}

/// A length of time with its unit, within `range`.
pub(crate) fn period(node: &Node<'_>, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let Period(period) = parsed(node)?;
    if range.contains(&period) {
        return Ok(period);
    }
    let (given, least, most) = (Period(period), Period(*range.start()), Period(*range.end()));
    Err(format!("is {given}; {least} to {most} are possible"))
}

/// A method that may be used in a request we send: CONNECT and TRACE have a meaning of their own to whatever
/// is in between (RFC 9110 §9.3.6, §9.3.8).
pub(crate) fn method(node: &Node<'_>) -> Result<axum::http::Method, String> {
    let text = text(node)?;
    match text.parse::<axum::http::Method>() {
        Ok(method) if text.len() <= 32 && !["CONNECT", "TRACE"].contains(&text) => Ok(method),
        _ => Err("must be a method such as GET, and not CONNECT or TRACE".into()),
    }
}

/// A path with or without a query, in the form it has in a request.
pub(crate) fn target(node: &Node<'_>) -> Result<axum::http::uri::PathAndQuery, String> {
    const MOST: usize = 8 << 10;
    let text = text(node)?;
    let plain = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match text.parse() {
        Ok(target) if plain && text.len() <= MOST => Ok(target),
        _ => Err(format!(
            "must be a path that begins with '/', in at most {MOST} printable ASCII characters"
        )),
    }
}
