//! `[service.NAME.check]`: how the health of a service's instances is probed.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use model::{
    CheckKind, CheckProtocol, CheckSpec, Exchange, GrpcCheck, HttpCheck, ProtocolCheck, Secret,
    StatusRange, Transport,
};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::text::{FieldValue, Token, UrlTarget};
use crate::top::{DAY, millis, secs};
use crate::tree::Node;
use crate::value::{Masked, Resolved};

/// Fields that would break the framing of a probe, or that have a key of their own.
const RESERVED_FIELDS: [&str; 6] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The longest name of a gRPC service: twice the longest path that people write.
const MAX_SERVICE: usize = 1_024;

declare! {
    /// How the health of the instances is probed: by `tcp`, `udp`, `http`, `grpc` or `protocol`, one of them.
    pub(crate) struct CheckKeys {
        /// `true`: an instance that accepts a connection, and answers as expected, is well.
        tcp: Option<bool> => absent("see http"),
        /// `true`: an instance to which a datagram gets, and which answers as expected, is well.
        udp: Option<bool> => absent("see http"),
        /// The path to ask for, with a query or without: an instance that answers as expected is well.
        http: Option<UrlTarget> => absent("see tcp, udp, grpc and protocol"),
        /// The gRPC service to ask for by `grpc.health.v1.Health/Check`, such as `"shop.Cart"`; `""` for the server as a
        /// whole. An instance that says that it is serving is well.
        grpc: Option<Box<str>> => absent("see http"),
        /// A server that answers in this protocol is well: `"postgresql"`, `"mysql"`, `"redis"`, `"smtp"`, `"imap"`
        /// or `"pop3"`. The first three also tell who is the primary.
        protocol: Option<CheckProtocol> => absent("see http"),
        /// What is sent first. For `tcp` and `udp`.
        send: Option<Box<str>> => absent("nothing; over udp an empty datagram"),
        /// A text that the first 64 KiB of what comes back must hold. For `tcp` and `udp`.
        expect: Option<Box<str>> => absent("tcp: a connection is enough; udp: silence is, but no ICMP error"),
        /// Who logs in. For `postgresql`, `mysql` and `redis`.
        user: Option<Box<str>> => absent("it is enough that the server answers, if only to refuse"),
        /// The user's password. For `postgresql`, `mysql` and `redis`.
        password: Option<Secret> => absent("the user has none"),
        /// The database to log in to. For `postgresql` and `mysql`.
        database: Option<Box<str>> => absent("postgresql: postgres; mysql: none"),
        /// The method of the request. For `http`.
        method: Option<Token> => absent("GET"),
        /// The `Host` of the request. For `http`.
        host: Option<FieldValue> => absent("the instance's address"),
        /// More header fields of the request. For `http`.
        headers: BTreeMap<Token, Masked<FieldValue>> => default(BTreeMap::new()),
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
        let kind = how(&keys, node, cx).and_then(|how| {
            only_what_belongs(&keys, how, cx);
            match how {
                How::Tcp | How::Udp => Some(exchange(&keys, how)),
                How::Http => http(&keys, cx),
                How::Grpc => grpc(&keys, cx),
                How::Protocol(protocol) => Some(login(&keys, protocol, cx)),
            }
        });
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
            udp: None,
            http: None,
            grpc: None,
            protocol: None,
            send: None,
            expect: None,
            user: None,
            password: None,
            database: None,
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
            CheckKind::Grpc(grpc) => keys.grpc = Some(grpc.service.clone()),
            CheckKind::Exchange(exchange) => {
                keys.tcp = (exchange.transport == Transport::Tcp).then_some(true);
                keys.udp = (exchange.transport == Transport::Udp).then_some(true);
                keys.send = exchange.send.clone();
                keys.expect = exchange.expect.clone();
            }
            CheckKind::Protocol(check) => {
                keys.protocol = Some(check.protocol);
                keys.user = check.user.clone();
                keys.password = check.password.clone();
                keys.database = check.database.clone();
            }
            CheckKind::Http(http) => {
                let header = |(name, value): &(Box<str>, Box<str>)| {
                    // Most often a key of the page that is asked for.
                    let (value, secret) = (FieldValue(value.clone()), true);
                    (Token(name.clone()), Masked { value, secret })
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

/// By what it is checked.
#[derive(Clone, Copy)]
enum How {
    Tcp,
    Udp,
    Http,
    Grpc,
    Protocol(CheckProtocol),
}

/// The one of five that is given.
fn how(keys: &CheckKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<How> {
    for (name, flag) in [("tcp", keys.tcp), ("udp", keys.udp)] {
        if flag == Some(false) {
            let what = format!("has {name} = false");
            cx.error(node.at, what, "leave it out, or write true");
            return None;
        }
    }
    let given = [
        keys.tcp.map(|_| ("tcp", How::Tcp)),
        keys.udp.map(|_| ("udp", How::Udp)),
        keys.http.as_ref().map(|_| ("http", How::Http)),
        keys.grpc.as_ref().map(|_| ("grpc", How::Grpc)),
        keys.protocol.map(|p| ("protocol", How::Protocol(p))),
    ];
    let given: Vec<_> = given.into_iter().flatten().collect();
    match &given[..] {
        [(_, how)] => return Some(*how),
        [] => {
            let hint = "add tcp = true, udp = true, http = \"/…\", grpc = \"\" or protocol = \"…\"";
            cx.error(node.at, "does not say how", hint);
        }
        [first, second, ..] => {
            let what = format!("has both {} and {}", first.0, second.0);
            cx.error(node.at, what, "keep one of the two");
        }
    }
    None
}

/// Keys that mean nothing for a check of this kind are mistakes.
fn only_what_belongs(keys: &CheckKeys, how: How, cx: &mut Reader<'_, '_>) {
    let (http, exchange, name) = match how {
        How::Tcp => (false, true, "tcp"),
        How::Udp => (false, true, "udp"),
        How::Http => (true, false, "http"),
        How::Grpc => (false, false, "grpc"),
        How::Protocol(protocol) => (false, false, protocol.as_str()),
    };
    let protocol = match how {
        How::Protocol(protocol) => Some(protocol),
        _ => None,
    };
    let login = protocol.is_some_and(CheckProtocol::has_login);
    let databases = protocol.is_some_and(CheckProtocol::has_databases);
    for (key, given, belongs) in [
        ("send", keys.send.is_some(), exchange),
        ("expect", keys.expect.is_some(), exchange),
        ("user", keys.user.is_some(), login),
        ("password", keys.password.is_some(), login),
        ("database", keys.database.is_some(), databases),
        ("method", keys.method.is_some(), http),
        ("host", keys.host.is_some(), http),
        ("headers", !keys.headers.is_empty(), http),
        ("status", keys.status.is_some(), http),
        ("body", keys.body.is_some(), http),
    ] {
        if given && !belongs {
            let key = format!("{}.{key}", cx.path());
            let what = format!("has no meaning for a check by {name}");
            cx.at_key(Severity::Error, &key, what, "leave it out");
        }
    }
}

fn exchange(keys: &CheckKeys, how: How) -> CheckKind {
    let transport = match how {
        How::Udp => Transport::Udp,
        _ if keys.send.is_none() && keys.expect.is_none() => return CheckKind::Tcp,
        _ => Transport::Tcp,
    };
    CheckKind::Exchange(Exchange {
        transport,
        send: keys.send.clone(),
        expect: keys.expect.clone(),
    })
}

fn grpc(keys: &CheckKeys, cx: &mut Reader<'_, '_>) -> Option<CheckKind> {
    let service = keys.grpc.clone()?;
    if service.len() > MAX_SERVICE || service.contains(char::is_control) {
        let key = format!("{}.grpc", cx.path());
        let what = "is no name of a service";
        let hint = "write it as in the .proto file, with its package: \"shop.Cart\"";
        cx.at_key(Severity::Error, &key, what, hint);
    }
    Some(CheckKind::Grpc(GrpcCheck { service }))
}

fn login(keys: &CheckKeys, protocol: CheckProtocol, cx: &mut Reader<'_, '_>) -> CheckKind {
    let password = keys.password.as_ref().map(|Secret(password)| password);
    // They are sent with a zero byte, or in a line, behind them.
    for (key, text) in [
        ("user", keys.user.as_ref()),
        ("password", password),
        ("database", keys.database.as_ref()),
    ] {
        if text.is_some_and(|text| text.is_empty() || text.contains(char::is_control)) {
            let key = format!("{}.{key}", cx.path());
            let what = "is empty, or has a control character in it";
            cx.at_key(
                Severity::Error,
                &key,
                what,
                "leave it out, or write another",
            );
        }
    }
    // Redis knows a password without a user, and no user without a password.
    let (key, other, alone) = match protocol {
        CheckProtocol::Redis => (
            "user",
            "password",
            keys.user.is_some() && password.is_none(),
        ),
        _ => (
            "password",
            "user",
            password.is_some() && keys.user.is_none(),
        ),
    };
    if alone && protocol.has_login() {
        let key = format!("{}.{key}", cx.path());
        let what = format!("is there, but no {other}");
        cx.at_key(Severity::Error, &key, what, "give both");
    }
    CheckKind::Protocol(ProtocolCheck {
        protocol,
        user: keys.user.clone(),
        password: keys.password.clone(),
        database: keys.database.clone(),
    })
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
    let header = |(name, field): (&Token, &Masked<FieldValue>)| {
        let FieldValue(value) = &field.value;
        (name.0.clone(), value.clone())
    };
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
