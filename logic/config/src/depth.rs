//! How deep a source nests, found out before it is parsed: the parser allows 80 values within each other and
//! 80 dotted keys in each, and to free six thousand levels takes more stack than a thread has.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use crate::tree::MAX_DEPTH;

/// Where brackets, or the dots of one key, first exceed what any configuration needs.
pub(crate) fn first_too_deep(text: &str) -> Option<usize> {
    let (mut open, mut dots) = (Vec::new(), 0_usize);
    for token in Source::new(text).lex() {
        match token.kind() {
            kind @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => {
                open.push(kind);
                dots = 0;
            }
            TokenKind::RightSquareBracket => close(&mut open, TokenKind::LeftSquareBracket),
            TokenKind::RightCurlyBracket => close(&mut open, TokenKind::LeftCurlyBracket),
            TokenKind::Dot => dots += 1,
            TokenKind::Equals | TokenKind::Comma | TokenKind::Newline => dots = 0,
            _ => {}
        }
        if open.len() > MAX_DEPTH || dots > MAX_DEPTH {
            return Some(token.span().start());
        }
    }
    None
}

/// A bracket that does not match closes nothing here, whatever the parser makes of it: so the count is never
/// less than the parser's.
fn close(open: &mut Vec<TokenKind>, kind: TokenKind) {
    if open.last() == Some(&kind) {
        open.pop();
    }
}
