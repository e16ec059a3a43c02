use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use registry::Leases;
use registry::leases::Output;
use tokio::sync::mpsc;

use crate::Probe;
use crate::node::{Shared, lock};

/// The most commands sent before their answers are waited for.
const PIPELINE: usize = 32;

/// The thread that keeps the leases: looks at them when it is time, and puts through the log what became of
/// them. A command that fails is sent again by the leases themselves.
pub(crate) fn run(shared: &Arc<Shared>, probes: &mpsc::Sender<Probe>) {
    let mut term = 0;
    loop {
        let outputs = wait_for_work(shared, &mut term);
        if shared.closing.load(Relaxed) {
            return;
        }
        // A leader that was stopped for a while may not know that there is another, which has heard of the leases since.
        if !shared.proves_to_lead() {
            continue;
        }
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Submit(command) => answers.extend(shared.queue.submit_own(vec![command])),
                Output::Probe { key, id } => {
                    let record = shared.state().registry.instance(&key, &id).cloned();
                    let sent = record.map(|record| probes.try_send(Probe { key, record }));
                    if matches!(sent, Some(Err(_))) {
                        shared.counters.probes_lost.add(1);
                    }
                }
            }
        }
        for answer in answers {
            // Waiting keeps the commands of a stalled disk from piling up.
            let _ = answer.blocking_recv();
        }
    }
}

/// Waits until this node leads and has something to do. `term` is the one it last led in.
fn wait_for_work(shared: &Shared, term: &mut u64) -> Vec<Output> {
    let mut leases = lock(&shared.leases);
    loop {
        if shared.closing.load(Relaxed) {
            return Vec::new();
        }
        let Some(outputs) = due(shared, &mut leases, term) else {
            leases = shared
                .lease_work
                .wait(leases)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if !outputs.is_empty() {
            return outputs;
        }
        let wait = leases.next_deadline().since(shared.now());
        if wait.is_zero() {
            // More is due than one call looks at: let a heartbeat have the lock in between.
            drop(leases);
            std::thread::yield_now();
            leases = lock(&shared.leases);
            continue;
        }
        (leases, _) = shared
            .lease_work
            .wait_timeout(leases, wait)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// What there is to do now; none while this node does not lead.
fn due(shared: &Shared, leases: &mut Leases, term: &mut u64) -> Option<Vec<Output>> {
    let leading = shared.lead.load(Relaxed);
    if leading == 0 {
        return None;
    }
    if leading != *term {
        *term = leading;
        // One grace: whoever renewed a lease may have told the leader before. Alone, that was when the node started.
        if !shared.alone {
            leases.begin_anew(&shared.state().registry, shared.now());
        }
    }
    leases.handle_timeout(shared.now());
    let outputs = std::iter::from_fn(|| leases.poll_output());
    Some(outputs.take(PIPELINE).collect())
}

/// The same without a thread.
#[cfg(test)]
pub(crate) async fn simulated(shared: Arc<Shared>) {
    let mut term = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let outputs = due(&shared, &mut lock(&shared.leases), &mut term);
        let outputs = outputs.unwrap_or_default();
        if outputs.is_empty() || !shared.doubts().await.unwrap_or(false) {
            continue;
        }
        for output in outputs {
            if let Output::Submit(command) = output
                && let Ok(answer) = shared.queue.submit_own(vec![command])
            {
                let _ = answer.await;
            }
        }
    }
}
