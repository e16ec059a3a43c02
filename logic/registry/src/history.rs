use std::collections::VecDeque;

use model::{Revision, ServiceKey};
use thiserror::Error;

use crate::Event;

/// The most recent events, so that a watcher that was away for a moment misses nothing.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Event>,
    limit: usize,
    /// Nothing is missing after this revision.
    complete_after: Revision,
}

/// The events asked for are gone; read the state and go on from its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("events up to revision {complete_after} are no longer kept; read the state anew")]
pub struct Compacted {
    /// The oldest revision that can still be gone on from.
    pub complete_after: Revision,
}

impl History {
    /// A history that begins after `revision` and keeps `limit` events.
    pub fn new(revision: Revision, limit: usize) -> Self {
        Self {
            events: VecDeque::new(),
            limit,
            complete_after: revision,
        }
    }

    /// Forgets all: what led to `revision` is not known.
    pub fn begin_anew(&mut self, revision: Revision) {
        self.events.clear();
        self.complete_after = revision;
    }

    /// Adds what a command did.
    pub fn extend(&mut self, events: Vec<Event>) {
        for event in events {
            if self.events.len() >= self.limit {
                // The other events of its revision may still be kept, but no longer all of them.
                let oldest = self.events.pop_front();
                self.complete_after = oldest.map_or(event.revision, |oldest| oldest.revision);
            }
            if self.limit > 0 {
                self.events.push_back(event);
            }
        }
    }

    /// Every event after `revision`, of one service or of all.
    ///
    /// # Errors
    ///
    /// [`Compacted`] when some of them are no longer kept.
    pub fn since(
        &self,
        revision: Revision,
        key: Option<&ServiceKey>,
    ) -> Result<Vec<Event>, Compacted> {
        if revision < self.complete_after {
            return Err(Compacted {
                complete_after: self.complete_after,
            });
        }
        let first = self.events.partition_point(|e| e.revision <= revision);
        Ok(self
            .events
            .range(first..)
            .filter(|e| key.is_none_or(|key| *key == *e.key))
            .cloned()
            .collect())
    }
}
