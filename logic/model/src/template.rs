use std::fmt;
use std::str::FromStr;

/// A text with variables in braces, such as `https://{host}{path}`. Two braces stand for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    /// Its parts, in their order.
    pub parts: Box<[Part]>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(Box<str>),
    /// Stands for something of the request.
    Variable(Variable),
}

/// Something of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address.
    Client,
    /// The host that was asked for, without port.
    Host,
    /// The host that was asked for, with its port if there is one.
    Authority,
    /// `http` or `https`: what the client speaks.
    Scheme,
    /// The method.
    Method,
    /// The path as it was sent.
    Path,
    /// The query with its question mark; nothing if there is none.
    Query,
    /// The request's id.
    Id,
    /// Who has proven by a password to be that; nothing where none is asked for.
    User,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Client,
        Self::Host,
        Self::Authority,
        Self::Scheme,
        Self::Method,
        Self::Path,
        Self::Query,
        Self::Id,
        Self::User,
    ];

    /// Its name in a template.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Host => "host",
            Self::Authority => "authority",
            Self::Scheme => "scheme",
            Self::Method => "method",
            Self::Path => "path",
            Self::Query => "query",
            Self::Id => "id",
            Self::User => "user",
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
            } else if let Some(after) = from.strip_prefix('}') {
                plain.push('}');
                rest = after;
            } else {
                let (variable, after) = variable(&from[1..])?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain).into()));
                }
                parts.push(Part::Variable(variable));
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self {
            text: text.into(),
            parts: parts.into(),
        })
    }
}

/// The variable whose name ends at the next brace, and what follows.
fn variable(from: &str) -> Result<(Variable, &str), String> {
    let known = |name: &str| Variable::ALL.into_iter().find(|v| v.as_str() == name);
    let end = from.split_once('}');
    if let Some((name, after)) = end
        && let Some(variable) = known(name)
    {
        return Ok((variable, after));
    }
    let name: String = end
        .map_or(from, |(name, _)| name)
        .chars()
        .take(40)
        .collect();
    let names: Vec<_> = Variable::ALL
        .iter()
        .map(|v| format!("{{{}}}", v.as_str()))
        .collect();
    Err(format!(
        "has {{{name}}} in it, which stands for nothing; there are {}, and {{{{ for a brace",
        names.join(", ")
    ))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_texts_are_told_apart() {
        let template: Template = "https://{host}{path}?{{x}}".parse().unwrap();
        assert_eq!(
            &*template.parts,
            [
                Part::Text("https://".into()),
                Part::Variable(Variable::Host),
                Part::Variable(Variable::Path),
                Part::Text("?{x}".into()),
            ]
        );
        assert_eq!("".parse::<Template>().unwrap().parts.len(), 0);
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for text in ["{nobody}", "{", "{host", "{ host }", "{}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }
}
