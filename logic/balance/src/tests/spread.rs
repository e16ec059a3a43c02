//! Nodes whose clients come back where they are told, or at the next of their list, with figures that are as old as they are.

use std::time::Duration;

use model::Moment;

use crate::{Orders, Random, Served, Spread};

/// So many looks at the world in a second.
const TICKS: u64 = 4;

/// A client of the cluster.
struct Client {
    /// The nodes, in an order of its own, as ZooKeeper's clients have them.
    list: Vec<usize>,
    /// Which of them it is at, or was last.
    at: usize,
    /// When it connects again, if it does.
    away: Option<u64>,
    /// Where it was told to go.
    told: Option<usize>,
    passed: bool,
    /// Where it was passed on since it was closed.
    tries: usize,
    /// Since when it is where it is.
    since: u64,
}

struct Cluster {
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// Whether clients go where they are told; otherwise to the next of their list.
    directed: bool,
    leader: u64,
    tick: u64,
    draw: Random,
    closed: u64,
    /// The most that were closed in one second.
    busiest: u64,
    second: u64,
}

struct Node {
    spread: Spread,
    weight: u16,
    up: bool,
    orders: Orders,
    run: u64,
    /// What it has told the others, and when; the last time and the one before.
    told: [(u64, u64); 2],
}

impl Cluster {
    fn new(weights: &[u16], clients: usize, directed: bool, seed: u64) -> Self {
        let mut draw = Random::new(seed);
        let node = |weight: &u16| Node {
            spread: Spread::default(),
            weight: *weight,
            up: true,
            orders: Orders::default(),
            run: 0,
            told: [(0, 0); 2],
        };
        let client = |_| {
            let mut list: Vec<usize> = (0..weights.len()).collect();
            for place in (1..list.len()).rev() {
                list.swap(place, draw.below(place as u64 + 1) as usize);
            }
            Client {
                list,
                at: 0,
                away: None,
                told: None,
                passed: false,
                tries: 0,
                since: 0,
            }
        };
        Self {
            clients: (0..clients).map(client).collect(),
            nodes: weights.iter().map(node).collect(),
            directed,
            leader: 0,
            tick: 0,
            draw,
            closed: 0,
            busiest: 0,
            second: 0,
        }
    }

    fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.nodes.len()];
        for client in self.clients.iter().filter(|c| c.away.is_none()) {
            counts[client.list[client.at]] += 1;
        }
        counts
    }

    fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds * TICKS {
            self.step();
        }
    }

    fn step(&mut self) {
        self.tick += 1;
        if self.tick.is_multiple_of(TICKS) {
            self.busiest = self.busiest.max(std::mem::take(&mut self.second));
        }
        for number in 0..self.clients.len() {
            if self.clients[number]
                .away
                .is_some_and(|then| then <= self.tick)
            {
                self.arrive(number);
            }
        }
        let counts = self.counts();
        for (node, count) in counts.into_iter().enumerate() {
            // Each in its own part of a second.
            if self.nodes[node].up && (self.tick + node as u64).is_multiple_of(TICKS) {
                self.nodes[node].told.rotate_right(1);
                self.nodes[node].told[0] = (self.tick, count);
                self.look(node, count);
            }
        }
    }

    fn look(&mut self, own: usize, count: u64) {
        let (tick, leader) = (self.tick, self.leader);
        let served = |(number, node): (usize, &Node)| {
            // What was told half a second ago has arrived.
            let heard = node.told.iter().find(|(at, _)| at + TICKS / 2 <= tick)?;
            let (at, connections) = match number == own {
                true => (tick, count),
                false => *heard,
            };
            Some(Served {
                node: number as u64,
                run: node.run,
                connections,
                weight: node.weight,
                age: Duration::from_secs(1) * (tick - at) as u32 / TICKS as u32,
            })
        };
        let served: Vec<Served> = self.nodes.iter().enumerate().filter_map(served).collect();
        let now = Moment::ZERO + Duration::from_secs(tick / TICKS);
        let node = &mut self.nodes[own];
        let who = (own as u64, Some(leader));
        node.orders = node
            .spread
            .handle_timeout(who, &served, 0, now)
            .unwrap_or_default();
        let away = node.orders.away.clone();
        for to in away {
            // Those that have been there longest.
            let here =
                |client: &&mut Client| client.away.is_none() && client.list[client.at] == own;
            let oldest = self.clients.iter_mut().filter(here).min_by_key(|c| c.since);
            let client = oldest.expect("no more than there are");
            client.away = Some(tick + self.draw.below(2 * TICKS));
            client.told = Some(to as usize).filter(|_| self.directed);
            client.passed = false;
            self.closed += 1;
            self.second += 1;
        }
    }

    fn arrive(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let from = client.list[client.at] as u64;
        let mut at = (client.at + 1 + client.tries) % client.list.len();
        if let Some(to) = client.told.take() {
            at = client.list.iter().position(|n| *n == to).expect("a node");
        }
        while !self.nodes[client.list[at]].up {
            at = (at + 1) % client.list.len();
        }
        if self.nodes[client.list[at]].orders.passed.contains(&from) && !client.passed {
            client.tries += 1;
            client.away = Some(self.tick + self.draw.below(TICKS));
            return;
        }
        client.at = at;
        client.tries = 0;
        client.away = None;
        client.since = self.tick;
    }

    fn restart(&mut self, node: usize, seconds: u64) {
        self.nodes[node].up = false;
        for client in self.clients.iter_mut().filter(|c| c.list[c.at] == node) {
            client.away = Some(self.tick + self.draw.below(2 * TICKS));
        }
        self.seconds(seconds);
        self.nodes[node].up = true;
        self.nodes[node].spread = Spread::default();
        self.nodes[node].run += 1;
    }

    /// The fewest that have to move.
    fn least(&self) -> u64 {
        let (all, weight) = (self.clients.len() as u64, self.weight());
        let target = |node: &Node| all * u64::from(node.weight) / weight;
        let counts = self.counts();
        let excess = self
            .nodes
            .iter()
            .zip(&counts)
            .map(|(n, c)| c.saturating_sub(target(n)));
        excess.sum()
    }

    /// The most that a node has, as a multiple of its share.
    fn worst(&self) -> f64 {
        let all = self.clients.len() as f64;
        let times = |(node, count): (&Node, u64)| {
            count as f64 * self.weight() as f64 / (all * f64::from(node.weight))
        };
        self.nodes
            .iter()
            .zip(self.counts())
            .map(times)
            .fold(0.0, f64::max)
    }

    fn weight(&self) -> u64 {
        self.nodes.iter().map(|n| u64::from(n.weight)).sum()
    }
}

#[test]
fn after_a_restart_clients_are_spread_again_by_hardly_more_moves_than_needed() {
    for (nodes, directed) in [(3, true), (3, false), (5, true), (5, false)] {
        for seed in 1..=3 {
            let mut cluster = Cluster::new(&vec![100; nodes], 3_000, directed, seed);
            cluster.seconds(60);
            assert_eq!(
                cluster.closed, 0,
                "{nodes} {directed} {seed}: chance was moved"
            );
            cluster.restart(nodes - 1, 8);
            let (least, from) = (cluster.least(), cluster.tick);
            while cluster.worst() > 1.05 {
                cluster.step();
                assert!(cluster.tick < from + 90 * TICKS, "{:?}", cluster.counts());
            }
            cluster.seconds(60);
            let (worst, closed) = (cluster.worst(), cluster.closed);
            println!(
                "{nodes} nodes, directed {directed}: {closed} closed, {least} at least, {worst:.3}"
            );
            assert!(worst <= 1.05, "{:?}", cluster.counts());
            assert!(
                closed * 10 <= least * 11,
                "{closed} closed, {least} at least"
            );
            // One in a hundred a second, by all of them together.
            assert!(cluster.busiest <= 30 + nodes as u64, "{}", cluster.busiest);
            // And then there is peace.
            cluster.seconds(120);
            assert_eq!(cluster.closed, closed);
        }
    }
}

#[test]
fn weights_say_what_a_node_should_have() {
    let mut cluster = Cluster::new(&[100, 100, 50], 2_000, true, 3);
    cluster.seconds(180);
    assert!(cluster.worst() <= 1.05, "{:?}", cluster.counts());
    // A node without a weight gives everything away.
    cluster.nodes[0].weight = 0;
    cluster.seconds(400);
    assert_eq!(cluster.counts()[0], 0, "{:?}", cluster.counts());
}

#[test]
fn nothing_is_moved_while_nodes_come_and_go_or_the_lead_changes() {
    let mut cluster = Cluster::new(&[100; 3], 3_000, true, 1);
    cluster.seconds(60);
    for node in [0, 1, 2, 0, 1, 2] {
        cluster.restart(node, 3);
        cluster.seconds(6);
    }
    assert_eq!(cluster.closed, 0);
    assert!(cluster.worst() > 1.3, "{:?}", cluster.counts());
    for leader in 1..20 {
        cluster.leader = leader % 3;
        cluster.seconds(9);
    }
    assert_eq!(cluster.closed, 0);
    cluster.seconds(120);
    assert!(cluster.worst() <= 1.05, "{:?}", cluster.counts());
}

fn served(counts: &[u64]) -> Vec<Served> {
    let served = |(node, connections): (u64, &u64)| Served {
        node,
        run: 0,
        connections: *connections,
        weight: 100,
        age: Duration::ZERO,
    };
    (0..).zip(counts).map(served).collect()
}

/// What the first node is ordered in a minute in which nothing happens.
fn minute(spread: &mut Spread, served: &[Served], misplaced: u64) -> Vec<Orders> {
    let from = spread.next_deadline();
    let look = |second| {
        let now = from + Duration::from_secs(second);
        spread.handle_timeout((0, Some(1)), served, misplaced, now)
    };
    (0..60).filter_map(look).collect()
}

fn closed(spread: &mut Spread, served: &[Served]) -> usize {
    minute(spread, served, 0).iter().map(|o| o.away.len()).sum()
}

#[test]
fn a_handful_too_many_is_no_load() {
    assert_eq!(closed(&mut Spread::default(), &served(&[3, 2])), 0);
    assert_eq!(closed(&mut Spread::default(), &served(&[10, 2, 2])), 0);
    // Nor are nine in a hundred.
    assert_eq!(closed(&mut Spread::default(), &served(&[1_090, 910])), 0);
    assert!(closed(&mut Spread::default(), &served(&[30, 2, 2])) > 0);
    // Of twenty nodes none has much more than its share when one is empty.
    let mut counts = vec![1_000; 20];
    counts[7] = 0;
    assert!(closed(&mut Spread::default(), &served(&counts)) > 0);
}

#[test]
fn a_node_that_is_alone_or_out_of_touch_with_the_others_gives_nothing_away() {
    assert_eq!(closed(&mut Spread::default(), &served(&[1_000])), 0);
    let mut silent = served(&[1_000, 0, 0]);
    silent[1].age = Duration::from_secs(5);
    silent[2].age = Duration::from_secs(5);
    assert_eq!(closed(&mut Spread::default(), &silent), 0);
    // To the one that is heard of, and to no other.
    silent[2].age = Duration::from_secs(1);
    let orders = minute(&mut Spread::default(), &silent, 0);
    let to: Vec<u64> = orders.into_iter().flat_map(|o| o.away).collect();
    assert!(!to.is_empty() && to.iter().all(|node| *node == 2), "{to:?}");
    let looks = (0..60).map(|second| Moment::ZERO + Duration::from_secs(second));
    let mut led_by_nobody = Spread::default();
    for now in looks {
        let orders = led_by_nobody.handle_timeout((0, None), &served(&[900, 0]), 5, now);
        assert_eq!(orders, Some(Orders::default()));
    }
}

#[test]
fn clients_that_leave_for_good_are_not_made_up_for() {
    let mut spread = Spread::default();
    assert_eq!(closed(&mut spread, &served(&[1_000, 1_000, 1_000])), 0);
    assert_eq!(closed(&mut spread, &served(&[500, 500, 500])), 0);
    assert_eq!(closed(&mut spread, &served(&[1_000, 1_000, 1_000])), 0);
}

#[test]
fn what_belongs_elsewhere_by_name_goes_home_first_and_no_faster() {
    let orders = minute(&mut Spread::default(), &served(&[1_500, 1_000, 500]), 600);
    let home: u64 = orders.iter().map(|o| o.home).sum();
    assert!((700..=760).contains(&home), "{home}");
    assert!(orders.iter().all(|o| o.home <= 16));
    let both = orders.iter().filter(|o| o.home > 0 && !o.away.is_empty());
    assert_eq!(both.count(), 0);
}

#[test]
fn who_has_its_share_passes_on_those_that_another_gives_up() {
    let passed = |counts: &[u64]| {
        let orders = minute(&mut Spread::default(), &served(counts), 0);
        orders.last().map(|o| o.passed.clone()).unwrap_or_default()
    };
    assert_eq!(passed(&[1_000, 1_500, 500]), [1]);
    assert_eq!(passed(&[1_500, 1_500, 0]), [1]);
    // It has room itself; everybody has; nobody else has.
    assert_eq!(passed(&[500, 1_500, 1_000]), [0; 0]);
    assert_eq!(passed(&[1_000, 1_000, 1_000]), [0; 0]);
    assert_eq!(passed(&[900, 1_800, 900]), [0; 0]);
}
