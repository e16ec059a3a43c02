//! How reloads of the configuration went, and what they leave to the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use config::{Change, Config};
use model::Counter;
use telemetry::{Exposition, Kind};

/// How they went.
pub(super) struct Reloads {
    /// What the node was started with.
    started: Arc<Config>,
    done: Counter,
    failed: Counter,
    /// The last one failed.
    failing: AtomicBool,
    /// Keys whose values take effect at the next start.
    pending: AtomicU64,
}

impl Reloads {
    pub(super) fn new(started: &Arc<Config>) -> Self {
        Self {
            started: started.clone(),
            done: Counter::default(),
            failed: Counter::default(),
            failing: AtomicBool::new(false),
            pending: AtomicU64::new(0),
        }
    }

    /// One is over.
    pub(super) fn count(&self, done: bool) {
        let count = if done { &self.done } else { &self.failed };
        count.add(1);
        self.failing.store(!done, Relaxed);
    }

    /// What a start with this configuration would change that a reload does not, whatever files have come and gone in between.
    pub(super) fn pending(&self, new: &Config) -> impl Iterator<Item = Change> + use<> {
        let changes = config::diff(&self.started, new).into_iter();
        changes.filter(|change| change.restart)
    }

    /// The node goes by this configuration now.
    pub(super) fn took(&self, new: &Config) {
        self.pending
            .store(self.pending(new).count() as u64, Relaxed);
    }

    pub(super) fn metrics(&self, out: &mut Exposition) {
        let name = "pointsman_config_reloads_total";
        out.metric(name, Kind::Counter, "Reloads of the configuration.");
        for (outcome, count) in [("done", &self.done), ("failed", &self.failed)] {
            out.sample(name, &[("outcome", outcome)], count.value());
        }
        let name = "pointsman_config_last_reload_successful";
        let help = "0 if the last reload failed, and the configuration before it stays.";
        out.metric(name, Kind::Gauge, help);
        out.sample(name, &[], u8::from(!self.failing.load(Relaxed)));
        let name = "pointsman_config_restart_pending";
        let help = "Keys that have been changed and take effect at the next start.";
        out.metric(name, Kind::Gauge, help);
        out.sample(name, &[], self.pending.load(Relaxed));
    }
}
