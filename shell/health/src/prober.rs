//! Drives a [`Schedule`] on tokio.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Counter, Host, InstanceId, Moment, ServiceKey};
use registry::Verdict;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::probe::{Tls, accepts, probe};
use crate::schedule::{Outcome, Schedule, Target};

/// Probes under way at a time. Each holds a descriptor; a node has thousands, and needs them for traffic.
const AT_ONCE: usize = 512;

/// How long a probe that confirms a loss may take.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// Probes instances until it is dropped.
pub struct Prober {
    shared: Arc<Shared>,
    scheduler: tokio::task::JoinHandle<()>,
}

/// Changed verdicts, in batches.
pub type Reports = mpsc::Receiver<Vec<Verdict>>;

struct Shared {
    schedule: Mutex<Schedule>,
    changed: Notify,
    origin: Instant,
    slots: Semaphore,
    /// Times that a probe had to wait for a descriptor.
    postponed: Counter,
    /// Services whose instances are probed within TLS.
    tls: Mutex<BTreeMap<ServiceKey, Tls>>,
}

impl Prober {
    /// Starts probing; within a tokio runtime.
    pub fn start(seed: u64) -> (Self, Reports) {
        let (reports, receiver) = mpsc::channel(1_024);
        let shared = Arc::new(Shared {
            schedule: Mutex::new(Schedule::new(seed)),
            changed: Notify::new(),
            origin: Instant::now(),
            slots: Semaphore::new(AT_ONCE),
            postponed: Counter::default(),
            tls: Mutex::default(),
        });
        let scheduler = tokio::spawn(run(shared.clone(), reports));
        (Self { shared, scheduler }, receiver)
    }

    /// Probes `target` from now on.
    pub fn put(&self, target: Target) {
        let now = self.shared.now();
        self.shared.with(|schedule| schedule.put(target, now));
        self.shared.changed.notify_one();
    }

    /// Probes it no more.
    pub fn remove(&self, key: &ServiceKey, id: &InstanceId) {
        self.shared.with(|schedule| schedule.remove(key, id));
    }

    /// Probes these and no others.
    pub fn replace(&self, targets: Vec<Target>) {
        let now = self.shared.now();
        self.shared.with(|schedule| schedule.replace(targets, now));
        self.shared.changed.notify_one();
    }

    /// Probes these and no others, and says anew whatever contradicts what they say of themselves.
    pub fn begin_anew(&self, targets: Vec<Target>) {
        let now = self.shared.now();
        self.shared
            .with(|schedule| schedule.begin_anew(targets, now));
        self.shared.changed.notify_one();
    }

    /// Probes the instances of these services within TLS from now on, and those of no others.
    pub fn speak_tls(&self, services: BTreeMap<ServiceKey, Tls>) {
        let tls = &self.shared.tls;
        *tls.lock().unwrap_or_else(PoisonError::into_inner) = services;
    }

    /// Somebody saw it fail: it is probed now.
    pub fn hurry(&self, key: &ServiceKey, id: &InstanceId) {
        let now = self.shared.now();
        self.shared.with(|schedule| schedule.hurry(key, id, now));
        self.shared.changed.notify_one();
    }

    /// How many times a probe had to wait for a descriptor.
    pub fn postponed(&self) -> u64 {
        self.shared.postponed.value()
    }

    /// Whether something at `host` accepts a connection on `port`, asked now.
    pub async fn accepts(host: &Host, port: u16) -> bool {
        accepts(host, port, CONFIRMATION).await
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.scheduler.abort();
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn tls(&self, key: &ServiceKey) -> Option<Tls> {
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.get(key).cloned()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Schedule) -> R) -> R {
        f(&mut self.schedule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn run(shared: Arc<Shared>, reports: mpsc::Sender<Vec<Verdict>>) {
    let (done, mut outcomes) = mpsc::channel::<(Target, Outcome)>(AT_ONCE);
    loop {
        let now = shared.now();
        while let Some(target) = shared.with(|schedule| schedule.poll_due(now)) {
            tokio::spawn(carry_out(shared.clone(), target, done.clone()));
        }
        let next = shared.with(|schedule| schedule.next_deadline());
        let rest = next.map_or(Duration::from_secs(3_600), |at| at.since(shared.now()));
        let mut verdicts = Vec::new();
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = shared.changed.notified() => {}
            outcome = outcomes.recv() => verdicts.extend(judge(&shared, outcome)),
        }
        // Whatever else is back by now goes into the same batch.
        while let Ok(outcome) = outcomes.try_recv() {
            verdicts.extend(judge(&shared, Some(outcome)));
        }
        if !verdicts.is_empty() && reports.send(verdicts).await.is_err() {
            return;
        }
    }
}

async fn carry_out(shared: Arc<Shared>, target: Target, done: mpsc::Sender<(Target, Outcome)>) {
    let Ok(_slot) = shared.slots.acquire().await else {
        return;
    };
    let outcome = probe(&target, shared.tls(&target.key), &shared.postponed).await;
    // Nobody listens any more when the prober was dropped.
    let _ = done.send((target, outcome)).await;
}

fn judge(shared: &Shared, outcome: Option<(Target, Outcome)>) -> Option<Verdict> {
    let (target, outcome) = outcome?;
    let now = shared.now();
    shared.with(|schedule| schedule.handle(&target, &outcome, now))
}
