//! `[service.NAME.check]`: how the health of a service's instances is probed.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use model::{CheckKind, CheckSpec, HttpCheck, StatusRange};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::text::{FieldValue, Token, UrlTarget};
use crate::top::{DAY, millis, secs};
use crate::tree::Node;
use crate::value::Resolved;

/// Fields that would break the framing of a probe, or that have a key of their own.
const RESERVED_FIELDS: [&str; 6] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

declare! {
    /// How the health of the instances is probed: by `tcp` or by `http`.
    pub(crate) struct CheckKeys {
        /// `true`: an instance that accepts a connection is well.
        tcp: Option<bool> => absent("see http"),
        /// The path to ask for, with a query or without: an instance that answers as expected is well.
        http: Option<UrlTarget> => absent("see tcp"),
        /// The method of the request. For `http`.
        method: Option<Token> => absent("GET"),
        /// The `Host` of the request. For `http`.
        host: Option<FieldValue> => absent("the instance's address"),
        /// More header fields of the request. For `http`.
        headers: BTreeMap<Token, FieldValue> => default(BTreeMap::new()),
        /// Status codes that pass. For `http`.
        status: Option<Vec<StatusRange>> => absent("200-399"),
        /// A text that the first 64 KiB of the answer's body must hold. For `http`.
        body: Option<Box<str>> => absent("any body passes"),
        /// The port to probe.
        port: Option<NonZeroU16> => absent("the instance's own"),
        /// The time from one probe to the next.
        // With `fall` = 3, an instance that died without a word is out in six seconds.
        interval: Duration => default(secs(2)).within(millis(100)..=DAY),
        /// How long one probe may take.
        // Ten times a slow health page; an instance that takes longer is not fit for traffic.
        timeout: Duration => default(millis(500)).within(millis(1)..=DAY),
        /// Successes in a row that turn an instance passing.
        // One success may be luck while it starts.
        rise: u16 => default(2u16).within(1..=1_000),
        /// Failures in a row that turn an instance critical.
        // Two lost packets or one pause for garbage collection take nobody out.
        fall: u16 => default(3u16).within(1..=1_000),
    }
}

resolved!(CheckSpec);

impl Resolved for CheckSpec {
    type Keys = CheckKeys;

    fn resolve(keys: CheckKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if keys.timeout > keys.interval {
            let key = format!("{}.timeout", cx.path());
            let what = "is longer than the interval";
            cx.at_key(
                Severity::Warning,
                &key,
                what,
                "probes will be as rare as they are slow",
            );
        }
        let kind = match (keys.tcp, &keys.http) {
            (Some(false), _) => {
                cx.error(node.at, "has tcp = false", "leave it out, or write true");
                None
            }
            (Some(true), Some(_)) => {
                cx.error(node.at, "has both tcp and http", "keep one of the two");
                None
            }
            (None, None) => {
                cx.error(
                    node.at,
                    "does not say how",
                    "add tcp = true or http = \"/…\"",
                );
                None
            }
            (Some(true), None) => tcp(&keys, cx),
            (None, Some(_)) => http(&keys, cx),
        };
        let kind = kind?;
        (cx.log.errors() == before).then_some(Self {
            kind,
            port: keys.port,
            interval: keys.interval,
            timeout: keys.timeout,
            rise: keys.rise,
            fall: keys.fall,
        })
    }

    fn keys(&self) -> CheckKeys {
        let mut keys = CheckKeys {
            tcp: None,
            http: None,
            method: None,
            host: None,
            headers: BTreeMap::new(),
            status: None,
            body: None,
            port: self.port,
            interval: self.interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
        };
        match &self.kind {
            CheckKind::Tcp => keys.tcp = Some(true),
            CheckKind::Http(http) => {
                let header = |(name, value): &(Box<str>, Box<str>)| {
                    (Token(name.clone()), FieldValue(value.clone()))
                };
                keys.http = Some(UrlTarget(http.path.clone()));
                keys.method = Some(Token(http.method.clone()));
                keys.host = http.host.clone().map(FieldValue);
                keys.headers = http.headers.iter().map(header).collect();
                keys.status = Some(http.status.clone());
                keys.body = http.body.clone();
            }
        }
        keys
    }
}

fn tcp(keys: &CheckKeys, cx: &mut Reader<'_, '_>) -> Option<CheckKind> {
    let for_http = [
        ("method", keys.method.is_some()),
        ("host", keys.host.is_some()),
        ("headers", !keys.headers.is_empty()),
        ("status", keys.status.is_some()),
        ("body", keys.body.is_some()),
    ];
    for (name, given) in for_http {
        if given {
            let key = format!("{}.{name}", cx.path());
            let what = "has no meaning for a tcp check";
            cx.at_key(
                Severity::Error,
                &key,
                what,
                "leave it out, or check by http",
            );
        }
    }
    Some(CheckKind::Tcp)
}

fn http(keys: &CheckKeys, cx: &mut Reader<'_, '_>) -> Option<CheckKind> {
    for Token(name) in keys.headers.keys() {
        if RESERVED_FIELDS.contains(&name.to_ascii_lowercase().as_str()) {
            let key = format!("{}.headers", cx.path());
            let what = format!("has the field {name}, which is not yours to set here");
            cx.at_key(
                Severity::Error,
                &key,
                what,
                "leave it out; for Host there is the key host",
            );
        }
    }
    let status = keys.status.clone();
    if status.as_ref().is_some_and(Vec::is_empty) {
        let key = format!("{}.status", cx.path());
        let what = "is empty, so that no answer would pass";
        cx.at_key(
            Severity::Error,
            &key,
            what,
            "leave it out, or name what passes",
        );
    }
    let UrlTarget(path) = keys.http.clone()?;
    let Token(method) = keys.method.clone().unwrap_or_else(|| Token("GET".into()));
    let header = |(name, value): (&Token, &FieldValue)| (name.0.clone(), value.0.clone());
    Some(CheckKind::Http(HttpCheck {
        method,
        path,
        host: keys.host.clone().map(|FieldValue(host)| host),
        headers: keys.headers.iter().map(header).collect(),
        status: status.unwrap_or_else(|| {
            let any_but_errors = StatusRange {
                first: 200,
                last: 399,
            };
            vec![any_but_errors]
        }),
        body: keys.body.clone(),
    }))
}
