//! The state machine against a naive one, and its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use model::{
    CheckKind, CheckProtocol, CheckSpec, Exchange, GrpcCheck, Health, Host, HttpCheck, Incarnation,
    Instance, InstanceId, Lease, ProtocolCheck, Revision, Role, Secret, ServiceKey, StatusRange,
    Timestamp, Transport, Weight,
};

use crate::snapshot::{self, Rebuild, Version};
use crate::{
    Change, Command, Counts, Event, History, LeaseRef, Patch, Record, Registration, Registry,
    Reply, Verdict,
};

/// A registry that is a list of records, written down again from the rules.
#[derive(Default)]
struct Naive {
    records: BTreeMap<(ServiceKey, InstanceId), Record>,
}

impl Naive {
    fn apply(&mut self, revision: Revision, command: &Command) {
        match command {
            Command::Register { key, instance, at } => self.register(revision, key, instance, *at),
            Command::Deregister { key, id } => {
                self.records.remove(&(key.clone(), id.clone()));
            }
            Command::Patch { key, id, patch } => self.change(revision, key, id, |r| {
                let i = &mut r.instance;
                i.weight = patch.weight.unwrap_or(i.weight);
                i.drain = patch.drain.unwrap_or(i.drain);
                i.enabled = patch.enabled.unwrap_or(i.enabled);
                i.tags = patch.tags.clone().unwrap_or_else(|| i.tags.clone());
                if let Some(m) = &patch.metadata {
                    i.metadata = (!m.is_empty()).then(|| Box::new(m.clone()));
                }
            }),
            Command::SetHealth(verdicts) => {
                for v in verdicts {
                    self.change(revision, &v.key, &v.id, |r| {
                        if r.incarnation == v.incarnation && r.instance.check.is_some() {
                            if v.role != Some(Role::Primary) {
                                r.promoted = None;
                            } else if r.role == Some(Role::Replica) {
                                r.promoted = Some(revision);
                            }
                            r.role = v.role;
                            r.check_health = v.health;
                            r.reason.clone_from(&v.reason);
                        }
                    });
                }
            }
            Command::Renew(leases) => self.leases(revision, leases, Health::Passing),
            Command::Hold(leases) => self.leases(revision, leases, Health::Warning),
            Command::Expire(leases) => self.leases(revision, leases, Health::Critical),
            Command::Remove(leases) => {
                for lease in leases {
                    let place = (lease.key.clone(), lease.id.clone());
                    if self.records.get(&place).is_some_and(|r| {
                        r.instance.lease.is_some()
                            && r.lease_health == Health::Critical
                            && r.renewed == lease.renewed
                    }) {
                        self.records.remove(&place);
                    }
                }
            }
            // It has tests of its own.
            Command::Tree(_) => {}
        }
    }

    fn register(
        &mut self,
        revision: Revision,
        key: &ServiceKey,
        instance: &Instance,
        at: Timestamp,
    ) {
        let place = (key.clone(), instance.id.clone());
        let mut new = Record {
            instance: instance.clone(),
            check_health: match instance.check {
                Some(_) => Health::Unknown,
                None => Health::Passing,
            },
            lease_health: Health::Passing,
            reason: None,
            role: None,
            promoted: None,
            created: revision,
            modified: revision,
            renewed: revision,
            incarnation: Incarnation(revision.0),
            registered_at: at,
        };
        if let Some(old) = self.records.get(&place) {
            new.created = old.created;
            if (&old.instance.host, old.instance.port) == (&instance.host, instance.port) {
                new.incarnation = old.incarnation;
                new.registered_at = old.registered_at;
                if instance.check.is_some() {
                    new.check_health = old.check_health;
                    new.role = old.role;
                    new.promoted = old.promoted;
                    if old.check_health != Health::Passing {
                        new.reason.clone_from(&old.reason);
                    }
                }
            }
            if old.instance == *instance && old.lease_health == Health::Passing {
                new.modified = old.modified;
                new.reason.clone_from(&old.reason);
            }
        }
        self.records.insert(place, new);
    }

    fn change(
        &mut self,
        revision: Revision,
        key: &ServiceKey,
        id: &InstanceId,
        change: impl FnOnce(&mut Record),
    ) {
        if let Some(record) = self.records.get_mut(&(key.clone(), id.clone())) {
            let before = record.clone();
            change(record);
            if *record != before {
                record.modified = revision;
            }
        }
    }

    fn leases(&mut self, revision: Revision, leases: &[LeaseRef], health: Health) {
        for lease in leases {
            self.change(revision, &lease.key, &lease.id, |r| {
                let valid = r.renewed == lease.renewed && r.instance.lease.is_some();
                if valid && r.lease_health != health {
                    r.lease_health = health;
                    if health == Health::Passing {
                        r.renewed = revision;
                    }
                }
            });
        }
    }
}

fn random_key(random: &mut Rng) -> ServiceKey {
    let mut key = ServiceKey::in_default(format!("s-{}", random.u32(0..4)).parse().unwrap());
    if random.u32(0..4) == 0 {
        key.namespace = "blue".parse().unwrap();
    }
    key
}

fn random_id(random: &mut Rng) -> InstanceId {
    format!("i-{}", random.u32(0..8)).parse().unwrap()
}

fn random_text(random: &mut Rng) -> Box<str> {
    let len = random.usize(0..6);
    (0..len)
        .map(|_| random.char('\0'..='ÿ'))
        .collect::<String>()
        .into()
}

fn random_pairs(random: &mut Rng) -> BTreeMap<Box<str>, Box<str>> {
    (0..random.u32(0..3))
        .map(|_| (random_text(random), random_text(random)))
        .collect()
}

fn random_check(random: &mut Rng) -> CheckSpec {
    let kind = match random.u32(0..5) {
        0 => CheckKind::Tcp,
        1 => CheckKind::Exchange(Exchange {
            transport: random.choice([Transport::Tcp, Transport::Udp]).unwrap(),
            send: random.bool().then(|| random_text(random)),
            expect: random.bool().then(|| random_text(random)),
        }),
        2 => CheckKind::Protocol(ProtocolCheck {
            protocol: random.choice(CheckProtocol::ALL).unwrap(),
            user: random.bool().then(|| random_text(random)),
            password: random.bool().then(|| Secret(random_text(random))),
            database: random.bool().then(|| random_text(random)),
        }),
        3 => CheckKind::Grpc(GrpcCheck {
            service: random_text(random),
        }),
        _ => CheckKind::Http(HttpCheck {
            method: "GET".into(),
            path: random_text(random),
            host: random.bool().then(|| random_text(random)),
            headers: vec![(random_text(random), random_text(random))],
            status: vec![StatusRange {
                first: 200,
                last: 399,
            }],
            body: random.bool().then(|| random_text(random)),
        }),
    };
    CheckSpec {
        kind,
        port: random.bool().then(|| 9_000.try_into().unwrap()),
        interval: Duration::from_millis(random.u64(0..5_000)),
        timeout: Duration::MAX,
        rise: random.u16(..),
        fall: 3,
    }
}

fn random_instance(random: &mut Rng) -> Instance {
    let host = match random.u32(0..3) {
        0 => Host::Ip([10, 0, 0, random.u8(0..2)].into()),
        1 => Host::Ip([0xfe80, 0, 0, 0, 0, 0, 0, 1].into()),
        _ => Host::Name("db.local".into()),
    };
    Instance {
        id: random_id(random),
        host,
        port: random.u16(1..3).try_into().unwrap(),
        weight: Weight(random.u16(0..3)),
        tier: random.u8(0..=1) * random.u8(0..=Instance::LAST_TIER),
        zone: random.bool().then(|| random_text(random)),
        tags: (0..random.u32(0..3)).map(|_| random_text(random)).collect(),
        metadata: random.bool().then(|| Box::new(random_pairs(random))),
        lease: (random.u32(0..4) > 0).then(|| Lease {
            ttl: Duration::from_nanos(random.u64(..)),
            grace: Duration::from_secs(5),
        }),
        check: (random.u32(0..3) == 0).then(|| Box::new(random_check(random))),
        enabled: random.bool(),
        drain: random.bool(),
    }
}

fn random_health(random: &mut Rng) -> Health {
    Health::ALL[random.usize(0..4)]
}

/// A command; those about leases and verdicts mostly name what is really there.
fn random_command(random: &mut Rng, registry: &Registry) -> Command {
    let (key, id) = (random_key(random), random_id(random));
    let record = registry.instance(&key, &id);
    let mut leases = Vec::new();
    for _ in 0..random.u32(1..4) {
        let (key, id) = (random_key(random), random_id(random));
        let renewed = registry.instance(&key, &id).map(|r| r.renewed);
        let renewed = renewed
            .filter(|_| random.u32(0..8) > 0)
            .unwrap_or(Revision(3));
        leases.push(LeaseRef { key, id, renewed });
    }
    match random.u32(0..12) {
        0..4 => {
            let again = record.filter(|_| random.bool()).map(|r| r.instance.clone());
            Command::Register {
                key,
                instance: Box::new(again.unwrap_or_else(|| random_instance(random))),
                at: Timestamp(random.u64(..)),
            }
        }
        4 => Command::Deregister { key, id },
        5 => Command::Patch {
            key,
            id,
            patch: Box::new(Patch {
                weight: random.bool().then(|| Weight(random.u16(..))),
                drain: random.bool().then(|| random.bool()),
                enabled: random.bool().then(|| random.bool()),
                tags: random.bool().then(|| Box::new([random_text(random)]) as _),
                metadata: random.bool().then(|| random_pairs(random)),
            }),
        },
        6..8 => Command::SetHealth(vec![Verdict {
            incarnation: record.map_or(Incarnation(1), |r| r.incarnation),
            key,
            id,
            health: random_health(random),
            role: random
                .choice([None, Some(Role::Primary), Some(Role::Replica)])
                .flatten(),
            reason: random.bool().then(|| random_text(random)),
        }]),
        8 => Command::Renew(leases),
        9 => Command::Hold(leases),
        10 => Command::Expire(leases),
        _ => Command::Remove(leases),
    }
}

fn assert_same(registry: &Registry, naive: &Naive) {
    let records = registry.services().flat_map(|s| {
        s.instances()
            .map(|r| ((*s.key).clone(), r.instance.id.clone(), &**r))
    });
    assert!(
        records.eq(naive
            .records
            .iter()
            .map(|((k, i), r)| (k.clone(), i.clone(), r)))
    );
    let mut total = Counts::default();
    for service in registry.services() {
        let mut counts = Counts::default();
        for record in service.instances() {
            counts.replace(None, Some(record.health()));
            total.replace(None, Some(record.health()));
        }
        assert_eq!(service.counts(), counts);
        assert!(service.instance_count() > 0);
        assert!(service.instances().all(|r| r.modified <= service.modified));
    }
    assert_eq!(registry.counts(), total);
}

/// Follows events only.
fn follow(picture: &mut BTreeMap<(ServiceKey, InstanceId), Arc<Record>>, events: &[Event]) {
    for event in events {
        let place = ((*event.key).clone(), event.id.clone());
        let known = picture.contains_key(&place);
        assert_eq!(known, event.change != Change::Registered);
        match event.change {
            Change::Removed => picture.remove(&place),
            _ => picture.insert(place, Arc::clone(&event.record)),
        };
    }
}

#[test]
fn random_commands_do_what_a_naive_registry_does() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let mut registry = Registry::default();
        let mut naive = Naive::default();
        let mut picture = BTreeMap::new();
        let mut bytes = Vec::new();
        for _ in 0..400 {
            let command = random_command(&mut random, &registry);
            bytes.clear();
            command.encode(&mut bytes);
            assert_eq!(Command::decode(&bytes).as_ref(), Ok(&command));
            let before = registry.clone();
            let revision = registry.revision().next();
            let applied = registry.apply(revision, &command);
            naive.apply(revision, &command);
            assert_same(&registry, &naive);
            follow(&mut picture, &applied.events);
            if let Reply::Registered(Registration::Unchanged, record) = &applied.reply {
                assert!(applied.events.is_empty());
                assert_eq!(record.renewed, revision);
            }
            // A clone is not touched: replaying from it gives the same again.
            let mut again = before;
            let second = again.apply(revision, &command);
            assert_eq!(second.events.len(), applied.events.len());
            assert_same(&again, &naive);
        }
        // Watchers see everything but the leases' own bookkeeping.
        assert_eq!(picture.len(), naive.records.len());
        for (place, seen) in &picture {
            let mut seen = (**seen).clone();
            seen.renewed = naive.records[place].renewed;
            assert_eq!(seen, naive.records[place]);
        }
        let restored = restore(&registry);
        assert_eq!(restored.revision(), registry.revision());
        assert_same(&restored, &naive);
    }
}

fn restore(registry: &Registry) -> Registry {
    let version = Version::needed(registry);
    let mut rebuild = Rebuild::new(version);
    snapshot::write(registry, version, |piece| rebuild.add(piece)).unwrap();
    rebuild.finish(registry.revision())
}

#[test]
fn a_snapshot_of_many_services_is_cut_into_pieces_and_keeps_when_each_changed() {
    let mut registry = Registry::default();
    let mut random = Rng::with_seed(5);
    for i in 0..30_000 {
        let mut instance = random_instance(&mut random);
        instance.id = format!("i-{i}").parse().unwrap();
        let command = Command::Register {
            key: random_key(&mut random),
            instance: Box::new(instance),
            at: Timestamp(1),
        };
        registry.apply(registry.revision().next(), &command);
    }
    let mut pieces = 0;
    snapshot::write(&registry, Version::LATEST, |_| {
        pieces += 1;
        Ok::<_, ()>(())
    })
    .unwrap();
    assert!(pieces > 3);
    let restored = restore(&registry);
    let shape = |r: &Registry| -> Vec<_> {
        r.services()
            .map(|s| (s.key.clone(), s.modified, s.counts()))
            .collect()
    };
    assert_eq!(shape(&restored), shape(&registry));
}

#[test]
fn bytes_from_anywhere_are_refused_or_read_but_never_hurt() {
    let mut random = Rng::with_seed(11);
    let registry = Registry::default();
    let mut bytes = Vec::new();
    for _ in 0..300 {
        bytes.clear();
        random_command(&mut random, &registry).encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err());
        }
        for _ in 0..60 {
            let mut broken = bytes.clone();
            let at = random.usize(0..broken.len());
            broken[at] = random.u8(..);
            if let Ok(command) = Command::decode(&broken) {
                let mut again = Vec::new();
                command.encode(&mut again);
                assert_eq!(Command::decode(&again), Ok(command));
            }
            for version in [Version::First, Version::WithRoles] {
                let _ = Rebuild::new(version).add(&broken);
            }
        }
        let noise: Vec<u8> = (0..random.usize(0..64)).map(|_| random.u8(..)).collect();
        let _ = Command::decode(&noise);
        let _ = Rebuild::new(Version::LATEST).add(&noise);
    }
    // A count that promises more than there is.
    let boast = [1, 7, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(Command::decode(&boast).is_err());
    assert!(Command::decode(&vec![1; crate::MAX_COMMAND + 1]).is_err());
}

#[test]
fn the_largest_batch_of_the_longest_names_fits_a_command() {
    let name = "n".repeat(255);
    let namespaces = ["a".repeat(255), "b".repeat(255)];
    let verdicts = (0..crate::MAX_BATCH).map(|i| Verdict {
        key: ServiceKey {
            namespace: namespaces[i % 2].parse().unwrap(),
            service: name.parse().unwrap(),
        },
        id: name.parse().unwrap(),
        incarnation: Incarnation(u64::MAX),
        health: Health::Critical,
        role: Some(Role::Primary),
        reason: Some("r".repeat(250).into()),
    });
    let mut bytes = Vec::new();
    Command::SetHealth(verdicts.collect()).encode(&mut bytes);
    assert!(bytes.len() <= crate::MAX_COMMAND, "{}", bytes.len());
}

/// Commands as the first version of the program wrote them.
#[test]
fn what_the_first_version_wrote_is_read_and_what_it_could_say_is_written_the_same() {
    let verdict = b"\x01\x04\x01\x01\x04shop\x01a\x07\x03\x01\x07refused";
    let command = Command::decode(verdict).unwrap();
    let verdicts = vec![Verdict {
        key: ServiceKey::in_default("shop".parse().unwrap()),
        id: "a".parse().unwrap(),
        incarnation: Incarnation(7),
        health: Health::Critical,
        role: None,
        reason: Some("refused".into()),
    }];
    assert_eq!(command, Command::SetHealth(verdicts.clone()));
    let encoded = |command: &Command| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        bytes
    };
    assert_eq!(encoded(&command), verdict);
    // What it could not say is marked, so that it refuses it instead of misreading it.
    let role = Some(Role::Primary);
    let with_role = Verdict {
        role,
        ..verdicts[0].clone()
    };
    assert_eq!(encoded(&Command::SetHealth(vec![with_role]))[0], 2);
    let register = b"\x01\x01\x01\x04shop\x05\x01a\x04\x0a\0\0\x01\x50\x01\0\0\0\0\x01\0\0\x02\0\x01\0\x02\x03\x01\0";
    let command = Command::decode(register).unwrap();
    assert_eq!(encoded(&command), register);
    let Command::Register {
        key,
        mut instance,
        at,
    } = command
    else {
        panic!("{command:?}");
    };
    instance.check.as_mut().unwrap().kind = CheckKind::Protocol(ProtocolCheck {
        protocol: CheckProtocol::Redis,
        user: None,
        password: None,
        database: None,
    });
    assert_eq!(encoded(&Command::Register { key, instance, at })[0], 2);
}

#[test]
fn a_registry_that_uses_nothing_new_is_kept_as_the_first_version_did() {
    let mut registry = Registry::default();
    let mut instance = random_instance(&mut Rng::with_seed(1));
    let key = ServiceKey::in_default("shop".parse().unwrap());
    let mut register = |tier: u8, check: Option<CheckKind>| {
        let spec = random_check(&mut Rng::with_seed(1));
        instance.tier = tier;
        instance.check = check.map(|kind| Box::new(CheckSpec { kind, ..spec }));
        let (key, instance, at) = (key.clone(), Box::new(instance.clone()), Timestamp(0));
        registry.apply(
            registry.revision().next(),
            &Command::Register { key, instance, at },
        );
        let record = registry
            .services()
            .next()
            .unwrap()
            .instances()
            .next()
            .unwrap()
            .clone();
        let restored = restore(&registry);
        let again = restored
            .services()
            .next()
            .unwrap()
            .instances()
            .next()
            .unwrap()
            .clone();
        assert_eq!(again, record);
        Version::needed(&registry)
    };
    assert_eq!(register(0, None), Version::First);
    assert_eq!(register(0, Some(CheckKind::Tcp)), Version::First);
    assert_eq!(register(Instance::LAST_TIER, None), Version::WithTiers);
    let grpc = CheckKind::Grpc(GrpcCheck::default());
    assert_eq!(register(0, Some(grpc)), Version::WithGrpc);
    let exchange = Exchange {
        transport: Transport::Udp,
        send: None,
        expect: None,
    };
    assert_eq!(
        register(0, Some(CheckKind::Exchange(exchange))),
        Version::WithRoles
    );
}

/// A service whose instances, named by letters, had these roles and healths reported in turn.
fn with_roles(reports: &[(&str, Health, Role)]) -> Arc<crate::Service> {
    let mut registry = Registry::default();
    let key = ServiceKey::in_default("db".parse().unwrap());
    let mut instance = random_instance(&mut Rng::with_seed(1));
    instance.check = Some(Box::new(random_check(&mut Rng::with_seed(1))));
    for id in ["a", "b", "c"] {
        instance.id = id.parse().unwrap();
        let (key, instance) = (key.clone(), Box::new(instance.clone()));
        let at = Timestamp(0);
        registry.apply(
            registry.revision().next(),
            &Command::Register { key, instance, at },
        );
    }
    for &(id, health, role) in reports {
        let id: InstanceId = id.parse().unwrap();
        let incarnation = registry.instance(&key, &id).unwrap().incarnation;
        let verdict = Verdict {
            key: key.clone(),
            id,
            incarnation,
            health,
            role: Some(role),
            reason: None,
        };
        registry.apply(
            registry.revision().next(),
            &Command::SetHealth(vec![verdict]),
        );
    }
    registry.service(&key).unwrap().clone()
}

fn primary(reports: &[(&str, Health, Role)]) -> Option<String> {
    let service = with_roles(reports);
    let primary = service
        .primary()
        .map(|record| record.instance.id.to_string());
    let view: Vec<_> = service
        .view(Some(Role::Primary))
        .map(|r| r.instance.id.to_string())
        .collect();
    assert_eq!(view, Vec::from_iter(primary.clone()));
    primary
}

use Health::{Critical, Passing};
use Role::{Primary, Replica};

#[test]
fn the_primary_is_the_one_that_says_so_even_while_it_is_critical() {
    assert_eq!(primary(&[]), None);
    assert_eq!(primary(&[("a", Passing, Replica)]), None);
    assert_eq!(
        primary(&[("a", Passing, Replica), ("b", Passing, Primary)]).as_deref(),
        Some("b")
    );
    assert_eq!(
        primary(&[("b", Passing, Primary), ("b", Critical, Primary)]).as_deref(),
        Some("b")
    );
}

#[test]
fn of_two_primaries_the_one_that_was_promoted_last_is_meant() {
    let failover = [
        ("a", Passing, Primary),
        ("b", Passing, Replica),
        ("a", Critical, Primary),
        ("b", Passing, Primary),
    ];
    assert_eq!(primary(&failover).as_deref(), Some("b"));
    // The old one comes back and does not know.
    let back = [&failover[..], &[("a", Passing, Primary)]].concat();
    assert_eq!(primary(&back).as_deref(), Some("b"));
    // What was written since is not on the old one, even if the new one dies.
    let dead = [&back[..], &[("b", Critical, Primary)]].concat();
    assert_eq!(primary(&dead).as_deref(), Some("b"));
    let again = [
        &dead[..],
        &[("a", Passing, Replica), ("a", Passing, Primary)],
    ]
    .concat();
    assert_eq!(primary(&again).as_deref(), Some("a"));
}

#[test]
fn of_two_primaries_that_nobody_saw_promoted_none_is_meant_unless_one_is_dead() {
    let split = [("a", Passing, Primary), ("b", Passing, Primary)];
    assert_eq!(primary(&split), None);
    assert_eq!(
        primary(&[&split[..], &[("a", Critical, Primary)]].concat()).as_deref(),
        Some("b")
    );
    assert_eq!(
        primary(&[&split[..], &[("a", Passing, Replica)]].concat()).as_deref(),
        Some("b")
    );
}

#[test]
fn replicas_are_all_that_follow_and_a_view_of_no_role_is_everything() {
    let service = with_roles(&[("a", Passing, Primary), ("c", Critical, Replica)]);
    let ids = |role| -> Vec<_> {
        service
            .view(role)
            .map(|r| r.instance.id.to_string())
            .collect()
    };
    assert_eq!(ids(Some(Replica)), ["c"]);
    assert_eq!(ids(None), ["a", "b", "c"]);
}

#[test]
fn history_says_what_it_no_longer_has() {
    let mut registry = Registry::default();
    let mut history = History::new(Revision(0), 10);
    let shop = ServiceKey::in_default("shop".parse().unwrap());
    for i in 0..25 {
        let mut instance = random_instance(&mut Rng::with_seed(1));
        instance.id = i.to_string().parse().unwrap();
        let command = Command::Register {
            key: shop.clone(),
            instance: Box::new(instance),
            at: Timestamp(0),
        };
        let applied = registry.apply(registry.revision().next(), &command);
        history.extend(applied.events);
    }
    assert_eq!(history.since(Revision(15), None).unwrap().len(), 10);
    assert_eq!(history.since(Revision(20), Some(&shop)).unwrap().len(), 5);
    assert_eq!(history.since(Revision(25), None).unwrap().len(), 0);
    let compacted = history.since(Revision(14), None).unwrap_err();
    assert_eq!(compacted.complete_after, Revision(15));
    let other = ServiceKey::in_default("other".parse().unwrap());
    assert_eq!(history.since(Revision(15), Some(&other)).unwrap().len(), 0);
}
