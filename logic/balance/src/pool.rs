//! One tier's candidates, and the ways of choosing among them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use model::{Endpoint, EndpointStats, FREED, Moment, Policy};

use crate::Random;
use crate::alias::Alias;
use crate::balancer::Unit;
use crate::learn::{self, Outlook, Usual};
use crate::shortlist::{Entry, NO_SEAT, SEATS, Shortlist};
use crate::stage::Tier;
use crate::view::View;

/// Up to this many endpoints, `least_conn` looks at all of them; beyond, at a shortlist. 64 cache lines are read in about the time of one.
const FULL_SCAN: usize = 64;

/// Of connections there are fewer, and each is there to stay: microseconds are well spent on its place.
const FULL_SCAN_OF_CONNECTIONS: usize = 2_048;

/// One turn of an endpoint of weight 1; one of weight w waits 1/w of it. Divisible by all small weights,
/// so that they interleave exactly.
const TURN: u64 = 5_040 << 16;

/// A turn and its candidate's number are one number, so that comparing them is one instruction: the number takes
/// the lower bits. When the turns reach the end of the upper ones, all begin again.
const NUMBER_BITS: u32 = 24;
const LAST_TURN: u64 = 1 << (63 - NUMBER_BITS);

/// Predictions this close to each other are taken for equal.
const TIE: f32 = 0.95;

/// Costs that are not further from what was expected are as expected.
const STILL: f32 = 1.001;

/// Every millisecond, in bits of nanoseconds, all on the shortlist are looked at again.
const REVIEW: u32 = 20;

/// Picks after which the next one on it is.
const TURNS: usize = 4;

/// The least part of a share that is one.
const PART: f32 = 1.0 / 256.0;

/// Draws that may fail before those that are left are counted.
const DRAWS: usize = 8;

/// Failures in a row weigh so many requests in flight each, for `least_conn`; and for how long.
const CHARGE: u32 = 4;
const CHARGED: u32 = 8;
const CHARGED_FOR: f32 = 1.0;

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) candidates: Vec<Candidate>,
    /// The weight of all of the tier, healthy or not.
    pub(crate) whole: u64,
    odds: Alias,
    /// The mean weight; `None` where all weigh the same.
    uneven: Option<f32>,
    /// `round_robin`: candidates by the moment their turn comes.
    turns: BinaryHeap<Reverse<u64>>,
    /// How far each is in front of others with as little to do.
    advances: Vec<i64>,
    /// The best candidates of those seen lately.
    shortlist: Shortlist,
    /// Leases of this worker that had been given back at the last pick.
    ended: u64,
    /// Whose cost is looked at again next, by seat.
    turn: usize,
    /// When all were, in [`REVIEW`]s.
    reviewed: u64,
}

/// Small, so that many fit into the caches.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) stats: Arc<EndpointStats>,
    pub(crate) endpoint: u32,
    pub(crate) weight: u16,
    /// On the shortlist.
    seat: u8,
}

/// What speaks against a candidate now, and how much more will after one more request.
#[derive(Clone, Copy, Debug)]
struct Cost {
    now: f32,
    step: f32,
}

/// What a balancer has learned of a service as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fleet {
    /// Its pace is the median of the endpoints'.
    pub(crate) usual: Usual,
    /// When somebody was last chosen.
    last: Moment,
}

impl Pool {
    pub(crate) fn new(
        tier: &Tier,
        endpoints: &[Endpoint],
        policy: Policy,
        random: &mut Random,
    ) -> Self {
        let candidate = |&index: &u32| {
            let endpoint = &endpoints[index as usize];
            Candidate {
                stats: endpoint.stats.clone(),
                endpoint: index,
                weight: endpoint.weight.0,
                seat: NO_SEAT,
            }
        };
        let candidates: Vec<_> = tier.endpoints.iter().map(candidate).collect();
        let weights: Vec<u32> = candidates.iter().map(|c| u32::from(c.weight)).collect();
        // Workers that start together do not choose in step.
        let advance = |&weight: &u32| random.below(256 * u64::from(weight)) as i64;
        let advances = weights.iter().map(advance).collect();
        let turns = match policy {
            Policy::RoundRobin => (0..)
                .zip(&candidates)
                // Anywhere within its first turn, for the same reason.
                .map(|(i, c)| Reverse(random.below(TURN / u64::from(c.weight)) << NUMBER_BITS | i))
                .collect(),
            _ => BinaryHeap::new(),
        };
        Self {
            candidates,
            whole: tier.whole,
            odds: Alias::new(&weights),
            uneven: mean_if_uneven(&weights),
            turns,
            advances,
            shortlist: Shortlist::new(),
            ended: 0,
            turn: 0,
            reviewed: 0,
        }
    }

    /// A candidate drawn with P(i) = W(i) / ΣW among those that can be chosen.
    #[inline]
    pub(crate) fn draw(&self, view: &mut View<'_>) -> Option<usize> {
        let index = self.odds.draw(view.random.draw());
        match view.is_ordinary(&self.candidates[index].stats) {
            true => Some(index),
            false => self.draw_again(index, view),
        }
    }

    #[cold]
    fn draw_again(&self, mut index: usize, view: &mut View<'_>) -> Option<usize> {
        // Drawing again keeps the odds among the usable ones. Eight misses in a row mean that few are
        // left: then the odds are computed among just those.
        for _ in 0..DRAWS {
            if view.takes(&self.candidates[index]) {
                return Some(index);
            }
            index = self.odds.draw(view.random.draw());
        }
        self.draw_among_few(view)
    }

    #[cold]
    fn draw_among_few(&self, view: &mut View<'_>) -> Option<usize> {
        let share = |c| u64::from((view.share(c) * 256.0) as u32) * u64::from(c.weight);
        let total: u64 = self.candidates.iter().map(share).sum();
        if total == 0 {
            return None;
        }
        let mut ticket = view.random.below(total);
        let share = |c| u64::from((view.share(c) * 256.0) as u32) * u64::from(c.weight);
        self.candidates
            .iter()
            .position(|c| match ticket.checked_sub(share(c)) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            })
    }

    /// Earliest deadline first. Who cannot take its turn loses it.
    #[inline(never)]
    pub(crate) fn next_turn(&mut self, view: &mut View<'_>) -> Option<usize> {
        for _ in 0..self.candidates.len() {
            let mut first = self.turns.peek_mut()?;
            let index = (first.0 & ((1 << NUMBER_BITS) - 1)) as usize;
            let candidate = &self.candidates[index];
            first.0 += (TURN / u64::from(candidate.weight)) << NUMBER_BITS;
            let last = first.0 >> NUMBER_BITS >= LAST_TURN;
            drop(first);
            if last {
                self.begin_again();
            }
            let candidate = &self.candidates[index];
            if view.takes(candidate) {
                return Some(index);
            }
        }
        // A heavy candidate that is unusable may have used up all the attempts above, again and again: the first of
        // the others would get what is everybody's.
        self.draw_among_few(view)
    }

    /// Every turn minus the first one's.
    fn begin_again(&mut self) {
        let first = self.turns.peek().map_or(0, |first| first.0 >> NUMBER_BITS);
        let turns = std::mem::take(&mut self.turns).into_vec();
        let earlier = turns
            .into_iter()
            .map(|Reverse(t)| Reverse(t - (first << NUMBER_BITS)));
        self.turns = earlier.collect();
    }

    /// The fewest in flight per weight: of all, or of a shortlist.
    #[inline(never)]
    pub(crate) fn least_conn(&mut self, unit: Unit, view: &mut View<'_>) -> Option<usize> {
        let scanned = match unit {
            Unit::Request => FULL_SCAN,
            Unit::Connection => FULL_SCAN_OF_CONNECTIONS,
        };
        match self.candidates.len() <= scanned {
            true => self.scan(view, PART),
            false => {
                let cost = |candidate: &Candidate, now| {
                    let step = 1.0 / f32::from(candidate.weight);
                    let now = load(candidate, now) as f32 * step;
                    Cost { now, step }
                };
                self.least(view, false, cost).map(|(chosen, _)| chosen)
            }
        }
    }

    /// The least predicted latency of a shortlist.
    #[inline(never)]
    pub(crate) fn least_time(&mut self, fleet: &mut Fleet, view: &mut View<'_>) -> Option<usize> {
        let usual = fleet.usual(self.candidates.len(), view.now);
        let outlook = Outlook::new(usual);
        let by_weight = self.uneven.is_some();
        let (chosen, drawn) = self.least(view, by_weight, |candidate, now| {
            let q = learn::in_flight(&candidate.stats, now);
            let (now, step) = outlook.predict(&candidate.stats, q, now);
            Cost { now, step }
        })?;
        // Not the one that was chosen: those are better than the usual. Nor one that was forgotten: after a moment in which
        // most failed or were slow, what they took then would be usual for ever, and whoever is asked first afterwards so much
        // better than that that nobody else is asked again.
        if self.candidates[drawn].stats.learned_ago(view.now) < usual.forgotten {
            fleet.see(&self.candidates[drawn]);
        }
        Some(chosen)
    }

    /// The least of a shortlist, by `cost`, and one that was drawn. Those on it are challenged by who has just answered, and so has one less
    /// to do, and by some that are drawn, so that everybody is looked at from time to time. It finds about whom a look
    /// at all would find, since whoever has become better than those on the list has just answered, or was idle for
    /// long; and two balancers with the same view have different lists, so that they do not run after the same one.
    /// `by_weight`: weights differ, and costs say nothing of them.
    #[inline]
    fn least(
        &mut self,
        view: &mut View<'_>,
        by_weight: bool,
        cost: impl Fn(&Candidate, Moment) -> Cost,
    ) -> Option<(usize, usize)> {
        // Before anything else: their memory is the farthest away.
        let drawn = self.draw(view)?;
        let another = self.draw(view)?;
        self.review(view, &cost);
        self.hear(view, &cost);
        self.offer(another, cost(&self.candidates[another], view.now).now);
        let of = cost(&self.candidates[drawn], view.now);
        let chosen = match by_weight {
            false => self.best_below(TIE * of.now, view, &cost),
            true => self.best_for_its_weight(drawn, of.now, view, &cost),
        };
        // Among those that are as good as equal the draw decides, and so the weights.
        let step = if chosen.is_none() { of.step } else { 0.0 };
        self.offer(drawn, of.now + step);
        Some((chosen.unwrap_or(drawn), drawn))
    }

    /// Looks again at those on the shortlist. What this worker does with them is in their costs already; what others do,
    /// and what time does, is seen when one after the other is looked at, and now and then all.
    #[inline]
    fn review(&mut self, view: &View<'_>, cost: impl Fn(&Candidate, Moment) -> Cost) {
        let period = view.now.as_nanos() >> REVIEW;
        if period != self.reviewed {
            self.reviewed = period;
            (0..SEATS).for_each(|seat| self.look(seat, view, &cost));
        }
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(TURNS) {
            self.look(self.turn / TURNS, view, &cost);
        }
    }

    #[inline(never)]
    fn look(&mut self, seat: usize, view: &View<'_>, cost: impl Fn(&Candidate, Moment) -> Cost) {
        let entry = self.shortlist.entry(seat);
        let Some(member) = entry.member() else {
            return;
        };
        let candidate = &self.candidates[member];
        if view.is_full(candidate) {
            let cost = cost(candidate, view.now).now;
            self.shortlist.seat(entry.seat(), member, cost);
        } else {
            self.vacate(entry);
        }
    }

    /// Offers seats to those who have just answered.
    #[inline]
    fn hear(&mut self, view: &View<'_>, cost: impl Fn(&Candidate, Moment) -> Cost) {
        let worked = view.worked();
        let ended = worked.ended.value();
        let mut heard = std::mem::replace(&mut self.ended, ended);
        if ended.wrapping_sub(heard) > FREED as u64 {
            // More than are remembered: anybody may have answered.
            heard = ended.saturating_sub(FREED as u64);
            (0..SEATS).for_each(|seat| self.look(seat, view, &cost));
        }
        for n in heard..ended {
            let Some(freed) = self.candidate(worked.freed(n)) else {
                continue;
            };
            let candidate = &self.candidates[freed];
            if view.is_full(candidate) {
                self.offer(freed, cost(candidate, view.now).now);
            }
        }
    }

    /// Takes in what a candidate costs. Who is not on the shortlist takes the worst one's seat, if it is better. Inlined
    /// wherever it stands, or it is called three times a pick: that is a twentieth of pick and done.
    #[inline(always)]
    fn offer(&mut self, index: usize, cost: f32) {
        let candidate = &mut self.candidates[index];
        if candidate.seat != NO_SEAT {
            let seat = usize::from(candidate.seat);
            self.shortlist.seat(seat, index, cost);
            return;
        }
        let worst = self.shortlist.worst();
        if cost < worst.cost() {
            candidate.seat = worst.seat() as u8;
            if let Some(member) = worst.member() {
                self.candidates[member].seat = NO_SEAT;
            }
            self.shortlist.seat(worst.seat(), index, cost);
        }
    }

    #[cold]
    fn vacate(&mut self, entry: Entry) {
        if let Some(member) = entry.member() {
            self.candidates[member].seat = NO_SEAT;
        }
        self.shortlist.vacate(entry.seat());
    }

    /// The best one on the shortlist, if it is better than `bound`. It gets the request.
    #[inline]
    fn best_below(
        &mut self,
        bound: f32,
        view: &View<'_>,
        cost: impl Fn(&Candidate, Moment) -> Cost,
    ) -> Option<usize> {
        for _ in 0..2 * SEATS {
            let best = self.shortlist.least();
            if best.cost() >= bound {
                return None;
            }
            let member = best.member()?;
            let candidate = &self.candidates[member];
            if !view.is_full(candidate) {
                self.vacate(best);
                continue;
            }
            let of = cost(candidate, view.now);
            if of.now <= best.cost() * STILL {
                self.shortlist.seat(best.seat(), member, of.now + of.step);
                return Some(member);
            }
            // Other workers have sent it requests since it was looked at.
            self.shortlist.seat(best.seat(), member, of.now);
        }
        None
    }

    /// The best one on the shortlist that takes over from who was drawn at this cost. The draw goes by weight, and so
    /// must what becomes of it, or whoever is a little faster has nearly all requests, with a hundredth of the weight:
    /// from a heavier one the lighter takes over as often as their weights are to each other, and so much more often as
    /// it is better, squared. Among those that do equally well this leaves the draw's odds as they are (Metropolis and
    /// others 1953), and a heavy one that is stuck does not keep its requests.
    #[inline(never)]
    fn best_for_its_weight(
        &mut self,
        drawn: usize,
        drawn_cost: f32,
        view: &mut View<'_>,
        cost: impl Fn(&Candidate, Moment) -> Cost,
    ) -> Option<usize> {
        let bound = TIE * drawn_cost;
        let drawn_weight = f32::from(self.candidates[drawn].weight);
        let mut entry = self.shortlist.least();
        for _ in 0..2 * SEATS {
            let member = entry.member().filter(|_| entry.cost() < bound)?;
            let candidate = &self.candidates[member];
            let better = drawn_cost / entry.cost();
            let heavier = f32::from(candidate.weight) / drawn_weight;
            if !view.is_full(candidate) {
                self.vacate(entry);
            } else if view.accepts(heavier * better * better) {
                let of = cost(candidate, view.now);
                if of.now <= entry.cost() * STILL {
                    self.shortlist.seat(entry.seat(), member, of.now + of.step);
                    return Some(member);
                }
                self.shortlist.seat(entry.seat(), member, of.now);
            }
            entry = self.shortlist.least_after(entry);
        }
        None
    }

    /// The candidate that the endpoint with this number is, if it is one.
    #[inline]
    fn candidate(&self, endpoint: u32) -> Option<usize> {
        // Most often all endpoints are candidates, in the same order.
        match self.candidates.get(endpoint as usize) {
            Some(candidate) if candidate.endpoint == endpoint => Some(endpoint as usize),
            _ => self
                .candidates
                .binary_search_by_key(&endpoint, |c| c.endpoint)
                .ok(),
        }
    }

    /// The fewest in flight per weight. Those that are equal take turns, smoothly by weight as nginx has it: in
    /// simulation, the least recently chosen of them, or any, makes the tail a twentieth longer.
    /// Looked at are those with at least this much of their share.
    fn scan(&mut self, view: &mut View<'_>, least_share: f32) -> Option<usize> {
        // Load and share of the best so far, and how many are equal; weights in 256ths of what they are.
        let mut best: Option<(usize, u64, u64)> = None;
        let mut equals = 0;
        let (mut in_part, mut in_full) = (false, false);
        for (index, candidate) in self.candidates.iter().enumerate() {
            let share = view.share(candidate);
            let Some((load, weight)) = burden(candidate, share, least_share, view.now) else {
                continue;
            };
            (in_part, in_full) = (in_part | (share < 1.0), in_full | (share >= 1.0));
            let order = best.map_or(Ordering::Less, |(_, best_load, best_weight)| {
                // load / weight against best_load / best_weight, without dividing.
                (load * best_weight).cmp(&(best_load * weight))
            });
            match order {
                Ordering::Less => (best, equals) = (Some((index, load, weight)), 1),
                Ordering::Equal => equals += 1,
                Ordering::Greater => {}
            }
        }
        let (index, load, weight) = best?;
        match equals {
            _ if in_part && in_full => self.scan_beside_some_in_part(view),
            1 => Some(index),
            _ => self.next_of_equals(view, least_share, load, weight),
        }
    }

    /// Those that have part of their share get that part of the draws, and no more: where there is little to do, they
    /// would be the emptiest, and get as much as the others.
    #[cold]
    fn scan_beside_some_in_part(&mut self, view: &mut View<'_>) -> Option<usize> {
        let drawn = self.draw(view)?;
        match view.is_full(&self.candidates[drawn]) {
            true => self.scan(view, 1.0),
            false => Some(drawn),
        }
    }

    /// Among those with this load for this weight: all advance by their weight, and the foremost pays for all.
    fn next_of_equals(
        &mut self,
        view: &View<'_>,
        least_share: f32,
        load: u64,
        weight: u64,
    ) -> Option<usize> {
        let (mut first, mut total) = (None, 0);
        for index in 0..self.candidates.len() {
            let candidate = &self.candidates[index];
            let share = view.share(candidate);
            let Some((ours, share)) = burden(candidate, share, least_share, view.now) else {
                continue;
            };
            if ours * weight != load * share {
                continue;
            }
            total += share as i64;
            let advance = &mut self.advances[index];
            *advance += share as i64;
            if first.is_none_or(|(_, most)| *advance > most) {
                first = Some((index, *advance));
            }
        }
        let (index, _) = first?;
        self.advances[index] -= total;
        Some(index)
    }

    /// The better of two by peak-sensitive latency times what will be in flight.
    #[inline(never)]
    pub(crate) fn peak_ewma(&self, fleet: &mut Fleet, view: &mut View<'_>) -> Option<usize> {
        let (a, b) = (self.draw(view)?, self.draw(view)?);
        fleet.see(&self.candidates[a]);
        // As long as nothing is known, any will do.
        let usual = fleet.usual.pace.max(1.0);
        let [ours, theirs] = [a, b].map(|i| {
            let candidate = &self.candidates[i];
            let q = learn::in_flight(&candidate.stats, view.now);
            let latency = learn::peak(&candidate.stats, usual, view.now);
            // The draw has gone by weight: of those with nothing to do, it would count twice.
            let mean = self.uneven.unwrap_or(f32::from(candidate.weight));
            latency * (q * mean / f32::from(candidate.weight) + 1.0)
        });
        Some(if theirs < ours { b } else { a })
    }

    /// The weight of those that can be chosen now.
    pub(crate) fn usable(&self, view: &View<'_>) -> u64 {
        let usable = self.candidates.iter().filter(|c| view.share(c) > 0.0);
        usable.map(|c| u64::from(c.weight)).sum()
    }
}

/// The mean of weights that are not all the same.
fn mean_if_uneven(weights: &[u32]) -> Option<f32> {
    let uneven = weights.iter().any(|&w| w != weights[0]);
    let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    uneven.then(|| sum as f32 / weights.len() as f32)
}

/// What a candidate with at least so much of its share has in flight, and its weight in 256ths.
fn burden(candidate: &Candidate, share: f32, least: f32, now: Moment) -> Option<(u64, u64)> {
    let weight = (share * 256.0) as u64 * u64::from(candidate.weight);
    (share >= least).then(|| (load(candidate, now), weight))
}

/// What a candidate has in flight. Failures of the last second count as if they were still there: an instance
/// that fails fast is always empty, and would draw everything.
fn load(candidate: &Candidate, now: Moment) -> u64 {
    let stats = &candidate.stats;
    let bad = stats.bad_in_a_row();
    let charged = bad != 0 && stats.learned_ago(now) < CHARGED_FOR;
    let charge = if charged {
        bad.min(CHARGED) * CHARGE
    } else {
        0
    };
    u64::from(stats.in_flight() + charge)
}

impl Fleet {
    /// What is usual among `n` endpoints, one of which is about to be chosen.
    #[inline]
    fn usual(&mut self, n: usize, now: Moment) -> Usual {
        let nanos = now.as_nanos().saturating_sub(self.last.as_nanos());
        self.usual.chosen(n, nanos as f32 * 1e-9);
        self.last = now;
        self.usual
    }

    /// Moves towards the median of paces: a step up or down, whatever the distance, so that a few instances far out do
    /// not move it far.
    fn see(&mut self, candidate: &Candidate) {
        let pace = candidate.stats.pace();
        if pace == 0.0 {
            return;
        }
        let usual = &mut self.usual.pace;
        let step = if pace > *usual {
            65.0 / 64.0
        } else {
            63.0 / 64.0
        };
        *usual = if *usual == 0.0 { pace } else { *usual * step };
    }
}
