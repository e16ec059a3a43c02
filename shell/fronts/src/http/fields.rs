//! Reads the fields of a JSON object, collecting every fault instead of stopping at the first.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::fault::{Faults, segment, unknown};
use super::json::Node;

/// The fields of one object. Every field that is asked for is thereby known; what is left over at
/// [`Fields::finish`] is not.
#[derive(Debug)]
pub(crate) struct Fields<'n, 'a> {
    path: String,
    entries: &'n [(Cow<'a, str>, Node<'a>)],
    known: Vec<&'static str>,
}

impl<'n, 'a> Fields<'n, 'a> {
    /// The fields of `node`, which is at `path`. `None`, and a fault, if it is no object.
    pub(crate) fn of(node: &'n Node<'a>, path: String, faults: &mut Faults) -> Option<Self> {
        let Node::Object(entries) = node else {
            faults.pointer(&path, format!("must be an object, and is {}", node.found()));
            return None;
        };
        duplicates(entries, &path, faults);
        Some(Self {
            path,
            entries,
            known: Vec::with_capacity(16),
        })
    }

    /// The value of a field; `null` counts as left out.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'n Node<'a>> {
        self.written(name)
            .filter(|node| !matches!(node, Node::Null))
    }

    /// The value of a field, `null` included.
    pub(crate) fn written(&mut self, name: &'static str) -> Option<&'n Node<'a>> {
        self.known.push(name);
        let mut entries = self.entries.iter();
        entries.find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// A field that must be there, read by `read`, which says what is wrong with it.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
        read: impl FnOnce(&'n Node<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match self.value(name) {
            Some(node) => self.read(name, node, faults, read),
            None => {
                self.fault(name, "is missing", faults);
                None
            }
        }
    }

    /// A field that may be left out, read by `read`, which says what is wrong with it.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
        read: impl FnOnce(&'n Node<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.value(name)?;
        self.read(name, node, faults, read)
    }

    /// An object within this one, that may be left out.
    pub(crate) fn nested(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> Option<Fields<'n, 'a>> {
        let node = self.value(name)?;
        Fields::of(node, format!("{}/{name}", self.path), faults)
    }

    /// Every field of an object whose names are free, with its value.
    pub(crate) fn entries(&self) -> &'n [(Cow<'a, str>, Node<'a>)] {
        self.entries
    }

    /// Something is wrong with a field.
    pub(crate) fn fault(&self, name: &str, detail: impl Into<String>, faults: &mut Faults) {
        faults.pointer(&format!("{}/{}", self.path, segment(name)), detail);
    }

    /// Something is wrong with the object as a whole.
    pub(crate) fn whole(&self, detail: impl Into<String>, faults: &mut Faults) {
        faults.pointer(&self.path, detail);
    }

    /// All fields have been asked for: whatever else is written is a fault.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for (key, _) in self.entries {
            if !self.known.contains(&&**key) {
                self.fault(key, unknown(key, &self.known), faults);
            }
        }
    }

    fn read<T>(
        &self,
        name: &str,
        node: &'n Node<'a>,
        faults: &mut Faults,
        read: impl FnOnce(&'n Node<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match read(node) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.fault(name, detail, faults);
                None
            }
        }
    }
}

fn duplicates(entries: &[(Cow<'_, str>, Node<'_>)], path: &str, faults: &mut Faults) {
    // A set for an object of twenty thousand fields; most have five, where comparing all is cheaper.
    let mut seen = BTreeSet::new();
    for (place, (key, _)) in entries.iter().enumerate() {
        let twice = match entries.len() {
            ..=16 => entries[..place].iter().any(|(earlier, _)| earlier == key),
            _ => !seen.insert(key),
        };
        if twice {
            let path = format!("{path}/{}", segment(key));
            faults.pointer(&path, "is written twice; one of the two is a mistake");
        }
    }
}
