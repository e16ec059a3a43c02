//! What holds for a key: its default or that it must be given, its bounds, when a change takes effect.

use std::ops::RangeInclusive;

use crate::shown::text;
use crate::value::Value;

/// What holds for a key of type `T`.
pub(crate) struct Rule<T> {
    pub(crate) fallback: Fallback<T>,
    pub(crate) bounds: Option<Bounds<T>>,
    pub(crate) restart: bool,
}

/// What a key that is not there means.
pub(crate) enum Fallback<T> {
    /// A fault.
    Required,
    /// This value.
    Value(T),
    /// Nothing; the text says what happens then.
    Absent(T, &'static str),
    /// An empty table, whose keys have fallbacks of their own.
    Empty,
}

/// The least and the greatest value.
pub(crate) struct Bounds<T> {
    pub(crate) holds: Box<dyn Fn(&T) -> bool>,
    pub(crate) least: String,
    pub(crate) greatest: String,
}

/// A key that must be given.
pub(crate) fn required<T>() -> Rule<T> {
    rule(Fallback::Required)
}

/// A key with a default.
pub(crate) fn default<T>(value: impl Into<T>) -> Rule<T> {
    rule(Fallback::Value(value.into()))
}

/// A key whose absence has a meaning of its own.
pub(crate) fn absent<T>(meaning: &'static str) -> Rule<Option<T>> {
    rule(Fallback::Absent(None, meaning))
}

/// A table that need not be there.
pub(crate) fn section<T>() -> Rule<T> {
    rule(Fallback::Empty)
}

fn rule<T>(fallback: Fallback<T>) -> Rule<T> {
    Rule {
        fallback,
        bounds: None,
        restart: false,
    }
}

impl<T> Rule<T> {
    /// A change of it takes effect at the next start only.
    pub(crate) fn restart(self) -> Self {
        Self {
            restart: true,
            ..self
        }
    }
}

impl<T: Value + PartialOrd + Clone + 'static> Rule<T> {
    /// Values outside `range` are faults.
    pub(crate) fn within(self, range: RangeInclusive<T>) -> Self {
        let bounds = Bounds::new(&range.clone(), move |value| range.contains(value));
        Self {
            bounds: Some(bounds),
            ..self
        }
    }
}

impl<T: Value + PartialOrd + Clone + 'static> Rule<Option<T>> {
    /// Values outside `range` are faults.
    pub(crate) fn if_given_within(self, range: RangeInclusive<T>) -> Self {
        let bounds = Bounds::new(&range.clone(), move |value: &Option<T>| {
            value.as_ref().is_none_or(|v| range.contains(v))
        });
        Self {
            bounds: Some(bounds),
            ..self
        }
    }
}

impl<T> Bounds<T> {
    fn new<U: Value>(range: &RangeInclusive<U>, holds: impl Fn(&T) -> bool + 'static) -> Self {
        Self {
            holds: Box::new(holds),
            least: text(range.start()),
            greatest: text(range.end()),
        }
    }
}

/// What the absence of the key means, if that has words of its own.
pub(crate) fn meaning<T>(rule: &Rule<T>) -> Option<&'static str> {
    match rule.fallback {
        Fallback::Absent(_, meaning) => Some(meaning),
        _ => None,
    }
}
