//! Which leases hold, which ran out, and whether to believe it.
//!
//! Leases are not logged: renewing one moves a number in memory. Only outcomes become commands. A node that
//! starts (or later, takes the lead) gives every lease one full ttl from that moment: one bounded grace.

mod guard;
mod slab;
mod wheel;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::{Health, InstanceId, Moment, Revision, ServiceKey};

use guard::Losses;
pub use guard::MassLoss;
pub use slab::Seed;
use slab::{Slab, State};
use wheel::Wheel;

use crate::{Command, LeaseRef, MAX_BATCH, Record, Registry};

/// Whoever drives [`Leases`] promises a call at least this often. Longer without one, and the process was
/// stopped, or starved: then time did not pass for the leases either, for nobody could renew them.
const BEAT: Duration = Duration::from_millis(250);
/// How much longer a call may take than promised before it counts as frozen. A busy machine is late by
/// tens of milliseconds; and mistaking lateness for frost only lets a lease hold that much longer.
const FROST: Duration = Duration::from_millis(1_000);
/// How many timers one call looks at: a few milliseconds' work, so that heartbeats waiting for the
/// lock hardly notice a million leases that were granted in the same tick.
const STEP: usize = 8_192;
/// Until a command that has not shown its effect (the disk may be full) is sent again, in milliseconds.
const RESEND: u64 = 5_000;
/// Until the guard is asked again to let go of a held lease, in milliseconds.
const ASK_AGAIN: u64 = 1_000;

/// All leases of the registry.
#[derive(Debug)]
pub struct Leases {
    slab: Slab,
    wheel: Wheel,
    limits: MassLoss,
    losses: Losses,
    releases: Losses,
    live: u32,
    held: u32,
    commands: VecDeque<Command>,
    probes: VecDeque<(Arc<ServiceKey>, InstanceId)>,
    /// The last call.
    seen: Moment,
    /// How long the process was frozen, in all: lease time is the clock less this.
    frozen: Duration,
}

/// What the leases ask of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Submit this.
    Submit(Command),
    /// Find out whether this instance is alive, and tell [`Leases::probed`].
    Probe {
        /// The service.
        key: Arc<ServiceKey>,
        /// The instance.
        id: InstanceId,
    },
}

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// A lease that held; it holds for another ttl.
    Renewed,
    /// One that had run out or was held over: a command is on its way that says so.
    Woken,
    /// No lease of that name, or one whose instance is being removed: register it anew.
    NotFound,
}

/// The most heartbeats in a batch: enough to keep the memory busy, short enough that others waiting for the
/// leases do not notice.
const MOST: usize = 64;

/// Heartbeats that are renewed together.
#[derive(Debug)]
pub struct Batch<'a> {
    instances: &'a [(ServiceKey, InstanceId)],
    hashes: [u32; MOST],
}

impl<'a> Batch<'a> {
    /// The most heartbeats in a batch.
    pub const MOST: usize = MOST;

    /// The first of `instances`, as many as fit.
    pub fn new(instances: &'a [(ServiceKey, InstanceId)], seed: Seed) -> Self {
        let instances = &instances[..instances.len().min(MOST)];
        let mut hashes = [0; MOST];
        for (hash, (key, id)) in hashes.iter_mut().zip(instances) {
            *hash = seed.of(key, id);
        }
        Self { instances, hashes }
    }
}

impl Leases {
    /// No leases. `seed` must not be known to clients.
    pub fn new(limits: MassLoss, seed: u64, now: Moment) -> Self {
        Self {
            slab: Slab::new(seed),
            wheel: Wheel::new(),
            limits,
            losses: Losses::default(),
            releases: Losses::default(),
            live: 0,
            held: 0,
            commands: VecDeque::new(),
            probes: VecDeque::new(),
            seen: now,
            frozen: now.since(Moment::ZERO),
        }
    }

    /// This node has taken the lead: what others have heard since is not known here, so each lease has one full ttl from
    /// now on.
    pub fn begin_anew(&mut self, registry: &Registry, now: Moment) {
        let seed = self.slab.seed;
        *self = Self::new(self.limits, 0, now);
        self.slab.seed = seed;
        for service in registry.services() {
            for record in service.instances() {
                self.follow(&service.key, &record.instance.id, Some(record), now);
            }
        }
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are held over by the mass-loss guard.
    pub fn held(&self) -> usize {
        self.held as usize
    }

    /// Brings a lease in line with its instance's record: `None` once it is removed. To be called after every
    /// command applied, for every record it touched; calling it again changes nothing.
    pub fn follow(
        &mut self,
        key: &Arc<ServiceKey>,
        id: &InstanceId,
        record: Option<&Record>,
        now: Moment,
    ) {
        let now = self.lease_time(now);
        let found = self.slab.find(key, id);
        let Some((record, lease)) = record.and_then(|r| Some((r, r.instance.lease?))) else {
            if let Some(index) = found {
                self.revoke(index);
            }
            return;
        };
        if let Some(index) = found {
            let entry = &mut self.slab.entries[index as usize];
            entry.recorded = record.lease_health;
            if entry.renewed == record.renewed.0 {
                self.recorded(index, now);
                return;
            }
        }
        let index = found.unwrap_or_else(|| self.grant(key, id));
        let entry = &mut self.slab.entries[index as usize];
        entry.ttl = millis(lease.ttl);
        entry.grace = millis(lease.grace);
        entry.renewed = record.renewed.0;
        entry.recorded = record.lease_health;
        // What was held over when the node stopped gets its one ttl like everybody.
        let (ttl, grace) = (u64::from(entry.ttl), u64::from(entry.grace));
        match record.lease_health {
            Health::Critical => self.enter(index, State::Expired, now + grace),
            _ => self.enter(index, State::Live, now + ttl),
        }
    }

    /// A heartbeat. Constant time, and allocates nothing while the lease holds.
    pub fn renew(&mut self, key: &ServiceKey, id: &InstanceId, now: Moment) -> Renewal {
        let now = self.lease_time(now);
        self.renew_found(self.slab.find(key, id), now)
    }

    /// Prepares [`Leases::renew_batch`], without the leases.
    pub fn seed(&self) -> Seed {
        self.slab.seed
    }

    /// Many heartbeats. Faster than one by one: what each has to fetch from memory is asked for before any
    /// of it is waited for.
    pub fn renew_batch(&mut self, batch: &Batch<'_>, now: Moment, found: &mut Vec<Renewal>) {
        let now = self.lease_time(now);
        let mut places = [None; MOST];
        for (place, &hash) in places
            .iter_mut()
            .zip(&batch.hashes)
            .take(batch.instances.len())
        {
            *place = self.slab.guess(hash);
        }
        for ((place, &hash), (key, id)) in places.iter().zip(&batch.hashes).zip(batch.instances) {
            let place = match place {
                Some(index) if !self.slab.is(*index, hash, key, id) => self.slab.find(key, id),
                place => *place,
            };
            found.push(self.renew_found(place, now));
        }
    }

    /// Whether there is a lease of that name that holds, and its record says so.
    pub fn holds(&self, key: &ServiceKey, id: &InstanceId) -> bool {
        self.slab.find(key, id).is_some_and(|index| {
            let entry = &self.slab.entries[index as usize];
            entry.state == State::Live && entry.recorded == Health::Passing
        })
    }

    /// What the probe of a held instance found.
    pub fn probed(&mut self, key: &ServiceKey, id: &InstanceId, alive: bool, now: Moment) {
        let now = self.lease_time(now);
        if let Some(index) = self.slab.find(key, id)
            && self.slab.entries[index as usize].state == State::Held
            && !alive
        {
            // Silent and dead on inspection: that is no guess, so no limit applies.
            self.expire(index, now);
        }
    }

    /// Looks at the leases whose time has come.
    pub fn handle_timeout(&mut self, now: Moment) {
        let now = self.lease_time(now);
        for _ in 0..STEP {
            let Some(index) = self.wheel.pop(&mut self.slab.entries, now) else {
                return;
            };
            self.due(index, now);
        }
    }

    /// When [`Leases::handle_timeout`] wants to be called next: never later than a quarter of a second after the last call.
    pub fn next_deadline(&self) -> Moment {
        let due = self
            .wheel
            .next_deadline()
            .map_or(Moment::NEVER, |ms| Moment::from_millis(ms) + self.frozen);
        due.min(self.seen + BEAT)
    }

    /// What is to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let probe = |(key, id)| Output::Probe { key, id };
        match self.commands.pop_front() {
            Some(command) => Some(Output::Submit(command)),
            None => self.probes.pop_front().map(probe),
        }
    }

    /// Milliseconds of lease time.
    fn lease_time(&mut self, now: Moment) -> u64 {
        let gap = now.since(self.seen);
        if gap > BEAT + FROST {
            // Less a beat, so that a machine that is always this slow still sees leases run out.
            self.frozen += gap - BEAT;
        }
        self.seen = self.seen.max(now);
        (self.seen.since(Moment::ZERO).saturating_sub(self.frozen)).as_millis() as u64
    }

    fn grant(&mut self, key: &Arc<ServiceKey>, id: &InstanceId) -> u32 {
        self.live += 1;
        self.slab.insert(key, id)
    }

    fn revoke(&mut self, index: u32) {
        self.wheel.remove(&mut self.slab.entries, index);
        let state = self.slab.entries[index as usize].state;
        self.live -= u32::from(state.is_live());
        self.held -= u32::from(state == State::Held);
        self.slab.remove(index);
    }

    /// The record says what it said about the same renewal, or what was asked for.
    fn recorded(&mut self, index: u32, now: u64) {
        let entry = &self.slab.entries[index as usize];
        let grace_ends = now + u64::from(entry.grace);
        match (entry.recorded, entry.state) {
            (Health::Critical, State::Live | State::Held | State::Expiring) => {
                self.enter(index, State::Expired, grace_ends);
            }
            // Nothing was wrong with it in the first place.
            (Health::Passing, State::Waking) => self.set(index, State::Live),
            _ => {}
        }
    }

    /// A lease's timer is due, or its place in the wheel has come early.
    fn due(&mut self, index: u32, now: u64) {
        let entry = &self.slab.entries[index as usize];
        if entry.deadline > now {
            let deadline = entry.deadline;
            self.wheel.insert(&mut self.slab.entries, index, deadline);
            return;
        }
        match entry.state {
            State::Live => self.ran_out(index, now),
            State::Waking => self.wake(index, now),
            State::Held => self.let_go(index, now),
            State::Expiring => self.expire(index, now),
            State::Expired | State::Removing => {
                self.enter(index, State::Removing, now + RESEND);
                self.submit(index, Command::Remove);
            }
        }
    }

    fn ran_out(&mut self, index: u32, now: u64) {
        let entry = &self.slab.entries[index as usize];
        let service = &mut self.slab.services[entry.service as usize];
        let limits = self.limits;
        let bearable = service
            .losses
            .allow(limits.share, 1, limits.window, service.live, now)
            && self.losses.allow(
                limits.global_share,
                limits.free,
                limits.window,
                self.live,
                now,
            );
        if bearable {
            service.losses.count();
            self.losses.count();
            return self.expire(index, now);
        }
        let key = Arc::clone(&service.key);
        let id = entry.id.clone();
        self.enter(index, State::Held, now + limits.hold.as_millis() as u64);
        self.submit(index, Command::Hold);
        if let Some(id) = id {
            self.probes.push_back((key, id));
        }
    }

    /// A held lease's time is over. They go one after another, so that whoever watches the service go down has
    /// minutes and not milliseconds: a hundredth of all leases a second, and never fewer than ten.
    fn let_go(&mut self, index: u32, now: u64) {
        let second = Duration::from_secs(1);
        if self.releases.allow(0.01, 10, second, self.live, now) {
            self.releases.count();
            self.expire(index, now);
        } else {
            self.enter(index, State::Held, now + ASK_AGAIN);
        }
    }

    fn expire(&mut self, index: u32, now: u64) {
        self.enter(index, State::Expiring, now + RESEND);
        self.submit(index, Command::Expire);
    }

    fn renew_found(&mut self, found: Option<u32>, now: u64) -> Renewal {
        let Some(index) = found else {
            return Renewal::NotFound;
        };
        let entry = &mut self.slab.entries[index as usize];
        match entry.state {
            State::Live if entry.recorded == Health::Passing => {
                // Only the number: the wheel finds out when it comes by.
                entry.deadline = now + u64::from(entry.ttl);
                Renewal::Renewed
            }
            State::Removing => Renewal::NotFound,
            State::Waking => Renewal::Woken,
            State::Live | State::Held | State::Expiring | State::Expired => {
                self.wake(index, now);
                Renewal::Woken
            }
        }
    }

    /// There was a heartbeat, and the record does not know.
    fn wake(&mut self, index: u32, now: u64) {
        let entry = &self.slab.entries[index as usize];
        if entry.state == State::Waking && entry.recorded == Health::Passing {
            return self.enter(index, State::Live, now + u64::from(entry.ttl));
        }
        self.enter(index, State::Waking, now + RESEND);
        self.submit(index, Command::Renew);
    }

    /// Changes the state, and sets the timer that goes with it.
    fn enter(&mut self, index: u32, state: State, deadline: u64) {
        self.set(index, state);
        self.wheel.remove(&mut self.slab.entries, index);
        self.slab.entries[index as usize].deadline = deadline;
        self.wheel.insert(&mut self.slab.entries, index, deadline);
    }

    fn set(&mut self, index: u32, state: State) {
        let before = self.slab.entries[index as usize].state;
        self.live = self.live + u32::from(state.is_live()) - u32::from(before.is_live());
        self.held = self.held + u32::from(state == State::Held) - u32::from(before == State::Held);
        self.slab.set_state(index, state);
    }

    /// Adds the lease to the last command if it is of the same kind and not full.
    fn submit(&mut self, index: u32, kind: fn(Vec<LeaseRef>) -> Command) {
        let entry = &self.slab.entries[index as usize];
        let Some(id) = entry.id.clone() else { return };
        let lease = LeaseRef {
            key: (*self.slab.services[entry.service as usize].key).clone(),
            id,
            renewed: Revision(entry.renewed),
        };
        let mut command = kind(Vec::new());
        if let Some(last) = self.commands.back_mut()
            && std::mem::discriminant(last) == std::mem::discriminant(&command)
            && let Some(leases) = last.leases_mut()
            && leases.len() < MAX_BATCH
        {
            leases.push(lease);
            return;
        }
        if let Some(leases) = command.leases_mut() {
            leases.push(lease);
        }
        self.commands.push_back(command);
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
