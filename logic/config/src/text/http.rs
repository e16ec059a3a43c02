//! Parts of HTTP messages.

use model::{Coding, OriginPattern, Regex, Template};

use serde_json::{Value as Json, json};

use crate::tree::clip;
use crate::value::{Name, Text};

/// A path in a request's target: starts with `/`, without query, in the characters that a request line
/// may have (RFC 3986 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlPath(pub(crate) Box<str>);

impl Text for UrlPath {
    const EXPECTED: &'static str = "a path, such as \"/api\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("{:?} {why}", clip(text)));
        if !text.starts_with('/') {
            return fault("is no path; begin it with a slash");
        }
        if text
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b"\"<>\\^`{|}?#".contains(&b))
        {
            return fault(
                "has a character that no path in a request has; write it percent-encoded, and leave \
                 out any query",
            );
        }
        // Requests' paths have these resolved before they are matched.
        if text
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return fault("has a segment \".\" or \"..\", which no request matches; resolve it");
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The target of a request, in origin form (RFC 9112 §3.2.1): a path, with a query or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlTarget(pub(crate) Box<str>);

impl Text for UrlTarget {
    const EXPECTED: &'static str = "a path, such as \"/healthz\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() && b != b'#';
        if !text.starts_with('/') || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is nothing to ask a server for; write a path such as \"/healthz\", without \
                 spaces and fragment",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The value of a header field: visible ASCII with single spaces or tabs inside (RFC 9110 §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldValue(pub(crate) Box<str>);

impl Text for FieldValue {
    const EXPECTED: &'static str = "the value of a header field";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
        if text.is_empty() || !text.bytes().all(fits) || text.trim() != text {
            return Err(format!(
                "{:?} fits into no header field; use visible ASCII, without spaces around it",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A method or the name of a header field (RFC 9110 §5.6.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) Box<str>);

impl Text for Token {
    const EXPECTED: &'static str = "one word";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is no token of HTTP; use letters, digits and dashes",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Name for Token {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn name(&self) -> String {
        self.text()
    }
}

/// The method of a request, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method(pub(crate) Box<str>);

impl Text for Method {
    const EXPECTED: &'static str = "a method, such as \"GET\"";

    fn parse(text: &str) -> Result<Self, String> {
        let Token(method) = Token::parse(text)?;
        // They are case-sensitive (RFC 9110 §9.1), and nobody sends such a one.
        if method.bytes().any(|b| b.is_ascii_lowercase()) {
            let upper = method.to_ascii_uppercase();
            return Err(format!(
                "{:?} is no method that anybody sends; write {upper:?}",
                clip(text)
            ));
        }
        Ok(Self(method))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A regular expression that is to match as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WholeRegex(pub(crate) Regex);

impl Text for WholeRegex {
    const EXPECTED: &'static str = "a regular expression, such as \"/v[0-9]+/.*\"";

    fn parse(text: &str) -> Result<Self, String> {
        Regex::whole(text).map(Self)
    }

    fn text(&self) -> String {
        self.0.as_str().into()
    }
}

/// A regular expression that may match anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartRegex(pub(crate) Regex);

impl Text for PartRegex {
    const EXPECTED: &'static str = "a regular expression, such as \"^/old/(.*)\"";

    fn parse(text: &str) -> Result<Self, String> {
        Regex::part(text).map(Self)
    }

    fn text(&self) -> String {
        self.0.as_str().into()
    }
}

/// What comes in the place of what a regular expression matched in a path. It may multiply what groups have matched, and is
/// therefore short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RewriteTo(pub(crate) Box<str>);

impl Text for RewriteTo {
    const EXPECTED: &'static str =
        "a path with $1 for what the first group matched, such as \"/new/$1\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() && b != b'#' && b != b'?';
        if text.len() > 256 || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is no part of a path; write up to 256 characters, without spaces and query",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The value of a cookie's attribute (RFC 6265 §4.1.1), such as its domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookiePart(pub(crate) Box<str>);

impl Text for CookiePart {
    const EXPECTED: &'static str = "a domain, such as \"example.com\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(format!(
                "{:?} is no domain of a cookie; write \"example.com\"",
                clip(text)
            ));
        }
        Ok(Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The value of a header field with variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldTemplate(pub(crate) Template);

impl Text for FieldTemplate {
    const EXPECTED: &'static str = "the value of a header field";

    fn parse(text: &str) -> Result<Self, String> {
        let FieldValue(value) = FieldValue::parse(text)?;
        let template = value.parse::<Template>();
        template
            .map(Self)
            .map_err(|what| format!("{:?} {what}", clip(text)))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Text for OriginPattern {
    const EXPECTED: &'static str = "a site, such as \"https://app.example.com\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        let parts = text.split_once("://").filter(|(scheme, host)| {
            let scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
            let host = host.strip_prefix('*').unwrap_or(host);
            scheme && !host.is_empty() && host.bytes().all(fits)
        });
        match parts {
            Some((scheme, host)) => Ok(match host.strip_prefix('*') {
                Some(suffix) if suffix.starts_with('.') => Self::Below {
                    scheme: format!("{scheme}://").into(),
                    suffix: suffix.into(),
                },
                Some(_) => {
                    return Err(format!(
                        "{:?} has a star without a dot after it",
                        clip(text)
                    ));
                }
                None => Self::Exact(text.into()),
            }),
            None => Err(format!(
                "{:?} is no site; write \"https://app.example.com\", without a path, \"https://*.example.com\" or \"*\"",
                clip(text)
            )),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::Exact(origin) => origin.to_string(),
            Self::Below { scheme, suffix } => format!("{scheme}*{suffix}"),
        }
    }
}

impl Text for Coding {
    const EXPECTED: &'static str = "\"gzip\", \"br\" or \"zstd\"";

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|coding| coding.as_str() == text);
        found.ok_or_else(|| format!("{:?} is no coding; write {}", clip(text), Self::EXPECTED))
    }

    fn text(&self) -> String {
        self.as_str().into()
    }

    fn schema() -> Json {
        json!({ "enum": ["gzip", "br", "zstd"] })
    }
}

/// A `Content-Type` without parameters, or several of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub(crate) Box<str>);

impl Text for MediaType {
    const EXPECTED: &'static str = "a type, such as \"text/html\", \"text/*\" or \"*/*+json\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        let named = |part: &str| !part.is_empty() && part.bytes().all(fits);
        let known = text.split_once('/').is_some_and(|(kind, sub)| match kind {
            "*" => sub.strip_prefix('*').is_some_and(&named),
            kind => named(kind) && (sub == "*" || named(sub)),
        });
        match known {
            true => Ok(Self(text.into())),
            false => Err(format!("{:?} is no {}", clip(text), &Self::EXPECTED[2..])),
        }
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}
