//! A node as its users see it.

use std::path::PathBuf;
use std::time::Duration;

use cluster::{Durability, MassLoss, Node, OpenError, Options, SubmitError};
use model::{Health, Host, Instance, InstanceId, Lease, Revision, ServiceKey, Timestamp, Weight};
use registry::{Change, Command, Heartbeat, Patch, Registration, Reply, Verdict};
use tokio::time::timeout;

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let unique = format!("pointsman-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self) -> Options {
        Options::new(Durability::Disk(self.0.clone()))
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key(service: &str) -> ServiceKey {
    ServiceKey::in_default(service.parse().unwrap())
}

fn id(id: &str) -> InstanceId {
    id.parse().unwrap()
}

fn instance(name: &str, lease: Option<Duration>) -> Instance {
    Instance {
        id: id(name),
        host: Host::Ip("10.0.0.1".parse().unwrap()),
        port: 80.try_into().unwrap(),
        weight: Weight(1),
        tier: 0,
        zone: None,
        tags: Box::default(),
        metadata: None,
        lease: lease.map(|ttl| Lease { ttl, grace: ttl }),
        check: None,
        enabled: true,
        drain: false,
    }
}

fn register(service: &str, instance: Instance) -> Command {
    Command::Register {
        key: key(service),
        instance: Box::new(instance),
        at: Timestamp(1),
    }
}

fn memory() -> Node {
    Node::open(&Options::new(Durability::Memory)).unwrap()
}

/// Waits until the service is as it should be.
async fn until(node: &Node, service: &str, mut holds: impl FnMut(&Node) -> bool) {
    let mut watch = node.watch(&key(service));
    timeout(SOON, async {
        while !holds(node) {
            watch.changed().await.unwrap();
        }
    })
    .await
    .expect("it should have come about by now");
}

fn health(node: &Node, service: &str, name: &str) -> Option<Health> {
    node.read(|r| Some(r.instance(&key(service), &id(name))?.health()))
}

#[tokio::test]
async fn what_is_registered_is_found_and_a_second_time_is_not_written() {
    let node = memory();
    let lease = Some(Duration::from_secs(30));
    let first = node
        .submit(register("shop", instance("a", lease)))
        .await
        .unwrap();
    assert_eq!(first.revision, Revision(1));
    assert!(matches!(
        first.reply,
        Reply::Registered(Registration::Created, _)
    ));
    let second = node
        .submit(register("shop", instance("a", lease)))
        .await
        .unwrap();
    assert_eq!(second.revision, Revision(1));
    assert!(matches!(
        second.reply,
        Reply::Registered(Registration::Unchanged, _)
    ));
    assert_eq!(node.service(&key("shop")).unwrap().instance_count(), 1);
    assert_eq!(node.stats().records, 1);
}

#[tokio::test]
async fn an_expired_lease_turns_critical_and_is_then_removed() {
    let node = memory();
    let lease = Some(Duration::from_millis(300));
    node.submit(register("shop", instance("a", lease)))
        .await
        .unwrap();
    until(&node, "shop", |n| {
        health(n, "shop", "a") == Some(Health::Critical)
    })
    .await;
    until(&node, "shop", |n| n.service(&key("shop")).is_none()).await;
    let changes: Vec<Change> = node
        .events_since(Revision(0), Some(&key("shop")))
        .unwrap()
        .iter()
        .map(|e| e.change)
        .collect();
    assert_eq!(
        changes,
        [Change::Registered, Change::Health, Change::Removed]
    );
}

#[tokio::test]
async fn a_heartbeat_wakes_a_critical_instance() {
    let node = memory();
    let lease = Lease {
        ttl: Duration::from_millis(300),
        grace: Duration::from_secs(600),
    };
    let mut sleeper = instance("a", None);
    sleeper.lease = Some(lease);
    node.submit(register("shop", sleeper)).await.unwrap();
    node.submit(register("shop", instance("p", None)))
        .await
        .unwrap();
    until(&node, "shop", |n| {
        health(n, "shop", "a") == Some(Health::Critical)
    })
    .await;
    let revision = node.revision();
    let beats = ["a", "p", "x"].map(|name| (key("shop"), id(name)));
    assert_eq!(
        node.heartbeat(&beats),
        [Heartbeat::Woken, Heartbeat::Persistent, Heartbeat::NotFound]
    );
    until(&node, "shop", |n| {
        let events = n.events_since(revision, Some(&key("shop"))).unwrap();
        events.iter().any(|e| e.record.health() == Health::Passing)
    })
    .await;
}

#[tokio::test]
async fn a_change_of_another_service_wakes_nobody() {
    let node = memory();
    let mut a = node.watch(&key("a"));
    let mut b = node.watch(&key("b"));
    let mut all = node.changes();
    node.submit(register("b", instance("1", None)))
        .await
        .unwrap();
    assert_eq!(timeout(SOON, b.changed()).await.unwrap(), Ok(Revision(1)));
    timeout(SOON, all.changed()).await.unwrap().unwrap();
    // Whoever waits for everything is told last, so it would have been woken by now.
    assert!(timeout(Duration::ZERO, a.changed()).await.is_err());
    node.submit(register("a", instance("1", None)))
        .await
        .unwrap();
    assert_eq!(timeout(SOON, a.changed()).await.unwrap(), Ok(Revision(2)));
    assert_eq!(node.stats().watched_services, 2);
    drop((a, b));
    assert_eq!(node.stats().watched_services, 0);
    let mut late = node.watch(&key("b"));
    node.shutdown();
    assert!(timeout(SOON, late.changed()).await.unwrap().is_err());
}

#[tokio::test]
async fn held_instances_are_probed_and_the_dead_among_them_expire() {
    let mut options = Options::new(Durability::Memory);
    options.mass_loss = MassLoss {
        share: 0.3,
        ..MassLoss::default()
    };
    let node = Node::open(&options).unwrap();
    let mut probes = node.probe_requests().unwrap();
    assert!(node.probe_requests().is_none());
    let lease = Lease {
        ttl: Duration::from_millis(500),
        grace: Duration::from_secs(600),
    };
    let all = (0..10)
        .map(|i| {
            let mut one = instance(&i.to_string(), None);
            one.lease = Some(lease);
            register("shop", one)
        })
        .collect();
    node.submit_batch(all).await.unwrap();
    let mut dead = Vec::new();
    for n in 0..7 {
        let probe = timeout(SOON, probes.recv()).await.unwrap().unwrap();
        let name = probe.record.instance.id.clone();
        node.probe_result(&probe.key, &name, n % 2 == 0);
        if n % 2 == 1 {
            dead.push(name);
        }
    }
    until(&node, "shop", |n| {
        let counts = n.service(&key("shop")).unwrap().counts();
        counts.of(Health::Critical) == 3 + 3 && counts.of(Health::Warning) == 4
    })
    .await;
    assert!(
        dead.iter()
            .all(|d| health(&node, "shop", d.as_str()) == Some(Health::Critical))
    );
    assert_eq!(node.stats().held, 4);
}

#[tokio::test]
async fn a_restart_finds_everything_and_gives_every_lease_a_full_ttl() {
    let directory = Directory::new("restart");
    let lease = Some(Duration::from_secs(30));
    let node = Node::open(&directory.options()).unwrap();
    for i in 0..50 {
        let one = instance(&format!("i-{i}"), lease);
        node.submit(register("shop", one)).await.unwrap();
    }
    let patch = Patch {
        weight: Some(Weight(7)),
        drain: Some(true),
        ..Patch::default()
    };
    let patch = Command::Patch {
        key: key("shop"),
        id: id("i-1"),
        patch: Box::new(patch),
    };
    node.submit(patch).await.unwrap();
    let gone = Command::Deregister {
        key: key("shop"),
        id: id("i-2"),
    };
    node.submit(gone).await.unwrap();
    let before = node.service(&key("shop")).unwrap();
    node.shutdown();
    assert_eq!(
        node.submit(register("shop", instance("late", None)))
            .await
            .unwrap_err(),
        SubmitError::Closed
    );

    let node = Node::open(&directory.options()).unwrap();
    assert_eq!(
        (node.revision(), node.recovery().records),
        (Revision(52), 52)
    );
    assert_eq!(node.recovery().notes, Vec::<String>::new());
    let after = node.service(&key("shop")).unwrap();
    assert!(before.instances().eq(after.instances()));
    assert_eq!(
        (before.counts(), before.modified),
        (after.counts(), after.modified)
    );
    assert_eq!(
        node.heartbeat(&[(key("shop"), id("i-1"))]),
        [Heartbeat::Renewed]
    );
    // Watchers go on where they were.
    assert_eq!(node.events_since(Revision(50), None).unwrap().len(), 2);
}

#[tokio::test]
async fn snapshots_replace_the_log_and_only_the_last_two_are_kept() {
    let directory = Directory::new("snapshots");
    let mut options = directory.options();
    (options.segment_size, options.snapshot_after) = (16 << 10, 32 << 10);
    let node = Node::open(&options).unwrap();
    for i in 0..3_000 {
        let mut one = instance(&format!("i-{}", i % 100), None);
        one.weight = Weight(i);
        node.submit(register("shop", one)).await.unwrap();
    }
    timeout(SOON, async {
        while node.stats().snapshots < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    node.shutdown();
    let before = node.service(&key("shop")).unwrap();
    let files = directory.files();
    let snapshots: Vec<_> = files
        .iter()
        .filter(|f| f.starts_with("snapshot-"))
        .collect();
    assert_eq!(snapshots.len(), 2, "{files:?}");
    assert!(
        !files.iter().any(|f| f == "log-00000000000000000001"),
        "{files:?}"
    );

    // Damage the newest snapshot: the one before and the log give the same.
    let newest = directory.0.join(snapshots[1]);
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let node = Node::open(&options).unwrap();
    assert_eq!(node.recovery().notes.len(), 1, "{:?}", node.recovery());
    assert_eq!(node.revision(), Revision(3_000));
    assert!(
        before
            .instances()
            .eq(node.service(&key("shop")).unwrap().instances())
    );
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused_by_the_first_ones_pid() {
    let directory = Directory::new("lock");
    let node = Node::open(&directory.options()).unwrap();
    match Node::open(&directory.options()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    node.shutdown();
    Node::open(&directory.options()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_is_named_in_the_error() {
    let directory = Directory::new("file");
    std::fs::write(&directory.0, "").unwrap();
    let inside = directory.0.join("data");
    let error = Node::open(&Options::new(Durability::Disk(inside.clone()))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(inside.to_str().unwrap()), "{text}");
    std::fs::remove_file(&directory.0).unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("modes");
    let node = Node::open(&directory.options()).unwrap();
    node.submit(register("shop", instance("a", None)))
        .await
        .unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.0), 0o700);
    for file in directory.files() {
        assert_eq!(mode(&directory.0.join(&file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn verdicts_on_another_incarnation_are_void() {
    let node = memory();
    let mut checked = instance("a", None);
    checked.check = Some(Box::new(model::CheckSpec {
        kind: model::CheckKind::Tcp,
        port: None,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
    }));
    let reply = node
        .submit(register("shop", checked.clone()))
        .await
        .unwrap()
        .reply;
    let Reply::Registered(_, record) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(record.health(), Health::Unknown);
    let verdict = Verdict {
        key: key("shop"),
        id: id("a"),
        incarnation: record.incarnation,
        health: Health::Passing,
        role: None,
        reason: None,
    };
    node.verdicts(vec![verdict.clone()]).await.unwrap();
    assert_eq!(health(&node, "shop", "a"), Some(Health::Passing));
    checked.port = 81.try_into().unwrap();
    node.submit(register("shop", checked)).await.unwrap();
    assert_eq!(health(&node, "shop", "a"), Some(Health::Unknown));
    node.verdicts(vec![verdict]).await.unwrap();
    assert_eq!(health(&node, "shop", "a"), Some(Health::Unknown));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let node = memory();
    let mut large = instance("a", None);
    large.tags = Box::new(["x".repeat(2 << 20).into()]);
    assert!(matches!(
        node.submit(register("shop", large)).await,
        Err(SubmitError::TooLarge { .. })
    ));
    assert_eq!(node.revision(), Revision(0));
}
