use std::sync::Arc;

use model::{Revision, Timestamp};

use super::*;
use crate::snapshot::{Rebuild, Version, write};
use crate::{Command, Registry, Reply};

const A: SessionId = SessionId(0x0100_0000_0000_0001);
const B: SessionId = SessionId(0x0100_0000_0000_0002);

/// A registry whose tree is spoken to.
#[derive(Default)]
struct Speaker {
    registry: Registry,
    events: Vec<(NodeChange, Box<str>)>,
    at: u64,
}

impl Speaker {
    fn new() -> Self {
        let mut speaker = Self::default();
        for session in [A, B] {
            speaker.tell(TreeCommand::Open {
                session,
                password: [7; 16],
                timeout: 4_000,
            });
        }
        speaker
    }

    /// Applies a command after its way through the log.
    fn tell(&mut self, command: TreeCommand) -> TreeReply {
        let mut bytes = Vec::new();
        let command = Command::Tree(command);
        command.encode(&mut bytes);
        assert_eq!(Command::decode(&bytes).unwrap(), command);
        let revision = self.registry.revision().next();
        let applied = self.registry.apply(revision, &command);
        let events = applied.tree.into_iter();
        self.events.extend(events.map(|e| (e.change, e.path)));
        match applied.reply {
            Reply::Tree(_, reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn by(&mut self, session: SessionId, who: &[Identity], op: Op) -> Result<Outcome, Refusal> {
        let command = TreeCommand::One {
            session,
            who: who.into(),
            at: Timestamp(self.at),
            op,
        };
        match self.tell(command) {
            TreeReply::One(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn does(&mut self, op: Op) -> Result<Outcome, Refusal> {
        self.by(A, &[], op)
    }

    fn creates(&mut self, path: &str, kind: Kind) -> Result<Box<str>, Refusal> {
        match self.does(create(path, kind, path.ends_with('-')))? {
            Outcome::Created(path, _) => Ok(path),
            other => panic!("{other:?}"),
        }
    }

    fn many(&mut self, ops: Vec<Op>) -> Result<Vec<Outcome>, (usize, Refusal)> {
        let command = TreeCommand::Many {
            session: A,
            who: Arc::new([]),
            at: Timestamp(self.at),
            ops,
        };
        match self.tell(command) {
            TreeReply::Many(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree().node(path).unwrap().stat()
    }

    fn tree(&self) -> &Tree {
        self.registry.tree()
    }

    fn has(&self, path: &str) -> bool {
        self.tree().node(path).is_some()
    }
}

fn create(path: &str, kind: Kind, sequential: bool) -> Op {
    Op::Create {
        path: path.into(),
        data: data(b"x"),
        access: AccessList::OPEN,
        mode: Mode { sequential, kind },
    }
}

fn data(bytes: &[u8]) -> Data {
    Some(bytes.into())
}

fn set(path: &str, bytes: &[u8], version: i32) -> Op {
    Op::SetData {
        path: path.into(),
        data: data(bytes),
        version,
    }
}

fn delete(path: &str, version: i32) -> Op {
    Op::Delete {
        path: path.into(),
        version,
    }
}

/// Everything that can be seen of a tree.
fn seen(tree: &Tree) -> Vec<String> {
    let mut all = Vec::new();
    tree.walk("/", &mut |path, node| {
        all.push(format!(
            "{path} {:?} {:?} {:?} {:?}",
            node.data,
            node.access,
            node.owner(),
            node.stat()
        ));
    });
    all.extend(tree.sessions().map(|s| format!("{s:?}")));
    all.push(format!(
        "{:?} {:?} {:?}",
        tree.zxid(),
        tree.totals(),
        tree.fading
    ));
    all
}

#[test]
fn a_sequential_number_is_the_count_of_creations_and_deleting_does_not_lower_it() {
    let mut speaker = Speaker::new();
    speaker.creates("/q", Kind::Persistent).unwrap();
    assert_eq!(
        &*speaker.creates("/q/n-", Kind::Persistent).unwrap(),
        "/q/n-0000000000"
    );
    speaker.does(delete("/q/n-0000000000", -1)).unwrap();
    assert_eq!(
        &*speaker.creates("/q/n-", Kind::Persistent).unwrap(),
        "/q/n-0000000001"
    );
    let stat = speaker.stat("/q");
    assert_eq!((stat.cversion, stat.children), (3, 1));
    assert_eq!(stat.pzxid, speaker.tree().zxid());
}

#[test]
fn versions_are_compared_and_counted() {
    let mut speaker = Speaker::new();
    speaker.creates("/a", Kind::Persistent).unwrap();
    assert_eq!(speaker.does(set("/a", b"y", 1)), Err(Refusal::BadVersion));
    speaker.does(set("/a", b"y", 0)).unwrap();
    speaker.does(set("/a", b"", -1)).unwrap();
    assert_eq!(
        (speaker.stat("/a").version, speaker.stat("/a").data_length),
        (2, 0)
    );
    assert_eq!(speaker.does(delete("/a", 0)), Err(Refusal::BadVersion));
    speaker.does(delete("/a", 2)).unwrap();
    assert_eq!(speaker.does(delete("/a", -1)), Err(Refusal::NoNode));
}

#[test]
fn ephemeral_nodes_end_with_their_session_in_one_transaction() {
    let mut speaker = Speaker::new();
    speaker.creates("/e", Kind::Ephemeral).unwrap();
    speaker.creates("/f", Kind::Ephemeral).unwrap();
    let child = speaker.creates("/e/c", Kind::Persistent);
    assert_eq!(child, Err(Refusal::NoChildrenForEphemerals));
    assert_eq!(speaker.tree().totals().ephemerals, 2);
    let before = speaker.tree().zxid();
    speaker.tell(TreeCommand::Close { session: A });
    assert!(!speaker.has("/e") && !speaker.has("/f"));
    assert_eq!(speaker.tree().zxid().0, before.0 + 1);
    assert_eq!(
        speaker.creates("/g", Kind::Persistent),
        Err(Refusal::SessionExpired)
    );
    assert_eq!(speaker.tree().totals(), Tree::default().totals());
}

#[test]
fn a_transaction_does_all_or_nothing_and_says_what_stood_in_its_way() {
    let mut speaker = Speaker::new();
    let before = seen(speaker.tree());
    let failed = speaker.many(vec![
        create("/a", Kind::Ephemeral, false),
        create("/b", Kind::Container, false),
        delete("/none", -1),
        create("/c", Kind::Persistent, false),
    ]);
    assert_eq!(failed, Err((2, Refusal::NoNode)));
    assert_eq!(speaker.events, []);
    let after = seen(speaker.tree());
    // Only the transaction's number is used up.
    assert_eq!(before[..before.len() - 1], after[..after.len() - 1]);
    let done = speaker.many(vec![
        create("/a", Kind::Persistent, false),
        create("/a/b", Kind::Persistent, false),
        set("/a", b"z", 0),
        delete("/a/b", -1),
    ]);
    assert_eq!(done.unwrap().len(), 4);
    assert_eq!(speaker.stat("/a").version, 1);
}

#[test]
fn servers_own_nodes_stay_and_impossible_paths_are_refused() {
    let mut speaker = Speaker::new();
    for path in [
        "/",
        "/zookeeper",
        "/zookeeper/quota",
        "/zookeeper/config",
        "",
        "none",
    ] {
        let refused = speaker.does(delete(path, -1));
        assert_eq!(refused, Err(Refusal::BadArguments), "{path}");
    }
    for path in [
        "",
        "a",
        "//",
        "/a/",
        "/a//b",
        "/.",
        "/a/..",
        "/\u{1}",
        "/\u{1f600}",
        "/\u{fff0}",
    ] {
        assert!(!valid(path), "{path}");
        assert!(speaker.creates(path, Kind::Persistent).is_err(), "{path}");
    }
    for path in ["/", "/a", "/a/b", "/...", "/ä", "/a b"] {
        assert!(valid(path), "{path}");
    }
    let deep = "/d".repeat(MAX_DEPTH);
    assert!(valid(&deep) && !valid(&(deep + "/d")));
}

#[test]
fn access_lists_hold_for_everybody_but_the_super_user() {
    let mut speaker = Speaker::new();
    let bob = Identity::new("digest", "bob:hash");
    let entry = |permissions, identity| Entry {
        permissions,
        identity,
    };
    let op = |path: &str| Op::Create {
        path: path.into(),
        data: None,
        access: AccessList::new(vec![
            entry(31, bob.clone()),
            entry(1, Identity::new("ip", "10.0.0.0/8")),
        ]),
        mode: Mode {
            sequential: false,
            kind: Kind::Persistent,
        },
    };
    speaker.does(op("/bobs")).unwrap();
    let write = || set("/bobs", b"", -1);
    assert_eq!(speaker.does(write()), Err(Refusal::NoAuth));
    let at = |address| Identity::new("ip", address);
    assert_eq!(
        speaker.by(B, &[at("10.1.2.3")], write()),
        Err(Refusal::NoAuth)
    );
    speaker.by(B, std::slice::from_ref(&bob), write()).unwrap();
    speaker
        .by(B, &[Identity::new("super", "")], write())
        .unwrap();
    let node = speaker.tree().node("/bobs").unwrap();
    assert!(node.access.allows(Permission::Read, &[at("10.1.2.3")]));
    assert!(!node.access.allows(Permission::Read, &[at("11.1.2.3")]));
    // What is created and deleted below is the parent's affair.
    assert_eq!(
        speaker.creates("/bobs/c", Kind::Persistent),
        Err(Refusal::NoAuth)
    );
}

#[test]
fn containers_and_nodes_with_a_time_to_live_fade() {
    let mut speaker = Speaker::new();
    speaker.creates("/c", Kind::Container).unwrap();
    speaker.creates("/t", Kind::Ttl(1_000)).unwrap();
    let faded = |speaker: &Speaker, at| speaker.tree().faded(at, "", 10).0;
    // A container that was never used may still be.
    assert!(faded(&speaker, 999).is_empty());
    speaker.creates("/c/x", Kind::Persistent).unwrap();
    assert_eq!(faded(&speaker, 1_000), ["/t".into()]);
    speaker.does(delete("/c/x", -1)).unwrap();
    let paths = faded(&speaker, 1_000);
    assert_eq!(paths.len(), 2);
    let (first, next) = speaker.tree().faded(1_000, "", 1);
    assert_eq!((first, &*next), (vec!["/c".into()], "/c"));
    let (second, next) = speaker.tree().faded(1_000, &next, 2);
    assert_eq!((second, &*next), (vec!["/t".into()], ""));
    // What has changed since it was found stays.
    speaker.at = 500;
    speaker.does(set("/t", b"", -1)).unwrap();
    let at = Timestamp(1_000);
    assert_eq!(
        speaker.tell(TreeCommand::Sweep { paths, at }),
        TreeReply::Swept(1)
    );
    assert!(speaker.has("/t") && !speaker.has("/c"));
}

#[test]
fn quotas_count_what_is_below_and_hard_limits_hold() {
    let mut speaker = Speaker::new();
    let node = |path: &str, bytes: &[u8]| Op::Create {
        path: path.into(),
        data: data(bytes),
        access: AccessList::OPEN,
        mode: Mode {
            sequential: false,
            kind: Kind::Persistent,
        },
    };
    speaker.does(node("/app", b"12345")).unwrap();
    speaker.does(node("/zookeeper/quota/app", b"")).unwrap();
    let limits = b"count=-1,bytes=-1;byteHardLimit=20;countHardLimit=3";
    speaker
        .does(node("/zookeeper/quota/app/zookeeper_limits", limits))
        .unwrap();
    speaker
        .does(node("/zookeeper/quota/app/zookeeper_stats", b""))
        .unwrap();
    let used = |speaker: &Speaker| {
        let node = speaker.tree().node("/zookeeper/quota/app/zookeeper_stats");
        String::from_utf8(node.unwrap().data.as_deref().unwrap().to_vec()).unwrap()
    };
    assert_eq!(used(&speaker), "count=1,bytes=5");
    speaker.does(node("/app/a", b"67890")).unwrap();
    assert_eq!(used(&speaker), "count=2,bytes=10");
    let exceeded = speaker.does(set("/app/a", &[0; 16], -1));
    assert_eq!(exceeded, Err(Refusal::QuotaExceeded));
    speaker.does(node("/app/b", b"")).unwrap();
    assert_eq!(
        speaker.does(node("/app/c", b"")),
        Err(Refusal::QuotaExceeded)
    );
    speaker.does(delete("/app/a", -1)).unwrap();
    assert_eq!(used(&speaker), "count=2,bytes=5");
    speaker.does(node("/apple", &[0; 100])).unwrap();
}

#[test]
fn a_snapshot_brings_everything_back_and_is_only_new_where_a_tree_is_used() {
    assert_eq!(Version::needed(&Registry::default()), Version::First);
    let mut speaker = Speaker::new();
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..3_000 {
        speaker.at = round;
        let names = ["a", "b", "c", "d-"];
        let path: String = (0..random.usize(1..4))
            .flat_map(|_| ["/", names[random.usize(0..4)]])
            .collect();
        let kinds = [
            Kind::Persistent,
            Kind::Ephemeral,
            Kind::Container,
            Kind::Ttl(50),
        ];
        let op = match random.usize(0..4) {
            0 | 1 => create(&path, kinds[random.usize(0..4)], path.ends_with('-')),
            2 => set(&path, &[1; 30], random.i32(-1..2)),
            _ => delete(&path, -1),
        };
        let _ = speaker.by(if random.bool() { A } else { B }, &[], op);
    }
    assert!(speaker.tree().totals().nodes > 100);
    let clone = speaker.registry.clone();
    let before = seen(clone.tree());
    speaker.tell(TreeCommand::Close { session: A });
    speaker
        .does(create("/late", Kind::Persistent, false))
        .unwrap_err();
    assert_eq!(seen(clone.tree()), before);
    let version = Version::needed(&clone);
    assert_eq!(version, Version::WithTree);
    let mut rebuild = Rebuild::new(version);
    write(&clone, version, |piece| rebuild.add(piece)).unwrap();
    let rebuilt = rebuild.finish(Revision(clone.revision().0));
    assert_eq!(seen(rebuilt.tree()), before);
}

#[test]
fn sums_stay_true_whatever_is_done() {
    let mut speaker = Speaker::new();
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..2_000 {
        let path = format!("/{}", random.u32(0..40));
        let op = match random.usize(0..3) {
            0 => create(&path, Kind::Ephemeral, false),
            1 => set(&path, &vec![0; random.usize(0..50)], -1),
            _ => delete(&path, -1),
        };
        let _ = speaker.does(op);
    }
    let mut counted = Totals::default();
    speaker.tree().root.sum("", &mut counted);
    assert_eq!(speaker.tree().totals(), counted);
}

#[test]
fn a_node_that_is_the_only_one_left_may_go_on_with_anybodys_session() {
    let mut registry = Registry::default();
    let session = SessionId(5);
    let open = TreeCommand::Open {
        session,
        password: [1; 16],
        timeout: 1_000,
    };
    let check = TreeCommand::One {
        session,
        who: Arc::new([]),
        at: Timestamp(0),
        op: Op::Check {
            path: "/".into(),
            version: -1,
        },
    };
    let mut give = |node, command: &TreeCommand| {
        let revision = registry.revision().next();
        let command = Command::Tree(command.clone());
        match registry.apply_from(node, revision, &command).reply {
            Reply::Tree(_, TreeReply::One(outcome)) => outcome.err(),
            _ => None,
        }
    };
    assert_eq!(give(10, &open), None);
    assert_eq!(give(10, &check), None);
    assert_eq!(give(11, &check), Some(Refusal::SessionMoved));
    assert_eq!(give(NOWHERE, &check), None);
}
