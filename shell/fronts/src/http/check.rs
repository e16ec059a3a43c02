//! What a registration says about its check. Defaults and limits are those of `[service.NAME.check]` in the
//! configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use model::{
    CheckKind, CheckProtocol, CheckSpec, Exchange, GrpcCheck, HttpCheck, ProtocolCheck, Secret,
    StatusRange, Transport,
};

use super::fault::Faults;
use super::fields::Fields;
use super::json::Node;
use super::values::{flag, line, method, parsed, period, port, target, text, whole};

const DAY: Duration = Duration::from_secs(86_400);
/// With `fall` = 3, an instance that died without a word is out in six seconds.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
/// Ten times a slow health page.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
/// One success may be luck while an instance starts.
const RISE: u16 = 2;
/// Two lost packets take nobody out.
pub(crate) const FALL: u16 = 3;
/// Successes or failures in a row.
const ROWS: RangeInclusive<u16> = 1..=1_000;
/// More header fields than this are sent by no health check there is.
const MAX_HEADERS: usize = 32;
/// A text in a probe or its answer, in bytes.
const MAX_TEXT: usize = 1 << 10;

/// Fields that would break the framing of a probe, or that have a key of their own.
const RESERVED: [&str; 6] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Reads a check. `None`, and faults, if something is wrong.
pub(crate) fn read(mut fields: Fields<'_, '_>, faults: &mut Faults) -> Option<CheckSpec> {
    let kind = kind(&mut fields, faults);
    let port = fields.optional("port", faults, port);
    let interval = fields.optional("interval", faults, |n| period(n, INTERVALS));
    let timeout = fields.optional("timeout", faults, |n| period(n, TIMEOUTS));
    let rise = fields.optional("rise", faults, |n| whole(n, ROWS));
    let fall = fields.optional("fall", faults, |n| whole(n, ROWS));
    fields.finish(faults);
    Some(CheckSpec {
        kind: kind?,
        port,
        interval: interval.unwrap_or(INTERVAL),
        timeout: timeout.unwrap_or(TIMEOUT),
        rise: rise.unwrap_or(RISE),
        fall: fall.unwrap_or(FALL),
    })
}

/// What belongs to checks of which kind only.
const ONLY: [(&str, &[&str]); 10] = [
    ("send", &["tcp", "udp"]),
    ("expect", &["tcp", "udp"]),
    ("user", &["postgresql", "mysql", "redis"]),
    ("password", &["postgresql", "mysql", "redis"]),
    ("database", &["postgresql", "mysql"]),
    ("method", &["http"]),
    ("host", &["http"]),
    ("headers", &["http"]),
    ("status", &["http"]),
    ("body", &["http"]),
];

fn kind(fields: &mut Fields<'_, '_>, faults: &mut Faults) -> Option<CheckKind> {
    let tcp = fields.optional("tcp", faults, flag) == Some(true);
    let udp = fields.optional("udp", faults, flag) == Some(true);
    let path = fields.optional("http", faults, target);
    let protocol = fields.optional("protocol", faults, parsed::<CheckProtocol>);
    let grpc = fields.optional("grpc", faults, |node| match text(node)? {
        "" => Ok("".into()),
        _ => line(node, MAX_TEXT),
    });
    let http = http(fields, faults);
    let exchange = exchange(udp, fields, faults);
    let login = login(fields, faults);
    let by_http = fields.value("http").is_some();
    let by_grpc = fields.value("grpc").is_some();
    let by_protocol = fields.value("protocol").is_some();
    let given = [
        (tcp, "tcp"),
        (udp, "udp"),
        (by_http, "http"),
        (by_grpc, "grpc"),
        (by_protocol, "protocol"),
    ];
    let given: Vec<_> = given
        .into_iter()
        .filter_map(|(given, how)| given.then_some(how))
        .collect();
    let how = match &given[..] {
        [one] => protocol.map_or(*one, CheckProtocol::as_str),
        [] => {
            let detail = "does not say how; add \"tcp\": true, \"udp\": true, \"http\": \"/…\", \
                          \"grpc\": \"\" or \"protocol\": \"…\"";
            fields.whole(detail, faults);
            return None;
        }
        [one, another, ..] => {
            fields.whole(
                format!("has both {one} and {another}; keep one of the two"),
                faults,
            );
            return None;
        }
    };
    for (name, kinds) in ONLY {
        // Of a protocol that is not known, that was said already.
        if how != "protocol" && !kinds.contains(&how) && fields.value(name).is_some() {
            let detail = format!("has no meaning for a check by {how}; leave it out");
            fields.fault(name, detail, faults);
        }
    }
    match how {
        "tcp" if exchange.send.is_none() && exchange.expect.is_none() => Some(CheckKind::Tcp),
        "tcp" | "udp" => Some(CheckKind::Exchange(exchange)),
        "http" => path.map(|path| {
            CheckKind::Http(HttpCheck {
                path: path.as_str().into(),
                ..http
            })
        }),
        "grpc" => grpc.map(|service| CheckKind::Grpc(GrpcCheck { service })),
        _ => protocol.map(|protocol| {
            let check = ProtocolCheck { protocol, ..login };
            complete(&check, fields, faults);
            CheckKind::Protocol(check)
        }),
    }
}

fn exchange(udp: bool, fields: &mut Fields<'_, '_>, faults: &mut Faults) -> Exchange {
    // Any characters: whoever checks a binary protocol needs them.
    let bytes = |node: &Node<'_>| {
        let text = text(node)?;
        let fits = (1..=MAX_TEXT).contains(&text.len());
        let length = text.len();
        let fault = || format!("is {length} bytes long; 1 to {MAX_TEXT} are possible");
        fits.then(|| text.into()).ok_or_else(fault)
    };
    Exchange {
        transport: if udp { Transport::Udp } else { Transport::Tcp },
        send: fields.optional("send", faults, bytes),
        expect: fields.optional("expect", faults, bytes),
    }
}

/// Everything about a check by protocol but which.
fn login(fields: &mut Fields<'_, '_>, faults: &mut Faults) -> ProtocolCheck {
    let mut text = |name| fields.optional(name, faults, |node| line(node, MAX_TEXT));
    ProtocolCheck {
        protocol: CheckProtocol::Redis,
        user: text("user"),
        password: text("password").map(Secret),
        database: text("database"),
    }
}

/// Redis knows a password without a user, and no user without a password; the others the other way round.
fn complete(check: &ProtocolCheck, fields: &Fields<'_, '_>, faults: &mut Faults) {
    let (user, password) = (check.user.is_some(), check.password.is_some());
    match check.protocol {
        CheckProtocol::Redis if user && !password => {
            fields.fault("user", "is there, but no password; give both", faults);
        }
        CheckProtocol::PostgreSql | CheckProtocol::MySql if password && !user => {
            fields.fault("password", "is there, but no user; give both", faults);
        }
        _ => {}
    }
}

/// Everything about an HTTP check but its path.
fn http(fields: &mut Fields<'_, '_>, faults: &mut Faults) -> HttpCheck {
    let method = fields.optional("method", faults, method);
    let host = fields.optional("host", faults, host);
    let headers = fields
        .nested("headers", faults)
        .map(|fields| headers(&fields, faults));
    let status = fields.optional("status", faults, statuses);
    let body = fields.optional("body", faults, |node| line(node, MAX_TEXT));
    let any_but_errors = StatusRange {
        first: 200,
        last: 399,
    };
    HttpCheck {
        method: method
            .as_ref()
            .map_or("GET", |method| method.as_str())
            .into(),
        path: "/".into(),
        host,
        headers: headers.unwrap_or_default(),
        status: status.unwrap_or_else(|| vec![any_but_errors]),
        body,
    }
}

fn host(node: &Node<'_>) -> Result<Box<str>, String> {
    let host = line(node, 255)?;
    match host.parse::<axum::http::uri::Authority>() {
        Ok(authority) if !authority.as_str().contains('@') => Ok(host),
        _ => Err("must be a host with or without a port".into()),
    }
}

fn headers(fields: &Fields<'_, '_>, faults: &mut Faults) -> Vec<(Box<str>, Box<str>)> {
    if fields.entries().len() > MAX_HEADERS {
        let detail = format!("has more entries than the {MAX_HEADERS} that are possible");
        fields.whole(detail, faults);
        return Vec::new();
    }
    let mut headers = Vec::new();
    for (name, value) in fields.entries() {
        match header(name, value) {
            Ok(pair) => headers.push(pair),
            Err(detail) => fields.fault(name, detail, faults),
        }
    }
    headers
}

fn header(name: &str, value: &Node<'_>) -> Result<(Box<str>, Box<str>), String> {
    let parsed = name.parse::<HeaderName>();
    if parsed.is_err() || name.len() > MAX_TEXT {
        return Err("is no name of a header field".into());
    }
    if parsed.is_ok_and(|name| RESERVED.contains(&name.as_str())) {
        return Err("is not yours to set here; for Host there is the field host".into());
    }
    let value = text(value)?;
    // Any other octet could end the field, or be read differently by the next parser.
    let visible = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !visible || value.len() > MAX_TEXT || HeaderValue::from_str(value).is_err() {
        return Err(format!(
            "must have at most {MAX_TEXT} printable ASCII characters"
        ));
    }
    Ok((name.into(), value.into()))
}

/// `200`, `"200-399"`, or a list of such.
fn statuses(node: &Node<'_>) -> Result<Vec<StatusRange>, String> {
    match node {
        Node::List(list) if (1..=16).contains(&list.len()) => list.iter().map(status).collect(),
        Node::List(list) => Err(format!("has {} entries; 1 to 16 are possible", list.len())),
        one => status(one).map(|status| vec![status]),
    }
}

fn status(node: &Node<'_>) -> Result<StatusRange, String> {
    match node {
        Node::Number(_) => {
            let code = whole(node, 100..=599)?;
            Ok(StatusRange {
                first: code,
                last: code,
            })
        }
        text => parsed(text),
    }
}
