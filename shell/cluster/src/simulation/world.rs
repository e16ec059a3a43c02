use std::collections::BTreeMap;
mod change;
mod silence;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use linear::{History, explain};
use model::Moment;
use registry::snapshot;
use tokio::runtime::Runtime;

use super::clients::{self, Call, Cell, KEYS, Pending, Wish};
use super::network::Net;
use crate::ground::{Ground, Work};
use crate::keeper;
use crate::node::secret;
use crate::raft::{self, Clockwork};
use crate::storage::faulty::FaultyDisk;
use crate::{ClusterOptions, Durability, Node, Options, store};

/// How far clocks are moved at a time.
const STEP: Duration = Duration::from_millis(4);
/// How long misfortunes go on.
const TROUBLE: Duration = Duration::from_secs(12);
/// How long the cluster may take to be well again when they are over.
const RECOVERY: Duration = Duration::from_secs(30);
const CLIENTS: usize = 5;
/// An instance that heartbeats, to all nodes that run, this often; and one that does not.
const BEATS: &str = "beats";
const BEAT: Duration = Duration::from_millis(250);
const SILENT: &str = "silent";
/// How long a client waits between two calls at most.
const PAUSE: Duration = Duration::from_millis(60);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// What has happened, over all seeds.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) seeds: u64,
    calls: u64,
    leaders: u64,
    crashes: u64,
    snapshots: u64,
    misfortunes: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.seeds += 1;
        self.calls += other.calls;
        self.leaders += other.leaders;
        self.crashes += other.crashes;
        self.snapshots += other.snapshots;
        self.misfortunes += other.misfortunes;
    }

    /// Or nothing would be shown by it.
    pub(super) fn assert_something_happened(&self) {
        assert!(self.calls > 0 && self.leaders > 0 && self.misfortunes > 0);
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seeds,
            calls,
            leaders,
            crashes,
            snapshots,
            misfortunes,
        } = self;
        write!(
            f,
            "{seeds} seeds: {calls} calls answered, {leaders} leaders, {misfortunes} misfortunes, {crashes} crashes, {snapshots} snapshots"
        )
    }
}

/// The cluster, its clients, and what befalls them.
pub(super) struct World {
    seed: u64,
    random: Rng,
    net: Net,
    nodes: Vec<Machine>,
    now: Duration,
    clients: Vec<Client>,
    histories: Vec<History<Call>>,
    next_value: u64,
    next_beat: Duration,
    /// Who has led in each term.
    leaders: BTreeMap<u64, usize>,
    /// The revision that each entry leads to.
    revisions: BTreeMap<u64, u64>,
    sums: Sums,
    tell: bool,
}

/// A machine, on which a node runs or not.
struct Machine {
    options: Options,
    disk: FaultyDisk,
    running: Option<Running>,
    /// What its clock shows when a second is over.
    pace: f64,
    /// It does not run until then.
    frozen: Option<Duration>,
    /// Its disk is full, or fails.
    ails: bool,
    /// How long it takes to write, in microseconds.
    slow: Arc<AtomicU64>,
}

struct Running {
    node: Node,
    runtime: Runtime,
    /// What its clock showed when it started.
    since: Duration,
}

enum Client {
    Until(Duration),
    Waits(Pending, Duration),
}

impl World {
    pub(super) fn new(seed: u64, tell: bool) -> Self {
        fastrand::seed(seed);
        let mut random = Rng::with_seed(seed);
        let count = if random.u8(..4) == 0 { 5 } else { 3 };
        let address = |n: usize| format!("10.0.0.{}:1", n + 1);
        let peers: BTreeMap<String, String> =
            (0..count).map(|n| (format!("n{n}"), address(n))).collect();
        let machine = |n: usize| Machine {
            options: options(n, &address(n), &peers, random.u64(..)),
            disk: FaultyDisk::new(random.u64(..)),
            running: None,
            pace: 0.98 + 0.04 * random.f64(),
            frozen: None,
            ails: false,
            slow: Arc::new(AtomicU64::new(500)),
        };
        let nodes = (0..count).map(machine).collect();
        Self {
            seed,
            net: Net::new(random.u64(..)),
            nodes,
            now: Duration::ZERO,
            clients: (0..CLIENTS)
                .map(|_| Client::Until(Duration::ZERO))
                .collect(),
            histories: (0..KEYS).map(|_| History::new()).collect(),
            next_value: 1,
            next_beat: Duration::ZERO,
            leaders: BTreeMap::new(),
            revisions: BTreeMap::new(),
            sums: Sums::default(),
            tell,
            random,
        }
    }

    pub(super) fn run(mut self) -> Sums {
        for n in 0..self.nodes.len() {
            self.start(n);
        }
        self.begin();
        let end = self.now + TROUBLE;
        let mut next = self.now;
        while self.now < end {
            if self.now >= next {
                self.misfortune();
                next = self.now + Duration::from_millis(self.random.u64(50..1_500));
            }
            self.step(true);
        }
        self.recover();
        self.judge();
        self.sums.leaders = self.leaders.len() as u64;
        self.sums
    }

    /// The disk of a leader is filled up, while a client of another node writes.
    pub(super) fn fill_a_leader(mut self) {
        for n in 0..self.nodes.len() {
            self.start(n);
        }
        self.begin();
        let leads = |world: &Self, n: usize| world.node(n).is_some_and(Node::leads);
        let leader = (0..self.nodes.len()).find(|n| leads(&self, *n));
        let leader = leader.expect("a leader");
        let running = self.nodes[(leader + 1) % self.nodes.len()].running.as_ref();
        let running = running.expect("it runs");
        let (node, number) = (running.node.clone(), running.node.number());
        let command = clients::create(number.expect("one of several"), KEYS);
        let writing = running.runtime.spawn(async move {
            for _ in 0..100 {
                node.submit(command.clone()).await.expect("written");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        self.nodes[leader].disk.set_room(Some(1_000));
        let end = self.now + RECOVERY;
        while !writing.is_finished() && self.now < end {
            self.step(false);
        }
        let written = writing.now_or_never().expect("writes end");
        written.unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
        // The former one does not know: it cannot vote for another before it can write that down.
        let mut others = (0..self.nodes.len()).filter(|n| *n != leader);
        assert!(others.any(|n| leads(&self, n)), "another leads");
    }

    fn say(&self, what: impl fmt::Display) {
        if self.tell {
            eprintln!("{:>8.3} {what}", self.now.as_secs_f64());
        }
    }

    /// What is written to is there before anything happens.
    fn begin(&mut self) {
        let numbers: Vec<u64> = (0..self.nodes.len())
            .map(|n| self.node(n).and_then(Node::number).expect("it runs"))
            .collect();
        for (n, number) in numbers.into_iter().enumerate() {
            let mut commands = vec![clients::open(number)];
            if n == 0 {
                commands.extend((0..KEYS).map(|key| clients::create(number, key)));
                commands.extend([BEATS, SILENT].map(clients::lease));
            }
            let running = self.nodes[n].running.as_ref().expect("it runs");
            let node = running.node.clone();
            let begun = running.runtime.spawn(async move {
                for command in commands {
                    while node.submit(command.clone()).await.is_err() {}
                }
            });
            let end = self.now + RECOVERY;
            while !begun.is_finished() {
                assert!(self.now < end, "seed {}: no leader at the start", self.seed);
                self.step(false);
            }
        }
    }

    fn node(&self, n: usize) -> Option<&Node> {
        self.nodes[n].running.as_ref().map(|running| &running.node)
    }

    fn start(&mut self, n: usize) {
        let machine = &mut self.nodes[n];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (slow, mut chance) = (Arc::clone(&machine.slow), self.random.u64(..) | 1);
        let chance = std::sync::Mutex::new(move |below: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance % below.max(1)
        });
        let ground = Ground {
            transport: self.net.of(n),
            work: Work::Later(Arc::new(move || {
                let mut draw = chance.lock().expect("a number");
                Duration::from_micros(draw(slow.load(Relaxed)))
            })),
        };
        let storage = Arc::new(machine.disk.clone());
        let recovered = store::recover(storage, &machine.options, Box::new(secret));
        let recovered = match recovered {
            Ok(recovered) => recovered,
            // It is started again when the disk is well.
            Err(_) if machine.ails => return,
            Err(e) => panic!("node {n} does not start: {e}"),
        };
        let seed = self.random.u64(..);
        let node = {
            let _now = runtime.enter();
            let (node, parts, _) = match Node::prepare(recovered, &machine.options, ground) {
                Ok(prepared) => prepared,
                Err(_) if machine.ails => return,
                Err(e) => panic!("node {n} does not start: {e}"),
            };
            runtime.spawn(Clockwork::scope(seed, raft::simulated(parts)));
            runtime.spawn(keeper::simulated(Arc::clone(node.shared())));
            node
        };
        let since = self.now.mul_f64(machine.pace);
        machine.running = Some(Running {
            node,
            runtime,
            since,
        });
        machine.frozen = None;
        self.net.back(n);
    }

    /// Time goes by a little.
    fn step(&mut self, asking: bool) {
        self.now += STEP;
        self.net.advance(STEP);
        for machine in &mut self.nodes {
            let Some(running) = &machine.running else {
                continue;
            };
            if machine.frozen.is_some_and(|until| until > self.now) {
                continue;
            }
            let thaws = machine.frozen.take().is_some();
            let shown = self.now.mul_f64(machine.pace);
            running.runtime.block_on(running.run_until(shown, thaws));
        }
        if self.now >= self.next_beat {
            self.next_beat = self.now + BEAT;
            self.beat();
        }
        self.check();
        for client in 0..self.clients.len() {
            self.attend(client, asking);
        }
    }

    /// The one instance heartbeats.
    fn beat(&self) {
        for machine in self.nodes.iter().filter(|m| m.frozen.is_none()) {
            if let Some(running) = &machine.running {
                let _now = running.runtime.enter();
                running.node.heartbeat(&[clients::leased(BEATS)]);
            }
        }
    }

    fn attend(&mut self, client: usize, asking: bool) {
        let next = match &self.clients[client] {
            Client::Until(then) if asking && *then <= self.now => self.call(),
            Client::Until(_) => return,
            Client::Waits(pending, patience) => {
                let history = &self.histories[pending.key];
                if pending.has_ended(history) {
                    self.sums.calls += 1;
                } else if *patience <= self.now || self.nodes[pending.node].running.is_none() {
                    pending.is_lost(history);
                } else {
                    return;
                }
                let pause = self.random.u64(1..PAUSE.as_micros() as u64);
                Client::Until(self.now + Duration::from_micros(pause))
            }
        };
        self.clients[client] = next;
    }

    fn call(&mut self) -> Client {
        let n = self.random.usize(..self.nodes.len());
        let key = self.random.usize(..KEYS);
        let value = self.next_value;
        self.next_value += 1;
        let wish = match self.random.u8(..4) {
            0 => Wish::Write(value),
            1 => Wish::Swap(value),
            _ => Wish::Read,
        };
        let Some(running) = &self.nodes[n].running else {
            return Client::Until(self.now + PAUSE);
        };
        let _runtime = running.runtime.enter();
        let pending = Pending::begin(&running.node, (n, key), wish, &self.histories[key]);
        Client::Waits(pending, self.now + PATIENCE)
    }

    /// What must hold at any time.
    fn check(&mut self) {
        for n in 0..self.nodes.len() {
            let Some(node) = self.node(n) else { continue };
            let shared = node.shared();
            let (entry, revision) = {
                let state = shared.state();
                (state.origin.entry, state.registry.revision().0)
            };
            let (leads, fault) = (shared.lead.load(Relaxed), shared.fault_text());
            let ended = clients::has_run_out(node, BEATS);
            assert!(!ended, "seed {}: a lease ended that was renewed", self.seed);
            let known = *self.revisions.entry(entry.index).or_insert(revision);
            assert_eq!(
                known, revision,
                "seed {}: node {n} is elsewhere after entry {}",
                self.seed, entry.index
            );
            if leads != 0 {
                let seed = self.seed;
                let first = *self.leaders.entry(leads).or_insert(n);
                assert_eq!(first, n, "seed {seed}: two lead in term {leads}");
            }
            let broken = fault.filter(|why| why.contains("fault of the program"));
            assert_eq!(broken, None, "seed {}: node {n}", self.seed);
        }
    }

    fn misfortune(&mut self) {
        self.sums.misfortunes += 1;
        let n = self.random.usize(..self.nodes.len());
        let other = (n + self.random.usize(1..self.nodes.len())) % self.nodes.len();
        match self.random.u8(..17) {
            0 => {
                self.say(format_args!("{n} does not reach {other}"));
                self.net.cut(n, other);
            }
            1 => {
                self.say(format_args!("{n} is cut off"));
                for other in (0..self.nodes.len()).filter(|other| *other != n) {
                    self.net.cut(n, other);
                    self.net.cut(other, n);
                }
            }
            2 | 3 => {
                self.say("all reach all");
                self.net.mend();
            }
            4 => {
                self.say(format_args!("connections between {n} and {other} break"));
                self.net.sever(n, other);
            }
            5 | 6 => self.end(n, false),
            7 => self.end(n, true),
            8..=10 => self.start_one(),
            11 => {
                let pause = Duration::from_millis(self.random.u64(50..3_000));
                self.say(format_args!("{n} is frozen for {pause:?}"));
                self.nodes[n].frozen = Some(self.now + pause);
            }
            12 => {
                let room = self.random.usize(..2_000);
                self.say(format_args!("{n} has room for {room} bytes"));
                self.nodes[n].disk.set_room(Some(room));
                self.nodes[n].ails = true;
            }
            13 => {
                self.say(format_args!("{n} has room again"));
                self.nodes[n].disk.set_room(None);
            }
            14 => {
                let syncs = self.random.u32(..20);
                self.say(format_args!("the disk of {n} fails after {syncs} syncs"));
                self.nodes[n].disk.fail_sync_after(Some(syncs));
                self.nodes[n].ails = true;
            }
            15 => {
                let most = if self.random.u8(..4) == 0 {
                    9_000_000
                } else {
                    300_000
                };
                let slow = self.random.u64(500..most);
                self.say(format_args!("{n} takes up to {slow} us to write"));
                self.nodes[n].slow.store(slow, Relaxed);
            }
            _ => {
                let slowest = Duration::from_micros(self.random.u64(300..200_000));
                self.say(format_args!("messages take up to {slowest:?}"));
                self.net.set_slowest(slowest);
            }
        }
    }

    /// A node ends, and its machine with it or not.
    fn end(&mut self, n: usize, power: bool) {
        let Some(running) = self.nodes[n].running.take() else {
            return;
        };
        self.sums.crashes += 1;
        self.sums.snapshots += running.node.stats().snapshots;
        drop(running);
        self.net.gone(n, !power);
        if power {
            self.say(format_args!("{n} loses its power"));
            let after = self.nodes[n].disk.power_cut();
            self.nodes[n].disk = after;
        } else {
            self.say(format_args!("{n} is killed"));
        }
    }

    fn start_one(&mut self) {
        let down = |n: &usize| self.nodes[*n].running.is_none();
        if let Some(n) = (0..self.nodes.len()).find(down) {
            self.say(format_args!("{n} is started"));
            self.start(n);
        }
    }

    /// Everything is well again, and so must be the cluster soon.
    fn recover(&mut self) {
        self.say("everything is well again");
        self.net.mend();
        self.net.set_slowest(Duration::from_millis(1));
        for n in 0..self.nodes.len() {
            self.nodes[n].slow.store(500, Relaxed);
            self.nodes[n].disk.set_room(None);
            self.nodes[n].disk.fail_sync_after(None);
            self.nodes[n].ails = false;
            // What failed to be synced is not trusted again before a restart.
            if self
                .node(n)
                .is_some_and(|node| node.shared().fault_text().is_some())
            {
                self.end(n, false);
            }
            // From the next step on, in which its clock jumps.
            self.nodes[n].frozen = self.nodes[n].frozen.map(|_| self.now);
            if self.nodes[n].running.is_none() {
                self.start(n);
            }
        }
        let end = self.now + RECOVERY;
        while !self.is_well() {
            assert!(
                self.now < end,
                "seed {}: the cluster does not recover: {:?}",
                self.seed,
                (0..self.nodes.len())
                    .map(|n| self.node(n).map(Node::status))
                    .collect::<Vec<_>>()
            );
            self.step(false);
        }
        for key in 0..KEYS {
            for n in 0..self.nodes.len() {
                let running = self.nodes[n].running.as_ref().expect("it runs");
                let _runtime = running.runtime.enter();
                let history = &self.histories[key];
                let last = Pending::begin(&running.node, (n, key), Wish::Read, history);
                self.clients.push(Client::Waits(last, self.now + PATIENCE));
            }
        }
        while self.clients.iter().any(|c| matches!(c, Client::Waits(..))) {
            self.step(false);
        }
    }

    /// Whether all know one leader, and have applied the same.
    fn is_well(&self) -> bool {
        let seen = (0..self.nodes.len()).map(|n| {
            let node = self.node(n)?;
            let entry = node.shared().state().origin.entry;
            Some((node.leader()?, entry))
        });
        let seen: Option<Vec<_>> = seen.collect();
        let silent = self.node(0).map(|node| clients::has_run_out(node, SILENT));
        let quiet = self.clients.iter().all(|c| matches!(c, Client::Until(_)));
        silent == Some(true)
            && quiet
            && seen.is_some_and(|seen| seen.windows(2).all(|pair| pair[0] == pair[1]))
    }

    fn judge(&mut self) {
        let dumps: Vec<Vec<u8>> = (0..self.nodes.len())
            .map(|n| dump(self.node(n).expect("it runs")))
            .collect();
        for (n, other) in dumps.iter().enumerate() {
            assert!(*other == dumps[0], "seed {}: 0 and {n} differ", self.seed);
        }
        for n in 0..self.nodes.len() {
            let stats = self.node(n).map(Node::stats).unwrap_or_default();
            self.sums.snapshots += stats.snapshots;
        }
        for (key, history) in std::mem::take(&mut self.histories).into_iter().enumerate() {
            let calls = history.finish();
            if let Err(stuck) = explain(Cell::default(), &calls) {
                for call in calls.iter().filter(|_| self.tell) {
                    eprintln!("{call:?}");
                }
                panic!(
                    "seed {}: nothing explains what was seen of {key}: {stuck:#?}",
                    self.seed
                );
            }
        }
    }
}

impl Running {
    /// Runs until its clock shows this. If it was frozen, its clock has gone on meanwhile.
    async fn run_until(&self, shown: Duration, thaws: bool) {
        let shows = self.since + self.node.shared().now().since(Moment::ZERO);
        let behind = shown.saturating_sub(shows);
        match thaws {
            true => tokio::time::advance(behind).await,
            false => tokio::time::sleep(behind).await,
        }
    }
}

fn options(n: usize, address: &str, peers: &BTreeMap<String, String>, chance: u64) -> Options {
    let cluster = ClusterOptions {
        node: format!("n{n}"),
        name: "simulated".into(),
        token: "a secret of the simulation".into(),
        bind: address.parse().expect("an address"),
        peers: peers.clone(),
        join: Vec::new(),
        address: address.into(),
        tls: None,
        format: registry::FORMAT,
    };
    Options {
        segment_size: 1 << (11 + chance % 4),
        snapshot_after: 1 << (12 + chance % 5),
        history: 64,
        cluster: Some(cluster),
        ..Options::new(Durability::Memory)
    }
}

/// All there is, as bytes.
fn dump(node: &Node) -> Vec<u8> {
    let mut all = Vec::new();
    node.read(|registry| {
        let version = snapshot::Version::LATEST;
        snapshot::write(registry, version, |piece| {
            all.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
    })
    .expect("a dump");
    all
}
