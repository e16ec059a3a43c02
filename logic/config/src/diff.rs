//! What one configuration changes about another.

use std::collections::BTreeMap;
use std::fmt;

use crate::Config;
use crate::reference::{Key, Section, Shape, reference};
use crate::shown::{Shown, ShownKey, inline};
use crate::tree::join;
use crate::value::Value;

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path, such as `service.shop.policy`. Routes and instances go by name and id:
    /// `listener.web.route["web-1"].host`.
    pub key: String,
    /// What happened to it.
    pub edit: Edit,
    /// Whether it takes effect at the next start only.
    pub restart: bool,
}

/// What happened to a key. Values are TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It has a value now.
    Added(String),
    /// It had this value.
    Removed(String),
    /// It had the first value and has the second.
    Replaced(String, String),
}

/// Every effective value that differs, in the order of their declaration; tables, routes and instances that
/// only one of the two has, as a whole. Empty if nothing changes.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    if let (Some(old), Some(new)) = (old.show(), new.show()) {
        values("", Some(&old), Some(&new), &mut |key, edit| {
            changes.push((key, edit));
        });
    }
    let reference = reference();
    let change = |(key, edit): (String, Edit)| Change {
        restart: needs_restart(&reference, &key),
        key,
        edit,
    };
    changes.into_iter().map(change).collect()
}

type Found<'a> = dyn FnMut(String, Edit) + 'a;

fn values(path: &str, old: Option<&Shown>, new: Option<&Shown>, found: &mut Found<'_>) {
    match (old, new) {
        (Some(Shown::Table(old)), Some(Shown::Table(new))) => {
            let by_name = |keys: &[ShownKey]| -> Vec<(String, Shown)> {
                let given = keys.iter().filter_map(|key| {
                    let value = key.value.clone()?;
                    Some((join(path, &key.name), value))
                });
                given.collect()
            };
            entries(&by_name(old), &by_name(new), found);
        }
        (Some(Shown::Many(old)), Some(Shown::Many(new))) => {
            let by_name = |tables: &[Vec<ShownKey>]| -> Vec<(String, Shown)> {
                let tables = tables.iter().enumerate().map(|(n, keys)| {
                    let item = item_name(n, keys);
                    (format!("{path}[{item}]"), Shown::Table(keys.clone()))
                });
                tables.collect()
            };
            entries(&by_name(old), &by_name(new), found);
        }
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => found(path.into(), Edit::Replaced(inline(old), inline(new))),
        (None, Some(new)) => found(path.into(), Edit::Added(inline(new))),
        (Some(old), None) => found(path.into(), Edit::Removed(inline(old))),
        (None, None) => {}
    }
}

fn entries(old: &[(String, Shown)], new: &[(String, Shown)], found: &mut Found<'_>) {
    let mut rest: BTreeMap<String, Shown> = new.iter().cloned().collect();
    for (path, old) in old {
        values(path, Some(old), rest.remove(path).as_ref(), found);
    }
    for (path, new) in new {
        if rest.contains_key(path) {
            values(path, None, Some(new), found);
        }
    }
}

/// Items of lists go by their `name` or `id`, so that one taken away does not change those after it.
fn item_name(n: usize, keys: &[ShownKey]) -> String {
    let own_name = keys
        .iter()
        .find(|key| key.name == "name" || key.name == "id");
    match own_name.and_then(|key| key.value.as_ref()) {
        Some(name) => inline(name),
        None => (n + 1).to_string(),
    }
}

/// Only keys of plain tables can need a restart: what has a name of the user's choice comes and goes live. A table that
/// comes or goes as a whole needs it if anything in it does.
fn needs_restart(section: &Section, path: &str) -> bool {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    match section.key(name) {
        Some(key) => match &key.shape {
            Shape::Table(section) if rest.is_empty() => {
                let within = |key: &Key| needs_restart(section, key.name);
                key.restart || section.keys.iter().any(within)
            }
            Shape::Table(section) => key.restart || needs_restart(section, rest),
            _ => key.restart,
        },
        None => false,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.edit {
            Edit::Added(new) => write!(f, "+ {} = {new}", self.key)?,
            Edit::Removed(old) => write!(f, "- {} = {old}", self.key)?,
            Edit::Replaced(old, new) => write!(f, "~ {} = {old} -> {new}", self.key)?,
        }
        match self.restart {
            true => f.write_str(" (at the next start)"),
            false => Ok(()),
        }
    }
}
