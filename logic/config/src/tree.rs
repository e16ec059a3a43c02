//! The sources as one tree, every node of which knows where it was written.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::expand::Expander;
use crate::reader::Log;

/// The deepest nesting. The deepest key there is (`service.NAME.check.headers.NAME`) needs 5; what goes
/// deeper is a mistake or an attack on the stack.
pub(crate) const MAX_DEPTH: usize = 16;

/// A byte of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) source: usize,
    pub(crate) offset: usize,
}

/// A value and where it was written.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) raw: Raw,
}

/// A value as written, after expansion of the environment.
#[derive(Debug)]
pub(crate) enum Raw {
    Text {
        text: String,
        /// Whether some of it came from the environment, where everything is text: it may then stand
        /// for a number or a truth value too.
        expanded: bool,
    },
    Integer(Option<i64>),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// Kinds of values that no key has, by their name.
    Other(&'static str),
}

pub(crate) type Table = BTreeMap<String, Entry>;

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: At,
    pub(crate) node: Node,
}

impl Node {
    /// What was written, for messages.
    pub(crate) fn found(&self) -> String {
        match &self.raw {
            Raw::Text { text, .. } => format!("the text {:?}", clip(text)),
            Raw::Integer(Some(n)) => format!("the number {n}"),
            Raw::Integer(None) => "a number beyond 64 bits".into(),
            Raw::Boolean(b) => b.to_string(),
            Raw::Array(_) => "a list".into(),
            Raw::Table(_) => "a table".into(),
            Raw::Other(kind) => format!("a {kind}"),
        }
    }
}

/// The first characters of a text that may be megabytes long.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Turns one parsed source into a table.
pub(crate) fn convert(
    source: usize,
    table: DeTable<'_>,
    expander: &mut Expander<'_>,
    log: &mut Log<'_>,
) -> Table {
    let mut conversion = Conversion {
        source,
        expander,
        log,
        path: Vec::new(),
    };
    conversion.table(table)
}

struct Conversion<'a, 'env, 'src> {
    source: usize,
    expander: &'a mut Expander<'env>,
    log: &'a mut Log<'src>,
    path: Vec<String>,
}

impl Conversion<'_, '_, '_> {
    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries = Table::new();
        for (key, value) in table {
            let at = self.at(key.span().start);
            let name = key.into_inner().into_owned();
            self.path.push(name.clone());
            let node = self.node(value);
            self.path.pop();
            entries.insert(name, Entry { key: at, node });
        }
        entries
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let at = self.at(value.span().start);
        let raw = match value.into_inner() {
            DeValue::String(text) => self.text(at, &text),
            DeValue::Integer(n) => Raw::Integer(i64::from_str_radix(n.as_str(), n.radix()).ok()),
            DeValue::Boolean(b) => Raw::Boolean(b),
            DeValue::Float(_) => Raw::Other("number with a fraction"),
            DeValue::Datetime(_) => Raw::Other("date"),
            _ if self.path.len() >= MAX_DEPTH => {
                let what = format!("is nested more than {MAX_DEPTH} levels deep");
                self.log.error(at, self.path.join("."), what, "");
                Raw::Other("value nested too deep")
            }
            DeValue::Array(array) => {
                self.path.push("[]".into());
                let nodes = array.into_iter().map(|value| self.node(value)).collect();
                self.path.pop();
                Raw::Array(nodes)
            }
            DeValue::Table(table) => Raw::Table(self.table(table)),
        };
        Node { at, raw }
    }

    fn text(&mut self, at: At, text: &str) -> Raw {
        let expanded = text.contains("${");
        let text = self.expander.expand(text).unwrap_or_else(|fault| {
            let key = self.path.join(".");
            self.log.error(at, key, fault.what, fault.hint);
            text.into()
        });
        Raw::Text { text, expanded }
    }

    fn at(&self, offset: usize) -> At {
        At {
            source: self.source,
            offset,
        }
    }
}

/// Adds the entries of a later source. Tables are joined and `[[lists of tables]]` appended; a value that
/// both set is a fault.
pub(crate) fn merge(into: &mut Table, from: Table, path: &str, log: &mut Log<'_>) {
    for (name, entry) in from {
        let Some(old) = into.get_mut(&name) else {
            into.insert(name, entry);
            continue;
        };
        let path = join(path, &name);
        match (&mut old.node.raw, entry.node.raw) {
            (Raw::Table(old), Raw::Table(new)) => merge(old, new, &path, log),
            (Raw::Array(old), Raw::Array(new)) if of_tables(old) && of_tables(&new) => {
                old.extend(new);
            }
            _ => {
                let what = format!("is set already, at {}", log.place(old.key));
                log.error(entry.key, path, what, "keep one of the two");
            }
        }
    }
}

fn of_tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|n| matches!(n.raw, Raw::Table(_)))
}

/// The path of a key in a table; names that are no bare TOML keys are quoted.
pub fn join(path: &str, name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let name = if !name.is_empty() && name.bytes().all(bare) {
        name.to_string()
    } else {
        format!("{name:?}")
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}
