//! Long connections follow a change of what instances should have.
//!
//! A pick is right when it is made. An instance that restarts, or joins, finds the connections elsewhere, and if they
//! last, they stay there. So the surplus over target_i = C·w_i / Σw, and no more than that, is closed at a bounded rate,
//! and whoever comes back is placed where there are fewer.

use std::time::Duration;

use model::{Endpoint, Incarnation, InstanceId, Moment, ServiceTable};

use crate::share::{BEGINS, ENDS, Share};
use crate::stage::{self, Tier};

/// From one look at the spread to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Nothing is moved until the instances have been the same for so long: during a rolling restart every move would be
/// made again.
const QUIET: Duration = Duration::from_secs(5);

/// So many seconds' worth of connections may be closed and not back yet. Clients that back off before they connect again
/// would otherwise make the shares of all look smaller, and more be closed.
const AWAY: f64 = 2.0;

/// A connection that does not come back was its client's last: after so many looks half of those are given up.
const GIVEN_UP: f64 = 30.0;

/// Connections of an endpoint that are to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Its number in the service's table.
    pub endpoint: usize,
    /// How many.
    pub connections: u32,
}

/// How one service's long connections are spread, and who is to give some up: a state machine.
#[derive(Debug, Default)]
pub struct Respread {
    next: Moment,
    members: Vec<Member>,
    changed: Moment,
    moving: bool,
    /// What may be closed by now, in connections.
    allowance: f64,
    /// Closed, and not back yet.
    away: f64,
    moved: u64,
    open: f64,
}

/// Of an instance, what decides what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member(InstanceId, Incarnation, u16);

/// An endpoint's connections beside its share of them.
struct Part {
    endpoint: usize,
    share: Share,
}

impl Respread {
    /// When [`Respread::handle_timeout`] is due.
    pub const fn next_deadline(&self) -> Moment {
        self.next
    }

    /// A look at the spread, if one is due. Returns what is to be closed until the next.
    pub fn handle_timeout(&mut self, service: &ServiceTable, now: Moment) -> Vec<Surplus> {
        // A deadline further away than it can be comes from a clock that stepped back.
        if now < self.next && self.next <= now + INTERVAL {
            return Vec::new();
        }
        self.next = now + INTERVAL;
        let rate = f64::from(service.balancing.respreading.rate) / 100.0;
        // With others a client may come back to where it was. In a view by role, roles decide.
        if rate == 0.0 || !service.policy.is_load_aware() || service.role.is_some() {
            return Vec::new();
        }
        let (tiers, _) = stage::eligible(&service.endpoints, &service.balancing, |e| e.tier);
        self.see_members(service, &tiers, now);
        self.see_returns(service);
        if self.is_stormy(service, now) {
            self.moving = false;
            return Vec::new();
        }
        // Who was closed and will be back counts, or all would seem to have too many in the meantime.
        let expected = 1.0 + self.away / self.open.max(1.0);
        let parts: Vec<Part> = tiers
            .iter()
            .flat_map(|tier| parts(service, tier, expected))
            .collect();
        self.turn(service, &parts);
        if !self.moving {
            return Vec::new();
        }
        let second = self.open * rate;
        self.allowance = (self.allowance + second).min(second.max(1.0));
        let room = (second * AWAY).max(1.0) - self.away;
        let surplus = surplus(&parts, self.allowance.min(room).max(0.0) as u32);
        self.allowance -= surplus
            .iter()
            .map(|s| f64::from(s.connections))
            .sum::<f64>();
        surplus
    }

    fn see_members(&mut self, service: &ServiceTable, tiers: &[Tier], now: Moment) {
        let eligible = || {
            let numbers = tiers.iter().flat_map(|tier| &tier.endpoints);
            numbers.map(|&number| &service.endpoints[number as usize])
        };
        let same =
            |(m, e): (&Member, &Endpoint)| m.0 == e.id && m.1 == e.incarnation && m.2 == e.weight.0;
        let unchanged = eligible().count() == self.members.len()
            && self.members.iter().zip(eligible()).all(same);
        // A clock that stepped back would make it a long storm.
        if !unchanged || now < self.changed {
            let member = |e: &Endpoint| Member(e.id.clone(), e.incarnation, e.weight.0);
            self.members = eligible().map(member).collect();
            self.changed = now;
        }
    }

    /// Counts what was closed since the last look, and what has come back.
    fn see_returns(&mut self, service: &ServiceTable) {
        let endpoints = &service.endpoints;
        let moved: u64 = endpoints.iter().map(|e| e.connections.moved.value()).sum();
        let open: f64 = endpoints
            .iter()
            .map(|e| f64::from(e.connections.open()))
            .sum();
        // Instances come and go, and their counts with them.
        let closed = moved.saturating_sub(self.moved) as f64;
        let back = (open - (self.open - closed)).max(0.0);
        self.away = (self.away * (1.0 - 1.0 / GIVEN_UP) + closed - back).max(0.0);
        (self.moved, self.open) = (moved, open);
    }

    /// Whether the instances changed a moment ago, or one is still starting slowly.
    fn is_stormy(&self, service: &ServiceTable, now: Moment) -> bool {
        let youngest = service.endpoints.iter().map(|e| e.since).max();
        let started = youngest.unwrap_or_default() + service.balancing.slow_start;
        now.since(self.changed) < QUIET || now < started
    }

    fn turn(&mut self, service: &ServiceTable, parts: &[Part]) {
        let is_off = |times, least| parts.iter().any(|p| p.share.is_off(times, least));
        match self.moving {
            true => self.moving = is_off(ENDS, 1.0),
            // With less than two too many, a move helps nobody.
            false if is_off(BEGINS, 1.5) => {
                self.moving = true;
                self.allowance = 0.0;
                let least: f64 = parts.iter().map(|p| p.share.excess().floor()).sum();
                service.least_moves.add(least as u64);
            }
            false => {}
        }
    }
}

/// The shares of a tier's endpoints, where so many times what is open is expected. Tiers keep what they have: what
/// spills over is theirs who have room.
fn parts(service: &ServiceTable, tier: &Tier, expected: f64) -> Vec<Part> {
    let of = |number: &u32| &service.endpoints[*number as usize];
    let open = |e: &Endpoint| f64::from(e.connections.open());
    let weight: f64 = tier
        .endpoints
        .iter()
        .map(|n| f64::from(of(n).weight.0))
        .sum();
    let all: f64 = tier.endpoints.iter().map(|n| open(of(n))).sum();
    let part = |number: &u32| Part {
        endpoint: *number as usize,
        share: Share {
            open: open(of(number)),
            target: all * expected * f64::from(of(number).weight.0) / weight,
        },
    };
    tier.endpoints.iter().map(part).collect()
}

/// Who gives up how many, of `most` together: each as its excess is to that of all, so that all are done at once.
fn surplus(parts: &[Part], most: u32) -> Vec<Surplus> {
    let all: f64 = parts.iter().map(|part| part.share.excess()).sum();
    if most == 0 || all < 1.0 {
        return Vec::new();
    }
    let part = (f64::from(most) / all).min(1.0);
    let mut rest = most;
    // What rounding leaves over is carried to the next: over the ticks nobody gives more than its part.
    let mut carried = 0.0;
    let mut surplus = Vec::new();
    for Part { endpoint, share } in parts {
        carried += share.excess() * part;
        let connections = (carried as u32).min(share.excess() as u32).min(rest);
        if connections > 0 {
            carried -= f64::from(connections);
            rest -= connections;
            surplus.push(Surplus {
                endpoint: *endpoint,
                connections,
            });
        }
    }
    surplus
}
