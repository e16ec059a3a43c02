use std::borrow::Cow;
use std::fmt;

/// The longest pattern. Nobody reads longer ones.
const LONGEST: usize = 1_000;

/// What one compiled pattern may take. A hundred repetitions of a class fit; repetitions of repetitions do not.
const SIZE: usize = 256 << 10;

/// What one pattern's automaton may take on each thread that uses it. Beyond, it is built anew as it goes along, which
/// is slower, and still linear in time.
const AUTOMATON: usize = 1 << 20;

/// A regular expression over bytes, in ASCII's sense of letters and digits. It takes time linear in what it is matched with,
/// whatever the pattern: there is no backtracking.
#[derive(Clone)]
pub struct Regex {
    text: Box<str>,
    whole: bool,
    compiled: regex::bytes::Regex,
}

impl Regex {
    /// A pattern that is to match the whole subject.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence that names it.
    pub fn whole(text: &str) -> Result<Self, String> {
        Self::new(text, true)
    }

    /// A pattern that may match anywhere in the subject.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence that names it.
    pub fn part(text: &str) -> Result<Self, String> {
        Self::new(text, false)
    }

    fn new(text: &str, whole: bool) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!(
                "is a regular expression of more than {LONGEST} characters"
            ));
        }
        let build = |pattern: &str| {
            regex::bytes::RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(SIZE)
                .dfa_size_limit(AUTOMATON)
                .build()
        };
        // By itself first: `a)(b` would fit well between the parentheses below.
        let mut compiled = build(text);
        if whole && compiled.is_ok() {
            compiled = build(&format!(r"\A(?:{text})\z"));
        }
        let compiled = compiled.map_err(|fault| match fault {
            regex::Error::CompiledTooBig(_) => {
                format!("{text:?} is too large a regular expression; repeat less")
            }
            fault => {
                let last = fault.to_string();
                let last = last.lines().last().unwrap_or_default();
                let why = last.strip_prefix("error: ").unwrap_or(last);
                format!("{text:?} is no regular expression: {why}")
            }
        })?;
        Ok(Self {
            text: text.into(),
            whole,
            compiled,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.compiled.is_match(subject)
    }

    /// How many groups it has: `$1` is the first of them.
    pub fn groups(&self) -> usize {
        self.compiled.captures_len() - 1
    }

    /// The subject with the first match replaced; `$1` and `${name}` stand for what groups have matched.
    pub fn replace<'a>(&self, subject: &'a [u8], with: &str) -> Cow<'a, [u8]> {
        self.compiled.replace(subject, with.as_bytes())
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        (self.whole, &self.text) == (other.whole, &other.text)
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_pattern_does_not_match_a_part() {
        let whole = Regex::whole("/a|/b").unwrap();
        assert!(whole.is_match(b"/a") && whole.is_match(b"/b"));
        assert!(!whole.is_match(b"/ab") && !whole.is_match(b"x/b"));
        assert!(Regex::part("/a").unwrap().is_match(b"x/ab"));
    }

    #[test]
    fn what_is_no_pattern_or_too_large_a_one_is_refused() {
        for text in [
            "(",
            "a)(b",
            r"\p{Greek}",
            "(a{100}){1000}",
            &"a".repeat(1_001),
        ] {
            let fault = Regex::whole(text).unwrap_err();
            assert!(fault.contains("regular expression"), "{fault}");
        }
    }

    #[test]
    fn groups_stand_in_the_replacement() {
        let regex = Regex::part(r"^/v(\d+)/(?P<rest>.*)$").unwrap();
        assert_eq!(regex.groups(), 2);
        assert_eq!(&*regex.replace(b"/v2/x", "/${rest}?v=$1"), b"/x?v=2");
        assert_eq!(&*regex.replace(b"/x", "/y"), b"/x");
    }
}
