//! Links in documents that point to files point to files that are there.

use std::collections::BTreeSet;

use super::Fault;
use crate::project::File;

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    let mut there = BTreeSet::new();
    for file in files {
        // Its directories too: a link may point to one.
        let slashes = file.path.match_indices('/').map(|(n, _)| &file.path[..n]);
        there.extend(slashes);
        there.insert(&file.path);
    }
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in file.text().map(links).unwrap_or_default() {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !resolve(&file.path, path).is_some_and(|path| there.contains(&*path)) {
                let what = format!("links to {target}, which is not there");
                faults.push(Fault::new(&file.path, line, what));
            }
        }
    }
    faults
}

/// What the links `[text](target)` and `[text]: target` point to, with their lines; not those in code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            found.extend(
                target
                    .split_whitespace()
                    .next()
                    .map(|target| (n + 1, target)),
            );
        }
        // Every other part between backticks is code.
        for prose in line.split('`').step_by(2) {
            for (_, rest) in prose
                .match_indices("](")
                .map(|(at, _)| prose.split_at(at + 2))
            {
                let target = rest.split(')').next().unwrap_or_default();
                found.extend(
                    target
                        .split_whitespace()
                        .next()
                        .map(|target| (n + 1, target)),
                );
            }
        }
    }
    found
}

/// A link in the file `from`, as a path below the top; `None` if it leads out of it.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = match link.starts_with('/') {
        true => Vec::new(),
        false => from.split('/').collect(),
    };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_file_that_is_not_there_is_found() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            bytes: text.into(),
        };
        let text = "[a](b.md) [c](../README.md#top)\n[d](https://example.com/x) [e](#here)\n\
                    [f](gone.md) [g](sub)\n```\n[h](gone.md)\n```\n`[i](gone.md)`\n[j]: gone.md\n[k](../../x)";
        let files = [
            file("docs/a.md", text),
            file("docs/b.md", ""),
            file("docs/sub/c.md", ""),
            file("README.md", ""),
        ];
        let lines: Vec<usize> = check(&files).iter().map(|f| f.line).collect();
        assert_eq!(lines, [3, 8, 9]);
    }
}
