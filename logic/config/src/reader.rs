//! Reading typed values out of the tree, with every fault kept.

use std::collections::BTreeMap;

use crate::Source;
use crate::fault::{Fault, Place, Severity};
use crate::rule::{Fallback, Rule};
use crate::tree::{At, Node, Raw, Table, clip, join};
use crate::value::Value;

/// The most faults reported. More than a thousand mean that the file is no configuration at all.
const MAX_FAULTS: usize = 1_000;

/// Sections and keys that the design knows and this version does not have.
const LATER: &[&str] = &[
    "consul", "dns", "etcd", "eureka", "files", "filter", "grpc", "hedge", "icmp", "nacos", "tls",
    "vip",
];

/// Faults so far, and what turns offsets into lines and columns.
pub(crate) struct Log<'src> {
    sources: &'src [Source],
    /// The offset of every line's start, for each source.
    lines: Vec<Vec<usize>>,
    faults: Vec<(At, Fault)>,
    /// Errors found, those beyond the limit too.
    errors: usize,
}

impl<'src> Log<'src> {
    pub(crate) fn new(sources: &'src [Source]) -> Self {
        let starts = |s: &Source| {
            let breaks = s.text.match_indices('\n').map(|(n, _)| n + 1);
            std::iter::once(0).chain(breaks).collect()
        };
        Self {
            sources,
            lines: sources.iter().map(starts).collect(),
            faults: Vec::new(),
            errors: 0,
        }
    }

    pub(crate) fn error(
        &mut self,
        at: At,
        key: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Severity::Error, at, key, what, hint);
    }

    pub(crate) fn push(
        &mut self,
        severity: Severity,
        at: At,
        key: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        if self.faults.len() < MAX_FAULTS {
            let place = self.place(at);
            let fault = Fault {
                severity,
                place,
                key: clip(&key.into()),
                what: what.into(),
                hint: hint.into(),
            };
            self.faults.push((at, fault));
        }
    }

    pub(crate) fn place(&self, at: At) -> Place {
        let (Some(source), Some(starts)) = (self.sources.get(at.source), self.lines.get(at.source))
        else {
            // Without any source, what is missing is missing nowhere in particular.
            return Place {
                file: "configuration".into(),
                line: 1,
                column: 1,
            };
        };
        let line = self.line(at);
        let start = starts[line - 1];
        let before = &source.text.as_bytes()[start..at.offset.min(source.text.len())];
        // Every byte but the continuations (10xxxxxx) begins a character.
        let column = 1 + before.iter().filter(|b| **b & 0xC0 != 0x80).count();
        Place {
            file: source.name.clone(),
            line,
            column,
        }
    }

    /// The line of a place, from 1.
    pub(crate) fn line(&self, at: At) -> usize {
        let starts = self.lines.get(at.source);
        starts.map_or(1, |starts| {
            starts.partition_point(|start| *start <= at.offset)
        })
    }

    /// Where faults have been found so far, by source and line.
    pub(crate) fn faulty_lines(&self) -> Vec<(usize, usize)> {
        let line = |(at, fault): &(At, Fault)| (at.source, fault.place.line);
        self.faults.iter().map(line).collect()
    }

    /// Forgets the faults on `lines` found after the first `kept` ones.
    pub(crate) fn forget_on(&mut self, lines: &[(usize, usize)], kept: usize) {
        let mut n = 0;
        self.faults.retain(|(at, fault)| {
            n += 1;
            n <= kept || !lines.contains(&(at.source, fault.place.line))
        });
    }

    /// How many faults are kept.
    pub(crate) fn count(&self) -> usize {
        self.faults.len()
    }

    /// How many errors there were.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// All faults in the order of sources and lines.
    pub(crate) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|(at, _)| *at);
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }
}

/// Walks down the tree and knows where it is.
pub(crate) struct Reader<'log, 'src> {
    pub(crate) log: &'log mut Log<'src>,
    /// Whether the tree has all that was written. After a syntax error it may not, and then nothing can be
    /// said about what is missing.
    complete: bool,
    path: String,
    /// The last name of the path, as it was written.
    name: String,
    /// Where each key was written, for checks that compare keys far apart.
    places: BTreeMap<String, At>,
}

impl<'log, 'src> Reader<'log, 'src> {
    pub(crate) fn new(log: &'log mut Log<'src>, complete: bool) -> Self {
        Self {
            log,
            complete,
            path: String::new(),
            name: String::new(),
            places: BTreeMap::new(),
        }
    }

    /// The path of what is being read.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The name of the table being read.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads what is below a key of the present table.
    pub(crate) fn below<T>(&mut self, name: &str, at: At, read: impl FnOnce(&mut Self) -> T) -> T {
        let path = join(&self.path, name);
        let outer = std::mem::replace(&mut self.name, name.into());
        let value = self.at_path(path, at, read);
        self.name = outer;
        value
    }

    /// Reads an item of the present list; the first has number 1.
    pub(crate) fn item<T>(
        &mut self,
        number: usize,
        at: At,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let path = format!("{}[{number}]", self.path);
        self.at_path(path, at, read)
    }

    fn at_path<T>(&mut self, path: String, at: At, read: impl FnOnce(&mut Self) -> T) -> T {
        self.places.insert(path.clone(), at);
        let outer = std::mem::replace(&mut self.path, path);
        let value = read(self);
        self.path = outer;
        value
    }

    /// A fault of what is being read.
    pub(crate) fn error(&mut self, at: At, what: impl Into<String>, hint: impl Into<String>) {
        self.log.error(at, self.path.clone(), what, hint);
    }

    /// A fault of the wrong kind of value.
    pub(crate) fn mismatch(&mut self, node: &Node, expected: &str) {
        let what = format!("should be {expected}, and is {}", node.found());
        self.error(node.at, what, "");
    }

    /// A fault or a warning of a key named by its whole path. Nothing is said of keys that are not there.
    pub(crate) fn at_key(
        &mut self,
        severity: Severity,
        path: &str,
        what: impl Into<String>,
        hint: &str,
    ) {
        if let Some(at) = self.place_of(path) {
            self.log.push(severity, at, path, what, hint);
        }
    }

    /// Where a key was written.
    pub(crate) fn place_of(&self, path: &str) -> Option<At> {
        self.places.get(path).copied()
    }

    /// Where all keys were written that have been read.
    pub(crate) fn into_places(self) -> BTreeMap<String, At> {
        self.places
    }

    /// The table to read keys from, after a look for keys that it cannot have.
    pub(crate) fn table<'n>(&mut self, node: &'n Node, names: &[&str]) -> Option<&'n Table> {
        let Raw::Table(table) = &node.raw else {
            self.mismatch(node, "a table");
            return None;
        };
        for (name, entry) in table {
            if !names.contains(&name.as_str()) {
                self.unknown(name, entry.key, names);
            }
        }
        Some(table)
    }

    fn unknown(&mut self, name: &str, at: At, names: &[&str]) {
        let path = join(&self.path, name);
        if LATER.contains(&name) {
            let hint = "leave it out";
            self.log.error(at, path, "is not in this version", hint);
            return;
        }
        // A key of hundreds of characters is near to nothing, and comparing it takes time.
        let near = names
            .iter()
            .filter(|_| name.len() <= 64 && self.log.count() < MAX_FAULTS)
            .map(|known| (strsim::osa_distance(name, known), known))
            .min()
            .filter(|(distance, known)| *distance <= (known.len() / 3).max(1));
        let hint = match near {
            Some((_, known)) => format!("did you mean {known}?"),
            None => format!("the keys here are {}", names.join(", ")),
        };
        self.log.error(at, path, "is no key", hint);
    }

    /// The value of a key, or what the rule says of a key that is not there. `None` after a fault.
    pub(crate) fn key<T: Value>(
        &mut self,
        node: &Node,
        table: &Table,
        name: &str,
        rule: Rule<T>,
    ) -> Option<T> {
        let Some(entry) = table.get(name) else {
            return match rule.fallback {
                Fallback::Value(value) => Some(value),
                Fallback::Absent(value, _) => Some(value),
                Fallback::Empty => {
                    let raw = Raw::Table(Table::new());
                    let empty = Node { at: node.at, raw };
                    let value = self.below(name, node.at, |cx| T::read(&empty, cx));
                    self.places.remove(&join(&self.path, name));
                    value
                }
                Fallback::Required => {
                    if self.complete {
                        let hint = format!("add it: {name} = …, {}", T::expected());
                        let path = join(&self.path, name);
                        self.log.error(node.at, path, "is missing", hint);
                    }
                    None
                }
            };
        };
        self.below(name, entry.key, |cx| {
            let value = T::read(&entry.node, cx)?;
            if let Some(bounds) = &rule.bounds
                && !(bounds.holds)(&value)
            {
                let (least, greatest) = (&bounds.least, &bounds.greatest);
                let found = entry.node.found();
                let what = format!("should be from {least} to {greatest}, and is {found}");
                cx.error(entry.node.at, what, "");
                return None;
            }
            Some(value)
        })
    }
}
