use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Moment, Timestamp};
use registry::Command;
use registry::tree::{SessionClock, SessionId, TreeCommand};

use crate::node::{Shared, lock};

/// How often containers and nodes with a time to live are looked at. ZooKeeper takes a minute, for it looks at all.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a thread that serves clients may be at the log, until nobody's silence is held against them.
const DEAF: Duration = Duration::from_millis(100);
/// How many of them at a time: some milliseconds, in which nobody writes.
const MOST_SWEPT: usize = 5_000;
/// The most nodes that one command removes: with the longest usual paths it stays below what a command may have.
const STEP: usize = 500;
/// The most sessions closed before their commands are waited for.
const PIPELINE: usize = 1_024;

/// The thread that ends sessions of the tree whose clients are silent, and removes nodes whose time is over.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut swept = Moment::ZERO;
    let mut after: Box<str> = "".into();
    let mut term = 0;
    while !shared.closing.load(Relaxed) {
        if !lead(shared, &mut term) {
            continue;
        }
        let over = wait_for_work(shared, swept + SWEEP);
        if !over.is_empty() && !shared.proves_to_lead() {
            continue;
        }
        for step in over.chunks(PIPELINE) {
            let close = |id: &SessionId| Command::Tree(TreeCommand::Close { session: *id });
            commit(shared, step.iter().map(close).collect());
        }
        if shared.now() >= swept + SWEEP {
            swept = shared.now();
            after = sweep(shared, &after);
        }
    }
}

/// Whether this node leads; waits a little if not. With each term, every session has its full timeout once more. Alone,
/// it had it when the node started.
fn lead(shared: &Shared, term: &mut u64) -> bool {
    let leading = shared.lead.load(Relaxed);
    if leading == 0 {
        drop(wait(shared, lock(&shared.sessions), SWEEP));
        return false;
    }
    if leading != *term {
        *term = leading;
        if !shared.alone {
            let state = shared.state();
            let sessions = state.registry.tree().sessions();
            lock(&shared.sessions).begin_anew(sessions, shared.now());
        }
    }
    true
}

fn wait_for_work(shared: &Shared, sweep: Moment) -> Vec<SessionId> {
    let mut clock = lock(&shared.sessions);
    while !shared.closing.load(Relaxed) {
        let now = shared.now();
        // A disk that has stalled keeps a thread from hearing its clients. The clock takes a second of that for a frost.
        if shared.lone.deaf_for(now) > DEAF {
            clock = wait(shared, clock, DEAF);
            continue;
        }
        let over = clock.handle_timeout(now);
        let left = clock.next_deadline().min(sweep).since(now);
        if !over.is_empty() || left.is_zero() {
            return over;
        }
        clock = wait(shared, clock, left);
    }
    Vec::new()
}

fn wait<'a>(
    shared: &Shared,
    clock: MutexGuard<'a, SessionClock>,
    most: Duration,
) -> MutexGuard<'a, SessionClock> {
    let waited = shared.session_work.wait_timeout(clock, most);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Removes some of what has outlived its time; returns where the next sweep goes on.
fn sweep(shared: &Shared, after: &str) -> Box<str> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = Timestamp(since.map_or(0, |d| d.as_millis() as u64));
    let found = shared
        .state()
        .registry
        .tree()
        .faded(at.0, after, MOST_SWEPT);
    let (paths, next) = found;
    for step in paths.chunks(STEP) {
        let paths = step.to_vec();
        commit(
            shared,
            vec![Command::Tree(TreeCommand::Sweep { paths, at })],
        );
    }
    next
}

/// Waiting keeps the commands of a stalled disk from piling up; what fails is tried again when it is due again.
fn commit(shared: &Shared, commands: Vec<Command>) {
    if let Ok(answer) = shared.queue.submit_own(commands) {
        let _ = answer.blocking_recv();
    }
}
