//! `[service.NAME]`: how a service is balanced and checked, and its static instances.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::{
    Breaking, CheckKind, CheckSpec, Ejecting, HashOn, Hedging, Instance, Limiting, Persisting,
    Policy, ProxyVersion, Respreading, RetryOn, Retrying,
};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default, section};
use crate::text::{InstanceProtocol, Percent};
use crate::tls::ServiceTls;
use crate::top::{DAY, millis, secs};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// How a service is balanced and checked, and its static instances.
    pub(crate) struct ServiceKeys {
        /// How an instance is chosen: `"least_conn"`, `"least_time"`, `"peak_ewma"`, `"round_robin"`, `"random"`,
        /// `"consistent_hash"` or `"maglev"`.
        // What is in flight tells of slow instances at once and needs nothing to be learned first.
        policy: Policy => default(Policy::LeastTime),
        /// What `consistent_hash` and `maglev` go by: `"source_ip"`, `"url"`, `"header:NAME"`, `"cookie:NAME"` or
        /// `"query:NAME"`. Requests without it go anywhere.
        // Every request has one.
        hash_on: HashOn => default(HashOn::SourceIp),
        /// How long an instance that is new, or well again, takes to its full share. The hashing policies know no
        /// slow start.
        // Most need none, and it delays a scale-out.
        slow_start: Duration => default(Duration::ZERO).within(Duration::ZERO..=DAY),
        /// Instances of the node's own zone come first; others take what those have no room for. Without `node.zone`,
        /// and for the hashing policies, it makes no difference.
        // Traffic between zones is slower, and often paid for.
        prefer_zone: bool => default(true),
        /// Instances that this node uses at the most, so that many nodes do not each connect to all of a large
        /// fleet; 0 for all. Not for the hashing policies.
        // Few nodes in front of few instances are the common case.
        subset: u32 => default(0u32).within(0..=1_000_000),
        /// With less than this share of the instances healthy, by weight, health is ignored; `"0%"` never.
        // The registry's guard holds mass losses already.
        panic_below: Percent => default(Percent(0)).within(Percent(0)..=Percent(100)),
        /// How long opening a connection to an instance may take.
        // Within a data centre it takes a millisecond; one lost packet costs a second more.
        connect_timeout: Duration => default(secs(1)).within(millis(1)..=DAY),
        /// How long an instance's machine may give no sign of life, asked for one or sent something, until connections to it
        /// count as lost. HTTP requests have limits of their own, which are mostly shorter.
        // Like a client's: a route that breaks is often back by then, and connections survive it.
        peer_timeout: Duration => default(secs(60)).within(secs(2)..=DAY),
        /// From the request sent to the response's head.
        // nginx's and HAProxy's custom; slower answers are better asked for than waited for.
        response_timeout: Duration => default(secs(60)).within(millis(1)..=DAY),
        /// Attempts after the first, on other instances, for requests that were not sent or may be repeated.
        // Two more instances: the third failure in a row is no accident of one of them.
        retries: u8 => default(2u8).within(0..=7),
        /// Retries as a share of the requests of the last 10 seconds; ten a second are free on each worker. When hardly
        /// anything is answered at all, there are fewer still.
        // Finagle's and Envoy's: when all instances fail, retries do not multiply the load that made them fail.
        retry_budget: Percent => default(Percent(20)).within(Percent(0)..=Percent(100)),
        /// After what there is another attempt, if the request may be repeated: `"connect"` (no connection), `"refused"` (an instance
        /// says in HTTP/2 that it has not looked at it), `"reset"` (no answer, or none that makes sense), `"timeout"` (no answer
        /// within `response_timeout`), answers by their status (`"503"`, `"502-504"`), and answers of gRPC (`"grpc:unavailable"`).
        // What says something of the instance, and nothing of the request.
        retry_on: Vec<RetryOn> => default(RetryOn::USUAL.to_vec()),
        /// How long the first attempt waits at the most that waits at all, each further one twice as long, by chance. The first
        /// one that follows `connect` or `refused` does not wait.
        // Envoy's: many faults are over by then, and nobody notices.
        retry_backoff: Duration => default(millis(25)).within(Duration::ZERO..=DAY),
        /// And none waits longer than this.
        // Ten times as long: people still wait.
        retry_max_backoff: Duration => default(millis(250)).within(Duration::ZERO..=DAY),
        /// The longest `Retry-After` that is waited for; answers that say more are passed on, as those are that say more than
        /// is left of the request's deadline.
        // A client that waits for seconds had better know why.
        retry_max_after: Duration => default(secs(1)).within(Duration::ZERO..=DAY),
        /// How long an unused connection to an instance is kept.
        // nginx's; an instance that closes sooner is noticed at once.
        keep_alive: Duration => default(secs(60)).within(Duration::ZERO..=DAY),
        /// The metric of its instances' load reports that says how many requests they are at work on, such as
        /// `"named_metrics.in_flight"`: they come in the field `endpoint-load-metrics` of their answers, as text or JSON
        /// (ORCA). `least_time` then minds what others send them.
        load_report: Option<Box<str>> => absent("what this node itself sees"),
        /// The PROXY header that its instances expect in front of each connection: `"v1"` (text) or `"v2"`
        /// (binary). HTTP requests then get a connection each.
        send_proxy: Option<ProxyVersion> => absent("none: their peer is this node"),
        /// What its instances speak to HTTP listeners: `"http/1.1"`, or `"h2"`. With `tls`, `"h2"` is offered, and an
        /// instance that does not agree gets HTTP/1.1; without, it must speak HTTP/2 from the first byte (h2c).
        // Every server speaks it, and most gain nothing from the other over a short way.
        protocol: InstanceProtocol => default(InstanceProtocol::Http1),
        /// TLS towards its instances.
        tls: Option<ServiceTls> => absent("clear text, or what the client itself speaks"),
        /// Addresses of this machine to connect from, in turn. One address has some 28,000 ports for connections
        /// to one instance.
        connect_from: Vec<IpAddr> => default(Vec::new()),
        /// When instances are taken out because of what was observed.
        ejection: Ejecting => section(),
        /// How many requests it takes at a time.
        limits: Limiting => section(),
        /// When it is left alone for a while because most of its requests fail.
        circuit_breaker: Option<Breaking> => absent("it is never left alone"),
        /// When requests that take long are sent to a second instance.
        hedge: Option<Hedging> => absent("one is asked, and then another only if it fails"),
        /// How long connections follow a change of what instances should have.
        respread: Respreading => section(),
        /// Which instance a client's requests stay at.
        persistence: Option<Persisting> => absent("each request goes where the policy sends it"),
        /// How the health of its instances is probed.
        check: Option<CheckSpec> => absent("they are not probed"),
        /// Static instances, which need no registration.
        instance: Vec<Instance> => default(Vec::new()),
    }
}

/// How a service is balanced and checked, and its static instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How an instance is chosen.
    pub policy: Policy,
    /// What the hashing policies go by.
    pub hash_on: HashOn,
    /// How long a new instance takes to its full share.
    pub slow_start: Duration,
    /// Whether instances of the node's own zone come first.
    pub prefer_zone: bool,
    /// Instances that this node uses at the most; 0 for all.
    pub subset: u32,
    /// With less than this share of the instances healthy, health is ignored.
    pub panic_below: Percent,
    /// Opening a connection to an instance.
    pub connect_timeout: Duration,
    /// How long an instance's machine may be silent when it is asked, until connections to it count as lost.
    pub peer_timeout: Duration,
    /// From the request sent to the response's head.
    pub response_timeout: Duration,
    /// Attempts after the first.
    pub retries: u8,
    /// Retries as a share of requests.
    pub retry_budget: Percent,
    /// What is tried again, and when.
    pub retrying: Retrying,
    /// How long an unused connection to an instance is kept.
    pub keep_alive: Duration,
    /// The metric of its instances' load reports that says how many requests they have, if they report.
    pub load_report: Option<Box<str>>,
    /// The PROXY header that its instances expect.
    pub send_proxy: Option<ProxyVersion>,
    /// What its instances speak to HTTP listeners.
    pub protocol: InstanceProtocol,
    /// TLS towards its instances, if they speak it.
    pub tls: Option<ServiceTls>,
    /// Addresses to connect from; empty: the kernel's choice.
    pub connect_from: Vec<IpAddr>,
    /// When instances are taken out because of what was observed.
    pub ejection: Ejecting,
    /// How many requests it takes at a time.
    pub limits: Limiting,
    /// When it is left alone for a while.
    pub breaking: Option<Breaking>,
    /// When a second instance is asked.
    pub hedging: Option<Hedging>,
    /// How long connections follow a change of what instances should have.
    pub respread: Respreading,
    /// Which instance a client's requests stay at, if that matters.
    pub persistence: Option<Persisting>,
    /// How the health of its instances is probed, those that have no check of their own.
    pub check: Option<CheckSpec>,
    /// Static instances, no two with the same id. They have no lease, and the service's check.
    pub instances: Vec<Instance>,
}

resolved!(Service);

impl Resolved for Service {
    type Keys = ServiceKeys;

    fn resolve(keys: ServiceKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        let mut ids = BTreeMap::new();
        for (n, instance) in keys.instance.iter().enumerate() {
            let key = |n: usize| format!("{}.instance[{}]", cx.path(), n + 1);
            let (path, twin) = (key(n), ids.insert(&instance.id, n).map(key));
            if let Some(twin) = twin.and_then(|twin| cx.place_of(&twin)) {
                let place = cx.log.place(twin);
                let what = format!("has the same id, {}, as the one at {place}", instance.id);
                let hint = "remove it, or give it an id of its own";
                cx.at_key(Severity::Error, &path, what, hint);
            }
        }
        fits_together(&keys, cx);
        (cx.log.errors() == before).then_some(Self {
            policy: keys.policy,
            hash_on: keys.hash_on,
            slow_start: keys.slow_start,
            prefer_zone: keys.prefer_zone,
            subset: keys.subset,
            panic_below: keys.panic_below,
            connect_timeout: keys.connect_timeout,
            peer_timeout: keys.peer_timeout,
            response_timeout: keys.response_timeout,
            retries: keys.retries,
            retry_budget: keys.retry_budget,
            retrying: Retrying {
                on: keys.retry_on,
                backoff: keys.retry_backoff,
                max_backoff: keys.retry_max_backoff,
                max_retry_after: keys.retry_max_after,
            },
            keep_alive: keys.keep_alive,
            load_report: keys.load_report,
            send_proxy: keys.send_proxy,
            protocol: keys.protocol,
            tls: keys.tls,
            connect_from: keys.connect_from,
            ejection: keys.ejection,
            limits: keys.limits,
            breaking: keys.circuit_breaker,
            hedging: keys.hedge,
            respread: keys.respread,
            persistence: keys.persistence,
            check: keys.check,
            instances: keys.instance,
        })
    }

    fn keys(&self) -> ServiceKeys {
        ServiceKeys {
            policy: self.policy,
            hash_on: self.hash_on.clone(),
            slow_start: self.slow_start,
            prefer_zone: self.prefer_zone,
            subset: self.subset,
            panic_below: self.panic_below,
            connect_timeout: self.connect_timeout,
            peer_timeout: self.peer_timeout,
            response_timeout: self.response_timeout,
            retries: self.retries,
            retry_budget: self.retry_budget,
            retry_on: self.retrying.on.clone(),
            retry_backoff: self.retrying.backoff,
            retry_max_backoff: self.retrying.max_backoff,
            retry_max_after: self.retrying.max_retry_after,
            keep_alive: self.keep_alive,
            load_report: self.load_report.clone(),
            send_proxy: self.send_proxy,
            protocol: self.protocol,
            tls: self.tls.clone(),
            connect_from: self.connect_from.clone(),
            ejection: self.ejection,
            limits: self.limits,
            circuit_breaker: self.breaking,
            hedge: self.hedging,
            respread: self.respread,
            persistence: self.persistence.clone(),
            check: self.check.clone(),
            instance: self.instances.clone(),
        }
    }
}

/// Looks for keys that make no sense together.
fn fits_together(keys: &ServiceKeys, cx: &mut Reader<'_, '_>) {
    if keys.respread.rate != 0 && !keys.policy.is_load_aware() {
        let policy = keys.policy.as_str();
        let what = format!("{policy} would not send a client to an instance that has fewer");
        let hint = "choose least_conn as the policy, or leave respread out";
        let path = format!("{}.respread.rate", cx.path());
        cx.at_key(Severity::Error, &path, what, hint);
    }
    if keys.protocol == InstanceProtocol::Http2 && keys.send_proxy.is_some() {
        let what = "names one client, and a connection with HTTP/2 is shared by many";
        let hint = "remove it, or the protocol: instances get X-Forwarded-For as well";
        let path = format!("{}.send_proxy", cx.path());
        cx.at_key(Severity::Error, &path, what, hint);
    }
    if keys.load_report.is_some() && keys.policy != Policy::LeastTime {
        let what = format!("{} does not look at reports", keys.policy.as_str());
        let hint = "choose least_time as the policy, or leave load_report out";
        let path = format!("{}.load_report", cx.path());
        cx.at_key(Severity::Warning, &path, what, hint);
    }
    // Databases and mail servers begin in clear text, and agree on TLS there.
    let clear =
        |check: &CheckSpec| matches!(check.kind, CheckKind::Protocol(_)) && check.port.is_none();
    if keys.tls.is_some() && keys.check.as_ref().is_some_and(clear) {
        let what = "speaks clear text to instances that speak TLS, and will fail";
        let hint = "use tcp = true, or name a port where they answer in clear text";
        let path = format!("{}.check", cx.path());
        cx.at_key(Severity::Warning, &path, what, hint);
    }
}

impl Default for Service {
    /// A service of which the configuration says nothing.
    fn default() -> Self {
        let source = crate::Source {
            name: "defaults".into(),
            text: "[service.any]".into(),
        };
        let parsed = crate::parse(&[source], &|_| None).expect("defaults are valid");
        let mut services = parsed.config.service.into_values();
        services.next().expect("the text names one")
    }
}
