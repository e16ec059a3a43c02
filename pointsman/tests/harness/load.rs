//! Many clients that ask all the time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::{Connection, until};

/// Clients under way.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    /// How many answers each client has got.
    done: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many answers had which body.
    pub(crate) bodies: BTreeMap<String, u64>,
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// So many clients, each on one connection for as long as that lasts, ask for `path`.
    pub(crate) fn start(address: SocketAddr, clients: usize, path: &'static str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let done: Vec<_> = (0..clients).map(|_| Arc::default()).collect();
        let client = |done: &Arc<AtomicU64>| {
            let (over, done) = (over.clone(), done.clone());
            std::thread::spawn(move || ask(address, path, &over, &done))
        };
        let threads = done.iter().map(client).collect();
        Self {
            over,
            done,
            threads,
        }
    }

    /// Waits for so many further answers.
    pub(crate) fn further(&self, count: u64) {
        let done = || self.done.iter().map(|d| d.load(Relaxed)).sum::<u64>();
        let goal = done() + count;
        until("so many further answers", || (done() >= goal).then_some(()));
    }

    /// Waits until no request is under way that began before.
    pub(crate) fn round(&self) {
        for done in &self.done {
            let before = done.load(Relaxed);
            until("another answer", || {
                (done.load(Relaxed) > before).then_some(())
            });
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Tally {
        self.over.store(true, Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            all.add(thread.join().expect("a client"));
        }
        all
    }
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        self.bodies.values().sum()
    }

    pub(crate) fn of(&self, body: &str) -> u64 {
        self.bodies.get(body).copied().unwrap_or(0)
    }

    /// Panics if a request failed.
    pub(crate) fn assert_whole(&self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} failed, first {:?}",
            self.failures.len(),
            self.total(),
            &self.failures[..self.failures.len().min(3)]
        );
    }

    fn add(&mut self, other: Self) {
        for (body, count) in other.bodies {
            *self.bodies.entry(body).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

fn ask(address: SocketAddr, path: &str, over: &AtomicBool, done: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !over.load(Relaxed) {
        if connection.is_none() {
            match Connection::try_open(address) {
                Ok(opened) => connection = Some(opened),
                Err(e) => {
                    tally.failures.push(format!("connect: {e}"));
                    continue;
                }
            }
        }
        let Some(open) = &mut connection else {
            continue;
        };
        match open.try_get("localhost", path) {
            Ok(answer) if answer.status == 200 => {
                if answer.header("connection") == Some("close") {
                    connection = None;
                }
                *tally.bodies.entry(answer.text().to_owned()).or_default() += 1;
            }
            Ok(answer) => {
                connection = None;
                tally
                    .failures
                    .push(format!("{}: {}", answer.status, answer.text()));
            }
            Err(why) => {
                connection = None;
                tally.failures.push(why);
            }
        }
        done.fetch_add(1, Relaxed);
    }
    tally
}
