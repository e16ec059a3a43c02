//! `[listener.NAME.route.filters]`: what is done with a route's requests and answers on the way; and `[listener.NAME.filters]`,
//! which holds for all routes of a listener that do not say otherwise.

use std::collections::BTreeMap;

use model::{
    Access, Bandwidth, ByteSize, Compress, Concurrency, Cors, HeaderEdits, Network, Regex, Rewrite,
    Template,
};

use crate::auth::BasicAuth;
use crate::declare::{declare, resolved};
use crate::error_page::ErrorPage;
use crate::fault::Severity;
use crate::limit::RateLimit;
use crate::reader::Reader;
use crate::rule::{absent, default, section};
use crate::text::{FieldTemplate, PartRegex, RewriteTo, Token, UrlPath};
use crate::tree::Node;
use crate::value::{Masked, Resolved};

/// What is done with a route's requests and answers on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Whether it takes nothing over from its listener's.
    pub alone: bool,
    /// Who may, by address.
    pub access: Access,
    /// Which pages of other sites may read answers.
    pub cors: Option<Cors>,
    /// How many requests in a time.
    pub rate_limits: Vec<RateLimit>,
    /// The largest body of a request.
    pub max_body: Option<ByteSize>,
    /// Whose passwords open it.
    pub basic_auth: Option<BasicAuth>,
    /// How many requests at a time.
    pub concurrency: Vec<Concurrency>,
    /// How paths are changed; of a prefix, what the route's own becomes.
    pub rewrite: Option<Rewrite>,
    /// The `Host` that instances get.
    pub host: Option<Template>,
    /// Changes of requests' fields.
    pub request_headers: HeaderEdits,
    /// Which answers are compressed.
    pub compress: Option<Compress>,
    /// How fast bodies move.
    pub bandwidth: Bandwidth,
    /// Pages in the place of answers' own texts.
    pub error_pages: Vec<ErrorPage>,
    /// Changes of answers' fields.
    pub response_headers: HeaderEdits,
}

declare! {
    /// What is done with the route's requests and answers on the way, in the order of docs/filters.md.
    pub(crate) struct FilterKeys {
        /// Whether the keys that a route does not have are taken from its listener's `filters`.
        // What is written once for all should hold for a route that is added later, too.
        inherit: bool => default(true),
        /// Networks that clients must be in; all others get 403. Behind one of `trusted_peers`, the client is whom it names.
        allow: Vec<Network> => default(Vec::new()),
        /// Networks that clients must not be in.
        deny: Vec<Network> => default(Vec::new()),
        /// Which pages of other sites may read answers.
        cors: Option<Cors> => absent("what instances say of it"),
        /// How many requests in a time.
        rate_limit: Vec<RateLimit> => default(Vec::new()),
        /// The largest body of a request, whether it says its length or comes in chunks; larger ones get 413.
        max_body: Option<ByteSize> => absent("any"),
        /// Names and passwords.
        basic_auth: Option<BasicAuth> => absent("none are asked for"),
        /// How many requests at a time.
        concurrency: Vec<Concurrency> => default(Vec::new()),
        /// The `Host` that instances get; variables as in `request_headers`.
        host: Option<FieldTemplate> => absent("what the client asked for"),
        /// The path that instances get.
        rewrite: Option<Rewrite> => absent("the path as it was sent"),
        /// Changes of the fields that instances get. Values may have `{client}`, `{host}`, `{authority}`, `{scheme}`,
        /// `{method}`, `{path}`, `{query}`, `{id}` and `{user}` in them; `{{` is a brace.
        request_headers: HeaderEdits => section(),
        /// Which answers are compressed.
        compress: Option<Compress> => absent("they go as they came"),
        /// How fast bodies move, each for itself.
        bandwidth: Bandwidth => section(),
        /// Pages in the place of answers' own texts; the first that is for a status.
        error_page: Vec<ErrorPage> => default(Vec::new()),
        /// Changes of the fields that clients get, of answers of our own too; variables as in `request_headers`.
        response_headers: HeaderEdits => section(),
    }
}

declare! {
    /// The path that instances get: one of `prefix`, `regex` with `to`, and `path`. The query stays.
    pub(crate) struct RewriteKeys {
        /// What the route's `path_prefix` becomes: `"/"` takes it away.
        prefix: Option<UrlPath> => absent("see regex and path"),
        /// A regular expression whose first match in the path becomes `to`.
        regex: Option<PartRegex> => absent("see prefix and path"),
        /// What `regex` matched becomes this; `$1` is what its first group matched.
        to: Option<RewriteTo> => absent("only without regex"),
        /// All of the path.
        path: Option<UrlPath> => absent("see prefix and regex"),
    }
}

declare! {
    /// Changes of fields.
    pub(crate) struct HeaderKeys {
        /// Fields that are taken away.
        remove: Vec<Token> => default(Vec::new()),
        /// Fields that take the place of those of their name.
        set: BTreeMap<Token, Masked<FieldTemplate>> => default(BTreeMap::new()),
        /// Fields beside those of their name.
        add: BTreeMap<Token, Masked<FieldTemplate>> => default(BTreeMap::new()),
    }
}

resolved!(Filters);
resolved!(Rewrite);
resolved!(HeaderEdits);

impl Resolved for Filters {
    type Keys = FilterKeys;

    fn resolve(keys: FilterKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(keys.into())
    }

    fn keys(&self) -> FilterKeys {
        FilterKeys {
            inherit: !self.alone,
            allow: self.access.allow.clone(),
            deny: self.access.deny.clone(),
            cors: self.cors.clone(),
            rate_limit: self.rate_limits.clone(),
            max_body: self.max_body,
            basic_auth: self.basic_auth.clone(),
            concurrency: self.concurrency.clone(),
            host: self.host.clone().map(FieldTemplate),
            rewrite: self.rewrite.clone(),
            request_headers: self.request_headers.clone(),
            compress: self.compress.clone(),
            bandwidth: self.bandwidth,
            error_page: self.error_pages.clone(),
            response_headers: self.response_headers.clone(),
        }
    }
}

impl Filters {
    /// Takes over from the listener's filters what the route does not say itself; `says` tells whether it has a key.
    pub(crate) fn inherit(&mut self, listener: &Self, says: impl Fn(&str) -> bool) {
        if self.alone {
            return;
        }
        let mut own = self.keys();
        macro_rules! take_over {
            ($($key:ident),+) => {
                // Each key by name, so that none that is added is forgotten. A rewrite goes by a route's path: listeners have none.
                let FilterKeys { inherit: _, rewrite: _, $($key),+ } = listener.keys();
                $(if !says(stringify!($key)) {
                    own.$key = $key;
                })+
            };
        }
        take_over!(
            allow,
            deny,
            cors,
            rate_limit,
            max_body,
            basic_auth,
            concurrency,
            host,
            request_headers,
            compress,
            bandwidth,
            error_page,
            response_headers
        );
        *self = own.into();
    }
}

impl From<FilterKeys> for Filters {
    fn from(keys: FilterKeys) -> Self {
        Self {
            alone: !keys.inherit,
            access: Access {
                allow: keys.allow,
                deny: keys.deny,
            },
            cors: keys.cors,
            rate_limits: keys.rate_limit,
            max_body: keys.max_body,
            basic_auth: keys.basic_auth,
            concurrency: keys.concurrency,
            rewrite: keys.rewrite,
            host: keys.host.map(|FieldTemplate(host)| host),
            request_headers: keys.request_headers,
            compress: keys.compress,
            bandwidth: keys.bandwidth,
            error_pages: keys.error_page,
            response_headers: keys.response_headers,
        }
    }
}

impl Resolved for Rewrite {
    type Keys = RewriteKeys;

    fn resolve(keys: RewriteKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        match (keys.prefix, keys.regex, keys.to, keys.path) {
            (Some(UrlPath(to)), None, None, None) => Some(Self::Prefix {
                from: "".into(),
                to: to.trim_end_matches('/').into(),
            }),
            (None, Some(PartRegex(regex)), Some(RewriteTo(to)), None) => {
                if let Some(group) = missing_group(&regex, &to) {
                    let what = format!(
                        "names the group ${group}, and the regex has {}",
                        regex.groups()
                    );
                    cx.error(node.at, what, "write ${1} in braces if a digit follows");
                    return None;
                }
                Some(Self::Regex(regex, to))
            }
            (None, None, None, Some(UrlPath(path))) => Some(Self::Whole(path)),
            _ => {
                let what = "is not one of prefix, regex with to, and path";
                cx.error(
                    node.at,
                    what,
                    "write prefix = \"/\", or regex and to, or path",
                );
                None
            }
        }
    }

    fn keys(&self) -> RewriteKeys {
        let mut keys = RewriteKeys {
            prefix: None,
            regex: None,
            to: None,
            path: None,
        };
        match self.clone() {
            Self::Prefix { to, .. } if to.is_empty() => keys.prefix = Some(UrlPath("/".into())),
            Self::Prefix { to, .. } => keys.prefix = Some(UrlPath(to)),
            Self::Regex(regex, to) => {
                keys.regex = Some(PartRegex(regex));
                keys.to = Some(RewriteTo(to));
            }
            Self::Whole(path) => keys.path = Some(UrlPath(path)),
        }
        keys
    }
}

/// A group by number that is not there: what it stands for would silently be nothing.
fn missing_group(regex: &Regex, to: &str) -> Option<usize> {
    let numbers = to.split('$').skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse::<usize>().ok()
    });
    numbers.into_iter().find(|&number| number > regex.groups())
}

/// Fields that are written anew in every message, or say who a request comes from. Taking them away or setting them would
/// break the message, or be a second word on what the proxy says itself.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Parts of names of fields that say who somebody is, in a way that others could say after him.
const CREDENTIALS: &[&str] = &[
    "auth",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// By its name, as there is nothing else to go by; what is hidden without need costs little.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

impl Resolved for HeaderEdits {
    type Keys = HeaderKeys;

    fn resolve(keys: HeaderKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        let named = [
            ("remove", keys.remove.iter().collect::<Vec<_>>()),
            ("set", keys.set.keys().collect()),
            ("add", keys.add.keys().collect()),
        ];
        for (key, names) in named {
            for Token(name) in names {
                if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                    let key = format!("{}.{key}", cx.path());
                    let what = format!("has the field {name}, which the proxy writes itself");
                    cx.at_key(
                        Severity::Error,
                        &key,
                        what,
                        "leave it out; for Host there is the key host",
                    );
                }
            }
        }
        let templates = |fields: BTreeMap<Token, Masked<FieldTemplate>>| {
            let fields = fields.into_iter();
            fields
                .map(|(Token(name), field)| (name, field.value.0))
                .collect()
        };
        (cx.log.errors() == before).then(|| Self {
            remove: keys.remove.into_iter().map(|Token(name)| name).collect(),
            set: templates(keys.set),
            add: templates(keys.add),
        })
    }

    fn keys(&self) -> HeaderKeys {
        let named = |fields: &[(Box<str>, Template)]| {
            let fields = fields.iter().cloned();
            fields
                .map(|(name, value)| {
                    let (secret, value) = (is_credential(&name), FieldTemplate(value));
                    (Token(name), Masked { value, secret })
                })
                .collect()
        };
        HeaderKeys {
            remove: self.remove.iter().cloned().map(Token).collect(),
            set: named(&self.set),
            add: named(&self.add),
        }
    }
}
