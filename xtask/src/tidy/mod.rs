//! `cargo xtask tidy`: the rules of the project that no compiler checks, all faults at once.

mod edges;
mod leftovers;
mod lengths;
mod lexer;
mod licences;
mod links;

use std::process::ExitCode;

use crate::docs;
use crate::fail;
use crate::project::Project;

/// A broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    file: String,
    /// From 1; 0 for the whole file.
    line: usize,
    what: String,
}

impl Fault {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            what: what.into(),
        }
    }
}

/// Checks every rule.
pub(crate) fn run(project: &Project) -> ExitCode {
    match report(project) {
        0 => ExitCode::SUCCESS,
        1 => fail("1 fault"),
        n => fail(&format!("{n} faults")),
    }
}

/// Prints every fault, and returns how many there are.
pub(crate) fn report(project: &Project) -> usize {
    let mut faults = Vec::new();
    faults.extend(edges::check(project));
    faults.extend(licences::check(project));
    match project.files() {
        Ok(files) => {
            faults.extend(leftovers::check(&files));
            faults.extend(lengths::check(&files));
            faults.extend(links::check(&files));
            let doc = files.iter().find(|file| file.path == docs::FILE);
            let doc = doc.and_then(|file| file.text());
            if doc.is_none_or(|text| docs::renewed(text).as_deref() != Some(text)) {
                faults.push(Fault::new(docs::FILE, 0, "is stale; run cargo xtask docs"));
            }
        }
        Err(why) => faults.push(Fault::new(".", 0, why)),
    }
    faults.sort();
    for Fault { file, line, what } in &faults {
        match line {
            0 => println!("{file}: {what}"),
            line => println!("{file}:{line}: {what}"),
        }
    }
    faults.len()
}
