use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Moment, Timestamp};
use registry::Command;
use registry::tree::{SessionId, TreeCommand};

use crate::node::{Shared, lock};

/// How often containers and nodes with a time to live are looked at. Both are for cleaning up, which is in no hurry;
/// ZooKeeper takes a minute.
const SWEEP: Duration = Duration::from_secs(10);
/// The most nodes that one command removes.
const MOST_SWEPT: usize = 1_000;
/// The most sessions closed before their commands are waited for.
const PIPELINE: usize = 1_024;

/// The thread that ends sessions of the tree whose clients are silent, and removes nodes whose time is over.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut swept = Moment::ZERO;
    while !shared.closing.load(Relaxed) {
        let over = wait_for_work(shared, swept + SWEEP);
        for step in over.chunks(PIPELINE) {
            let close = |id: &SessionId| Command::Tree(TreeCommand::Close { session: *id });
            commit(shared, step.iter().map(close).collect());
        }
        if shared.now() >= swept + SWEEP {
            swept = shared.now();
            sweep(shared);
        }
    }
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

fn sweep(shared: &Shared) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = Timestamp(since.map_or(0, |d| d.as_millis() as u64));
    let paths = shared.state().registry.tree().faded(at.0, MOST_SWEPT);
    if !paths.is_empty() {
        commit(
            shared,
            vec![Command::Tree(TreeCommand::Sweep { paths, at })],
        );
    }
}

/// Waiting keeps the commands of a stalled disk from piling up; what fails is tried again when it is due again.
fn commit(shared: &Shared, commands: Vec<Command>) {
    if let Ok(answer) = shared.queue.submit_own(commands) {
        let _ = answer.blocking_recv();
    }
}
