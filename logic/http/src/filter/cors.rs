//! Cross-origin requests (the Fetch standard, §3.2): which pages of other sites may read answers.

use model::{Cors, OriginPattern};

use crate::h1::{MethodKind, Request};

/// What an instance says of it itself; there must not be two opinions.
pub const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// What becomes of a request as far as its origin is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// It goes its way, and its answer gets these fields.
    Goes(Vec<(&'static str, Box<str>)>),
    /// A browser asks beforehand, and is answered with these fields.
    Asked(Vec<(&'static str, Box<str>)>),
    /// A browser asks beforehand, and may not.
    Refused,
}

/// Judges a request by its `Origin`.
pub fn cross(cors: &Cors, request: &Request<'_>) -> Crossing {
    let origin = request
        .fields
        .find("origin")
        .and_then(|o| str::from_utf8(o).ok());
    let allowed = origin.filter(|origin| cors.origins.iter().any(|o| matches(o, origin)));
    let asks = request.kind == MethodKind::Options
        && origin.is_some()
        && request
            .fields
            .find("access-control-request-method")
            .is_some();
    let mut fields = Vec::new();
    let everybody = cors.origins.contains(&OriginPattern::Any);
    if let Some(origin) = allowed {
        let named = if everybody { "*" } else { origin };
        fields.push(("access-control-allow-origin", named.into()));
        if cors.credentials {
            fields.push(("access-control-allow-credentials", "true".into()));
        }
    }
    if !asks {
        let expose = cors.expose.join(", ");
        if allowed.is_some() && !expose.is_empty() {
            fields.push(("access-control-expose-headers", expose.into()));
        }
        // The answer to another origin is another one, and so is that to none.
        if !everybody {
            fields.push(("vary", "Origin".into()));
        }
        return Crossing::Goes(fields);
    }
    if allowed.is_none() {
        return Crossing::Refused;
    }
    fields.push((
        "access-control-allow-methods",
        cors.methods.join(", ").into(),
    ));
    let asked = request.fields.find("access-control-request-headers");
    let headers = match cors.headers.iter().any(|name| &**name == "*") {
        // With credentials, a star would be a field of that name.
        true => asked
            .and_then(|asked| str::from_utf8(asked).ok())
            .unwrap_or_default()
            .into(),
        false => cors.headers.join(", "),
    };
    if !headers.is_empty() {
        fields.push(("access-control-allow-headers", headers.into()));
    }
    fields.push((
        "access-control-max-age",
        cors.max_age.as_secs().to_string().into(),
    ));
    let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    fields.push(("vary", vary.into()));
    Crossing::Asked(fields)
}

fn matches(pattern: &OriginPattern, origin: &str) -> bool {
    match pattern {
        OriginPattern::Any => true,
        OriginPattern::Exact(exact) => exact.eq_ignore_ascii_case(origin),
        OriginPattern::Below { scheme, suffix } => {
            let Some(room) = origin.len().checked_sub(scheme.len() + suffix.len()) else {
                return false;
            };
            let (Some(start), Some(end)) = (
                origin.get(..scheme.len()),
                origin.get(scheme.len() + room..),
            ) else {
                return false;
            };
            room > 0 && start.eq_ignore_ascii_case(scheme) && end.eq_ignore_ascii_case(suffix)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::h1::{Limits, parse_request};

    fn cors(origins: Vec<OriginPattern>, credentials: bool) -> Cors {
        Cors {
            origins,
            methods: vec!["GET".into(), "PUT".into()],
            headers: vec!["x-a".into()],
            expose: vec!["x-b".into()],
            credentials,
            max_age: Duration::from_secs(60),
        }
    }

    fn judge(cors: &Cors, text: &str) -> Crossing {
        let text = format!("{text}\r\n\r\n");
        let limits = Limits {
            head: 4096,
            fields: 100,
        };
        let request = parse_request(text.as_bytes(), &mut 0, &limits);
        cross(cors, &request.unwrap().unwrap())
    }

    fn field<'a>(crossing: &'a Crossing, name: &str) -> Option<&'a str> {
        let (Crossing::Goes(fields) | Crossing::Asked(fields)) = crossing else {
            return None;
        };
        fields
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| &**value)
    }

    #[test]
    fn origins_are_allowed_by_name_and_by_ending() {
        let cors = cors(
            vec![
                OriginPattern::Exact("https://a.example".into()),
                OriginPattern::Below {
                    scheme: "https://".into(),
                    suffix: ".b.example".into(),
                },
            ],
            true,
        );
        for (origin, allowed) in [
            ("https://a.example", true),
            ("https://x.b.example", true),
            ("https://x.y.b.example", true),
            ("http://a.example", false),
            ("https://b.example", false),
            ("https://.b.example", false),
            ("https://a.example.evil", false),
            ("https://evilb.example", false),
            ("null", false),
        ] {
            let crossing = judge(
                &cors,
                &format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}"),
            );
            let named = field(&crossing, "access-control-allow-origin");
            assert_eq!(named, allowed.then_some(origin), "{origin}");
            assert_eq!(field(&crossing, "vary"), Some("Origin"));
        }
    }

    #[test]
    fn a_browser_that_asks_beforehand_is_told_what_it_may() {
        let ask = "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT";
        let one = cors(vec![OriginPattern::Exact("https://a.example".into())], true);
        let told = judge(&one, ask);
        assert!(matches!(told, Crossing::Asked(_)));
        assert_eq!(
            field(&told, "access-control-allow-methods"),
            Some("GET, PUT")
        );
        assert_eq!(field(&told, "access-control-allow-headers"), Some("x-a"));
        assert_eq!(
            field(&told, "access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(field(&told, "access-control-max-age"), Some("60"));
        assert_eq!(
            judge(&one, &ask.replace("a.example", "b.example")),
            Crossing::Refused
        );
        // OPTIONS of others are theirs.
        let plain = judge(
            &one,
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example",
        );
        assert!(matches!(plain, Crossing::Goes(_)));
        let mut any = cors(vec![OriginPattern::Any], false);
        any.headers = vec!["*".into()];
        let told = judge(
            &any,
            &format!("{ask}\r\nAccess-Control-Request-Headers: x-q, x-r"),
        );
        assert_eq!(field(&told, "access-control-allow-origin"), Some("*"));
        assert_eq!(
            field(&told, "access-control-allow-headers"),
            Some("x-q, x-r")
        );
    }
}
