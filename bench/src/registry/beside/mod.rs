//! Pointsman beside etcd and ZooKeeper, on one node and on three of this machine. They take turns, so that what disturbs the
//! machine disturbs all; all of their processes' time counts.

mod failover;
mod fan_out;
mod throughput;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Options, Part};
use crate::clients::{Ask, Clients, KEYS, Kind, Protocol};
use crate::ensemble::{Ensemble, Product};
use crate::report;
use crate::scratch::Scratch;

/// How much is measured.
pub(super) struct Plan {
    rounds: usize,
    time: Duration,
    warm_up: Duration,
    watchers: Vec<usize>,
    changes: usize,
    kills: usize,
}

/// A product, asked by a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contender {
    product: Product,
    protocol: Protocol,
}

const CONTENDERS: [Contender; 4] = [
    Contender {
        product: Product::Etcd,
        protocol: Protocol::Etcd,
    },
    Contender {
        product: Product::ZooKeeper,
        protocol: Protocol::ZooKeeper,
    },
    Contender {
        product: Product::Pointsman,
        protocol: Protocol::ZooKeeper,
    },
    Contender {
        product: Product::Pointsman,
        protocol: Protocol::Native,
    },
];

/// How many clients make the keys.
const MAKING: usize = 32;
/// How many clients warm up.
const WARMING: usize = 128;

impl Plan {
    pub(super) fn of(options: &Options) -> Self {
        if options.quick {
            return Self {
                rounds: 1,
                time: Duration::from_millis(300),
                warm_up: Duration::from_millis(200),
                watchers: vec![200],
                changes: 2,
                kills: 1,
            };
        }
        let most = options.watchers as usize;
        let mut watchers: Vec<usize> = [1_000, 10_000].into_iter().filter(|n| *n < most).collect();
        watchers.push(most);
        Self {
            rounds: options.rounds as usize,
            time: Duration::from_secs_f64(options.round_seconds),
            warm_up: Duration::from_secs_f64(options.warm_up),
            watchers,
            changes: 7,
            kills: options.kills as usize,
        }
    }

    fn describe(&self) -> String {
        format!(
            "medians of {} rounds of {:?}, after {:?} of warming up; {:?} watchers, {} changes; {} kills",
            self.rounds, self.time, self.warm_up, self.watchers, self.changes, self.kills
        )
    }
}

/// Measures what was asked for, on so many nodes each.
pub(super) fn run(options: &Options, scratch: &Scratch) -> anyhow::Result<Value> {
    let plan = Plan::of(options);
    let products: Vec<Product> = [Product::Etcd, Product::ZooKeeper, Product::Pointsman]
        .into_iter()
        .filter(|product| match product.missing() {
            None => true,
            Some(reason) => {
                println!("\n{} is left out: {reason}", product.name());
                false
            }
        })
        .collect();
    println!("\nbeside each other");
    let mut facts = vec![("runs", plan.describe())];
    for product in &products {
        facts.push((product.name(), product.settings()?));
    }
    facts.push((
        "clients",
        "one thread of raw connections; a lone one talks to the leader, many are spread over all nodes".into(),
    ));
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    // Before anything starts: whatever does inherits the limit.
    let most = plan.watchers.iter().max().copied().unwrap_or(0);
    fan_out::allow(most)?;
    let mut measured = Map::new();
    for count in &options.nodes {
        let on = on(usize::from(*count), options, &plan, &products, scratch)?;
        measured.insert(format!("nodes_{count}"), on);
    }
    let facts = facts.into_iter().map(|(n, v)| (n.to_owned(), json!(v)));
    measured.insert("facts".into(), facts.collect::<Map<_, _>>().into());
    Ok(measured.into())
}

fn on(
    count: usize,
    options: &Options,
    plan: &Plan,
    products: &[Product],
    scratch: &Scratch,
) -> anyhow::Result<Value> {
    let nodes = if count == 1 {
        "one node"
    } else {
        "three nodes"
    };
    println!("\n== {nodes} each");
    let mut ensembles = Vec::new();
    for product in products {
        ensembles.push(Ensemble::start(*product, count, scratch)?);
    }
    ensembles.iter_mut().try_for_each(Ensemble::wait)?;
    let contenders = CONTENDERS
        .into_iter()
        .filter(|c| products.contains(&c.product));
    let contenders: Vec<Contender> = contenders.collect();
    for contender in &contenders {
        contender.prepare(&ensembles)?;
    }
    let mut results = Map::new();
    results.insert("idle".into(), remember(&ensembles, count));
    // First: reads of etcd 3.4 are slow for a while after many writes.
    if options.measures(Part::Reads) {
        let phases = throughput::READS;
        let measured = throughput::run(&contenders, &ensembles, plan, phases)?;
        results.insert("reads".into(), measured);
    }
    if options.measures(Part::Writes) {
        let phases = throughput::WRITES;
        let measured = throughput::run(&contenders, &ensembles, plan, phases)?;
        results.insert("writes".into(), measured);
    }
    if options.measures(Part::Watchers) {
        let measured = fan_out::run(&contenders, &ensembles, plan)?;
        results.insert("watchers".into(), measured);
    }
    if options.measures(Part::Failover) && count > 1 {
        let measured = failover::run(&contenders, &mut ensembles, plan, scratch);
        results.insert("failover".into(), measured);
    }
    Ok(results.into())
}

fn remember(ensembles: &[Ensemble], count: usize) -> Value {
    println!("\nmemory with {KEYS} keys and no clients");
    let mut all = Map::new();
    for ensemble in ensembles {
        let (name, resident) = (ensemble.product.name(), ensemble.resident());
        let each = resident * 1024 / 1_000_000 / count as u64;
        println!("  {name:<12} {each} MB resident a node");
        all.insert(name.into(), json!({ "resident_kib": resident }));
    }
    all.into()
}

impl Contender {
    fn name(self) -> String {
        match (self.product, self.protocol) {
            (Product::Pointsman, Protocol::Native) => "pointsman, its API".into(),
            (Product::Pointsman, _) => "pointsman, ZooKeeper's".into(),
            (product, _) => product.name().into(),
        }
    }

    fn ensemble(self, ensembles: &[Ensemble]) -> Option<&Ensemble> {
        ensembles.iter().find(|e| e.product == self.product)
    }

    /// A lone client talks to the leader, many are spread over all nodes.
    fn open(self, ensembles: &[Ensemble], clients: usize) -> anyhow::Result<Clients> {
        let ensemble = self.ensemble(ensembles).expect("contenders are started");
        let mut addresses = ensemble.addresses(self.protocol);
        if clients == 1 {
            let leader = ensemble.leader().unwrap_or(0);
            addresses = vec![addresses[leader]];
        }
        Clients::open(self.protocol, &addresses, clients)
    }

    /// Makes the keys.
    fn prepare(self, ensembles: &[Ensemble]) -> anyhow::Result<()> {
        let mut makers = self.open(ensembles, MAKING)?;
        makers.make_keys()?;
        makers.leave()?;
        // What will be watched is there before.
        let mut maker = self.open(ensembles, 1)?;
        maker.each(Ask::Change)?;
        maker.leave()
    }

    /// Lets compilers see what will be asked, and caches fill.
    fn warm(self, ensembles: &[Ensemble], kind: Kind, time: Duration) -> anyhow::Result<()> {
        let mut clients = self.open(ensembles, WARMING)?;
        clients.run(kind, 1, time)?;
        clients.leave()
    }
}
