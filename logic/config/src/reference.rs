//! What keys there are: the description from which the parser reads, and from which the JSON Schema and
//! the reference in `docs/configuration.md` are made.

use serde_json::{Map, Value as Json, json};

use crate::Config;
use crate::rule::{Fallback, Rule};
use crate::shown::text;
use crate::value::Value;

/// A table's keys.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it is about.
    pub doc: String,
    /// Its keys, in the order in which one would write them.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: String,
    /// What may stand there, in words.
    pub expected: String,
    /// What may stand there.
    pub shape: Shape,
    /// What holds where it is not given.
    pub fallback: Absence,
    /// The least and the greatest value, as they are written.
    pub bounds: Option<(String, String)>,
    /// Whether a change of it takes effect at the next start only.
    pub restart: bool,
}

/// What a key that is not given means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It must be given.
    Fault,
    /// This value, as TOML.
    Default(String),
    /// What these words say.
    Meaning(&'static str),
    /// Its table's own defaults.
    Table,
}

/// What may stand at a key.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One value, or a list or map of such values, by its JSON Schema.
    Leaf(Json),
    /// A table.
    Table(Section),
    /// Tables by names that the user chooses: `[service.NAME]`.
    Named(Section),
    /// A list of tables: `[[listener.NAME.route]]`.
    Many(Section),
}

/// Every key there is.
pub fn reference() -> Section {
    match Config::shape() {
        Shape::Table(section) => section,
        other => unreachable!("the configuration is a table, not {other:?}"),
    }
}

/// The JSON Schema (draft 2020-12) of a whole configuration, for editors and for other programs.
pub fn schema() -> Json {
    let mut schema = table(&reference());
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("pointsman configuration");
    schema["$defs"] = json!({
        "environment": {
            "description": "Text with ${NAME} or ${NAME:-default}, replaced from the environment.",
            "type": "string",
            "pattern": "\\$\\{",
        }
    });
    schema
}

impl Section {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    pub(crate) fn new<T: Value>(name: &'static str, doc: &[&str], rule: Rule<T>) -> Self {
        Self {
            name,
            doc: prose(doc),
            expected: T::expected(),
            shape: T::shape(),
            fallback: match rule.fallback {
                Fallback::Required => Absence::Fault,
                Fallback::Value(value) => Absence::Default(text(&value)),
                Fallback::Absent(_, meaning) => Absence::Meaning(meaning),
                Fallback::Empty => Absence::Table,
            },
            bounds: rule.bounds.map(|b| (b.least, b.greatest)),
            restart: rule.restart,
        }
    }

    fn schema(&self) -> Json {
        let mut schema = match &self.shape {
            Shape::Leaf(leaf) => self.leaf(leaf),
            Shape::Table(section) => table(section),
            Shape::Named(section) => {
                json!({ "type": "object", "additionalProperties": table(section) })
            }
            Shape::Many(section) => json!({ "type": "array", "items": table(section) }),
        };
        schema["description"] = json!(self.described());
        if let Absence::Default(toml) = &self.fallback
            && let Some(default) = to_json(toml)
        {
            schema["default"] = default;
        }
        schema
    }

    /// A leaf, or a text that the environment turns into one.
    fn leaf(&self, leaf: &Json) -> Json {
        let mut leaf = leaf.clone();
        if let Some((least, greatest)) = &self.bounds
            && leaf["type"] == "integer"
        {
            leaf["minimum"] = to_json(least).unwrap_or_default();
            leaf["maximum"] = to_json(greatest).unwrap_or_default();
        }
        let text = json!({ "type": "string" });
        if leaf == text || leaf["type"] == "array" || leaf["type"] == "object" {
            return leaf;
        }
        json!({ "anyOf": [leaf, { "$ref": "#/$defs/environment" }] })
    }

    /// What it does, with its bounds and the meaning of its absence.
    pub fn described(&self) -> String {
        let mut text = self.doc.clone();
        if let Some((least, greatest)) = &self.bounds {
            text += &format!(" From {least} to {greatest}.");
        }
        if let Absence::Meaning(meaning) = self.fallback {
            text += &format!(" Left out: {meaning}.");
        }
        if self.restart {
            text += " A change takes effect at the next start.";
        }
        text
    }
}

fn table(section: &Section) -> Json {
    let properties: Map<String, Json> = section
        .keys
        .iter()
        .map(|key| (key.name.to_string(), key.schema()))
        .collect();
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|key| key.fallback == Absence::Fault)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A default as JSON. Defaults are written by us, so that they are always TOML.
fn to_json(toml: &str) -> Option<Json> {
    let value: toml::Table = toml::from_str(&format!("v = {toml}")).ok()?;
    serde_json::to_value(value.get("v")?).ok()
}

/// Doc comments as one paragraph.
pub(crate) fn prose(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}
