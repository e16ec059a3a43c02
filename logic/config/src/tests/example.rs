//! `pointsman.example.toml`, the file that people begin with.

use super::whole::{default, values_by_key};
use super::{config, parse_one};
use crate::reference::Absence;

const EXAMPLE: &str = include_str!("../../../../pointsman.example.toml");

/// The example with the keys that it only mentions (`# zone = "a"`) set.
fn with_everything() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_key(text: &str) -> bool {
    let (name, _) = text.split_once(" = ").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[test]
fn the_example_parses_without_a_fault_or_warning() {
    for text in [EXAMPLE, &with_everything()] {
        let parsed = parse_one(text).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    }
}

#[test]
fn the_example_has_every_key_and_every_default() {
    for (key, (absence, values)) in values_by_key(&with_everything()) {
        assert!(!values.is_empty(), "{key} is not in pointsman.example.toml");
        if let Absence::Default(toml) = &absence {
            assert!(
                values.contains(&default(toml)),
                "{key} is nowhere {toml}, its default, but {values:?}"
            );
        }
    }
}

#[test]
fn the_example_changes_no_default_of_the_node() {
    let (example, empty) = (config(EXAMPLE), config(""));
    assert_eq!(example.node, empty.node);
    assert_eq!(example.api, empty.api);
    assert_eq!(example.log, empty.log);
    assert_eq!(example.registry, empty.registry);
    assert_eq!(example.guard, empty.guard);
}

/// Every example of the documentation, with what holds for all of them.
fn documented(text: &str) -> Vec<String> {
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn examples_of_the_documentation_parse() {
    for (name, text, most) in [
        (
            "filters.md",
            include_str!("../../../../docs/filters.md"),
            10,
        ),
        (
            "observability.md",
            include_str!("../../../../docs/observability.md"),
            2,
        ),
        ("tls.md", include_str!("../../../../docs/tls.md"), 5),
        ("routes.md", include_str!("../../../../docs/routes.md"), 1),
        ("cluster.md", include_str!("../../../../docs/cluster.md"), 2),
        (
            "resilience.md",
            include_str!("../../../../docs/resilience.md"),
            2,
        ),
        (
            "balancing.md",
            include_str!("../../../../docs/balancing.md"),
            1,
        ),
    ] {
        let examples = documented(text);
        assert!(examples.len() >= most, "{name}");
        for example in examples {
            let parsed =
                parse_one(&example).unwrap_or_else(|faults| panic!("{name}: {faults}\n{example}"));
            assert!(parsed.warnings.is_empty(), "{name}: {:?}", parsed.warnings);
        }
    }
}
