//! What is told at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::Fault;

/// What was measured of a kind of fault.
#[derive(Default)]
struct Measured {
    times: usize,
    /// For how long nothing could be written.
    windows: Vec<Duration>,
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Report {
    faults: BTreeMap<String, (bool, Measured)>,
    pub(crate) rounds: usize,
    pub(crate) calls: usize,
    pub(crate) open: usize,
    pub(crate) writes: usize,
}

impl Report {
    /// A fault is over; for how long nothing could be written, if that is known of it alone.
    pub(crate) fn add(&mut self, faults: &[Fault], window: Duration) {
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let majority = faults.iter().all(|fault| fault.leaves_a_majority());
        let (kept, measured) = self.faults.entry(names.join(", ")).or_default();
        *kept = majority;
        measured.times += 1;
        measured.windows.push(window);
    }

    /// Prints it.
    pub(crate) fn print(&mut self) {
        println!(
            "\n{:<64}{:>6}{:>12}{:>12}",
            "FAULT", "TIMES", "MEDIAN", "WORST"
        );
        for (name, (majority, measured)) in &mut self.faults {
            measured.windows.sort_unstable();
            let median = measured.windows[measured.windows.len() / 2];
            let worst = measured.windows[measured.windows.len() - 1];
            let star = if *majority { "" } else { " *" };
            println!(
                "{:<64}{:>6}{:>9} ms{:>9} ms",
                format!("{name}{star}"),
                measured.times,
                median.as_millis(),
                worst.as_millis()
            );
        }
        println!(
            "(the longest time without an acknowledged write at any node; with *, there was no majority, and it is the time from \
             its return to the next acknowledged write)"
        );
        println!(
            "{} rounds; {} calls in histories, of {} of which nobody knows what came; {} other writes acknowledged",
            self.rounds, self.calls, self.open, self.writes
        );
    }
}
