//! Changes to an instance as a JSON merge patch (RFC 7396): what is left out stays, `null` removes, which for everything
//! that has a default means the default.

use model::{Instance, Weight};
use registry::Patch;

use super::fault::Faults;
use super::fields::Fields;
use super::json::Node;
use super::registration::{self, Metadata};
use super::values::{flag, weight};

/// A change as it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Change {
    patch: Patch,
    /// New values by name, and names to be removed.
    metadata: Vec<(Box<str>, Option<Box<str>>)>,
}

/// Reads a change. `None`, and faults, if it is no object.
pub(crate) fn read(body: &Node<'_>, faults: &mut Faults) -> Option<Change> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let mut change = Change {
        patch: Patch {
            weight: field(&mut fields, "weight", faults, Weight::default(), weight),
            drain: field(&mut fields, "drain", faults, false, flag),
            enabled: field(&mut fields, "enabled", faults, true, flag),
            tags: field(
                &mut fields,
                "tags",
                faults,
                Box::default(),
                registration::tags,
            ),
            metadata: None,
        },
        metadata: Vec::new(),
    };
    match fields.written("metadata") {
        None => {}
        Some(Node::Null) => change.patch.metadata = Some(Metadata::new()),
        Some(node) => {
            let entries = Fields::of(node, "/metadata".into(), faults);
            for (name, value) in entries.iter().flat_map(Fields::entries) {
                match entry(name, value) {
                    Ok(entry) => change.metadata.push(entry),
                    Err(detail) => faults.pointer(&registration::metadata_path(name), detail),
                }
            }
        }
    }
    fields.finish(faults);
    Some(change)
}

impl Change {
    /// Whether the outcome depends on what is there.
    pub(crate) fn merges(&self) -> bool {
        !self.metadata.is_empty()
    }

    /// The change as the registry takes it.
    ///
    /// # Errors
    ///
    /// When it would make the metadata too large.
    pub(crate) fn onto(mut self, instance: &Instance) -> Result<Patch, Faults> {
        if self.merges() {
            let mut metadata = instance.metadata.as_deref().cloned().unwrap_or_default();
            for (name, value) in self.metadata {
                match value {
                    Some(value) => metadata.insert(name, value),
                    None => metadata.remove(&name),
                };
            }
            if let Err(detail) = registration::fits(&metadata) {
                let mut faults = Faults::default();
                faults.pointer("/metadata", detail);
                return Err(faults);
            }
            self.patch.metadata = Some(metadata);
        }
        Ok(self.patch)
    }
}

fn field<T>(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    faults: &mut Faults,
    default: T,
    read: impl FnOnce(&Node<'_>) -> Result<T, String>,
) -> Option<T> {
    match fields.written(name)? {
        Node::Null => Some(default),
        node => read(node)
            .map_err(|detail| fields.fault(name, detail, faults))
            .ok(),
    }
}

fn entry(name: &str, value: &Node<'_>) -> Result<(Box<str>, Option<Box<str>>), String> {
    match value {
        Node::Null => Ok((name.into(), None)),
        value => registration::pair(name, value).map(|(name, value)| (name, Some(value))),
    }
}
