use std::time::Duration;

use model::{Health, Moment, Policy, ServiceTable};
use thiserror::Error;

use crate::lease::Lease;
use crate::pool::{Fleet, Pool};
use crate::slots::{self, Keyed};
use crate::view::{Tried, View};
use crate::{Random, Standing, stage, standing};

/// Why no endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// The service has no instance.
    #[error("the service has no instances")]
    NoInstances,
    /// It has, but none has an address.
    #[error("no host name of the service's instances could be resolved")]
    Unresolved,
    /// It has, but none may be chosen.
    #[error("no instance of the service is healthy, enabled and undrained")]
    NoneEligible,
    /// All that could be chosen are ejected, and another service stands in for this one.
    #[error("every instance of the service failed a moment ago")]
    AllEjected,
    /// All that may be chosen were tried for this request already.
    #[error("every eligible instance was tried")]
    AllTried,
}

impl Unavailable {
    /// A word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoInstances => "no_instances",
            Self::Unresolved => "unresolved",
            Self::NoneEligible => "none_eligible",
            Self::AllEjected => "all_ejected",
            Self::AllTried => "all_tried",
        }
    }
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// A request: latency says how an instance does.
    #[default]
    Request,
    /// A connection: lifetimes are no latencies, so `least_time` and `peak_ewma` place it as `least_conn` does.
    Connection,
}

/// What a pick goes by, beside the service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// What is to be placed.
    pub unit: Unit,
    /// For the hashing policies: see [`crate::key`]. A random number where there is no key.
    pub key: u64,
    /// Who was tried already.
    pub tried: Tried,
    /// The endpoint that has the session, if one has: it is chosen as long as it can be reached at all, draining or not.
    pub kept: Option<u32>,
    /// Whether another service stands in for this one: ejected endpoints are then not even tried for want of better ones.
    pub stand_in: bool,
}

/// One worker's view of one service: who may be chosen, and whose turn it is.
#[derive(Clone, Debug)]
pub struct Balancer {
    worker: usize,
    /// By tier.
    pools: Vec<Pool>,
    /// Who is in the service's table of keys, if it has one.
    keyed: Vec<Option<Keyed>>,
    /// How much of the traffic each tier gets, in 2^32nds.
    spill: Vec<u64>,
    spill_until: Moment,
    panicking: bool,
    ramping_until: Moment,
    fleet: Fleet,
    random: Random,
}

/// Ejections change what a tier can take; so often that is looked at, where there is more than one.
const SPILL_VALID: Duration = Duration::from_millis(100);

impl Balancer {
    /// A balancer of the worker with number `worker` for `service` as it is now.
    pub fn new(service: &ServiceTable, worker: usize, seed: u64) -> Self {
        let mut balancer = Self {
            worker,
            pools: Vec::new(),
            keyed: Vec::new(),
            spill: Vec::new(),
            spill_until: Moment::ZERO,
            panicking: false,
            ramping_until: Moment::ZERO,
            fleet: Fleet::default(),
            random: Random::new(seed),
        };
        balancer.rebuild(service);
        balancer
    }

    /// Follows a change of the service. What was learned of it as a whole is kept.
    pub fn rebuild(&mut self, service: &ServiceTable) {
        let endpoints = &service.endpoints;
        let (tiers, panicking) = stage::eligible(endpoints, &service.balancing, |e| e.tier);
        let random = &mut self.random;
        let pool = |tier| Pool::new(tier, endpoints, service.policy, random);
        self.pools = tiers.iter().map(pool).collect();
        self.keyed = slots::keyed(service);
        self.panicking = panicking;
        self.spill_until = Moment::ZERO;
        let youngest = endpoints.iter().map(|e| e.since).max();
        self.ramping_until = match service.balancing.slow_start {
            Duration::ZERO => Moment::ZERO,
            window => youngest.unwrap_or_default() + window,
        };
    }

    /// Chooses who gets the next request or connection, and counts it there until the lease is done.
    ///
    /// # Errors
    /// When there is nobody to choose.
    pub fn pick(
        &mut self,
        service: &ServiceTable,
        context: &Context,
        now: Moment,
    ) -> Result<Lease, Unavailable> {
        let endpoint = self.choose(service, context, now)?;
        let (worker, usual) = (self.worker, self.fleet.usual);
        Ok(Lease::begin(
            service,
            endpoint,
            worker,
            context.unit,
            usual,
            now,
        ))
    }

    /// The number of the endpoint that gets the next request or connection, for those who count by themselves.
    ///
    /// # Errors
    /// When there is nobody to choose.
    pub fn choose(
        &mut self,
        service: &ServiceTable,
        context: &Context,
        now: Moment,
    ) -> Result<usize, Unavailable> {
        // A key that its first place can take asks for nothing of what follows, which takes longer than that.
        if let Some(placement) = &service.placement
            && context.kept.is_none()
            && context.tried.is_empty()
            && let Some(endpoint) =
                slots::first(service.policy, placement, &self.keyed, context.key)
        {
            return Ok(endpoint as usize);
        }
        self.consider(service, context, now)
    }

    #[inline(never)]
    fn consider(
        &mut self,
        service: &ServiceTable,
        context: &Context,
        now: Moment,
    ) -> Result<usize, Unavailable> {
        if let Some(kept) = context.kept
            && keeps_sessions(service, kept as usize, now)
            && !context.tried.has(kept)
        {
            return Ok(kept as usize);
        }
        if self.pools.is_empty() {
            return Err(match (service.endpoints.is_empty(), service.unresolved) {
                (true, 0) => Unavailable::NoInstances,
                (true, _) => Unavailable::Unresolved,
                (false, _) => Unavailable::NoneEligible,
            });
        }
        let mut random = self.random.clone();
        let ramping = now < self.ramping_until;
        let mut view = View::new(
            service,
            self.worker,
            &context.tried,
            now,
            &mut random,
            ramping,
        );
        view.desperate = self.panicking;
        let chosen = match (&service.placement, service.policy.is_hash()) {
            (Some(placement), true) => {
                let found = slots::find(placement, &self.keyed, context.key, &mut view);
                // Those of further tiers are in no table as long as the first is well.
                found.or_else(|| self.by_tier(service, context, &mut view))
            }
            // Most often there is one tier.
            _ => match self.pools.as_mut_slice() {
                [pool] => choose_of(
                    pool,
                    &mut self.fleet,
                    service.policy,
                    context.unit,
                    &mut view,
                ),
                _ => self.by_tier(service, context, &mut view),
            },
        };
        self.random = random;
        match chosen {
            Some(endpoint) => Ok(endpoint as usize),
            None => self.choose_anyway(service, context, now),
        }
    }

    /// All that are left were ejected: better one of them than none.
    #[cold]
    fn choose_anyway(
        &mut self,
        service: &ServiceTable,
        context: &Context,
        now: Moment,
    ) -> Result<usize, Unavailable> {
        if context.stand_in {
            return Err(match context.tried.is_empty() {
                true => Unavailable::AllEjected,
                false => Unavailable::AllTried,
            });
        }
        let ramping = now < self.ramping_until;
        let (worker, random) = (self.worker, &mut self.random);
        let mut view = View::new(service, worker, &context.tried, now, random, ramping);
        view.desperate = true;
        let chosen = self.pools.iter_mut().find_map(|pool| {
            let index = pool.least_conn(context.unit, &mut view)?;
            Some(pool.candidates[index].endpoint as usize)
        });
        chosen.ok_or(Unavailable::AllTried)
    }

    /// What becomes of the endpoint with number `index` at `now`.
    pub fn standing(&self, service: &ServiceTable, index: usize, now: Moment) -> Standing {
        let uses = |pool: &Pool| pool.candidates.iter().any(|c| c.endpoint as usize == index);
        let standing = match standing(&service.endpoints[index], now) {
            Standing::Critical | Standing::Reserve | Standing::Ejected(_) if self.panicking => {
                Standing::TakenForHealthy
            }
            standing => standing,
        };
        // The tables of keys hold everybody.
        let is_used = service.placement.is_some() || self.pools.iter().any(uses);
        match standing.is_eligible() && !is_used {
            true => Standing::OutsideSubset,
            false => standing,
        }
    }

    #[inline(never)]
    fn by_tier(
        &mut self,
        service: &ServiceTable,
        context: &Context,
        view: &mut View<'_>,
    ) -> Option<u32> {
        let first = self.tier(view);
        let tiers = std::iter::once(first).chain((0..self.pools.len()).filter(|&t| t != first));
        for tier in tiers {
            let (pool, fleet) = (&mut self.pools[tier], &mut self.fleet);
            let chosen = choose_of(pool, fleet, service.policy, context.unit, view);
            if chosen.is_some() {
                return chosen;
            }
        }
        None
    }

    /// The tier that the next request goes to.
    fn tier(&mut self, view: &mut View<'_>) -> usize {
        let stale = view.now >= self.spill_until || view.now + SPILL_VALID < self.spill_until;
        if stale {
            let weights = self.pools.iter().map(|p| (p.usable(view), p.whole));
            self.spill = stage::spill(&weights.collect::<Vec<_>>());
            self.spill_until = view.now + SPILL_VALID;
        }
        let mut ticket = view.random.draw() >> 32;
        for (tier, &share) in self.spill.iter().enumerate() {
            match ticket.checked_sub(share) {
                Some(rest) => ticket = rest,
                None => return tier,
            }
        }
        0
    }
}

/// The policy's choice of one tier.
#[inline(always)]
fn choose_of(
    pool: &mut Pool,
    fleet: &mut Fleet,
    policy: Policy,
    unit: Unit,
    view: &mut View<'_>,
) -> Option<u32> {
    let connection = unit == Unit::Connection;
    let index = match policy {
        Policy::RoundRobin => pool.next_turn(view),
        Policy::LeastTime if !connection => pool.least_time(fleet, view),
        Policy::PeakEwma if !connection => pool.peak_ewma(fleet, view),
        Policy::LeastConn | Policy::LeastTime | Policy::PeakEwma => pool.least_conn(unit, view),
        // The hashing ones come here only without a table of theirs.
        Policy::Random | Policy::ConsistentHash | Policy::Maglev => pool.draw(view),
    };
    index.map(|index| pool.candidates[index].endpoint)
}

/// Whether an endpoint keeps the sessions that it has: draining, or with weight 0, it gets no new ones, and outside of this
/// node's subset it gets them elsewhere.
fn keeps_sessions(service: &ServiceTable, index: usize, now: Moment) -> bool {
    service.endpoints.get(index).is_some_and(|endpoint| {
        let ejected = endpoint.stats.ejection().is_some_and(|e| e.until > now);
        endpoint.enabled && endpoint.health != Health::Critical && !ejected
    })
}
