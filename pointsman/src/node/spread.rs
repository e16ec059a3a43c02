//! Clients that hold connections are spread over the nodes of the cluster, and subscribers' names have homes there.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::cluster::Neighbour;
use balance::{Orders, Served, Spread};
use config::Config;
use fronts::Home;
use fronts::http::{Elsewhere, Watchers};
use model::{Counter, Moment};
use registry::replication::Crowd;

use super::{Shared, cluster};

/// How often the others are told, and it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// What was said longer ago says nothing about where a node is to be found.
const OLD: Duration = Duration::from_secs(4);
/// Names are looked at again after so many looks even if no node has come or gone: a watch may have come by a name while two nodes
/// did not agree where it belongs.
const AGAIN: u32 = 10;

/// What is known of clients that hold connections, and was done about them.
pub(super) struct Guests {
    pub(super) watchers: Arc<Watchers>,
    /// Drawn at the start.
    run: u64,
    /// Where clients reach the API, `host:port`; empty if that is not known.
    api: Box<str>,
    /// Whether ZooKeeper's clients may know other nodes.
    serves_others: bool,
    /// The nodes that have names, as of the last look.
    homes: Mutex<Vec<Neighbour>>,
    pub(super) moved: Moved,
}

/// How many connections were closed for their clients to go to other nodes.
#[derive(Default)]
pub(super) struct Moved {
    pub(super) sessions: Counter,
    pub(super) watches: Counter,
    pub(super) home: Counter,
}

/// What is decided from look to look.
#[derive(Default)]
struct Looks {
    sessions: Spread,
    watches: Spread,
    /// Whose names were looked at, when that was, and how many watches belong elsewhere.
    homes: Vec<(u64, u16)>,
    since: u32,
    misplaced: usize,
}

impl Guests {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            watchers: Arc::default(),
            run: fastrand::u64(..),
            api: advertised(config).unwrap_or_default(),
            serves_others: serves_others(config),
            homes: Mutex::default(),
            moved: Moved::default(),
        }
    }

    /// The node that a name belongs to, if there are several.
    fn home(&self, name: &str) -> Option<Neighbour> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = homes.iter().map(|n| (n.node, n.crowd.weight));
        let home = balance::home(nodes, name)?;
        homes.iter().find(|node| node.node == home).cloned()
    }

    fn set_homes(&self, neighbours: &[Neighbour]) {
        // Where a node's API is must be known, or nobody could be sent there; and all must think so.
        let has_names = |n: &&Neighbour| !n.crowd.api.is_empty() && n.age <= OLD;
        let homes = neighbours.iter().filter(has_names).cloned().collect();
        *self.homes.lock().unwrap_or_else(PoisonError::into_inner) = homes;
    }
}

/// Where clients reach this node's API, if that can be known.
pub(super) fn advertised(config: &Config) -> Option<Box<str>> {
    let cluster = config.cluster.as_ref()?;
    if let Some(api) = &cluster.advertise_api {
        return Some(api.clone());
    }
    let bind = config.api.bind;
    match bind.ip() {
        ip if ip.is_unspecified() => Some(format!("{}:{}", host(config)?, bind.port()).into()),
        ip if !is_reached(ip, config) => None,
        _ => Some(bind.to_string().into()),
    }
}

/// Whether clients of ZooKeeper's protocol may come from other machines, and so may know other nodes.
fn serves_others(config: &Config) -> bool {
    let front = config.front.zookeeper.as_ref();
    front.is_some_and(|front| {
        let secure = front.tls.as_ref().map(|_| front.tls_bind);
        let mut binds = secure.into_iter().chain([front.bind]);
        binds.any(|bind| is_reached(bind.ip(), config))
    })
}

/// Whether clients that reach an address here reach others in the same way: those of a loopback address are on this machine, and
/// would find no other node there but those that are, too.
fn is_reached(ip: IpAddr, config: &Config) -> bool {
    let host = host(config).unwrap_or_default();
    let own = host.trim_matches(['[', ']']).parse::<IpAddr>();
    !ip.is_loopback() || host == "localhost" || own.is_ok_and(|ip| ip.is_loopback())
}

/// Where the other nodes reach this one, without the port.
fn host(config: &Config) -> Option<String> {
    let cluster = config.cluster.as_ref()?;
    let name = cluster::node_name(config);
    let own = cluster.peers.get(name.as_str());
    let own = cluster.advertise.as_ref().or(own);
    let host = own.and_then(|at| Some(at.rsplit_once(':')?.0));
    let bound = || match cluster.bind.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Some(host.map_or_else(bound, ToOwned::to_owned))
}

impl Shared {
    /// The node that a subscriber's name belongs to.
    pub(super) fn home(&self, name: &str) -> Home {
        let own = self.registry.number();
        let from = own.map_or_else(String::new, |_| self.registry.name().to_owned());
        match self.guests.home(name) {
            Some(home) => Home {
                here: own == Some(home.node),
                api: Some(format!("http://{}", home.crowd.api)),
                node: home.name.into(),
                from,
            },
            // Whoever is asked, if it knows of no other.
            None => Home {
                node: from.clone(),
                api: None,
                here: true,
                from,
            },
        }
    }

    /// Tells the others whom this node serves, and gives up what it has too many of. Ends at once for a node that is alone.
    pub(super) async fn spread_clients(self: Arc<Self>) {
        let Some(own) = self.registry.number() else {
            return;
        };
        let mut looks = Looks::default();
        loop {
            let (spreads, weight) = {
                let tables = self.tables();
                let cluster = tables.config().cluster.as_ref();
                cluster.map_or((false, 0), |c| (c.spread, c.weight))
            };
            let front = self.zookeeper.get().filter(|_| self.guests.serves_others);
            let sessions = front.map(|front| front.guests.count() as u64);
            self.registry.set_crowd(Crowd {
                run: self.guests.run,
                weight,
                api: self.guests.api.clone(),
                sessions,
                watches: self.guests.watchers.count() as u64,
            });
            let neighbours = self.registry.neighbours();
            self.guests.set_homes(&neighbours);
            if spreads {
                self.spread_sessions(own, &mut looks, &neighbours);
                self.spread_watches(own, &mut looks, &neighbours);
            } else {
                looks = Looks::default();
                if let Some(front) = self.zookeeper.get() {
                    front.guests.pass_on_from(Vec::new());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn spread_sessions(&self, own: u64, looks: &mut Looks, neighbours: &[Neighbour]) {
        let Some(front) = self.zookeeper.get() else {
            return;
        };
        // Who serves none is nobody to send any to.
        let served = served(neighbours, |crowd| crowd.sessions);
        let who = (own, self.registry.led_by());
        let orders = looks.sessions.handle_timeout(who, &served, 0, now());
        let Some(Orders { away, passed, .. }) = orders else {
            return;
        };
        front.guests.pass_on_from(passed);
        if !away.is_empty() {
            let sent = front.guests.send_away(away.len());
            self.guests.moved.sessions.add(sent as u64);
        }
    }

    fn spread_watches(&self, own: u64, looks: &mut Looks, neighbours: &[Neighbour]) {
        let watchers = &self.guests.watchers;
        let elsewhere = |neighbour: &Neighbour| Elsewhere {
            node: neighbour.name.clone(),
            api: neighbour.crowd.api.clone(),
        };
        let home = |name: &str| {
            let home = self.guests.home(name)?;
            (home.node != own).then(|| elsewhere(&home))
        };
        let homes = neighbours.iter().map(|n| (n.node, n.crowd.weight));
        let homes: Vec<(u64, u16)> = homes.collect();
        looks.since += 1;
        if looks.homes != homes || looks.misplaced > 0 || looks.since >= AGAIN {
            (looks.homes, looks.since) = (homes, 0);
            looks.misplaced = watchers.misplaced(&home);
        }
        // Nobody could be told where a node is whose address is not known; and whose clients come from its own machine only, they
        // would not get away.
        let served = served(neighbours, |crowd| {
            Some(crowd.watches).filter(|_| !crowd.api.is_empty())
        });
        let who = (own, self.registry.led_by());
        let misplaced = looks.misplaced as u64;
        let orders = looks.watches.handle_timeout(who, &served, misplaced, now());
        let orders = orders.unwrap_or_default();
        if orders.home > 0 {
            let sent = watchers.send_home(orders.home as usize, &home);
            self.guests.moved.home.add(sent as u64);
        }
        let to = |node: u64| neighbours.iter().find(|n| n.node == node).map(elsewhere);
        let away: Vec<Elsewhere> = orders.away.into_iter().filter_map(to).collect();
        let sent = watchers.send_away(away);
        self.guests.moved.watches.add(sent as u64);
    }
}

fn now() -> Moment {
    proxy::now()
}

fn served(neighbours: &[Neighbour], of: impl Fn(&Crowd) -> Option<u64>) -> Vec<Served> {
    let served = |neighbour: &Neighbour| {
        Some(Served {
            node: neighbour.node,
            run: neighbour.crowd.run,
            connections: of(&neighbour.crowd)?,
            weight: neighbour.crowd.weight,
            age: neighbour.age,
        })
    };
    neighbours.iter().filter_map(served).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!(
            "[node]\nname = \"a\"\n[cluster]\nbind = \"127.0.0.1:1\"\ntoken = \"0123456789abcdef\"\n{more}"
        );
        let source = config::Source {
            name: "test".into(),
            text,
        };
        let parsed = config::parse(&[source], &|_| None);
        parsed.unwrap_or_else(|faults| panic!("{faults}")).config
    }

    #[test]
    fn an_api_is_advertised_where_clients_of_all_nodes_reach_it() {
        let far = "peers = { a = \"10.0.0.1:7071\" }\n";
        let near = "peers = { a = \"127.0.0.1:7071\" }\n";
        for (more, said) in [
            (
                format!("{far}[api]\nbind = \"0.0.0.0:70\""),
                Some("10.0.0.1:70"),
            ),
            (
                format!("{far}[api]\nbind = \"10.1.0.1:70\""),
                Some("10.1.0.1:70"),
            ),
            (format!("{far}[api]\nbind = \"127.0.0.1:70\""), None),
            (
                format!("{near}[api]\nbind = \"127.0.0.1:70\""),
                Some("127.0.0.1:70"),
            ),
            (format!("{far}advertise_api = \"a:7\""), Some("a:7")),
            (
                "peers = { a = \"[::1]:7071\" }\n[api]\nbind = \"[::]:70\"".into(),
                Some("[::1]:70"),
            ),
        ] {
            assert_eq!(advertised(&config(&more)).as_deref(), said, "{more}");
        }
    }

    #[test]
    fn sessions_of_clients_on_this_machine_alone_are_not_counted() {
        let front = |peer: &str, bind: &str| {
            let more = format!(
                "peers = {{ a = \"{peer}:7071\" }}\n[front.zookeeper]\nbind = \"{bind}:2181\""
            );
            serves_others(&config(&more))
        };
        assert!(front("10.0.0.1", "0.0.0.0"));
        assert!(!front("10.0.0.1", "127.0.0.1"));
        assert!(front("127.0.0.1", "127.0.0.1"));
        assert!(front("localhost", "127.0.0.1"));
    }
}
