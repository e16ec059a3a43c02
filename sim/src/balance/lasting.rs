//! Long connections through restarts: how evenly instances have them, and how many were closed for it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use balance::{Balancer, Context, Held, Respread, Unit};
use model::{Balancing, Endpoint, Health, Incarnation, Moment, Policy, Respreading, ServiceTable};

use super::draw::Draw;
use super::rule::{Member, endpoint, table};

const INSTANCES: usize = 20;
const CONNECTIONS: usize = 100_000;

/// When the restarts are over, in seconds.
const BACK: u64 = 40;

/// So many seconds after that it is looked.
const LOOKS: [u64; 5] = [1, 10, 30, 60, 120];

/// What is done about connections that are where they were and not where they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing, as HAProxy, nginx and LVS have it.
    None,
    /// All connections end after so many seconds, half of them earlier: Envoy's `max_connection_duration` with
    /// jitter, gRPC's `MAX_CONNECTION_AGE`.
    Lifetime(u64),
    /// Ours: the surplus is closed, so many hundredths of all in a second at the most.
    Respread(u8),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Course {
    /// The most that an instance has, as a multiple of the mean, at each of the looks.
    pub spread: [f64; LOOKS.len()],
    /// Connections closed since the restarts, and until the last look.
    pub closed: u64,
    /// The fewest that would have done.
    pub least: u64,
    /// Seconds after which what was counted as open was not what was.
    pub faults: u64,
}

/// Some balancers, each of which sees its own connections only, and their clients.
struct Fleet {
    nodes: Vec<Node>,
    draw: Draw,
    remedy: Remedy,
    closed: u64,
}

struct Node {
    table: ServiceTable,
    balancer: Balancer,
    respread: Respread,
    /// By instance: what is open, with the second of its end.
    open: Vec<VecDeque<(Held, u64)>>,
    /// Clients that connect again, by the second.
    away: Vec<usize>,
}

/// `restarted` of twenty instances restart together, are away for ten seconds and come back, while 100,000 clients
/// connect again within two seconds whenever they lose a connection.
pub fn course(remedy: Remedy, nodes: usize, restarted: usize, seed: u64) -> Course {
    let mut fleet = Fleet {
        nodes: (0..nodes as u64)
            .map(|n| Node::new(remedy, seed + n))
            .collect(),
        draw: Draw::new(seed, 1),
        remedy,
        closed: 0,
    };
    for client in 0..CONNECTIONS {
        fleet.connect(client % nodes, 0);
    }
    let mut course = Course {
        spread: [0.0; LOOKS.len()],
        closed: 0,
        least: 0,
        faults: 0,
    };
    for second in 1..=BACK + LOOKS[LOOKS.len() - 1] {
        if second == BACK - 10 {
            fleet.leave(restarted, second);
        }
        if second == BACK {
            fleet.come_back(restarted);
            (course.least, fleet.closed) = (fleet.surplus(), 0);
        }
        fleet.pass(second);
        course.faults += u64::from(!fleet.nodes.iter().all(Node::counts_well));
        if let Some(n) = LOOKS.iter().position(|&look| BACK + look == second) {
            course.spread[n] = fleet.spread();
        }
    }
    course.closed = fleet.closed;
    course
}

impl Node {
    fn new(remedy: Remedy, seed: u64) -> Self {
        let rate = match remedy {
            Remedy::Respread(rate) => rate,
            Remedy::None | Remedy::Lifetime(_) => 0,
        };
        let balancing = Balancing {
            respreading: Respreading {
                rate,
                rest: Duration::from_secs(1),
                transactions: false,
            },
            ..Balancing::default()
        };
        let member = |server| Member {
            server,
            weight: 1,
            since: 0,
        };
        let endpoints = (0..INSTANCES).map(|server| endpoint(&member(server), Arc::default()));
        let table = table(Policy::LeastConn, balancing, endpoints.collect());
        Self {
            balancer: Balancer::new(&table, 0, seed),
            table,
            respread: Respread::default(),
            open: (0..INSTANCES).map(|_| VecDeque::new()).collect(),
            away: vec![0; 1_000],
        }
    }
}

impl Node {
    /// Whether what endpoints, and the service, count is what is open.
    fn counts_well(&self) -> bool {
        let all: usize = self.open.iter().map(VecDeque::len).sum();
        let endpoints = self.table.endpoints.iter().zip(&self.open);
        let counted = |(endpoint, open): (&Endpoint, &VecDeque<_>)| {
            let (held, stats) = (open.len() as u64, &endpoint.stats);
            u64::from(endpoint.connections.open()) == held && u64::from(stats.in_flight()) == held
        };
        self.table.stats.in_flight() == all as u64 && { endpoints }.all(counted)
    }
}

impl Fleet {
    fn connect(&mut self, node: usize, second: u64) {
        let end = match self.remedy {
            Remedy::Lifetime(most) => {
                let within = most / 2 + self.draw.below(most as usize / 2) as u64;
                // At first, as if they had been opened at any time.
                match second {
                    0 => 1 + self.draw.below(within as usize) as u64,
                    _ => second + within,
                }
            }
            _ => u64::MAX,
        };
        let node = &mut self.nodes[node];
        let context = Context {
            unit: Unit::Connection,
            ..Context::default()
        };
        let now = Moment::from_millis(second * 1_000);
        if let Ok(lease) = node.balancer.pick(&node.table, &context, now) {
            let instance = lease.endpoint();
            node.open[instance].push_back((lease.stands(&node.table), end));
        }
    }

    /// A client that lost its connection connects again within two seconds.
    fn lose(&mut self, node: usize, second: u64) {
        let when = second as usize + 1 + self.draw.below(2);
        if let Some(away) = self.nodes[node].away.get_mut(when) {
            *away += 1;
        }
    }

    fn pass(&mut self, second: u64) {
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            let back = std::mem::take(&mut node.away[second as usize]);
            let mut closed = 0;
            for open in &mut node.open {
                let before = open.len();
                open.retain(|(_, end)| *end > second);
                closed += before - open.len();
            }
            let now = Moment::from_millis(second * 1_000);
            for surplus in node.respread.handle_timeout(&node.table, now) {
                let stats = &node.table.endpoints[surplus.endpoint].connections;
                for _ in 0..surplus.connections {
                    // The oldest first.
                    if node.open[surplus.endpoint].pop_front().is_some() {
                        stats.moved.add(1);
                        closed += 1;
                    }
                }
            }
            self.closed += closed as u64;
            (0..closed).for_each(|_| self.lose(n, second));
            (0..back).for_each(|_| self.connect(n, second));
        }
    }

    fn leave(&mut self, restarted: usize, second: u64) {
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            let mut lost = 0;
            for instance in 0..restarted {
                node.table.endpoints[instance].health = Health::Critical;
                lost += std::mem::take(&mut node.open[instance]).len();
            }
            node.balancer.rebuild(&node.table);
            (0..lost).for_each(|_| self.lose(n, second));
        }
    }

    fn come_back(&mut self, restarted: usize) {
        for node in &mut self.nodes {
            for endpoint in &mut node.table.endpoints[..restarted] {
                endpoint.health = Health::Passing;
                endpoint.incarnation = Incarnation(endpoint.incarnation.0 + 1);
            }
            node.balancer.rebuild(&node.table);
        }
    }

    /// What instances have, of all nodes.
    fn held(&self) -> [usize; INSTANCES] {
        std::array::from_fn(|i| self.nodes.iter().map(|node| node.open[i].len()).sum())
    }

    fn spread(&self) -> f64 {
        let held = self.held();
        let mean = held.iter().sum::<usize>() as f64 / INSTANCES as f64;
        held.iter().copied().max().unwrap_or(0) as f64 / mean
    }

    /// What is above the mean: it has to be closed, however it is done.
    fn surplus(&self) -> u64 {
        let held = self.held();
        let mean = held.iter().sum::<usize>() / INSTANCES;
        held.iter().map(|&n| n.saturating_sub(mean) as u64).sum()
    }
}

/// The table of all of that.
pub fn text() -> String {
    let mut out = format!(
        "\n{CONNECTIONS} long connections on {INSTANCES} instances, placed by least_conn; some restart, are away for 10 s \
         and come back.\nThe most that an instance has, by the mean, so many seconds later; what was closed in those two \
         minutes, by the fewest that would do\n  {:<42}",
        ""
    );
    for look in LOOKS {
        let _ = write!(out, "{:>8}", format!("{look} s"));
    }
    let _ = writeln!(out, "{:>10}{:>12}", "closed", "by fewest");
    for (nodes, restarted) in [(1, 1), (4, 1), (1, 5), (4, 5)] {
        let _ = writeln!(out, "  {nodes} balancers, {restarted} restarted");
        for (name, remedy) in [
            ("nothing (HAProxy, nginx, LVS)", Remedy::None),
            ("a lifetime of 10 min (Envoy, gRPC)", Remedy::Lifetime(600)),
            ("a lifetime of 2 min", Remedy::Lifetime(120)),
            ("pointsman, respread.rate 1 %", Remedy::Respread(1)),
        ] {
            let course = course(remedy, nodes, restarted, 1);
            let _ = write!(out, "    {name:<40}");
            for spread in course.spread {
                let _ = write!(out, "{spread:>8.3}");
            }
            let ratio = course.closed as f64 / course.least.max(1) as f64;
            let _ = writeln!(out, "{:>10}{ratio:>12.2}", course.closed);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_restart_connections_are_even_within_a_minute_and_hardly_more_were_closed_than_must()
    {
        let ours = course(Remedy::Respread(1), 2, 1, 7);
        assert!(ours.spread[0] > 1.05 && ours.spread[3] <= 1.05, "{ours:?}");
        assert!(ours.closed as f64 <= 1.1 * ours.least as f64, "{ours:?}");
        assert_eq!(ours.faults, 0);
        let nothing = course(Remedy::None, 2, 1, 7);
        assert!(
            nothing.spread[4] > 1.05 && nothing.closed == 0,
            "{nothing:?}"
        );
    }
}
