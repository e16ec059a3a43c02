//! `cargo xtask docs`: the reference of the configuration, written from the keys' own declaration.

use std::process::ExitCode;

use config::{Absence, Key, Section, Shape, reference};

use crate::fail;
use crate::project::Project;

/// The file, whose part below the mark is written here.
pub(crate) const FILE: &str = "docs/configuration.md";
const MARK: &str = "<!-- Below this line: written by `cargo xtask docs`. -->\n";

/// Writes the file anew.
pub(crate) fn run(project: &Project) -> ExitCode {
    let path = project.root.join(FILE);
    let written = std::fs::read_to_string(&path)
        .map_err(|e| e.to_string())
        .and_then(|old| {
            let new = renewed(&old).ok_or(format!("has no line {MARK}"))?;
            std::fs::write(&path, new).map_err(|e| e.to_string())
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&format!("{FILE}: {why}")),
    }
}

/// The file as it should be; `None` if the mark is gone.
pub(crate) fn renewed(old: &str) -> Option<String> {
    let (by_hand, _) = old.split_once(MARK)?;
    let mut out = format!("{by_hand}{MARK}");
    section(&mut out, "", false, &reference());
    Some(out)
}

/// A table of the section's keys, and then the tables below it. `many`: it is written `[[path]]`.
fn section(out: &mut String, path: &str, many: bool, section: &Section) {
    let leaf = |key: &&Key| matches!(key.shape, Shape::Leaf(_));
    if section.keys.iter().any(|key| leaf(&key)) {
        let heading = if many {
            format!("[[{path}]]")
        } else {
            format!("[{path}]")
        };
        out.push_str(&format!("\n## `{heading}`\n\n{}\n\n", section.doc));
        out.push_str("| Key | Value | Default | What it does |\n|---|---|---|---|\n");
        for key in section.keys.iter().filter(leaf) {
            out.push_str(&row(key));
        }
    }
    for key in &section.keys {
        let path = match path {
            "" => key.name.to_string(),
            path => format!("{path}.{}", key.name),
        };
        match &key.shape {
            Shape::Leaf(_) => {}
            Shape::Table(below) => self::section(out, &path, false, below),
            Shape::Named(below) => self::section(out, &format!("{path}.NAME"), false, below),
            Shape::Many(below) => self::section(out, &path, true, below),
        }
    }
}

fn row(key: &Key) -> String {
    let default = match &key.fallback {
        Absence::Fault => "required".into(),
        Absence::Default(toml) => format!("`{toml}`"),
        Absence::Meaning(meaning) => format!("none: {meaning}"),
        Absence::Table => String::new(),
    };
    let (value, text) = match &key.bounds {
        // The bounds of the type say nothing then.
        Some(_) if key.expected.starts_with("a whole number") => ("a whole number", bounded(key)),
        Some(_) => (&*key.expected, bounded(key)),
        None => (&*key.expected, key.doc.clone()),
    };
    let when = if key.restart {
        " A change takes effect at the next start."
    } else {
        ""
    };
    let cells = [
        format!("`{}`", key.name),
        value.into(),
        default,
        format!("{text}{when}"),
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn bounded(key: &Key) -> String {
    let bare = |toml: &str| toml.trim_matches('"').to_string();
    let bounds = key.bounds.as_ref();
    let (least, greatest) = bounds.map(|(a, b)| (bare(a), bare(b))).unwrap_or_default();
    format!("{} From `{least}` to `{greatest}`.", key.doc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_its_heading_and_every_key_its_row() {
        let text = renewed(&format!("By hand.\n{MARK}stale")).unwrap();
        assert!(text.starts_with("By hand.\n"));
        for part in [
            "\n## `[node]`\n",
            "\n## `[[listener.NAME.route]]`\n",
            "\n## `[listener.NAME.route.redirect]`\n",
            "\n| `retries` | a whole number | `2` | ",
            "\n| `bind` | an address to listen on, such as \"127.0.0.1:8080\" | required | ",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("stale"));
        assert_eq!(renewed(&text), Some(text.clone()));
        assert_eq!(renewed("no mark"), None);
    }
}
