use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Moment, Timestamp};
use registry::Command;
use registry::tree::{SessionId, TreeCommand};

use crate::node::{Shared, lock};

/// How often containers and nodes with a time to live are looked at. ZooKeeper takes a minute, for it looks at all.
const SWEEP: Duration = Duration::from_secs(1);
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
        let clock = lock(&shared.sessions);
        let waited = shared.session_work.wait_timeout(clock, SWEEP);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
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
        let over = clock.handle_timeout(now);
        let wait = clock.next_deadline().min(sweep).since(now);
        if !over.is_empty() || wait.is_zero() {
            return over;
        }
        (clock, _) = shared
            .session_work
            .wait_timeout(clock, wait)
            .unwrap_or_else(PoisonError::into_inner);
    }
    Vec::new()
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
