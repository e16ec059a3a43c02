//! `[listener.NAME.route.filters.cors]`: which pages of other sites may read answers.

use std::time::Duration;

use model::{Cors, OriginPattern};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{default, required};
use crate::text::{Method, Token};
use crate::top::{DAY, secs};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// Which pages of other sites may read answers. Browsers that ask beforehand are answered here; what instances say of it
    /// themselves is taken away.
    pub(crate) struct CorsKeys {
        /// The sites: `"https://app.example.com"`, `"https://*.example.com"`, or `"*"` for all.
        origins: Vec<OriginPattern> => required(),
        /// The methods that they may use beside GET, HEAD and POST.
        // Those that a form has could be used anyway.
        methods: Vec<Method> => default(vec![Method("GET".into()), Method("HEAD".into()), Method("POST".into())]),
        /// The header fields that they may send beside those that every form sends; `"*"`: whatever they ask for.
        headers: Vec<Token> => default(Vec::new()),
        /// The fields of answers that they may read beside the usual ones.
        expose: Vec<Token> => default(Vec::new()),
        /// Whether requests may have cookies and passwords with them.
        // They act in their user's name then.
        credentials: bool => default(false),
        /// How long browsers need not ask again.
        // Chrome's own limit is two hours; a mistake is mended sooner so.
        max_age: Duration => default(secs(600)).within(Duration::ZERO..=DAY),
    }
}

resolved!(Cors);

impl Resolved for Cors {
    type Keys = CorsKeys;

    fn resolve(keys: CorsKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        let key = |name: &str, cx: &Reader<'_, '_>| format!("{}.{name}", cx.path());
        if keys.origins.is_empty() {
            let key = key("origins", cx);
            cx.at_key(
                Severity::Error,
                &key,
                "is empty, so that nobody may",
                "name a site",
            );
        }
        if keys.credentials && keys.origins.contains(&OriginPattern::Any) {
            let key = key("credentials", cx);
            let what = "is true for every site of the world, and browsers refuse that";
            cx.at_key(Severity::Error, &key, what, "name the sites in origins");
        }
        (cx.log.errors() == before).then(|| Self {
            origins: keys.origins,
            methods: keys
                .methods
                .into_iter()
                .map(|Method(method)| method)
                .collect(),
            headers: keys.headers.into_iter().map(|Token(name)| name).collect(),
            expose: keys.expose.into_iter().map(|Token(name)| name).collect(),
            credentials: keys.credentials,
            max_age: keys.max_age,
        })
    }

    fn keys(&self) -> CorsKeys {
        let tokens = |names: &[Box<str>]| names.iter().cloned().map(Token).collect();
        CorsKeys {
            origins: self.origins.clone(),
            methods: self.methods.iter().cloned().map(Method).collect(),
            headers: tokens(&self.headers),
            expose: tokens(&self.expose),
            credentials: self.credentials,
            max_age: self.max_age,
        }
    }
}
