//! Nothing left behind by the work: unfinished places, switched-off tests, marks of merges, paths of
//! somebody's machine.

use super::Fault;
use super::lexer::{Lexed, Token, lex};
use crate::project::File;

/// More belongs into a release's downloads, or is a binary that somebody committed by mistake.
const MAX_SIZE: usize = 1 << 20;

/// Words that mark a place as unfinished. Written in two parts, so that this file has none of them.
const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Where people's files are. They say something about the machine that nobody needs to know.
const MACHINE: [&str; 3] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

/// How far above an `unsafe` block the comment may begin that says why it is sound.
const SAFETY_REACH: usize = 8;

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        if file.bytes.len() > MAX_SIZE {
            faults.push(Fault::new(&file.path, 0, "is larger than 1 MiB"));
        }
        // Inputs of tests are as they are.
        if ["fuzz/", "/fixtures/"]
            .iter()
            .any(|part| file.path.contains(part))
            && !file.is_rust()
        {
            continue;
        }
        let Some(text) = file.text() else { continue };
        for (n, line) in text.lines().enumerate() {
            let fault = |what| Fault::new(&file.path, n + 1, what);
            faults.extend(in_line(line).into_iter().map(fault));
        }
        if file.is_rust() {
            let lexed = lex(text);
            faults.extend(in_code(&file.path, &lexed));
            faults.extend(unsafe_without_reason(&file.path, &lexed));
        }
    }
    faults
}

fn in_line(line: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for word in UNFINISHED {
        if has_word(line, word) {
            faults.push(format!("has {word}: finish it, or file an issue"));
        }
    }
    for path in MACHINE {
        let of_its_own = |(n, _): (usize, &str)| {
            !line[..n].ends_with(|c: char| c.is_alphanumeric() || "_-.}$".contains(c))
        };
        if line.match_indices(path).any(of_its_own) {
            faults.push(format!("has a path of some machine: {path}"));
        }
    }
    if ["<<<<<<< ", ">>>>>>> "]
        .iter()
        .any(|mark| line.starts_with(mark))
    {
        faults.push("has the mark of a merge".into());
    }
    if line.trim_end_matches([' ', '\t']) != line {
        faults.push("has space at its end".into());
    }
    faults
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(n, _)| {
        !line[..n].ends_with(part_of_word) && !line[n + word.len()..].starts_with(part_of_word)
    })
}

fn in_code(path: &str, lexed: &Lexed<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for pair in lexed.tokens.windows(3) {
        let [first, second, third] = [pair[0].text, pair[1].text, pair[2].text];
        let unfinished = ["todo", "unimplemented", "dbg"].contains(&first) && second == "!";
        let ignored = first == "#" && second == "[" && third == "ignore";
        if unfinished {
            faults.push(Fault::new(path, pair[0].line, format!("has {first}!")));
        }
        if ignored {
            faults.push(Fault::new(path, pair[0].line, "has a test that never runs"));
        }
    }
    faults
}

fn unsafe_without_reason(path: &str, lexed: &Lexed<'_>) -> Vec<Fault> {
    let blocks = lexed
        .tokens
        .windows(2)
        .filter(|pair| pair[0].text == "unsafe" && ["{", "impl"].contains(&pair[1].text));
    let explained = |line: usize| {
        let near = |c: &&Token<'_>| c.line <= line && c.line + SAFETY_REACH >= line;
        lexed
            .comments
            .iter()
            .filter(near)
            .any(|c| c.text.contains("SAFETY:"))
    };
    blocks
        .map(|pair| pair[0].line)
        .filter(|line| !explained(*line))
        .map(|line| {
            Fault::new(
                path,
                line,
                "has unsafe without a comment \"SAFETY: …\" above it",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = File {
            path: path.into(),
            bytes: text.as_bytes().to_vec(),
        };
        check(&[file])
            .into_iter()
            .map(|f| (f.line, f.what))
            .collect()
    }

    #[test]
    fn unfinished_places_are_found() {
        for text in [
            format!("// {}: later", UNFINISHED[0]),
            format!("# {}", UNFINISHED[1]),
            format!("a {} b", UNFINISHED[2]),
            "<<<<<<< HEAD".into(),
            "a ".into(),
            format!("cd {}me", MACHINE[0]),
            format!("\"{}me\"", MACHINE[1]),
        ] {
            assert_eq!(faults("a.md", &format!("\n{text}\n")).len(), 1, "{text}");
            assert_eq!(faults("a.md", &format!("\n{text}\n"))[0].0, 2);
        }
    }

    #[test]
    fn words_and_addresses_that_only_look_like_them_are_not() {
        for text in [
            format!("{}S", UNFINISHED[0]),
            format!("my_{}", UNFINISHED[1]),
            format!("https://example.com{}page", MACHINE[1]),
            "=======".into(),
        ] {
            assert_eq!(faults("a.md", &text), [], "{text}");
        }
    }

    #[test]
    fn code_left_for_later_is_found_where_it_is_code() {
        let code =
            "fn f() { todo!() }\n\n#[ignore]\nfn g() { dbg!(1); }\n// todo!\nlet a = \"todo!()\";";
        let lines: Vec<usize> = faults("a.rs", code).iter().map(|f| f.0).collect();
        assert_eq!(lines, [1, 3, 4]);
        assert_eq!(faults("a.md", "todo!()"), []);
    }

    #[test]
    fn unsafe_needs_its_reason() {
        assert_eq!(faults("a.rs", "fn f() {\n    unsafe { g() }\n}")[0].0, 2);
        assert_eq!(faults("a.rs", "// SAFETY: g is sound.\nunsafe { g() }"), []);
        assert_eq!(faults("a.rs", "// unsafe { }\nlet a = \"unsafe {\";"), []);
    }

    #[test]
    fn large_files_are_found_and_binary_ones_are_not_read() {
        let large = "a\n".repeat(MAX_SIZE);
        assert_eq!(faults("a.txt", &large)[0].0, 0);
        assert_eq!(faults("a.png", "\0 \n \n"), []);
    }
}
