//! What a server that takes part in Prequal knows: how long requests took that came when as many were in flight as
//! now.

use std::collections::VecDeque;

/// Latencies by what was in flight on arrival.
#[derive(Clone, Debug)]
pub struct Estimator {
    /// Latencies kept for each number in flight, and looked at for an estimate.
    window: usize,
    /// How old one may be, in nanoseconds.
    age: u64,
    by_load: Vec<VecDeque<(u64, f32)>>,
}

/// Loads above this are one.
const MOST: usize = 255;

impl Estimator {
    /// That looks at so many latencies, not older than so many seconds.
    pub fn new(window: usize, age: f64) -> Self {
        Self {
            window,
            age: (age * 1e9) as u64,
            by_load: Vec::new(),
        }
    }

    /// A request that found `before` others took so many nanoseconds.
    pub fn finished(&mut self, before: usize, latency: f32, now: u64) {
        let load = before.min(MOST);
        if self.by_load.len() <= load {
            self.by_load.resize_with(load + 1, VecDeque::new);
        }
        let kept = &mut self.by_load[load];
        if kept.len() == self.window {
            kept.pop_front();
        }
        kept.push_back((now, latency));
    }

    /// The median of the latest latencies at the load nearest to `load`, farther and farther away until there are
    /// enough. 0 if there are none at all.
    pub fn estimate(&self, load: usize, now: u64) -> f32 {
        let mut found: Vec<f32> = Vec::with_capacity(2 * self.window);
        let load = load.min(MOST);
        for distance in 0..=MOST {
            let below = load.checked_sub(distance);
            let above = (distance > 0).then_some(load + distance);
            for near in below.into_iter().chain(above) {
                let kept = self.by_load.get(near).into_iter().flatten();
                let young = kept.filter(|(at, _)| at + self.age > now);
                found.extend(young.map(|(_, latency)| *latency));
            }
            if found.len() >= self.window
                || load + distance > self.by_load.len() && distance >= load
            {
                break;
            }
        }
        if found.is_empty() {
            return 0.0;
        }
        let middle = found.len() / 2;
        *found.select_nth_unstable_by(middle, f32::total_cmp).1
    }
}
