//! Writers, one at each node, who show for how long nothing can be written.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::caller::Caller;
use crate::ground::Place;
use crate::histories::Books;
use crate::nodes::Site;

/// A pause between two writes.
const PAUSE: Duration = Duration::from_millis(4);
/// How much is written each time, so that logs grow and are compacted.
const FILL: usize = 1_500;

/// When writes were sent, and acknowledged.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Vec<(Instant, Instant, Place)>>);

impl Pulse {
    /// Writes at one node until it is over.
    pub(crate) fn run(&self, books: &Books, site: &Site) {
        let mut caller = Caller::default();
        let path = format!("/v1/services/pulse/instances/{}", site.name());
        let fill = "x".repeat(FILL);
        while !books.is_over() {
            let metadata = json!({ "value": books.value().to_string(), "fill": fill });
            let body = json!({ "address": "10.0.0.7", "port": 1, "persistent": true, "metadata": metadata });
            let begun = Instant::now();
            let answer = caller.call(site, "PUT", &path, &body.to_string());
            match answer {
                Ok(answer) if answer.status < 300 => {
                    self.0
                        .lock()
                        .expect("times")
                        .push((begun, Instant::now(), site.place));
                    std::thread::sleep(PAUSE);
                }
                _ => std::thread::sleep(5 * PAUSE),
            }
        }
    }

    /// How many writes were acknowledged that were sent after `then`.
    pub(crate) fn since(&self, then: Instant) -> usize {
        let times = self.0.lock().expect("times");
        times.iter().filter(|(begun, _, _)| *begun > then).count()
    }

    /// The longest time without an acknowledgement that has to do with what was between `from` and `to`.
    pub(crate) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let times = self.0.lock().expect("times");
        let mut at: Vec<Instant> = times
            .iter()
            .map(|(_, acknowledged, _)| *acknowledged)
            .collect();
        at.sort_unstable();
        let pairs = at.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
        let gap = |pair: &[Instant]| pair[1] - pair[0].max(from);
        pairs.map(gap).max().unwrap_or_default()
    }

    /// How many writes each node has acknowledged that were sent and answered meanwhile.
    pub(crate) fn by_node(&self, from: Instant, to: Instant) -> BTreeMap<Place, usize> {
        let times = self.0.lock().expect("times");
        let mut counts = BTreeMap::new();
        for (_, _, place) in times.iter().filter(|(a, b, _)| *a > from && *b < to) {
            *counts.entry(*place).or_default() += 1;
        }
        counts
    }

    /// How long after `then` the first write was acknowledged that was sent after it.
    pub(crate) fn first_after(&self, then: Instant) -> Option<Duration> {
        let times = self.0.lock().expect("times");
        let after = times.iter().filter(|(begun, _, _)| *begun > then);
        after.map(|(_, acknowledged, _)| *acknowledged - then).min()
    }

    /// Forgets them; returns how many there were.
    pub(crate) fn forget(&self) -> usize {
        std::mem::take(&mut *self.0.lock().expect("times")).len()
    }
}
