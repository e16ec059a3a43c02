//! Many runs, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::measure::{Estimate, Figures};
use super::{Kind, Run, Scenario, run};

/// One rule in one scenario, from several seeds.
#[derive(Clone, Debug)]
pub struct Cell {
    /// By seed.
    pub runs: Vec<Run>,
}

/// Runs each of the scenarios with each of the rules from each of the seeds 1, 2, …; by scenario, then by rule.
pub fn study(scenarios: &[Scenario], rules: &[Kind], seeds: u64) -> Vec<Vec<Cell>> {
    let tasks: Vec<(usize, usize, u64)> = (0..scenarios.len())
        .flat_map(|s| (0..rules.len()).map(move |r| (s, r)))
        .flat_map(|(s, r)| (1..=seeds).map(move |seed| (s, r, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(tasks.len()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&(s, r, seed)) = tasks.get(next.fetch_add(1, Relaxed)) {
                    let run = run(&scenarios[s], &rules[r], seed, false);
                    done.lock()
                        .expect("nobody panicked")
                        .push((s, r, seed, run));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panicked");
    done.sort_unstable_by_key(|(s, r, seed, _)| (*s, *r, *seed));
    let mut cells = vec![vec![Cell { runs: Vec::new() }; rules.len()]; scenarios.len()];
    for (s, r, _, run) in done {
        cells[s][r].runs.push(run);
    }
    cells
}

impl Cell {
    /// One figure of one window, by seed.
    pub fn values(&self, window: usize, figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
        self.runs
            .iter()
            .map(|run| figure(&run.windows[window]))
            .collect()
    }

    /// The same, over all seeds.
    pub fn estimate(&self, window: usize, figure: impl Fn(&Figures) -> f64) -> Estimate {
        Estimate::of(&self.values(window, figure))
    }
}
