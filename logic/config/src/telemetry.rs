//! `[telemetry]`: what others are told about requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::Secret;
use serde_json::{Value as Json, json};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::Token;
use crate::top::{millis, secs};
use crate::tree::{Node, clip};
use crate::value::{Resolved, Text};

declare! {
    /// What others are told about requests.
    pub struct Telemetry {
        /// Traces, sent to a collector of OpenTelemetry by OTLP over HTTP.
        traces: Option<Traces> => absent("nothing is recorded, and trace contexts are passed on as they come"),
    }
}

/// Where traces are sent, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Where the collector is.
    pub endpoint: Collector,
    /// Fields of its requests, by their names.
    pub headers: BTreeMap<Box<str>, Secret>,
    /// The authority that has signed its certificate.
    pub ca: Option<PathBuf>,
    /// What this program is called there.
    pub service_name: Box<str>,
    /// What else is said of it.
    pub resource: BTreeMap<Box<str>, Box<str>>,
    /// How many of the traces that begin here are recorded.
    pub sample: Share,
    /// How many requests may wait to be sent.
    pub queue: u32,
    /// How long one attempt to send may take.
    pub timeout: Duration,
}

declare! {
    /// Traces, sent to a collector of OpenTelemetry by OTLP over HTTP. Every request is then a span, and so is each attempt at
    /// an instance.
    pub(crate) struct TracesKeys {
        /// The collector, such as `"http://127.0.0.1:4318"`. `/v1/traces` is added unless it is there.
        endpoint: Collector => required().restart(),
        /// Fields that its requests have, say for a key: `{ authorization = "Bearer …" }`.
        headers: BTreeMap<Token, Secret> => default(BTreeMap::new()).restart(),
        /// A PEM file with the authority that has signed the collector's certificate, if the endpoint is `https`.
        ca: Option<PathBuf> => absent("whom the system trusts").restart(),
        /// The resource's `service.name`.
        service_name: Box<str> => default("pointsman").restart(),
        /// Further attributes of the resource, by name: `{ "deployment.environment.name" = "production" }`.
        resource: BTreeMap<Box<str>, Box<str>> => default(BTreeMap::new()).restart(),
        /// How many of the traces that begin here are recorded, as `"100%"` or `"0.1%"`. Of those that began elsewhere, the ones
        /// that are recorded there.
        // What OpenTelemetry's own samplers do: whoever sets tracing up wants to see a trace.
        sample: Share => default(Share::ALL),
        /// How many requests may wait to be sent; more are lost, and counted.
        // A second's requests of a busy node, and some 30 MiB.
        queue: u32 => default(16_384u32).within(1_024..=1_000_000).restart(),
        /// How long the collector may take to answer, before it is tried again.
        // As OpenTelemetry's exporters have it.
        timeout: Duration => default(secs(10)).within(millis(100)..=secs(300)).restart(),
    }
}

resolved!(Traces);

impl Resolved for Traces {
    type Keys = TracesKeys;

    fn resolve(keys: TracesKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        for (Token(name), Secret(value)) in &keys.headers {
            let ours = ["content-length", "content-type", "content-encoding", "host"];
            let path = format!("{}.headers", cx.path());
            if ours.contains(&name.to_ascii_lowercase().as_str()) {
                let what = format!("has the field {name}, which is written anyway");
                cx.at_key(Severity::Error, &path, what, "leave it out");
            }
            if value.bytes().any(|b| !matches!(b, b' '..=b'~')) {
                let what = format!("has a value for {name} that no field can have");
                let hint = "letters, digits and signs of ASCII";
                cx.at_key(Severity::Error, &path, what, hint);
            }
        }
        if keys.ca.is_some() && !keys.endpoint.tls {
            let path = format!("{}.ca", cx.path());
            let hint = "write https:// in endpoint, or leave it out";
            let what = "has no meaning with an endpoint in clear text";
            cx.at_key(Severity::Error, &path, what, hint);
        }
        let headers = keys.headers.into_iter();
        (cx.log.errors() == before).then(|| Self {
            endpoint: keys.endpoint,
            headers: headers.map(|(Token(name), value)| (name, value)).collect(),
            ca: keys.ca,
            service_name: keys.service_name,
            resource: keys.resource,
            sample: keys.sample,
            queue: keys.queue,
            timeout: keys.timeout,
        })
    }

    fn keys(&self) -> TracesKeys {
        let headers = self.headers.clone().into_iter();
        TracesKeys {
            endpoint: self.endpoint.clone(),
            headers: headers.map(|(name, value)| (Token(name), value)).collect(),
            ca: self.ca.clone(),
            service_name: self.service_name.clone(),
            resource: self.resource.clone(),
            sample: self.sample,
            queue: self.queue,
            timeout: self.timeout,
        }
    }
}

/// A share of a whole in millionths, written `"12.5%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1_000_000);
}

impl Text for Share {
    const EXPECTED: &'static str = "a share, such as \"100%\" or \"0.1%\"";

    fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let number = text.strip_suffix('%')?.trim_end();
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            // Four digits of a per cent are a millionth.
            let fits = (1..=3).contains(&whole.len()) && (1..=4).contains(&part.len());
            if !fits || !digits(whole) || !digits(part) {
                return None;
            }
            let part: u32 = format!("{part:0<4}").parse().ok()?;
            let share = whole.parse::<u32>().ok()? * 10_000 + part;
            (share <= Self::ALL.0).then_some(Self(share))
        };
        read().ok_or_else(|| {
            format!(
                "{:?} is no share; write \"0%\" to \"100%\", with up to four digits behind a point",
                clip(text)
            )
        })
    }

    fn text(&self) -> String {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        match part {
            0 => format!("{whole}%"),
            part => format!("{whole}.{}%", format!("{part:04}").trim_end_matches('0')),
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,4})? ?%$" })
    }
}

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its host: a name or an address, the latter without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// The path as it was written, without a slash at its end.
    pub path: Box<str>,
}

impl Collector {
    /// The path to which traces are sent.
    pub fn target(&self) -> String {
        match self.path.ends_with("/v1/traces") {
            true => self.path.to_string(),
            false => format!("{}/v1/traces", self.path),
        }
    }
}

impl Text for Collector {
    const EXPECTED: &'static str = "a URL, such as \"http://127.0.0.1:4318\"";

    fn parse(text: &str) -> Result<Self, String> {
        let no_url = |why: &str| format!("{:?} {why}; write \"http://host:4318\"", clip(text));
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(no_url("is no URL of http or https")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let visible = |b: u8| b.is_ascii_graphic() && !b"?#\\\"<>".contains(&b);
        if !path.bytes().all(visible) {
            return Err(no_url("has something behind its host that is no path"));
        }
        let (host, port) = match (authority.rfind(':'), authority.ends_with(']')) {
            (Some(colon), false) => {
                let port = authority[colon + 1..].parse();
                let port = port.ok().filter(|port| *port != 0);
                let port: u16 = port.ok_or_else(|| no_url("has no port behind the colon"))?;
                (&authority[..colon], port)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                !host.is_empty() && host.len() <= 253 && host.bytes().all(fits)
            }
        };
        if !is_host {
            return Err(no_url("has no host"));
        }
        let path = path.trim_end_matches('/');
        Ok(Self {
            tls,
            host: bare.unwrap_or(host).into(),
            port,
            path: path.into(),
        })
    }

    fn text(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_string(),
        };
        format!("{scheme}://{host}:{}{}", self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written_to_the_millionth() {
        for (text, share) in [
            ("0%", 0),
            ("100%", 1_000_000),
            ("0.1%", 1_000),
            ("0.0001%", 1),
            ("12.5%", 125_000),
        ] {
            assert_eq!(Share::parse(text), Ok(Share(share)), "{text}");
            assert_eq!(Share(share).text(), text);
        }
        assert_eq!(Share::parse("50 %"), Ok(Share(500_000)));
        for bad in [
            "", "1", "%", "101%", "100.1%", "0.00001%", "-1%", "+1%", ".5%", "1.%", "1e2%",
        ] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn collectors_have_a_host_a_port_and_a_path() {
        for (text, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("http://otel", "http://otel:80"),
            ("https://[::1]:4318/", "https://[::1]:4318"),
            ("https://[::1]", "https://[::1]:443"),
            ("https://a.example/otlp", "https://a.example:443/otlp"),
            ("http://a:1/v1/traces", "http://a:1/v1/traces"),
        ] {
            let collector = Collector::parse(text).unwrap();
            assert_eq!(collector.text(), whole);
            let target = collector.target();
            assert_eq!(target.matches("/v1/traces").count(), 1, "{target}");
            assert_eq!(Collector::parse(whole), Ok(collector));
        }
        for bad in [
            "",
            "a:1",
            "grpc://a:1",
            "http://",
            "http://:1",
            "http://a:",
            "http://a:0",
            "http://a:70000",
            "http://u@a",
            "http://a/ b",
            "http://a/?q",
            "http://::1:4318",
            "http://[x]:1",
            "http://a b",
        ] {
            assert!(Collector::parse(bad).is_err(), "{bad}");
        }
    }
}
