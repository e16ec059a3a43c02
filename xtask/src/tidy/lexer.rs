//! Just enough of Rust's lexical grammar to tell code from comments and texts.

/// A token that is no comment and no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// A word (identifier, keyword, number, lifetime) or one character.
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// A file's tokens and comments. Texts are left out.
#[derive(Debug, Default)]
pub(super) struct Lexed<'a> {
    pub(super) tokens: Vec<Token<'a>>,
    /// With their marks, by the line they begin on.
    pub(super) comments: Vec<Token<'a>>,
}

/// Takes a file apart.
pub(super) fn lex(source: &str) -> Lexed<'_> {
    let mut lexed = Lexed::default();
    let (mut at, mut line) = (0, 1);
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        let (length, kind) = piece(rest, c);
        let token = Token {
            text: &rest[..length],
            line,
        };
        match kind {
            Kind::Code => lexed.tokens.push(token),
            Kind::Comment => lexed.comments.push(token),
            Kind::Nothing => {}
        }
        line += token.text.matches('\n').count();
        at += length;
    }
    lexed
}

enum Kind {
    Code,
    Comment,
    /// Space or text.
    Nothing,
}

/// How long the piece is that `rest` begins with, whose first character is `c`.
fn piece(rest: &str, c: char) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Kind::Comment);
    }
    if let Some(length) = raw_text(rest) {
        return (length, Kind::Nothing);
    }
    if c == '"' {
        return (text(rest), Kind::Nothing);
    }
    if let Some(quoted) = rest.strip_prefix("b\"").or(rest.strip_prefix("c\"")) {
        return (
            rest.len() - quoted.len() - 1 + text(&rest[1..]),
            Kind::Nothing,
        );
    }
    if let Some(length) = character(rest) {
        return (length, Kind::Nothing);
    }
    if rest.starts_with("b'") {
        return (1 + character(&rest[1..]).unwrap_or(1), Kind::Nothing);
    }
    if is_word(c) {
        return (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), Kind::Code);
    }
    let kind = if c.is_whitespace() {
        Kind::Nothing
    } else {
        Kind::Code
    };
    (c.len_utf8(), kind)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// They nest, other than in C.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_text(rest: &str) -> Option<usize> {
    let after = ["r", "br", "cr"]
        .iter()
        .find_map(|mark| rest.strip_prefix(mark))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len();
    Some(
        body.find(&end)
            .map_or(rest.len(), |n| start + n + end.len()),
    )
}

/// `"…"`, with its escapes.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (n, b) in rest.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return n + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'x'` or `'\n'`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        // The character after the backslash may be a quote itself.
        let first = escape.chars().next()?.len_utf8();
        return Some(escape[first..].find('\'')? + first + 3);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..]
        .starts_with('\'')
        .then(|| c.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        lex(source).tokens.iter().map(|t| t.text).collect()
    }

    #[test]
    fn texts_and_comments_are_no_code() {
        for source in [
            r##"a b"##,
            r##"a "x { \" }" b"##,
            r###"a r#"x " {"# b"###,
            r##"a b"x{" b"##,
            r##"a br"x{" b"##,
            "a // { \n b",
            "a /* { /* */ { */ b",
            "a '{' b",
            r"a '\'' b",
            r"a '\\' b",
            r"a '\u{7b}' b",
            "a b'{' b",
            "a 'é' b",
        ] {
            assert_eq!(words(source), ["a", "b"], "{source}");
        }
    }

    #[test]
    fn lifetimes_are_no_characters() {
        let code = words("f<'a>(x: &'a str)");
        assert_eq!(code.join(" "), "f < ' a > ( x : & ' a str )");
    }

    #[test]
    fn lines_are_counted_across_texts() {
        let lexed = lex("a\n\"\n\n\" b\n/*\n*/ c // d\ne");
        let lines: Vec<usize> = lexed.tokens.iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 4, 6, 7]);
        assert_eq!(
            lexed.comments[1],
            Token {
                text: "// d",
                line: 6
            }
        );
    }

    #[test]
    fn what_never_ends_ends_with_the_file() {
        for source in [
            "\"", "\"\\", "r#\"", "/*", "/* /", "'", "'\\", "b'", "b\"", "//",
        ] {
            lex(source);
        }
    }
}
