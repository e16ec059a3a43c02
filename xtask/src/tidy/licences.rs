//! Every dependency may be used under a licence that asks for nothing but its mention.

use super::Fault;
use crate::project::{Project, items};

/// Kept equal to `deny.toml`'s by a test.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(project: &Project) -> Vec<Fault> {
    let mut faults = Vec::new();
    for package in items(&project.metadata["packages"]) {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        match package["license"].as_str() {
            Some(expression) if allows(expression) => {}
            Some(expression) => {
                let what = format!("{name} is licensed {expression}, which is not on the list");
                faults.push(Fault::new("Cargo.lock", 0, what));
            }
            None => {
                let what = format!("{name} names no licence");
                faults.push(Fault::new("Cargo.lock", 0, what));
            }
        }
    }
    faults
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether an SPDX expression can be met with allowed licences alone.
fn allows(expression: &str) -> bool {
    // Crates from before SPDX write a slash for "or".
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any_of(&mut rest) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut met = all_of(words);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        // Read in any case, to get past it.
        met |= all_of(words);
    }
    met
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut met = one(words);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        met &= one(words);
    }
    met
}

fn one(words: &mut &[&str]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any_of(words);
            let closed = words.first() == Some(&")");
            *words = words.get(1..).unwrap_or_default();
            met && closed
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            ALLOWED.contains(&&*format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            ALLOWED.contains(licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_met_by_one_and_a_sum_by_all() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allows(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MPL-2.0",
            "MIT AND GPL-3.0",
            "GPL-3.0 OR MIT AND MPL-2.0",
            "GPL-2.0 WITH LLVM-exception",
            "(MIT",
            "MIT)",
            "MIT MIT",
        ] {
            assert!(!allows(bad), "{bad}");
        }
    }

    #[test]
    fn cargo_deny_allows_the_same() {
        let deny: toml::Table = toml::from_str(include_str!("../../../deny.toml")).unwrap();
        let allowed = deny["licenses"]["allow"].as_array().unwrap();
        let allowed: Vec<&str> = allowed.iter().filter_map(|l| l.as_str()).collect();
        assert_eq!(allowed, ALLOWED);
    }
}
