//! The whole configuration, and its small sections. Each key's default stands in its declaration, with the
//! reason above it; so it is in the files of the larger sections.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{ByteSize, HostPattern, Secret, ServiceKey};

use crate::cluster::Cluster;
use crate::declare::declare;
use crate::front::Front;
use crate::listener::Listener;
use crate::rule::{absent, default, section};
use crate::service::Service;
use crate::telemetry::Telemetry;
use crate::text::{AccessFormat, Durability, LogTarget, Percent};

/// So many seconds.
pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many milliseconds.
pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The longest of most periods: whoever writes more has mistaken the unit.
pub(crate) const DAY: Duration = secs(86_400);

declare! {
    /// The configuration of one node.
    pub struct Config {
        /// The process itself.
        node: Node => section(),
        /// The native API.
        api: Api => section(),
        /// What is written about requests.
        log: Log => section(),
        /// What others are told about requests.
        telemetry: Telemetry => section(),
        /// The cluster that this node belongs to: its nodes keep the same registry, and each of them answers.
        cluster: Option<Cluster> => absent("the node is alone"),
        /// How long registrations last, and how they are stored.
        registry: Registry => section(),
        /// Keeps a fault of the network, or of pointsman itself, from emptying the services.
        guard: Guard => section(),
        /// Protocols of other registries, for clients that speak them.
        front: Front => section(),
        /// Where clients connect, by names of your choice.
        listener: BTreeMap<Arc<str>, Listener> => default(BTreeMap::new()),
        /// How services are balanced and checked, and their static instances. A service that registers
        /// itself needs no table here. In a namespace: `[service."namespace/name"]`.
        service: BTreeMap<ServiceKey, Service> => default(BTreeMap::new()),
    }
}

declare! {
    /// The process itself.
    pub struct Node {
        /// What this node calls itself in logs and metrics.
        name: Option<Box<str>> => absent("the machine's host name").restart(),
        /// The failure domain it runs in: its instances come first where a service says `prefer_zone`.
        zone: Option<Box<str>> => absent("all instances are equally near"),
        /// Any text, for the hashing policies: the same on all nodes, so that they send a key to the same instance, and
        /// known to no client, so that none can choose keys that meet at one instance.
        hash_secret: Option<Secret> => absent("one of its own, drawn at each start"),
        /// Any text that nobody knows, for the cookies of services' `persistence`: the same on all nodes, so that a cookie holds on
        /// each of them.
        session_secret: Option<Secret> => absent("one that is drawn once, and kept in data_dir").restart(),
        /// The directory of the registry's log and snapshots.
        // Where the File Hierarchy Standard wants a service's state.
        data_dir: PathBuf => default("/var/lib/pointsman").restart(),
        /// Threads that carry traffic.
        // More than the largest machines have is a slip of the keyboard.
        workers: Option<u16> => absent("one for each core").if_given_within(1..=1024).restart(),
        /// Whether registrations outlive a restart: `"disk"` or `"memory"`.
        // Losing what was confirmed must be asked for.
        durability: Durability => default(Durability::Disk).restart(),
        /// At shutdown, how long requests under way may take to finish.
        // As long as Kubernetes and systemd's sensible units wait before they kill.
        drain_timeout: Duration => default(secs(30)).within(Duration::ZERO..=DAY),
    }
}

impl Api {
    // Nothing listens beyond loopback without being told to: who can register can direct traffic.
    pub(crate) const DEFAULT_BIND: SocketAddr =
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
}

declare! {
    /// The native API.
    pub struct Api {
        /// The address it listens on.
        bind: SocketAddr => default(Api::DEFAULT_BIND).restart(),
        /// The host names that it answers to, such as `"registry.internal"` or `"*.internal"`, besides addresses, `localhost`, and
        /// `cluster.advertise_api`; `"*"` stands for all. Of a web page whose own name was led here (DNS rebinding), nothing but that
        /// name shows.
        // A page reaches by its visitor's browser what is bound to loopback, and hardly anybody else has another name for it. Further
        // out, programs go by names that are in no configuration.
        names: Option<Vec<HostPattern>> => absent("none where it is bound to loopback, else all").restart(),
        /// The longest body of a request.
        // A registration takes hundreds of bytes; a batch of ten thousand heartbeats fits.
        max_body: ByteSize => default(ByteSize(1 << 20)).within(ByteSize(1 << 10)..=ByteSize(1 << 30)).restart(),
        /// The most connections at a time; every watcher holds one. Beyond, clients get one short answer for each connection, and no
        /// watch.
        // 10,000 watchers cost some hundred MiB; beyond, one wants to have decided so.
        max_connections: u32 => default(10_000u32).within(1..=1_000_000).restart(),
    }
}

declare! {
    /// What is written about requests.
    pub struct Log {
        /// One line for each request.
        access: AccessLog => section(),
    }
}

declare! {
    /// One line for each request.
    pub struct AccessLog {
        /// `"json"`, `"combined"` (as Apache and nginx write it), `"extended"` (the same, with the trace, timings and every attempt
        /// behind it) or `"off"`.
        // What log collectors take without a pattern.
        format: AccessFormat => default(AccessFormat::Json).restart(),
        /// `"stdout"`, or the file to append to.
        // Where containers' and systemd's collectors look.
        path: LogTarget => default(LogTarget::Stdout).restart(),
    }
}

declare! {
    /// How long registrations last, and how they are stored.
    pub struct Registry {
        /// How long a registration holds without a heartbeat, where the client names no time.
        // Three heartbeats at the customary five seconds: two may get lost.
        lease_ttl: Duration => default(secs(15)).within(secs(1)..=DAY).restart(),
        /// How long an instance whose lease ran out stays listed, critical, before it is removed.
        // Long enough for a restart or a pause of a virtual machine to keep its place and statistics.
        lease_grace: Duration => default(secs(30)).within(Duration::ZERO..=DAY).restart(),
        /// Bytes in the log after which a snapshot is taken.
        // Large metadata reach this first; it bounds the disk that the log takes.
        snapshot_bytes: ByteSize => default(ByteSize(64 << 20)).within(ByteSize(1 << 20)..=ByteSize(1 << 40)).restart(),
    }
}

declare! {
    /// Keeps a fault of the network, or of pointsman itself, from emptying the services: when too many
    /// leases of a service run out at once, the rest of its instances are held as warning and keep
    /// receiving traffic.
    pub struct Guard {
        /// The share of a service's instances that may be lost within `window`; `"100%"` guards no service.
        // The largest failure that is still ordinary is one zone of three.
        max_loss: Percent => default(Percent(30)).within(Percent(1)..=Percent(100)).restart(),
        /// The share of all instances that may be lost within `window`; `"100%"` guards nothing as a whole.
        // Losses that stay below every service's share and still add up to this have a cause in common.
        max_loss_global: Percent => default(Percent(15)).within(Percent(1)..=Percent(100)).restart(),
        /// So many of all instances may be lost within `window` whatever their share.
        // A share of a small number is noise; the services' own shares hold even so.
        free_losses: u32 => default(100u32).within(0..=1_000_000).restart(),
        /// The time in which losses are counted together.
        // As long as common leases take to run out one after the other.
        window: Duration => default(secs(60)).within(secs(1)..=DAY).restart(),
        /// How long a loss is held at most, if no probe decides before. Then it is believed.
        // Long enough for a person to mend a switch; dead instances must not stay for ever.
        hold: Duration => default(secs(300)).within(secs(1)..=DAY).restart(),
    }
}
