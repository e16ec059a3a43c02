//! Values as TOML again.

use crate::Config;
use crate::value::Value;

/// A value ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// TOML text of one line.
    Leaf(String),
    /// The same, for a value that is not to be shown where it is not asked for; and what is shown in its place.
    Secret { text: String, masked: String },
    /// A table, in the order of its keys' declaration.
    Table(Vec<ShownKey>),
    /// A list of tables.
    Many(Vec<Vec<ShownKey>>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShownKey {
    pub(crate) name: String,
    /// `None` where it is not given and has no value by default.
    pub(crate) value: Option<Shown>,
    /// What its absence means.
    pub(crate) absent: Option<&'static str>,
}

/// Quotes a text for TOML, and its dollar signs for the expansion of the environment.
pub(crate) fn quote(text: &str) -> String {
    quote_key(&text.replace('$', "$$"))
}

/// Quotes a key for TOML. The environment is not expanded in keys.
pub(crate) fn quote_key(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A secret on one line.
pub(crate) fn mask(text: String) -> Shown {
    let masked = "\"…\"".into();
    Shown::Secret { text, masked }
}

/// A value on one line; empty where it is absent.
pub(crate) fn text<T: Value>(value: &T) -> String {
    value
        .show()
        .map_or_else(String::new, |shown| inline(&shown))
}

/// One line of TOML.
pub(crate) fn inline(shown: &Shown) -> String {
    match shown {
        Shown::Leaf(text) => text.clone(),
        // Changes are printed in line, and end in logs.
        Shown::Secret { masked, .. } => masked.clone(),
        Shown::Table(keys) => inline_table(keys),
        Shown::Many(tables) => {
            let tables: Vec<String> = tables.iter().map(|t| inline_table(t)).collect();
            format!("[{}]", tables.join(", "))
        }
    }
}

fn inline_table(keys: &[ShownKey]) -> String {
    let given = |key: &ShownKey| {
        let value = key.value.as_ref()?;
        Some(format!("{} = {}", key_name(&key.name), inline(value)))
    };
    let keys: Vec<String> = keys.iter().filter_map(given).collect();
    match keys.is_empty() {
        true => "{}".into(),
        false => format!("{{ {} }}", keys.join(", ")),
    }
}

fn key_name(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.into(),
        false => quote_key(name),
    }
}

impl Config {
    /// The effective values, every default included, as TOML that parses back to the same configuration.
    /// Keys without a value stand as comments that say what their absence means.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        if let Some(Shown::Table(keys)) = self.show() {
            write_table(&mut out, "", &keys);
        }
        out.trim_start().into()
    }
}

fn write_table(out: &mut String, path: &str, keys: &[ShownKey]) {
    for key in keys {
        match (&key.value, key.absent) {
            (Some(Shown::Leaf(value) | Shown::Secret { text: value, .. }), _) => {
                out.push_str(&format!("{} = {value}\n", key_name(&key.name)));
            }
            // Said, too: a route without any may be one that takes none over from its listener.
            (Some(Shown::Many(tables)), _) if tables.is_empty() => {
                out.push_str(&format!("{} = []\n", key_name(&key.name)));
            }
            (None, Some(meaning)) => out.push_str(&format!("# {}: {meaning}\n", key.name)),
            _ => {}
        }
    }
    for key in keys {
        let path = match path {
            "" => key_name(&key.name),
            path => format!("{path}.{}", key_name(&key.name)),
        };
        match &key.value {
            Some(Shown::Table(keys)) => {
                // A table of nothing but tables needs no header of its own, unless it has nothing at all.
                let only_tables = |k: &ShownKey| matches!(k.value, Some(Shown::Table(_)));
                if keys.is_empty() || !keys.iter().all(only_tables) {
                    out.push_str(&format!("\n[{path}]\n"));
                }
                write_table(out, &path, keys);
            }
            Some(Shown::Many(tables)) => {
                for keys in tables {
                    out.push_str(&format!("\n[[{path}]]\n"));
                    write_table(out, &path, keys);
                }
            }
            _ => {}
        }
    }
}
