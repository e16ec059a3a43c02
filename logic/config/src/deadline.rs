//! `[listener.NAME.deadline]`: how long requests may take, and how that is told.

use std::time::Duration;

use model::{Deadlines, Heeded};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::text::Token;
use crate::top::{DAY, millis};
use crate::tree::Node;
use crate::value::{Resolved, Text};

/// Fields that have a meaning of their own, or say how a message is framed.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

declare! {
    /// How long requests may take as a whole, retries and waiting included. Whoever takes longer is answered with 504, or broken
    /// off if its answer has begun.
    pub(crate) struct DeadlineKeys {
        /// The longest that a request may take, from its head to the last byte of its answer; a route's `timeout` takes the place of
        /// it. Tunnels have limits of their own.
        timeout: Option<Duration> => absent("as long as the other limits let it").if_given_within(millis(1)..=DAY),
        /// The header field that says how many milliseconds are left: instances get it, with what is left when they do, and
        /// clients may say it, to have less. Such as `"X-Request-Timeout-Ms"`, or Envoy's `"x-envoy-expected-rq-timeout-ms"`.
        header: Option<Token> => absent("nobody is told"),
        /// Whose `header` is heeded: `"all"`, `"trusted"` (only that of `trusted_peers`) or `"none"`. What is no number is ignored.
        // A client can only have less time by it than it would have.
        accept: Heeded => default(Heeded::All),
    }
}

resolved!(Deadlines);

impl Resolved for Deadlines {
    type Keys = DeadlineKeys;

    fn resolve(keys: DeadlineKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let header = keys.header.map(|name| name.text().to_ascii_lowercase());
        if let Some(name) = header.as_deref().filter(|name| RESERVED.contains(name)) {
            let what = format!("tells the time left in {name}, which means something else");
            cx.error(node.at, what, "use a name such as \"X-Request-Timeout-Ms\"");
            return None;
        }
        Some(Self {
            timeout: keys.timeout,
            header: header.map(Into::into),
            accept: keys.accept,
        })
    }

    fn keys(&self) -> DeadlineKeys {
        let token = |name: &str| Token::parse(name).ok();
        DeadlineKeys {
            timeout: self.timeout,
            header: self.header.as_deref().and_then(token),
            accept: self.accept,
        }
    }
}
