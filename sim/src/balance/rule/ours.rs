//! The production code of `logic/balance`, through the interface that the proxy uses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use balance::{Balancer, Context, Lease, Outliers, Unit};
use model::{
    Balancing, Endpoint, EndpointStats, Health, Incarnation, Moment, Policy, ServiceKey,
    ServiceTable, Sharded, Weight,
};

use super::{Ending, Member, Rule, Sight};

/// A node of pointsman with one worker.
#[derive(Debug)]
pub struct Ours {
    policy: Policy,
    balancing: Balancing,
    seed: u64,
    table: Arc<ServiceTable>,
    balancer: Balancer,
    outliers: Outliers,
    /// Which server each endpoint of the table is.
    servers: Vec<usize>,
    /// Statistics by server and the moment it came, as they survive a new table.
    known: BTreeMap<(usize, u64), Arc<EndpointStats>>,
    /// By job, with the table that the lease belongs to.
    leases: Vec<Option<(Arc<ServiceTable>, Lease)>>,
    held: usize,
    returned_twice: usize,
    /// Whether answers say how many requests their server has.
    told: bool,
}

impl Ours {
    /// With a policy, and settings of the stages around it.
    pub fn new(policy: Policy, balancing: Balancing, seed: u64) -> Self {
        let table = Arc::new(table(policy, balancing.clone(), Vec::new()));
        Self {
            policy,
            balancing,
            seed,
            balancer: Balancer::new(&table, 0, seed),
            table,
            outliers: Outliers::default(),
            servers: Vec::new(),
            known: BTreeMap::new(),
            leases: Vec::new(),
            held: 0,
            returned_twice: 0,
            told: false,
        }
    }

    /// The same, in front of servers that say in each answer how many requests they have.
    pub fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// What it knows of the servers, in the table's order.
    pub fn table(&self) -> &ServiceTable {
        &self.table
    }

    fn take(&mut self, job: u32) -> Option<(Arc<ServiceTable>, Lease)> {
        let slot = self.leases.get_mut(job as usize)?;
        slot.take()
    }
}

impl Rule for Ours {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.servers = members.iter().map(|m| m.server).collect();
        let known = &mut self.known;
        let endpoints = members.iter().map(|m| {
            let stats = known.entry((m.server, m.since)).or_default().clone();
            endpoint(m, stats)
        });
        let first = self.table.endpoints.is_empty();
        let before = self.table.clone();
        let mut next = table(self.policy, self.balancing.clone(), endpoints.collect());
        next.stats = before.stats.clone();
        next.ejections = before.ejections.clone();
        self.table = Arc::new(next);
        match first {
            true => self.balancer = Balancer::new(&self.table, 0, self.seed),
            false => self.balancer.rebuild(&self.table),
        }
        let of = |server, since| {
            members
                .iter()
                .any(|m| (m.server, m.since) == (server, since))
        };
        self.known.retain(|&(server, since), _| of(server, since));
    }

    fn pick(&mut self, job: u32, _sight: &Sight<'_>, now: u64) -> Option<usize> {
        let context = Context {
            unit: Unit::Request,
            key: u64::from(job),
            ..Context::default()
        };
        let lease = self
            .balancer
            .pick(&self.table, &context, Moment::from_nanos(now))
            .ok()?;
        let server = self.servers[lease.endpoint()];
        if self.leases.len() <= job as usize {
            self.leases.resize_with(job as usize + 1, || None);
        }
        self.leases[job as usize] = Some((self.table.clone(), lease));
        self.held += 1;
        Some(server)
    }

    fn done(&mut self, job: u32, _server: usize, ending: &Ending, now: u64) {
        let Some((table, lease)) = self.take(job) else {
            self.returned_twice += 1;
            return;
        };
        self.held -= 1;
        if let Some(report) = ending.report.filter(|_| self.told) {
            lease.reported(&table, report.in_flight as f32);
        }
        let latency = Duration::from_nanos(ending.latency);
        lease.done(&table, ending.outcome, latency, Moment::from_nanos(now));
    }

    fn interval(&self) -> Option<u64> {
        Some(500_000_000)
    }

    fn wake(&mut self, _sight: &Sight<'_>, now: u64) {
        self.outliers
            .handle_timeout(&self.table, Moment::from_nanos(now));
    }

    fn fault(&self, in_flight: usize) -> Option<String> {
        let counted: u64 = self.table.stats.in_flight();
        let at: u64 = self
            .table
            .endpoints
            .iter()
            .map(|e| u64::from(e.stats.in_flight()))
            .sum();
        // Endpoints that left the table have their leases still; none can have more than there are.
        let wrong = self.returned_twice > 0
            || counted != in_flight as u64
            || self.held != in_flight
            || at > in_flight as u64;
        wrong.then(|| {
            format!(
                "{in_flight} jobs under way, {} leases held, {counted} counted by the service, {at} by the endpoints, \
                 {} returned twice",
                self.held, self.returned_twice
            )
        })
    }
}

pub(crate) fn endpoint(member: &Member, stats: Arc<EndpointStats>) -> Endpoint {
    Endpoint {
        id: format!("s{:05}", member.server).parse().expect("a name"),
        incarnation: Incarnation(member.since),
        address: ([10, 0, 0, 1], 8_080).into(),
        weight: Weight(member.weight),
        health: Health::Passing,
        drain: false,
        enabled: true,
        tier: 0,
        since: Moment::from_nanos(member.since),
        connections: Arc::default(),
        stats,
    }
}

pub(crate) fn table(
    policy: Policy,
    balancing: Balancing,
    endpoints: Vec<Endpoint>,
) -> ServiceTable {
    ServiceTable {
        key: ServiceKey::in_default("simulated".parse().expect("a name")),
        role: None,
        persistence: None,
        policy,
        placement: balance::place(policy, &balancing, &endpoints, None),
        balancing,
        endpoints,
        unresolved: 0,
        connect_timeout: Duration::from_secs(1),
        peer_timeout: Duration::from_secs(60),
        response_timeout: Duration::from_secs(5),
        retries: 0,
        keep_alive: Duration::from_secs(60),
        send_proxy: None,
        load_report: None,
        http2: false,
        tls: false,
        connect_from: Vec::new(),
        stats: Arc::new(Sharded::new(1)),
        least_moves: Arc::default(),
        admission: Arc::new(model::Admission::new(1)),
        retry_budget: 100,
        ejections: Arc::default(),
    }
}
