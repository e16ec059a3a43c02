//! `[front]`: protocols of other registries, for clients that speak them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::tree_pattern::TreePattern;
use model::{FourLetterWord, Secret};

use crate::declare::declare;
use crate::rule::{absent, default};
use crate::tls::ListenerTls;
use crate::top::{DAY, millis, secs};

declare! {
    /// Protocols of other registries, for clients that speak them.
    pub struct Front {
        /// ZooKeeper's protocol.
        zookeeper: Option<Zookeeper> => absent("ZooKeeper's clients are not served"),
    }
}

impl Zookeeper {
    // The port that clients are configured with. Nothing listens beyond loopback without being told to.
    const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2181);

    const DEFAULT_TLS_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2281);

    fn catalog() -> Vec<TreePattern> {
        let layouts = [
            "/dubbo/{service}/providers/{dubbo}",
            "/services/{service}/{curator}",
        ];
        layouts
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect()
    }
}

declare! {
    /// ZooKeeper's protocol: this table, be it empty, turns it on.
    pub struct Zookeeper {
        /// The address it listens on.
        bind: SocketAddr => default(Zookeeper::DEFAULT_BIND).restart(),
        /// The address for clients that speak TLS, if there is a `tls` table.
        // The port that ZooKeeper's documentation has in its examples.
        tls_bind: SocketAddr => default(Zookeeper::DEFAULT_TLS_BIND).restart(),
        /// The address of its administrative commands by HTTP.
        admin: Option<SocketAddr> => absent("there are none").restart(),
        /// The shortest timeout of a session; clients that ask for less get this.
        // Two of ZooKeeper's customary ticks.
        min_session_timeout: Duration => default(secs(4)).within(millis(100)..=DAY).restart(),
        /// The longest timeout of a session; clients that ask for more get this.
        // Twenty of them.
        max_session_timeout: Duration => default(secs(40)).within(secs(1)..=DAY).restart(),
        /// The most connections at a time.
        // Each takes some two KiB; a fleet of that size has its registry looked after by somebody who raises it.
        max_connections: u32 => default(60_000u32).within(1..=1_000_000).restart(),
        /// Threads that serve its clients.
        // One for each core answers more than any ensemble does; and the workers want theirs too.
        threads: Option<u16> => absent("one for each core, four at the most. Clients are spread over half as many as there are cores until each of those has 1,000").if_given_within(1..=256).restart(),
        /// The four-letter words that are answered.
        // All that change nothing and cost little however many clients there are.
        words: Vec<FourLetterWord> => default(FourLetterWord::HARMLESS).restart(),
        /// Where ephemeral nodes are that stand for instances, and how those are written there. They are in the catalog for
        /// as long as they live. `{service}` is the service's name; the instance is `{dubbo}`, `{curator}`, `{address}`
        /// or `{id}`; `*` is any name.
        // The two layouts of Dubbo, and Curator's, which Spring Cloud uses: what is found there cannot be anything else.
        catalog: Vec<TreePattern> => default(Zookeeper::catalog()).restart(),
        /// Whether clients that ask for it may read from a node of a cluster that hears nothing of the others.
        // What they read may be out of date, for however long that lasts: ZooKeeper's default too.
        read_only: bool => default(false).restart(),
        /// The digest of the administrator that access lists do not hold for, as `"super:hash"`.
        super_digest: Option<Secret> => absent("there is none").restart(),
        /// Users who may say by SASL (DIGEST-MD5) who they are, and their passwords.
        sasl_users: BTreeMap<Box<str>, Secret> => default(BTreeMap::new()).restart(),
        /// TLS of clients. The subject of a client's certificate is its identity under the scheme `x509`.
        tls: Option<ListenerTls> => absent("there is no address for clients that speak TLS").restart(),
    }
}
