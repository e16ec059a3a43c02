//! `${NAME}` and `${NAME:-default}` in texts; `$$` for a dollar sign.

use crate::tree::clip;

/// The most bytes that expansion may add to a configuration. A few bytes of configuration could otherwise
/// name a large variable a million times.
const MAX_EXPANDED: usize = 16 << 20;

/// Puts the environment into texts.
pub(crate) struct Expander<'env> {
    env: &'env dyn Fn(&str) -> Option<String>,
    left: usize,
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpandFault {
    pub(crate) what: String,
    pub(crate) hint: &'static str,
}

impl<'env> Expander<'env> {
    pub(crate) fn new(env: &'env dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            env,
            left: MAX_EXPANDED,
        }
    }

    /// The text with every variable replaced. As in a shell, `:-` gives the default of a variable that is
    /// not set or empty. What a variable holds is not expanded again.
    pub(crate) fn expand(&mut self, text: &str) -> Result<String, ExpandFault> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((inside, after)) = after.split_once('}') else {
                    return Err(ExpandFault {
                        what: "has \"${\" without a \"}\"".into(),
                        hint: "write ${NAME}, or $${ for the two characters themselves",
                    });
                };
                let value = self.variable(inside)?;
                self.left = self.left.checked_sub(value.len()).ok_or(ExpandFault {
                    what: "makes the environment's part of the configuration longer than 16 MiB"
                        .into(),
                    hint: "use fewer or shorter variables",
                })?;
                out.push_str(&value);
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn variable(&self, inside: &str) -> Result<String, ExpandFault> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(letter) || name.as_bytes()[0].is_ascii_digit() {
            return Err(ExpandFault {
                what: format!("{:?} is no name of an environment variable", clip(name)),
                hint: "write ${NAME} or ${NAME:-default}, or $${ for the two characters themselves",
            });
        }
        match ((self.env)(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.into()),
            (None, None) => Err(ExpandFault {
                what: format!("the environment variable {name} is not set"),
                hint: "set it, or give a default: ${NAME:-default}",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, ExpandFault> {
        let env = |name: &str| match name {
            "HOST" => Some("db-1".to_string()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".into()),
            "LONG" => Some("x".repeat(1 << 20)),
            _ => None,
        };
        Expander::new(&env).expand(text)
    }

    #[test]
    fn variables_defaults_and_dollar_signs_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}:80", "db-1:80"),
            ("a${HOST}b${HOST}c", "adb-1bdb-1c"),
            ("${NONE:-fallback}", "fallback"),
            ("${NONE:-}", ""),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("${HOST:-other}", "db-1"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${HOST} costs $5 and $", "${HOST} costs $5 and $"),
            ("$$$${HOST}", "$${HOST}"),
            ("${NESTED}", "${HOST}"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_a_fault() {
        for text in ["${NONE}", "${", "${HOST", "${}", "${A B}", "${1X}"] {
            assert!(expand(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_cannot_be_multiplied_beyond_the_limit() {
        assert!(expand(&"${LONG}".repeat(16)).is_ok());
        assert!(expand(&"${LONG}".repeat(17)).is_err());
    }
}
