use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    Health, Host, Incarnation, Instance, InstanceId, Lease, Moment, Revision, ServiceKey,
    Timestamp, Weight,
};

use super::slab::{Entry, NONE, OUT, State};
use super::wheel::Wheel;
use super::*;
use crate::Registry;

const TTL: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(20);
/// As often as the leases ask for.
const STEP: Duration = Duration::from_millis(250);

/// Leases, the registry they follow, and a shell that commits every command unless told not to.
struct World {
    registry: Registry,
    leases: Leases,
    now: Moment,
    probes: Vec<InstanceId>,
    commands: Vec<Command>,
    disk_full: bool,
}

impl World {
    fn new() -> Self {
        let start = Moment::from_millis(123_456);
        Self {
            registry: Registry::default(),
            leases: Leases::new(MassLoss::default(), 1, start),
            now: start,
            probes: Vec::new(),
            commands: Vec::new(),
            disk_full: false,
        }
    }

    fn with(count: u32) -> Self {
        let mut world = Self::new();
        for i in 0..count {
            world.register("shop", &i.to_string());
        }
        world
    }

    fn register(&mut self, service: &str, id: &str) {
        let command = Command::Register {
            key: key(service),
            instance: Box::new(instance(id)),
            at: Timestamp(0),
        };
        self.commit(&command);
    }

    fn commit(&mut self, command: &Command) {
        let revision = self.registry.revision().next();
        let applied = self.registry.apply(revision, command);
        for event in applied.events {
            let record = (event.change != crate::Change::Removed).then_some(&*event.record);
            self.leases.follow(&event.key, &event.id, record, self.now);
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.leases.poll_output() {
            match output {
                Output::Submit(command) => {
                    if !self.disk_full {
                        self.commit(&command);
                    }
                    self.commands.push(command);
                }
                Output::Probe { id, .. } => self.probes.push(id),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + STEP);
            self.leases.handle_timeout(self.now);
            self.settle();
        }
    }

    fn beat(&mut self, id: &str) -> Renewal {
        let renewal = self
            .leases
            .renew(&key("shop"), &id.parse().unwrap(), self.now);
        self.settle();
        renewal
    }

    fn health(&self, id: &str) -> Option<Health> {
        let record = self.registry.instance(&key("shop"), &id.parse().unwrap());
        record.map(|r| r.health())
    }

    fn count(&self, health: Health) -> u32 {
        self.registry.counts().of(health)
    }
}

fn key(service: &str) -> ServiceKey {
    ServiceKey::in_default(service.parse().unwrap())
}

fn instance(id: &str) -> Instance {
    Instance {
        id: id.parse().unwrap(),
        host: Host::Ip([10, 0, 0, 1].into()),
        port: 80.try_into().unwrap(),
        weight: Weight(1),
        tier: 0,
        zone: None,
        tags: Box::default(),
        metadata: None,
        lease: Some(Lease {
            ttl: TTL,
            grace: GRACE,
        }),
        check: None,
        enabled: true,
        drain: false,
    }
}

#[test]
fn a_lease_runs_out_after_its_ttl_and_its_instance_goes_after_the_grace() {
    let mut world = World::with(1);
    world.pass(TTL - STEP);
    assert_eq!(world.health("0"), Some(Health::Passing));
    world.pass(2 * STEP);
    assert_eq!(world.health("0"), Some(Health::Critical));
    world.pass(GRACE - 2 * STEP);
    assert_eq!(world.health("0"), Some(Health::Critical));
    world.pass(3 * STEP);
    assert_eq!(world.health("0"), None);
    assert!(world.leases.is_empty());
    assert_eq!(world.beat("0"), Renewal::NotFound);
}

#[test]
fn heartbeats_keep_a_lease_for_ever_and_write_nothing() {
    let mut world = World::with(1);
    for _ in 0..100 {
        world.pass(TTL * 9 / 10);
        assert_eq!(world.beat("0"), Renewal::Renewed);
    }
    assert_eq!(world.commands, []);
}

#[test]
fn a_heartbeat_during_the_grace_brings_the_instance_back() {
    let mut world = World::with(1);
    world.pass(TTL + GRACE / 2);
    assert_eq!(world.health("0"), Some(Health::Critical));
    assert_eq!(world.beat("0"), Renewal::Woken);
    assert_eq!(world.health("0"), Some(Health::Passing));
    assert_eq!(world.beat("0"), Renewal::Renewed);
    world.pass(TTL - STEP);
    assert_eq!(world.health("0"), Some(Health::Passing));
}

#[test]
fn a_heartbeat_that_crosses_the_expiry_wins() {
    let mut world = World::with(1);
    world.disk_full = true;
    world.pass(TTL + STEP);
    let Some(expire @ Command::Expire(_)) = world.commands.pop() else {
        panic!("{:?}", world.commands)
    };
    world.disk_full = false;
    assert_eq!(
        world
            .leases
            .renew(&key("shop"), &"0".parse().unwrap(), world.now),
        Renewal::Woken
    );
    // The log has them in this order.
    world.commit(&expire);
    world.settle();
    assert_eq!(world.health("0"), Some(Health::Passing));
    // And a late second copy of the expiry does nothing.
    world.commit(&expire);
    assert_eq!(world.health("0"), Some(Health::Passing));
    world.pass(TTL - STEP);
    assert_eq!(world.health("0"), Some(Health::Passing));
}

#[test]
fn a_registration_that_crosses_the_removal_wins() {
    let mut world = World::with(1);
    world.pass(TTL + GRACE - STEP);
    world.disk_full = true;
    world.pass(4 * STEP);
    let Some(remove @ Command::Remove(_)) = world.commands.pop() else {
        panic!("{:?}", world.commands)
    };
    world.register("shop", "0");
    world.commit(&remove);
    assert_eq!(world.health("0"), Some(Health::Passing));
    assert_eq!(world.leases.len(), 1);
}

#[test]
fn a_patch_in_between_keeps_no_dead_instance() {
    let mut world = World::with(1);
    for _ in 0..100 {
        world.pass((TTL + GRACE) / 90);
        let patch = crate::Patch {
            drain: Some(world.now.as_millis().is_multiple_of(2)),
            weight: Some(Weight(world.now.as_millis() as u16)),
            ..crate::Patch::default()
        };
        let command = Command::Patch {
            key: key("shop"),
            id: "0".parse().unwrap(),
            patch: Box::new(patch),
        };
        world.commit(&command);
    }
    assert_eq!(world.health("0"), None);
}

#[test]
fn what_a_full_disk_would_not_take_is_sent_again() {
    let mut world = World::with(1);
    world.disk_full = true;
    world.pass(TTL + GRACE);
    assert!(world.commands.len() >= 3, "{:?}", world.commands);
    world.disk_full = false;
    world.pass(Duration::from_secs(6));
    assert_eq!(world.health("0"), Some(Health::Critical));
    world.pass(GRACE + STEP);
    assert_eq!(world.health("0"), None);
}

#[test]
fn a_process_frozen_longer_than_the_ttl_expires_nobody_on_waking() {
    let mut world = World::with(100);
    world.pass(TTL / 2);
    world.now = world.now + TTL * 100;
    world.leases.handle_timeout(world.now);
    world.settle();
    assert_eq!(world.count(Health::Passing), 100);
    world.pass(TTL / 2 - STEP * 2);
    assert_eq!(world.count(Health::Passing), 100);
    // It is one grace, not immortality.
    world.pass(STEP * 3);
    assert_eq!(world.count(Health::Passing), 0);
}

#[test]
fn a_heartbeat_that_comes_before_the_thaw_is_noticed_gains_nothing() {
    let mut world = World::with(2);
    world.now = world.now + Duration::from_secs(3_600);
    assert_eq!(world.beat("0"), Renewal::Renewed);
    world.pass(TTL + STEP * 2);
    assert_ne!(world.health("0"), Some(Health::Passing));
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let mut world = World::with(1);
    world.pass(TTL / 2);
    world.leases.handle_timeout(Moment::from_millis(5));
    assert_eq!(
        world
            .leases
            .renew(&key("shop"), &"0".parse().unwrap(), Moment::ZERO),
        Renewal::Renewed
    );
    world.pass(TTL - STEP);
    assert_eq!(world.health("0"), Some(Health::Passing));
    world.pass(STEP * 2);
    assert_eq!(world.health("0"), Some(Health::Critical));
}

#[test]
fn a_machine_that_is_always_slow_still_sees_leases_run_out() {
    let mut world = World::with(1);
    for _ in 0..(TTL.as_millis() / STEP.as_millis() + 2) {
        world.now = world.now + Duration::from_secs(5);
        world.leases.handle_timeout(world.now);
        world.settle();
    }
    assert_eq!(world.health("0"), Some(Health::Critical));
}

#[test]
fn the_guard_holds_over_what_is_more_than_a_share_of_the_service() {
    let mut world = World::with(10);
    world.pass(TTL + STEP);
    assert_eq!(
        (world.count(Health::Critical), world.count(Health::Warning)),
        (3, 7)
    );
    assert_eq!((world.leases.held(), world.probes.len()), (7, 7));
    let probed = world.probes.clone();
    world
        .leases
        .probed(&key("shop"), &probed[0], false, world.now);
    world
        .leases
        .probed(&key("shop"), &probed[1], true, world.now);
    world.settle();
    assert_eq!(world.health(probed[0].as_str()), Some(Health::Critical));
    assert_eq!(world.health(probed[1].as_str()), Some(Health::Warning));
    assert_eq!(world.beat(probed[1].as_str()), Renewal::Woken);
    assert_eq!(world.health(probed[1].as_str()), Some(Health::Passing));
    assert_eq!(world.leases.held(), 5);
}

#[test]
fn a_small_service_can_always_lose_one() {
    for count in 1..=6 {
        let mut world = World::with(count);
        world.pass(TTL + STEP);
        assert_eq!(world.count(Health::Critical), 1, "of {count}");
    }
}

#[test]
fn many_services_together_are_held_to_the_global_share() {
    let mut world = World::new();
    for service in 0..200 {
        for id in 0..10 {
            world.register(&format!("s-{service}"), &id.to_string());
        }
    }
    world.pass(TTL + STEP);
    // 30 % of each would have been 600; 15 % of all are 300.
    assert_eq!(world.count(Health::Critical), 300);
    assert_eq!(world.count(Health::Warning), 1_700);
}

#[test]
fn what_is_held_is_let_go_in_the_end_and_not_all_at_once() {
    let mut world = World::with(100);
    world.pass(TTL + STEP);
    assert_eq!(world.count(Health::Warning), 70);
    world.pass(MassLoss::default().hold - STEP * 2);
    assert_eq!(world.leases.held(), 70);
    world.pass(Duration::from_secs(2) + STEP);
    assert!(
        (40..70).contains(&world.leases.held()),
        "{}",
        world.leases.held()
    );
    world.pass(Duration::from_secs(12));
    assert_eq!(world.leases.held(), 0);
    world.pass(GRACE);
    assert_eq!(world.registry.counts().total(), 0);
}

#[test]
fn a_lease_held_over_at_a_restart_gets_one_ttl_like_every_other() {
    let mut world = World::with(10);
    world.pass(TTL + STEP);
    world.leases = Leases::new(MassLoss::default(), 2, world.now);
    for service in world.registry.services() {
        for record in service.instances() {
            let id = &record.instance.id;
            world
                .leases
                .follow(&service.key, id, Some(record), world.now);
        }
    }
    let held = world.probes[0].clone();
    assert_eq!(world.health(held.as_str()), Some(Health::Warning));
    assert_eq!(world.beat(held.as_str()), Renewal::Woken);
    assert_eq!(world.health(held.as_str()), Some(Health::Passing));
    world.pass(GRACE + STEP);
    assert_eq!(
        world.count(Health::Critical),
        2,
        "of seven alive, and the first three are removed"
    );
}

#[test]
fn slots_and_service_numbers_are_used_again() {
    let mut world = World::new();
    for round in 0..50 {
        let service = format!("s-{round}");
        for id in 0..20 {
            world.register(&service, &id.to_string());
        }
        for id in 0..20 {
            let command = Command::Deregister {
                key: key(&service),
                id: id.to_string().parse().unwrap(),
            };
            world.commit(&command);
        }
    }
    assert_eq!(world.leases.len(), 0);
    assert_eq!(world.leases.slab.entries.len(), 20);
    assert_eq!(world.leases.slab.services.len(), 1);
}

#[test]
fn random_leases_run_out_when_a_plain_list_says_so() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        // No guard: this is about time.
        let limits = MassLoss {
            free: u32::MAX,
            share: 1e9,
            ..MassLoss::default()
        };
        let mut leases = Leases::new(limits, seed, Moment::ZERO);
        let mut oracle: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut now = 0;
        let shop = Arc::new(key("shop"));
        for revision in 1..6_000 {
            let id = random.u32(0..200);
            let name: InstanceId = id.to_string().parse().unwrap();
            match random.u32(0..10) {
                0..2 => {
                    let ttl = random.u64(50..200_000);
                    let record = record(id, ttl, revision);
                    leases.follow(&shop, &name, Some(&record), Moment::from_millis(now));
                    oracle.insert(id, (now + ttl, ttl));
                }
                2 => {
                    leases.follow(&shop, &name, None, Moment::from_millis(now));
                    oracle.remove(&id);
                }
                3..6 => {
                    let found = leases.renew(&shop, &name, Moment::from_millis(now));
                    match oracle.get_mut(&id) {
                        Some((deadline, ttl)) => {
                            *deadline = now + *ttl;
                            assert_eq!(found, Renewal::Renewed);
                        }
                        None => assert_eq!(found, Renewal::NotFound),
                    }
                }
                _ => {
                    // To the very next deadline, now and then.
                    let asked = leases.next_deadline().as_millis();
                    now = now.max(if random.bool() {
                        asked
                    } else {
                        now + random.u64(0..250)
                    });
                    leases.handle_timeout(Moment::from_millis(now));
                    for id in expired(&mut leases) {
                        let (deadline, _) = oracle.remove(&id).expect("it was there");
                        assert!(deadline <= now, "seed {seed}: {id} expired too early");
                        let name = id.to_string().parse().unwrap();
                        leases.follow(&shop, &name, None, Moment::from_millis(now));
                    }
                    // Late by a tick at most.
                    assert!(
                        oracle.values().all(|(deadline, _)| deadline + 32 > now),
                        "seed {seed}"
                    );
                }
            }
            assert_eq!(leases.len(), oracle.len());
        }
    }
}

fn expired(leases: &mut Leases) -> Vec<u32> {
    let mut ids = Vec::new();
    while let Some(output) = leases.poll_output() {
        let Output::Submit(Command::Expire(items)) = output else {
            panic!("{output:?}")
        };
        ids.extend(items.iter().map(|l| l.id.as_str().parse::<u32>().unwrap()));
    }
    ids
}

fn record(id: u32, ttl: u64, revision: u64) -> Record {
    let mut instance = instance(&id.to_string());
    instance.lease = Some(Lease {
        ttl: Duration::from_millis(ttl),
        grace: Duration::ZERO,
    });
    Record {
        instance,
        check_health: Health::Passing,
        lease_health: Health::Passing,
        reason: None,
        role: None,
        promoted: None,
        created: Revision(revision),
        modified: Revision(revision),
        renewed: Revision(revision),
        incarnation: Incarnation(revision),
        registered_at: Timestamp(0),
    }
}

#[test]
fn the_wheel_pops_what_a_sorted_list_would() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut entries: Vec<Entry> = (0..500).map(|_| loose()).collect();
    let mut wheel = Wheel::new();
    let mut oracle: BTreeMap<u32, u64> = BTreeMap::new();
    let mut now = 0;
    for _ in 0..50_000 {
        let index = random.u32(0..500);
        match random.u32(0..4) {
            0 if !oracle.contains_key(&index) => {
                let at = now + random.u64(1..60_000);
                wheel.insert(&mut entries, index, at);
                oracle.insert(index, at);
            }
            1 => {
                wheel.remove(&mut entries, index);
                oracle.remove(&index);
            }
            _ => {
                now += random.u64(0..100);
                while let Some(index) = wheel.pop(&mut entries, now) {
                    assert!(oracle.remove(&index).unwrap() <= now);
                }
                assert!(oracle.values().all(|at| at + 16 > now));
                let first = oracle.values().min().copied();
                let next = wheel.next_deadline();
                assert_eq!(next.is_some(), first.is_some());
                if let (Some(next), Some(first)) = (next, first) {
                    assert!((first..first + 32).contains(&next), "{next} for {first}");
                }
            }
        }
    }
}

fn loose() -> Entry {
    Entry {
        id: None,
        deadline: 0,
        renewed: 0,
        hash: 0,
        service: 0,
        ttl: 0,
        grace: 0,
        next: NONE,
        previous: NONE,
        slot: OUT,
        state: State::Live,
        recorded: Health::Passing,
    }
}
