use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::{Endpoint, Moment, Policy, ServiceTable};
use thiserror::Error;

use crate::Random;
use crate::standing::{Standing, is_shunned, lasting};

/// Up to this many endpoints, `least_conn` looks at all of them; beyond, at two (the power of two
/// choices, Mitzenmacher 2001). 64 cache lines are read in about the time of one.
const FULL_SCAN: usize = 64;

/// One turn of an endpoint of weight 1; one of weight w waits 1/w of it. Divisible by all small weights,
/// so that they interleave exactly.
const TURN: u64 = 5_040 << 20;

/// Why no endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// The service has no instance with a usable address.
    #[error("the service has no instances")]
    NoInstances,
    /// It has, but none may be chosen.
    #[error("no instance of the service is healthy, enabled and undrained")]
    NoneEligible,
    /// All that may be chosen were tried for this request already.
    #[error("every eligible instance was tried")]
    AllTried,
}

/// The endpoints already tried for a request. Attempts are few: 8 are remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    endpoints: [u32; 8],
    len: u8,
}

impl Tried {
    /// Remembers the endpoint with number `index`.
    pub fn add(&mut self, index: usize) {
        if let Some(slot) = self.endpoints.get_mut(usize::from(self.len)) {
            *slot = index as u32;
            self.len += 1;
        }
    }

    fn has(&self, index: u32) -> bool {
        self.endpoints[..usize::from(self.len)].contains(&index)
    }
}

/// One worker's view of one service: who may be chosen, and whose turn it is.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Numbers of the endpoints that may be chosen, in the table's order.
    candidates: Vec<Candidate>,
    /// Sums of the candidates' weights up to and including each.
    sums: Vec<u64>,
    /// `round_robin`: candidates by the moment their turn comes.
    turns: BinaryHeap<Reverse<(u64, u32)>>,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    endpoint: u32,
    weight: u32,
    /// When its turn comes, in virtual time. `least_conn` settles ties by it.
    turn: u64,
}

impl Balancer {
    /// A balancer for `service` as it is now. Every change of the service needs a new one.
    pub fn new(service: &ServiceTable, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let of = |wanted| move |e: &(usize, &Endpoint)| lasting(e.1) == wanted;
        let all = || service.endpoints.iter().enumerate();
        let mut chosen: Vec<_> = all().filter(of(Standing::Eligible)).collect();
        if chosen.is_empty() {
            chosen = all().filter(of(Standing::Reserve)).collect();
        }
        let candidates: Vec<_> = chosen
            .into_iter()
            .map(|(index, endpoint)| Candidate {
                endpoint: index as u32,
                weight: u32::from(endpoint.weight.0),
                // Anywhere within its first turn: workers that start together do not choose in step.
                turn: random.below(TURN / u64::from(endpoint.weight.0)),
            })
            .collect();
        let sums = candidates
            .iter()
            .scan(0, |sum, c| {
                *sum += u64::from(c.weight);
                Some(*sum)
            })
            .collect();
        let turns = match service.policy {
            Policy::RoundRobin => (0..)
                .zip(&candidates)
                .map(|(i, c)| Reverse((c.turn, i)))
                .collect(),
            Policy::Random | Policy::LeastConn => BinaryHeap::new(),
        };
        Self {
            candidates,
            sums,
            turns,
            random,
        }
    }

    /// The number of the endpoint that gets the next request.
    ///
    /// # Errors
    /// When there is none to choose.
    pub fn pick(
        &mut self,
        service: &ServiceTable,
        tried: &Tried,
        now: Moment,
    ) -> Result<usize, Unavailable> {
        if self.candidates.is_empty() {
            return Err(match service.endpoints.is_empty() {
                true => Unavailable::NoInstances,
                false => Unavailable::NoneEligible,
            });
        }
        let usable = |c: &Candidate| {
            !tried.has(c.endpoint) && !is_shunned(&service.endpoints[c.endpoint as usize], now)
        };
        let chosen = match service.policy {
            Policy::Random => self.draw_usable(usable),
            Policy::RoundRobin => self.next_turn(usable),
            Policy::LeastConn if self.candidates.len() <= FULL_SCAN => self.scan(service, usable),
            Policy::LeastConn => self.better_of_two(service, usable),
        };
        // All that are left failed a moment ago: better one of them than none.
        let chosen = chosen.or_else(|| self.scan(service, |c| !tried.has(c.endpoint)));
        let chosen = chosen.ok_or(Unavailable::AllTried)?;
        Ok(self.candidates[chosen].endpoint as usize)
    }

    /// A candidate drawn with P(i) = W(i) / ΣW.
    fn draw(&mut self) -> usize {
        let total = self.sums[self.sums.len() - 1];
        let ticket = self.random.below(total);
        self.sums.partition_point(|&sum| sum <= ticket)
    }

    fn draw_usable(&mut self, usable: impl Fn(&Candidate) -> bool) -> Option<usize> {
        // Drawing again keeps the odds among the usable ones. Eight misses in a row mean that few are
        // left: then the odds are computed among just those.
        for _ in 0..8 {
            let index = self.draw();
            if usable(&self.candidates[index]) {
                return Some(index);
            }
        }
        let left = || (0..).zip(&self.candidates).filter(|(_, c)| usable(c));
        let total: u64 = left().map(|(_, c)| u64::from(c.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut ticket = self.random.below(total);
        for (index, candidate) in left() {
            match ticket.checked_sub(u64::from(candidate.weight)) {
                Some(rest) => ticket = rest,
                None => return Some(index),
            }
        }
        None
    }

    /// Earliest deadline first. Who cannot take its turn loses it.
    fn next_turn(&mut self, usable: impl Fn(&Candidate) -> bool) -> Option<usize> {
        for _ in 0..self.candidates.len() {
            let mut first = self.turns.peek_mut()?;
            let Reverse((turn, index)) = *first;
            let candidate = &self.candidates[index as usize];
            *first = Reverse((turn + TURN / u64::from(candidate.weight), index));
            if usable(candidate) {
                return Some(index as usize);
            }
        }
        // A heavy candidate that is unusable may have used up all the attempts above.
        (0..self.candidates.len()).find(|&i| usable(&self.candidates[i]))
    }

    /// The fewest in flight per weight; among equals, whose turn it is.
    fn scan(
        &mut self,
        service: &ServiceTable,
        usable: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, u64)> = None;
        for (index, candidate) in self.candidates.iter().enumerate() {
            if !usable(candidate) {
                continue;
            }
            let load = in_flight(service, candidate);
            let better = best.is_none_or(|(b, best_load)| {
                let rival = &self.candidates[b];
                // load / weight < best_load / rival.weight, without dividing.
                let (ours, theirs) = (
                    load * u64::from(rival.weight),
                    best_load * u64::from(candidate.weight),
                );
                ours < theirs || ours == theirs && candidate.turn < rival.turn
            });
            if better {
                best = Some((index, load));
            }
        }
        let (index, _) = best?;
        self.take_turn(index);
        Some(index)
    }

    fn take_turn(&mut self, index: usize) {
        let candidate = &mut self.candidates[index];
        candidate.turn += TURN / u64::from(candidate.weight);
    }

    fn better_of_two(
        &mut self,
        service: &ServiceTable,
        usable: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let a = self.draw_usable(&usable)?;
        let b = self.draw_usable(&usable)?;
        let (first, second) = (&self.candidates[a], &self.candidates[b]);
        let ours = in_flight(service, first) * u64::from(second.weight);
        let theirs = in_flight(service, second) * u64::from(first.weight);
        Some(if theirs < ours { b } else { a })
    }
}

fn in_flight(service: &ServiceTable, candidate: &Candidate) -> u64 {
    u64::from(
        service.endpoints[candidate.endpoint as usize]
            .stats
            .in_flight(),
    )
}
