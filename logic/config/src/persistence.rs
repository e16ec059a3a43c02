//! `[service.NAME.persistence]`: which instance a client's requests stay at.

use std::time::Duration;

use model::{Cookie, PersistBy, Persisting, SameSite};

use crate::declare::declare;
use crate::fault::Severity;
use crate::reader::Reader;
use crate::reference::Shape;
use crate::rule::{absent, default};
use crate::shown::Shown;
use crate::stream::LIFE;
use crate::text::{CookiePart, Token, UrlPath};
use crate::top::secs;
use crate::tree::Node;
use crate::value::{Resolved, Value};

declare! {
    /// Requests of one client stay at one instance, for HTTP: as long as it is there and not critical. It may drain, or have
    /// weight 0: then it gets no new sessions, and keeps those that it has.
    pub(crate) struct PersistenceKeys {
        /// How a client is known again: by a `"cookie"` that names the instance, or by its `"source_ip"`, `"header:NAME"` or
        /// `"query:NAME"`, which is then remembered.
        // The only one that tells clients behind one address apart, and holds on every node.
        by: PersistBy => default(PersistBy::Cookie),
        /// The cookie's name.
        cookie: Token => default(Token("pointsman".into())),
        /// Its `Path`.
        // The whole site.
        path: UrlPath => default(UrlPath("/".into())),
        /// Its `Domain`.
        domain: Option<CookiePart> => absent("the host alone that was asked for"),
        /// Whether it is sent over TLS only.
        secure: Option<bool> => absent("if the client got it over TLS"),
        /// Whether it is hidden from scripts.
        // None of them has a use for it.
        http_only: bool => default(true),
        /// Whether it is sent with requests from other sites: `"strict"`, `"lax"` or `"none"`.
        // What browsers take for it if nothing is said.
        same_site: SameSite => default(SameSite::Lax),
        /// How long the cookie lives, or a key is remembered after its last request.
        lifetime: Option<Duration> => absent("the cookie as long as the browser is open; a key for an hour").if_given_within(secs(1)..=LIFE),
        /// Keys remembered at the most, of 16 bytes each; the one that was used longest ago makes room for a new one.
        // A MiB.
        max_keys: u32 => default(65_536u32).within(8..=1 << 27),
    }
}

impl Value for Persisting {
    fn shape() -> Shape {
        PersistenceKeys::shape()
    }

    fn expected() -> String {
        "a table".into()
    }

    fn read(node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let keys = PersistenceKeys::read(node, cx)?;
        Self::resolve(keys, node, cx)
    }

    fn show(&self) -> Option<Shown> {
        let Some(Shown::Table(mut keys)) = self.keys().show() else {
            return None;
        };
        keys.retain(|key| !foreign(&self.by).contains(&key.name.as_str()));
        Some(Shown::Table(keys))
    }
}

/// Keys that have no meaning then.
fn foreign(by: &PersistBy) -> &'static [&'static str] {
    match by {
        PersistBy::Cookie => &["max_keys"],
        _ => &[
            "cookie",
            "path",
            "domain",
            "secure",
            "http_only",
            "same_site",
        ],
    }
}

impl Resolved for Persisting {
    type Keys = PersistenceKeys;

    fn resolve(keys: PersistenceKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        let by_cookie = keys.by == PersistBy::Cookie;
        for key in foreign(&keys.by) {
            let key = format!("{}.{key}", cx.path());
            let what = match by_cookie {
                true => "has no meaning with by = \"cookie\": nothing is remembered",
                false => "is of a cookie, and there is none",
            };
            cx.at_key(Severity::Error, &key, what, "leave it out");
        }
        if keys.same_site == SameSite::None && keys.secure == Some(false) {
            let key = format!("{}.same_site", cx.path());
            let what = "is \"none\", which browsers take with secure cookies only";
            cx.at_key(Severity::Error, &key, what, "leave out secure = false");
        }
        if keys.path.0.contains(';') {
            let key = format!("{}.path", cx.path());
            let what = "has a semicolon, which ends it in a cookie";
            cx.at_key(Severity::Error, &key, what, "leave it out");
        }
        let Token(name) = keys.cookie;
        let UrlPath(path) = keys.path;
        (cx.log.errors() == before).then(|| Self {
            by: keys.by,
            cookie: Cookie {
                name,
                path,
                domain: keys.domain.map(|CookiePart(domain)| domain),
                secure: keys.secure,
                http_only: keys.http_only,
                same_site: keys.same_site,
            },
            lifetime: keys.lifetime,
            max_keys: keys.max_keys,
        })
    }

    fn keys(&self) -> PersistenceKeys {
        let cookie = &self.cookie;
        PersistenceKeys {
            by: self.by.clone(),
            cookie: Token(cookie.name.clone()),
            path: UrlPath(cookie.path.clone()),
            domain: cookie.domain.clone().map(CookiePart),
            secure: cookie.secure,
            http_only: cookie.http_only,
            same_site: cookie.same_site,
            lifetime: self.lifetime,
            max_keys: self.max_keys,
        }
    }
}
