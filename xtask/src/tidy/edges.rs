//! Who may depend on whom. The layout of the project rests on it: what is pure stays pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::Fault;
use crate::project::{Project, items};

/// What a crate in `logic/` may not have below it, at any depth: I/O, clocks, randomness, runtimes.
const IMPURE: &[&str] = &[
    "ahash",
    "async-io",
    "async-std",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "getrandom",
    "hyper",
    "jiff",
    "libc",
    "mio",
    "nix",
    "notify",
    "parking_lot",
    "polling",
    "rand",
    "rand_core",
    "rayon",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "ureq",
];

/// Every crate in `logic/` may use `model`. What else they may use of each other stands here, as (who, whom).
const LOGIC_EDGES: &[(&str, &str)] = &[
    // A front that is a state machine of its own: its codec, and the state that it shows.
    ("zookeeper", "registry"),
    ("zookeeper", "wire"),
];

/// What every crate in `shell/` may use of the others.
const SHARED_IN_SHELL: &str = "telemetry";

pub(super) fn check(project: &Project) -> Vec<Fault> {
    let mut faults = Vec::new();
    let graph = Graph::of(&project.metadata);
    let members: BTreeMap<&str, String> = project
        .members()
        .map(|package| (text(&package["id"]), project.directory(package)))
        .collect();
    for (id, directory) in &members {
        let manifest = format!("{directory}/Cargo.toml");
        let siblings = graph.below(id).filter_map(|id| members.get(id));
        for sibling in siblings {
            if let Some(why) = forbidden(directory, sibling) {
                let what = format!("depends on {sibling}: {why}");
                faults.push(Fault::new(&manifest, 0, what));
            }
        }
        if directory.starts_with("logic/") {
            for path in graph.paths_to(id, IMPURE) {
                let what = format!("logic/ is pure, and this is not: {}", path.join(" -> "));
                faults.push(Fault::new(&manifest, 0, what));
            }
        }
        let read = std::fs::read_to_string(project.root.join(&manifest));
        if !read.is_ok_and(|manifest| has_workspace_lints(&manifest)) {
            let what = "does not have [lints] workspace = true";
            faults.push(Fault::new(&manifest, 0, what));
        }
    }
    faults
}

/// Why the crate in one directory may not use the one in the other, if it may not.
fn forbidden(who: &str, whom: &str) -> Option<&'static str> {
    match (who.split_once('/'), whom.split_once('/')) {
        (Some(("logic", who)), Some(("logic", whom))) => {
            let listed = whom == "model" || LOGIC_EDGES.contains(&(who, whom));
            (!listed)
                .then_some("crates in logic/ use model, and what xtask/src/tidy/edges.rs lists")
        }
        (Some(("logic", _)), _) => Some("logic/ is below everything else"),
        (Some(("shell", _)), Some(("shell", SHARED_IN_SHELL))) => None,
        (Some(("shell", _)), Some(("shell", _))) => {
            Some("crates in shell/ meet in the binary, not in each other")
        }
        (Some(("shell", _)), None) => Some("shell/ is below the binary"),
        _ => None,
    }
}

fn has_workspace_lints(manifest: &str) -> bool {
    let manifest: Option<toml::Table> = toml::from_str(manifest).ok();
    manifest.is_some_and(|m| {
        let lints = m.get("lints").and_then(|lints| lints.get("workspace"));
        lints.and_then(toml::Value::as_bool) == Some(true)
    })
}

/// What is linked into what. Tests' dependencies and code that runs while compiling are not.
struct Graph<'a> {
    names: BTreeMap<&'a str, &'a str>,
    edges: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn of(metadata: &'a Json) -> Self {
        let packages = || items(&metadata["packages"]);
        let macros: BTreeSet<&str> = packages()
            .filter(|package| items(&package["targets"]).any(|t| t["kind"][0] == "proc-macro"))
            .map(|package| text(&package["id"]))
            .collect();
        let linked = |dependency: &&Json| {
            let normal = items(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            normal && !macros.contains(text(&dependency["pkg"]))
        };
        let edges = items(&metadata["resolve"]["nodes"]).map(|node| {
            let below = items(&node["deps"]).filter(linked);
            (text(&node["id"]), below.map(|d| text(&d["pkg"])).collect())
        });
        Self {
            names: packages()
                .map(|p| (text(&p["id"]), text(&p["name"])))
                .collect(),
            edges: edges.collect(),
        }
    }

    fn below(&self, id: &str) -> impl Iterator<Item = &'a str> {
        self.edges.get(id).into_iter().flatten().copied()
    }

    /// A shortest path, by names, to each package of those names that `from` has below it.
    fn paths_to(&self, from: &'a str, names: &[&str]) -> Vec<Vec<&'a str>> {
        let mut seen = BTreeSet::from([from]);
        let mut front = vec![vec![from]];
        let mut found = Vec::new();
        while !front.is_empty() {
            let mut next = Vec::new();
            for path in front {
                for id in self.below(path[path.len() - 1]) {
                    if !seen.insert(id) {
                        continue;
                    }
                    let path = [&*path, &[id]].concat();
                    if names.contains(&self.names[id]) {
                        found.push(path.iter().map(|id| self.names[id]).collect());
                    } else {
                        next.push(path);
                    }
                }
            }
            front = next;
        }
        found
    }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_edges_of_the_layout_are_allowed() {
        for (who, whom, fine) in [
            ("logic/http", "logic/model", true),
            ("logic/http", "logic/config", false),
            ("logic/model", "shell/proxy", false),
            ("logic/model", "pointsman", false),
            ("shell/proxy", "logic/http", true),
            ("shell/proxy", "shell/telemetry", true),
            ("shell/proxy", "shell/health", false),
            ("shell/proxy", "pointsman", false),
            ("pointsman", "shell/proxy", true),
            ("sim", "logic/registry", true),
        ] {
            assert_eq!(forbidden(who, whom).is_none(), fine, "{who} -> {whom}");
        }
    }

    #[test]
    fn what_is_impure_is_found_at_any_depth_but_not_in_tests_and_macros() {
        let package =
            |id: &str, kind: &str| json!({ "id": id, "name": id, "targets": [{ "kind": [kind] }] });
        let edge =
            |id: &str, kind: Option<&str>| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("config", "lib"), package("toml", "lib"), package("derive", "proc-macro"),
                package("libc", "lib"), package("rand", "lib"), package("mio", "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "config", "deps": [edge("toml", None), edge("derive", None), edge("rand", Some("dev"))] },
                { "id": "toml", "deps": [edge("libc", None)] },
                { "id": "derive", "deps": [edge("mio", None)] },
            ] },
        });
        let graph = Graph::of(&metadata);
        assert_eq!(
            graph.paths_to("config", IMPURE),
            [["config", "toml", "libc"]]
        );
    }

    #[test]
    fn lints_come_from_the_workspace() {
        assert!(has_workspace_lints("[lints]\nworkspace = true"));
        assert!(!has_workspace_lints(
            "[lints.rust]\nunsafe_code = \"forbid\""
        ));
        assert!(!has_workspace_lints(""));
    }
}
