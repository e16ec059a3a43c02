//! No file and no function too long to be read at once, but for those on a shrinking list.

use std::collections::BTreeMap;

use super::Fault;
use super::lexer::{Token, lex};
use crate::project::File;

/// Lines of a file that are no tests.
const MAX_FILE: usize = 800;
/// Lines of a function, from `fn` to its last brace.
const MAX_FUNCTION: usize = 70;
/// One exception a line: the file, or `file::function`; the lines it may have; the reason.
const ALLOWED: &str = "xtask/tidy-allow.txt";

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    let list = files.iter().find(|file| file.path == ALLOWED);
    let (mut allowed, mut faults) = exceptions(list.and_then(File::text).unwrap_or_default());
    for file in files
        .iter()
        .filter(|file| file.is_rust() && !is_test(&file.path))
    {
        let Some(text) = file.text() else { continue };
        let (lines, functions) = measure(text);
        faults.extend(too_long(
            &mut allowed,
            &file.path,
            &file.path,
            1,
            lines,
            MAX_FILE,
        ));
        for Function { name, line, lines } in functions {
            let name = format!("{}::{name}", file.path);
            faults.extend(too_long(
                &mut allowed,
                &file.path,
                &name,
                line,
                lines,
                MAX_FUNCTION,
            ));
        }
    }
    for (name, exception) in allowed {
        if !exception.needed {
            let what = format!("{name} does not need to be here; remove it");
            faults.push(Fault::new(ALLOWED, exception.line, what));
        }
    }
    faults
}

#[derive(Debug, PartialEq, Eq)]
struct Exception {
    line: usize,
    limit: usize,
    needed: bool,
}

fn exceptions(text: &str) -> (BTreeMap<String, Exception>, Vec<Fault>) {
    let (mut allowed, mut faults) = (BTreeMap::new(), Vec::new());
    for (n, entry) in text.lines().enumerate() {
        let line = n + 1;
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        let mut words = entry.split_whitespace();
        let name = words.next().unwrap_or_default();
        let limit = words.next().and_then(|word| word.parse().ok());
        let (Some(limit), Some(_reason)) = (limit, words.next()) else {
            faults.push(Fault::new(ALLOWED, line, "should be: name, limit, reason"));
            continue;
        };
        let exception = Exception {
            line,
            limit,
            needed: false,
        };
        if allowed.insert(name.to_string(), exception).is_some() {
            faults.push(Fault::new(ALLOWED, line, format!("{name} is here twice")));
        }
    }
    (allowed, faults)
}

fn too_long(
    allowed: &mut BTreeMap<String, Exception>,
    file: &str,
    name: &str,
    line: usize,
    lines: usize,
    limit: usize,
) -> Option<Fault> {
    if lines <= limit {
        return None;
    }
    let limit = match allowed.get_mut(name) {
        Some(exception) => {
            exception.needed = true;
            exception.limit
        }
        None => limit,
    };
    (lines > limit).then(|| {
        let what = format!("{name} has {lines} lines, more than {limit}: split it");
        Fault::new(file, line, what)
    })
}

/// Whether all of a file is tests.
pub(super) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The lines of a file, and its functions, both without tests.
fn measure(source: &str) -> (usize, Vec<Function>) {
    let tokens = lex(source).tokens;
    let mut lines = source.lines().count();
    let mut functions = Vec::new();
    let mut n = 0;
    while n < tokens.len() {
        if spells(&tokens[n..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let end = item_end(&tokens, n + 7);
            lines -= tokens[end].line - tokens[n].line + 1;
            n = end + 1;
            continue;
        }
        // Without a name it is the type of a function.
        let name = tokens
            .get(n + 1)
            .filter(|t| t.text.starts_with(char::is_alphabetic));
        if tokens[n].text == "fn"
            && let Some(name) = name.or(tokens.get(n + 1).filter(|t| t.text.starts_with('_')))
        {
            let end = item_end(&tokens, n);
            functions.push(Function {
                name: name.text.into(),
                line: tokens[n].line,
                lines: tokens[end].line - tokens[n].line + 1,
            });
        }
        n += 1;
    }
    (lines, functions)
}

fn spells(tokens: &[Token<'_>], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(t, text)| t.text == *text)
}

/// The index of the last token of the item that begins at `start`: a semicolon or the brace that closes
/// its body. Attributes in front belong to it.
fn item_end(tokens: &[Token<'_>], start: usize) -> usize {
    let mut depth = 0_usize;
    for (n, token) in tokens.iter().enumerate().skip(start) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return n;
                }
            }
            ";" if depth == 0 => return n,
            _ => {}
        }
    }
    tokens.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
fn one(f: fn(u8) -> [u8; 3]) -> u8 {
    let s = \"}\";
    1
}

#[cfg(test)]
#[allow(dead_code)]
mod tests {
    fn not_me() {}
}

trait T { fn two(&self); }
#[cfg(test)]
use std::fs;
fn _three() {}
";

    #[test]
    fn functions_are_measured_and_tests_are_not() {
        let (lines, functions) = measure(SOURCE);
        assert_eq!(lines, 8);
        let found: Vec<(&str, usize, usize)> = functions
            .iter()
            .map(|f| (&*f.name, f.line, f.lines))
            .collect();
        assert_eq!(found, [("one", 1, 4), ("two", 12, 1), ("_three", 15, 1)]);
    }

    fn file(path: &str, text: String) -> File {
        File {
            path: path.into(),
            bytes: text.into_bytes(),
        }
    }

    fn long_function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn what_is_too_long_is_found() {
        assert!(check(&[file("a/src/a.rs", long_function(70))]).is_empty());
        let faults = check(&[file("a/src/a.rs", long_function(71))]);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].line, 1);
        assert_eq!(check(&[file("a/src/a.rs", "\n".repeat(801))]).len(), 1);
        assert!(check(&[file("a/src/tests.rs", long_function(900))]).is_empty());
    }

    #[test]
    fn the_list_of_exceptions_can_only_shrink() {
        let with = |list: &str, lines: usize| {
            check(&[
                file(ALLOWED, list.into()),
                file("a/src/a.rs", long_function(lines)),
            ])
        };
        assert!(with("# why\na/src/a.rs::f 90 a table of codes", 90).is_empty());
        assert_eq!(with("a/src/a.rs::f 90 a table of codes", 91).len(), 1);
        let unneeded = with("a/src/a.rs::f 90 a table of codes", 70);
        assert_eq!((&*unneeded[0].file, unneeded[0].line), (ALLOWED, 1));
        assert_eq!(with("a/src/a.rs::f 90", 80).len(), 2);
        assert_eq!(with("a/src/gone.rs 900 it was long", 2).len(), 1);
    }
}
