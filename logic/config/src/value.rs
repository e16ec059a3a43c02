//! What may stand at a key: reading, describing and writing values of every kind.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use model::Secret;
use serde_json::{Value as Json, json};

use crate::reader::Reader;
use crate::reference::Shape;
use crate::shown::{Shown, ShownKey, inline, mask, quote, quote_key};
use crate::tree::{Node, Raw};

/// A kind of value.
pub(crate) trait Value: Sized {
    /// What it looks like.
    fn shape() -> Shape;
    /// What a message calls it: "a list", "true or false".
    fn expected() -> String;
    /// Reads it. `None` after a fault, which the reader has then.
    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self>;
    /// Writes it; `None` where there is nothing to write.
    fn show(&self) -> Option<Shown>;
}

/// A kind of value that is written as text.
pub(crate) trait Text: Sized {
    /// What a message calls it.
    const EXPECTED: &'static str;
    /// Reads it; the error is a whole sentence that names the text.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it.
    fn text(&self) -> String;
    /// Its JSON Schema.
    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// A name that the user chooses for a table, or for an entry of a map.
pub(crate) trait Name: Ord + Sized {
    fn parse_name(text: &str) -> Result<Self, String>;
    fn name(&self) -> String;
}

/// A value made from the keys of a table that it does not itself mirror.
pub(crate) trait Resolved: Sized {
    type Keys: Value;
    /// Makes it from the keys as written. `None` after a fault.
    fn resolve(keys: Self::Keys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self>;
    /// The keys that resolve to it.
    fn keys(&self) -> Self::Keys;
}

impl<T: Text> Value for T {
    fn shape() -> Shape {
        Shape::Leaf(T::schema())
    }

    fn expected() -> String {
        T::EXPECTED.into()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let Raw::Text { text, .. } = &node.raw else {
            cx.mismatch(node, T::EXPECTED);
            return None;
        };
        match T::parse(text) {
            Ok(value) => Some(value),
            Err(what) => {
                cx.error(node.at, what, "");
                None
            }
        }
    }

    fn show(&self) -> Option<Shown> {
        Some(Shown::Leaf(quote(&self.text())))
    }
}

impl Value for Secret {
    fn shape() -> Shape {
        Shape::Leaf(<Box<str> as Text>::schema())
    }

    fn expected() -> String {
        <Box<str> as Text>::EXPECTED.into()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        Value::read(node, cx).map(Self)
    }

    fn show(&self) -> Option<Shown> {
        Some(mask(quote(&self.0)))
    }
}

/// A value that may be a secret; what is read is none before somebody says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Masked<T> {
    pub(crate) value: T,
    pub(crate) secret: bool,
}

impl<T: Text> Value for Masked<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn expected() -> String {
        T::expected()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let secret = false;
        T::read(node, cx).map(|value| Self { value, secret })
    }

    fn show(&self) -> Option<Shown> {
        match self.secret {
            true => Some(mask(quote(&self.value.text()))),
            false => self.value.show(),
        }
    }
}

impl Value for bool {
    fn shape() -> Shape {
        Shape::Leaf(json!({ "type": "boolean" }))
    }

    fn expected() -> String {
        "true or false".into()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let value = match &node.raw {
            Raw::Boolean(value) => Some(*value),
            Raw::Text { text, expanded } if *expanded => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            cx.mismatch(node, &Self::expected());
        }
        value
    }

    fn show(&self) -> Option<Shown> {
        Some(Shown::Leaf(self.to_string()))
    }
}

macro_rules! whole_numbers {
    ($($type:ty: $least:expr, $greatest:expr;)+) => {$(
        impl Value for $type {
            fn shape() -> Shape {
                Shape::Leaf(json!({ "type": "integer", "minimum": $least, "maximum": $greatest }))
            }

            fn expected() -> String {
                format!("a whole number from {} to {}", $least, $greatest)
            }

            fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
                let value = match &node.raw {
                    Raw::Integer(n) => n.and_then(|n| <$type>::try_from(u64::try_from(n).ok()?).ok()),
                    Raw::Text { text, expanded } if *expanded => text.trim().parse().ok(),
                    _ => None,
                };
                if value.is_none() {
                    cx.mismatch(node, &Self::expected());
                }
                value
            }

            fn show(&self) -> Option<Shown> {
                Some(Shown::Leaf(self.to_string()))
            }
        }
    )+};
}

whole_numbers! {
    u8: u8::MIN, u8::MAX;
    u16: u16::MIN, u16::MAX;
    u32: u32::MIN, u32::MAX;
    // TOML's numbers end there.
    u64: u64::MIN, i64::MAX;
}

impl Value for NonZeroU16 {
    fn shape() -> Shape {
        Shape::Leaf(json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX }))
    }

    fn expected() -> String {
        format!("a whole number from 1 to {}", u16::MAX)
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if let Raw::Integer(Some(0)) = node.raw {
            cx.mismatch(node, &Self::expected());
            return None;
        }
        let value = Self::new(u16::read(node, cx)?);
        if value.is_none() {
            cx.mismatch(node, &Self::expected());
        }
        value
    }

    fn show(&self) -> Option<Shown> {
        Some(Shown::Leaf(self.to_string()))
    }
}

impl<T: Value> Value for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn expected() -> String {
        T::expected()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        T::read(node, cx).map(Some)
    }

    fn show(&self) -> Option<Shown> {
        self.as_ref().and_then(T::show)
    }
}

impl<T: Value> Value for Vec<T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Leaf(item) => Shape::Leaf(json!({ "type": "array", "items": item })),
            Shape::Table(section) => Shape::Many(section),
            other => unreachable!("no key is a list of {other:?}"),
        }
    }

    fn expected() -> String {
        format!("a list, each item of it {}", T::expected())
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let Raw::Array(items) = &node.raw else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        // Not short-circuited: the faults of every item are wanted.
        let items: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(n, item)| cx.item(n + 1, item.at, |cx| T::read(item, cx)))
            .collect();
        items.into_iter().collect()
    }

    fn show(&self) -> Option<Shown> {
        let items = self.iter().filter_map(T::show);
        Some(match T::shape() {
            Shape::Leaf(_) => {
                let items: Vec<String> = items.map(|item| inline(&item)).collect();
                Shown::Leaf(format!("[{}]", items.join(", ")))
            }
            _ => Shown::Many(
                items
                    .filter_map(|item| match item {
                        Shown::Table(keys) => Some(keys),
                        _ => None,
                    })
                    .collect(),
            ),
        })
    }
}

impl<K: Name, V: Value> Value for BTreeMap<K, V> {
    fn shape() -> Shape {
        match V::shape() {
            Shape::Leaf(value) => {
                Shape::Leaf(json!({ "type": "object", "additionalProperties": value }))
            }
            Shape::Table(section) => Shape::Named(section),
            other => unreachable!("no key is a map of {other:?}"),
        }
    }

    fn expected() -> String {
        format!("a table, each value of it {}", V::expected())
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let Raw::Table(table) = &node.raw else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        let mut map = Self::new();
        let mut whole = true;
        let mut seen = BTreeMap::new();
        for (text, entry) in table {
            cx.below(text, entry.key, |cx| {
                let name = K::parse_name(text);
                if let Err(what) = &name {
                    cx.error(entry.key, what.as_str(), "");
                }
                let value = V::read(&entry.node, cx);
                let (Ok(name), Some(value)) = (name, value) else {
                    whole = false;
                    return;
                };
                // Two texts may be one name: "orders" and "default/orders".
                if let Some(other) = seen.insert(name.name(), entry.key) {
                    let what = format!("is the same as the one at {}", cx.log.place(other));
                    cx.error(entry.key, what, "keep one of the two");
                    whole = false;
                }
                map.insert(name, value);
            });
        }
        whole.then_some(map)
    }

    fn show(&self) -> Option<Shown> {
        let entries = self.iter().map(|(name, value)| ShownKey {
            name: name.name(),
            value: value.show(),
            absent: None,
        });
        Some(match V::shape() {
            Shape::Leaf(_) => {
                let (mut texts, mut masked) = (Vec::new(), Vec::new());
                for entry in entries {
                    let (name, value) = (quote_key(&entry.name), entry.value?);
                    masked.push(format!("{name} = {}", inline(&value)));
                    texts.push(match value {
                        Shown::Secret { text, .. } => format!("{name} = {text}"),
                        other => format!("{name} = {}", inline(&other)),
                    });
                }
                let [text, masked] = [texts, masked].map(|all| format!("{{{}}}", all.join(", ")));
                match text == masked {
                    true => Shown::Leaf(text),
                    false => Shown::Secret { text, masked },
                }
            }
            _ => Shown::Table(entries.collect()),
        })
    }
}
