//! Patterns of paths in a tree, by which instances are found there.

use std::fmt;
use std::str::FromStr;

/// Where in a tree instances are, and how they are written there: `/services/{service}/{curator}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePattern {
    text: Box<str>,
    elements: Vec<Element>,
}

/// An element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// This name.
    Name(Box<str>),
    /// `*`: any name.
    Any,
    /// `{service}`: the service's name.
    Service,
    /// The instance.
    Instance(Writing),
}

/// How an instance is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// `{dubbo}`: a URL, encoded, as the node's name.
    Dubbo,
    /// `{curator}`: JSON as Curator writes it, as the node's data.
    Curator,
    /// `{address}`: `host:port` as the node's name.
    Address,
    /// `{id}`: `host:port`, or JSON with `address` and `port`, as the node's data.
    Data,
}

impl TreePattern {
    /// Its elements; the instance comes last.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }
}

impl FromStr for TreePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text
            .strip_prefix('/')
            .ok_or("does not begin with a slash")?;
        let mut elements = Vec::new();
        for name in names.split('/') {
            elements.push(match name {
                "" => return Err("has an empty element".into()),
                "*" => Element::Any,
                "{service}" => Element::Service,
                "{dubbo}" => Element::Instance(Writing::Dubbo),
                "{curator}" => Element::Instance(Writing::Curator),
                "{address}" => Element::Instance(Writing::Address),
                "{id}" => Element::Instance(Writing::Data),
                other if other.contains(['{', '}', '*']) => {
                    return Err(format!(
                        "has {other:?}; there are {{service}}, {{dubbo}}, {{curator}}, {{address}}, {{id}} and *"
                    ));
                }
                other => Element::Name(other.into()),
            });
        }
        let count = |wanted: fn(&Element) -> bool| elements.iter().filter(|e| wanted(e)).count();
        let last = matches!(elements.last(), Some(Element::Instance(_)));
        if !last || count(|e| matches!(e, Element::Instance(_))) != 1 {
            return Err("does not end with how an instance is written: {dubbo}, {curator}, {address} or {id}".into());
        }
        if count(|e| *e == Element::Service) != 1 {
            return Err("does not say once where the name of the service is: {service}".into());
        }
        Ok(Self {
            text: text.into(),
            elements,
        })
    }
}

impl fmt::Display for TreePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_service_and_ends_with_an_instance() {
        let pattern: TreePattern = "/a/*/{service}/b/{address}".parse().unwrap();
        assert_eq!(pattern.elements().len(), 5);
        assert_eq!(pattern.to_string(), "/a/*/{service}/b/{address}");
        for wrong in [
            "a/{service}/{id}",
            "/{service}",
            "/{id}",
            "/{service}/{id}/x",
            "/{service}/{service}/{id}",
            "/{service}/{id}/{id}",
            "/{name}/{service}/{id}",
            "//{service}/{id}",
        ] {
            assert!(wrong.parse::<TreePattern>().is_err(), "{wrong}");
        }
    }
}
