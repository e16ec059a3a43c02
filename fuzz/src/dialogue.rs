//! Dialogues with servers: what comes of an answer, and what is said to it, does not hang on how its bytes came in.

use model::CheckProtocol;
use wire::dialogue::{Answer, Dialogue, Fault, Login, MAX_MESSAGE, NONCE};

/// Pieces of answers.
pub const TOKENS: &[&str] = &[
    "R\0\0\0\u{8}\0\0\0\0", "R\0\0\0\u{8}\0\0\0\u{3}", "R\0\0\0\u{c}\0\0\0\u{5}salt",
    "R\0\0\0\u{17}\0\0\0\u{a}SCRAM-SHA-256\0\0", "R\0\0\0\u{30}\0\0\0\u{b}", "r=", "BwcHBwcHBwcHBwcHBwcHBwcHBwcH", ",s=c2FsdA==", ",i=1",
    "R\0\0\0\u{c}\0\0\0\u{c}v=eA", "Z\0\0\0\u{5}I", "D\0\0\0\u{b}\0\u{1}\0\0\0\u{1}t", "D\0\0\0\u{b}\0\u{1}\0\0\0\u{1}f",
    "E\0\0\0\u{c}C57P03\0\0", "S\0\0\0\u{4}", "\u{7}\0\0\u{2}\0\0\0\u{2}\0\0\0", "\u{1}\0\0\u{1}\u{1}", "\u{2}\0\0\u{2}\u{1}\u{3}",
    "\u{2}\0\0\u{2}\u{1}\u{4}", "\u{2}\0\0\u{4}\u{1}0", "mysql_native_password\0", "caching_sha2_password\0", "\u{a}8.0\0", "+OK\r\n", "+PONG\r\n",
    "*3\r\n", "$6\r\nmaster\r\n", "$5\r\nslave\r\n", "-NOAUTH\r\n", "-ERR\r\n", "220 ", "220-", "* OK", "* BYE", "\r\n", "\0", "\u{7f}", "\u{e9}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let checker = Login { user: Some("checker"), password: Some("pencil"), database: Some("d") };
    for protocol in CheckProtocol::ALL {
        for login in [checker, Login::default()] {
            let whole = talk(protocol, login, data, data.len().max(1));
            assert_eq!(talk(protocol, login, data, 1), whole, "byte by byte");
            let (verdict, said) = whole;
            assert!(verdict != Ok(None) || data.len() <= 2 * MAX_MESSAGE);
            // No server can make us say much, whatever it says.
            assert!(said.len() <= 1_024 + 40 * data.len());
            if let Err(fault) = verdict {
                let words = fault.to_string();
                assert!(words.chars().count() < 400 && !words.contains(char::is_control), "{words:?}");
            }
        }
    }
}

/// What came of it, and all that was said.
fn talk(protocol: CheckProtocol, login: Login<'_>, data: &[u8], size: usize) -> (Result<Option<Answer>, Fault>, Vec<u8>) {
    let mut out = Vec::new();
    let mut dialogue = Dialogue::new(protocol, login, [7; NONCE], &mut out);
    for piece in data.chunks(size) {
        match dialogue.handle(piece, &mut out) {
            Ok(None) => {}
            verdict => return (verdict, out),
        }
    }
    (Ok(None), out)
}
