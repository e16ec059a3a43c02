//! What concurrent clients see while the node is killed and started again is linearizable: compare-and-set, sequential
//! nodes, and ephemeral nodes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use crate::harness::{Home, ZkClient, zk_create, zk_text};
use linear::{History, Model, Recorded, explain};

const LIVES: u64 = 6;
const CLIENTS: u64 = 5;
/// What contenders for the lock ask for, in milliseconds: short, for somebody is silent again and again.
const TIMEOUT: i32 = 200;

const CONFIG: &str = r#"
    [front.zookeeper]
    bind = "127.0.0.1:0"
    min_session_timeout = "100ms"
    [registry]
    snapshot_bytes = "1MiB"
"#;

/// A node's data and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Register {
    version: i32,
    value: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum OnRegister {
    Read(Register),
    /// `Some(true)`: done; `Some(false)`: the version was another; `None`: nobody knows.
    Set(Register, Option<bool>),
}

impl Model for Register {
    type Call = OnRegister;

    fn after(&self, call: &OnRegister) -> Option<Self> {
        match call {
            OnRegister::Read(seen) => (seen == self).then(|| self.clone()),
            OnRegister::Set(given, outcome) => {
                let fits = given.version == self.version;
                let done = outcome.unwrap_or(fits);
                let value = if done { given.value } else { self.value };
                let version = self.version + i32::from(done);
                (done == fits).then_some(Self { version, value })
            }
        }
    }
}

/// How many sequential nodes were created.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sequence(i32);

#[derive(Debug, PartialEq, Eq)]
enum OnSequence {
    /// The number that the new node got, if anybody knows.
    Create(Option<i32>),
    /// There were so many.
    List(i32),
}

impl Model for Sequence {
    type Call = OnSequence;

    fn after(&self, call: &OnSequence) -> Option<Self> {
        match *call {
            OnSequence::Create(number) => {
                let fits = number.is_none_or(|number| number == self.0);
                fits.then_some(Self(self.0 + 1))
            }
            OnSequence::List(count) => (count == self.0).then(|| self.clone()),
        }
    }
}

/// An ephemeral node, and the sessions that are over.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Lock {
    owner: Option<i64>,
    over: BTreeSet<i64>,
}

#[derive(Debug, PartialEq, Eq)]
enum OnLock {
    /// A session creates the node: whether it did, if anybody knows.
    Create(i64, Option<bool>),
    /// Whose it is.
    Read(Option<i64>),
    /// A session was heard, or its client was told that it is over.
    Heard(i64, bool),
    /// A session ends: by its owner's wish, or because nobody hears of it any more. Whether anybody could see that by more than
    /// the lock being free.
    End(i64, bool),
}

impl Model for Lock {
    type Call = OnLock;

    fn after(&self, call: &OnLock) -> Option<Self> {
        let mut next = self.clone();
        match *call {
            OnLock::Create(session, outcome) => {
                let alive = !self.over.contains(&session);
                let free = alive && self.owner.is_none();
                // Whose session is over is not told what became of anything.
                if outcome.is_some_and(|done| !alive || done != free) {
                    return None;
                }
                next.owner = if free { Some(session) } else { self.owner };
            }
            OnLock::Read(owner) if owner != self.owner => return None,
            OnLock::Heard(session, alive) if alive == self.over.contains(&session) => return None,
            OnLock::Read(_) | OnLock::Heard(..) => {}
            OnLock::End(session, seen) => {
                if seen {
                    next.over.insert(session);
                }
                next.owner = self.owner.filter(|owner| *owner != session);
            }
        }
        Some(next)
    }
}

fn assert_explained<M: Model>(start: M, calls: &[Recorded<M::Call>])
where
    M::Call: Debug,
{
    if let Err(stuck) = explain(start, calls) {
        panic!("nothing explains what came of these calls: {stuck:#?}");
    }
}

/// A node that is killed again and again, while clients do their work until they lose it: six times, and then until they have done so
/// much that there is something to see, for lives are short and machines may be busy.
fn killed_again_and_again(
    home: &Home,
    shortest: Duration,
    (done, enough): (&AtomicU64, u64),
    life: impl Fn(SocketAddr, u64) + Sync,
) {
    for number in 0.. {
        if number >= LIVES && done.load(Relaxed) >= enough {
            return;
        }
        assert!(number < 10 * LIVES, "{done:?}");
        let node = home.start();
        let at = node.zookeeper();
        let begun = Barrier::new(CLIENTS as usize + 1);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (begun, life) = (&begun, &life);
                scope.spawn(move || {
                    begun.wait();
                    life(at, client);
                });
            }
            begun.wait();
            std::thread::sleep(shortest + shortest / 2 * (number % LIVES) as u32);
            node.kill();
        });
    }
}

fn made(home: &Home, path: &str, data: &[u8]) {
    let node = home.start();
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(client.create(path, data, 0), 0);
    client.close();
    node.kill();
}

/// A session, unless the node is gone already.
fn opened(at: SocketAddr) -> Option<ZkClient> {
    ZkClient::attempt(at, 10_000, 0, &[0; 16]).ok().flatten()
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

#[test]
fn compare_and_set_is_linearizable_while_the_node_is_killed() {
    let home = Home::new(CONFIG);
    made(&home, "/register", &0_i64.to_be_bytes());
    let history = History::new();
    let values = AtomicI64::new(1);
    let done = AtomicU64::new(0);
    let shortest = Duration::from_millis(60);
    killed_again_and_again(&home, shortest, (&done, 50), |at, _| {
        let Some(mut client) = opened(at) else { return };
        loop {
            let begun = history.now();
            client.send(4, &[&zk_text(b"/register")[..], &[0]].concat());
            // What was only read and not answered has changed nothing.
            let Some((_, (0, body))) = client.answer() else {
                return;
            };
            let (version, value) = (int(&body, 12 + 32), long(&body, 4));
            history.answered(begun, OnRegister::Read(Register { version, value }));
            let value = values.fetch_add(1, Relaxed);
            let begun = history.now();
            let data = zk_text(&value.to_be_bytes());
            client.send(
                5,
                &[zk_text(b"/register"), data, version.to_be_bytes().into()].concat(),
            );
            let set = |outcome| OnRegister::Set(Register { version, value }, outcome);
            match client.answer() {
                Some((_, (0, _))) => {
                    done.fetch_add(1, Relaxed);
                    history.answered(begun, set(Some(true)));
                }
                Some((_, (-103, _))) => history.answered(begun, set(Some(false))),
                Some(other) => panic!("{other:?}"),
                None => return history.lost(begun, set(None)),
            }
        }
    });
    let calls = history.finish();
    let (version, value) = (0, 0);
    assert_explained(Register { version, value }, &calls);
    // That it would be noticed: the same calls, but somebody who wrote what another one read was told that it did not.
    let mut wrong = calls;
    let read = wrong.iter().rev().find_map(|c| match &c.call {
        OnRegister::Read(seen) if seen.value != 0 => Some(seen.value),
        _ => None,
    });
    let written = wrong.iter_mut().find_map(|c| match &mut c.call {
        OnRegister::Set(given, Some(done)) if Some(given.value) == read => Some(done),
        _ => None,
    });
    if let Some(done) = written {
        *done = false;
        assert!(explain(Register { version, value }, &wrong).is_err());
    }
}

#[test]
fn sequential_nodes_are_linearizable_while_the_node_is_killed() {
    let home = Home::new(CONFIG);
    made(&home, "/list", b"");
    let history = History::new();
    let done = AtomicU64::new(0);
    let shortest = Duration::from_millis(60);
    killed_again_and_again(&home, shortest, (&done, 100), |at, client| {
        let Some(mut zookeeper) = opened(at) else {
            return;
        };
        for turn in 0_u32.. {
            let begun = history.now();
            if client == 0 && turn % 8 == 0 {
                zookeeper.send(8, &[&zk_text(b"/list")[..], &[0]].concat());
                let Some((_, (0, body))) = zookeeper.answer() else {
                    return;
                };
                history.answered(begun, OnSequence::List(int(&body, 0)));
                continue;
            }
            zookeeper.send(1, &zk_create("/list/n-", b"", 2));
            match zookeeper.answer() {
                Some((_, (0, body))) => {
                    let path = String::from_utf8(body[4..].to_vec()).expect("a path");
                    let number = path.strip_prefix("/list/n-").and_then(|n| n.parse().ok());
                    history.answered(begun, OnSequence::Create(Some(number.expect("a number"))));
                    done.fetch_add(1, Relaxed);
                }
                Some(other) => panic!("{other:?}"),
                None => return history.lost(begun, OnSequence::Create(None)),
            }
        }
    });
    let calls = history.finish();
    assert_explained(Sequence(0), &calls);
}

/// Without the ends of sessions that were heard later: they did not happen, for the session was alive. And without what
/// nobody could see of others. (Each of them would be one more thing to try at every step.)
fn without_refuted_ends(mut calls: Vec<Recorded<OnLock>>) -> Vec<Recorded<OnLock>> {
    let mut heard = std::collections::BTreeMap::new();
    for call in calls.iter().filter(|c| c.ended.is_some()) {
        if let OnLock::Heard(session, true) | OnLock::Create(session, Some(_)) = call.call {
            let last: &mut u64 = heard.entry(session).or_default();
            *last = call.begun.max(*last);
        }
    }
    let told: BTreeSet<i64> = calls
        .iter()
        .filter_map(|call| match call.call {
            OnLock::Heard(session, false) | OnLock::Create(session, None) => Some(session),
            _ => None,
        })
        .collect();
    let held: BTreeSet<i64> = calls
        .iter()
        .filter_map(|call| match call.call {
            OnLock::Create(session, Some(true)) => Some(session),
            _ => None,
        })
        .collect();
    for call in &mut calls {
        if let OnLock::End(session, seen) = &mut call.call {
            *seen = told.contains(session);
        }
    }
    calls.retain(|call| match call.call {
        OnLock::End(session, seen) if call.ended.is_none() && !seen && !held.contains(&session) => {
            false
        }
        OnLock::End(session, _) if call.ended.is_none() => {
            heard.get(&session).is_none_or(|heard| *heard < call.begun)
        }
        _ => true,
    });
    calls
}

/// One who wants the lock in life after life of the node.
struct Contender {
    session: i64,
    password: Vec<u8>,
}

#[test]
fn an_ephemeral_node_is_there_as_long_as_its_session_and_no_longer() {
    let home = Home::new(CONFIG);
    let history = History::new();
    let contenders: Vec<_> = (0..CLIENTS).map(|_| Mutex::new(None)).collect();
    let won = AtomicU64::new(0);
    let shortest = Duration::from_millis(150);
    killed_again_and_again(&home, shortest, (&won, 10), |at, client| {
        let mut held = contenders[client as usize].lock().expect("one");
        while let Ended::Left = contend(at, client, &mut held, &history, &won) {}
    });
    // And those who are silent are over in the end.
    let node = home.start();
    let mut last = ZkClient::open(node.zookeeper(), 10_000);
    crate::harness::until("no lock", || {
        let begun = history.now();
        let owner = owner(&mut last).expect("an answer");
        history.answered(begun, OnLock::Read(owner));
        owner.is_none().then_some(())
    });
    assert_explained(Lock::default(), &without_refuted_ends(history.finish()));
}

enum Ended {
    /// With its session, which it has closed or does not come back to.
    Left,
    /// With the node.
    Killed,
}

/// Wants the lock for a while, with the session that it has or a new one.
fn contend(
    at: SocketAddr,
    client: u64,
    held: &mut Option<Contender>,
    history: &History<OnLock>,
    won: &AtomicU64,
) -> Ended {
    let Some(mut zookeeper) = come(at, held, history) else {
        return Ended::Killed;
    };
    let session = zookeeper.session;
    let password = zookeeper.password.clone();
    *held = Some(Contender { session, password });
    // Nobody hears of the session from then on, unless its client comes back.
    let silent = || history.lost(history.now(), OnLock::End(session, true));
    for _ in 0..20 {
        let begun = history.now();
        zookeeper.send(1, &zk_create("/lock", b"", 1));
        let answer = zookeeper.answer().map(|(_, (error, _))| error);
        let call = match answer {
            Some(0) => {
                won.fetch_add(1, Relaxed);
                OnLock::Create(session, Some(true))
            }
            Some(-110) => OnLock::Create(session, Some(false)),
            // It was silent for too long: the machine is a busy one.
            Some(-112) => OnLock::Heard(session, false),
            Some(other) => panic!("{other:?}"),
            None => {
                history.lost(begun, OnLock::Create(session, None));
                silent();
                return Ended::Killed;
            }
        };
        history.answered(begun, call);
        let begun = history.now();
        let Some(owner) = owner(&mut zookeeper) else {
            silent();
            return Ended::Killed;
        };
        history.answered(begun, OnLock::Read(owner));
        // What is looked for needs many sessions, and not many calls of each.
        std::thread::sleep(Duration::from_millis(2));
    }
    *held = None;
    // All but one say good-bye.
    if client != 1 {
        let begun = history.now();
        zookeeper.send(-11, &[]);
        match zookeeper.answer() {
            Some((_, (0, _))) => history.answered(begun, OnLock::End(session, true)),
            _ => history.lost(begun, OnLock::End(session, true)),
        }
    } else {
        silent();
    }
    Ended::Left
}

/// Comes back to the session that it has; if that is over, or there was none, to a new one.
fn come(
    at: SocketAddr,
    held: &mut Option<Contender>,
    history: &History<OnLock>,
) -> Option<ZkClient> {
    if let Some(Contender { session, password }) = held {
        let begun = history.now();
        let again = ZkClient::attempt(at, TIMEOUT, *session, password).ok()?;
        history.answered(begun, OnLock::Heard(*session, again.is_some()));
        if again.is_some() {
            return again;
        }
        *held = None;
    }
    ZkClient::attempt(at, TIMEOUT, 0, &[0; 16]).ok().flatten()
}

/// Whose the lock is. `None`: no answer.
fn owner(client: &mut ZkClient) -> Option<Option<i64>> {
    client.send(3, &[&zk_text(b"/lock")[..], &[0]].concat());
    match client.answer()? {
        (_, (0, stat)) => Some(Some(long(&stat, 44))),
        (_, (-101, _)) => Some(None),
        other => panic!("{other:?}"),
    }
}
