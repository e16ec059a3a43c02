//! What must hold of the simulator, and of the rules in it, before any figure is believed. Some seconds long, optimised:
//! `cargo xtask test` has a step for it.

use model::Policy;

use super::catalogue::{Extent, PREQUAL, antagonists, one_database, scenarios};
use super::draw::exp;
use super::lasting::{Remedy, course};
use super::rule::{Kind, Sees};
use super::scenario::{Scenario, Window, Work};
use super::server::Build;
use super::study::{Cell, study};
use super::{Run, run};

/// What was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// In a sentence.
    pub what: String,
    /// The figures that it rests on.
    pub figures: String,
    /// Whether it holds.
    pub holds: bool,
}

/// How far the simulator may be from the theory.
const CLOSE: f64 = 0.02;

/// Everything.
pub fn check() -> Vec<Checked> {
    let mut all = theory();
    all.extend(books());
    all.push(weights());
    all.extend([3, 20].map(shares));
    all.extend(orderings());
    all
}

fn mean_latency(runs: &[Run]) -> f64 {
    let sums = runs.iter().map(|r| {
        (
            r.windows[0].mean * r.windows[0].count as f64,
            r.windows[0].count,
        )
    });
    let (total, count) = sums.fold((0.0, 0), |(t, c), (mean, n)| (t + mean, c + n));
    total / count as f64
}

fn seeds(scenario: &Scenario, kind: &Kind, seeds: u64) -> Vec<Run> {
    let mut cells = study(
        std::slice::from_ref(scenario),
        std::slice::from_ref(kind),
        seeds,
    );
    cells.remove(0).remove(0).runs
}

/// The scenario of a textbook: nothing on the wire, no deadline.
fn textbook(name: &str, servers: Vec<Build>, load: f64, seconds: f64) -> Scenario {
    Scenario {
        wire: 0.0,
        deadline: 1e6,
        ..Scenario::new(name, "", servers, load, seconds)
    }
}

fn agrees(what: &str, simulated: f64, truth: f64) -> Checked {
    Checked {
        what: what.to_owned(),
        figures: format!("{simulated:.3} ms, {truth:.3} by theory"),
        holds: (simulated / truth - 1.0).abs() < CLOSE,
    }
}

/// The simulator against three results that are known exactly.
pub fn theory() -> Vec<Checked> {
    vec![erlang(), sharing(), two_choices()]
}

/// M/M/c: one line in front of c servers, whose mean wait Erlang found in 1917.
fn erlang() -> Checked {
    let (c, load) = (8_u32, 0.85);
    let one = Build {
        speed: f64::from(c),
        weight: 1,
        stride: 1.0 / f64::from(c),
        concurrency: c as usize,
        queue: usize::MAX,
    };
    let scenario = textbook("M/M/8", vec![one], load, 1_000.0);
    let simulated = mean_latency(&seeds(&scenario, &Kind::Ours(Policy::Random), 4));
    let offered = f64::from(c) * load;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..c {
        term *= offered / f64::from(k);
        sum += term;
    }
    let all_busy = term * offered / f64::from(c) / (1.0 - load);
    let waits = all_busy / (sum + all_busy);
    let truth = 10.0 * (1.0 + waits / (f64::from(c) * (1.0 - load)));
    agrees("M/M/8 waits as Erlang's C says", simulated, truth)
}

/// M/G/1 with processor sharing: the mean depends on the load alone, however long the tail of the work.
fn sharing() -> Checked {
    let work = Work::Bimodal {
        long: 0.05,
        times: 20.0,
    };
    let scenario = Scenario {
        work,
        ..textbook("M/G/1-PS", vec![Build::sharing(1.0, 1); 20], 0.7, 300.0)
    };
    let simulated = mean_latency(&seeds(&scenario, &Kind::Ours(Policy::Random), 4));
    agrees(
        "M/G/1 with processor sharing has mean s / (1 - ρ)",
        simulated,
        10.0 / 0.3,
    )
}

/// The fixed point of the power of two choices: the part of servers with k jobs or more is λ^(2^k - 1) (Vvedenskaya,
/// Dobrushin, Karpelevich 1996; Mitzenmacher 1996). Little's law makes it a latency.
fn two_choices() -> Checked {
    let load: f64 = 0.9;
    let one = Build {
        concurrency: 1,
        ..Build::sharing(1.0, 1)
    };
    let scenario = Scenario {
        balancers: 1,
        ..textbook("two choices", vec![one; 500], load, 30.0)
    };
    let simulated = mean_latency(&seeds(&scenario, &Kind::LeastRequest(2), 4));
    let power = |k: u32| exp((f64::from(2_u32.pow(k)) - 1.0) * super::draw::ln(load));
    let jobs: f64 = (1..12).map(power).sum();
    agrees(
        "two choices reach their fixed point",
        simulated,
        jobs / load * 10.0,
    )
}

/// Our books after each step: nothing negative, every lease given back once.
fn books() -> Vec<Checked> {
    let mut all: Vec<Scenario> = scenarios(Extent::Quick);
    all.retain(|s| {
        [
            "rolling restart",
            "flash crowd",
            "40 % black-holed",
            "20 % failing fast",
        ]
        .contains(&s.name.as_str())
    });
    let policies = [
        Policy::LeastTime,
        Policy::LeastConn,
        Policy::RoundRobin,
        Policy::PeakEwma,
    ];
    let mut all: Vec<Checked> = all
        .iter()
        .map(|scenario| {
            let mut scenario = scenario.clone();
            // Not all of it: each step looks at everything.
            for window in &mut scenario.windows {
                window.to = window.to.min(9.0);
            }
            let runs = policies.map(|policy| run(&scenario, &Kind::Ours(policy), 7, true));
            let faults: Vec<&String> = runs.iter().flat_map(|r| &r.faults).collect();
            let steps: u64 = runs.iter().map(|r| r.events).sum();
            Checked {
                what: format!(
                    "{}: in-flight and leases agree after each step",
                    scenario.name
                ),
                figures: match faults.first() {
                    None => format!("{steps} steps"),
                    Some(fault) => (*fault).clone(),
                },
                holds: faults.is_empty(),
            }
        })
        .collect();
    let faults = course(Remedy::Respread(1), 2, 5, 7).faults;
    all.push(Checked {
        what: "long connections: what is counted as open is what is, after each second".to_owned(),
        figures: format!("{faults} seconds after which it was not"),
        holds: faults == 0,
    });
    all
}

/// P(i) = W(i) / ΣW of the policies that go by weight alone, within five standard deviations.
fn weights() -> Checked {
    let servers: Vec<Build> = [1, 2, 3, 10].map(|w| Build::sharing(1.0, w)).to_vec();
    let scenario = Scenario {
        mean: 0.000_1,
        ..Scenario::new("weights", "", servers, 0.1, 40.0)
    };
    let mut worst: f64 = 0.0;
    for policy in [Policy::Random, Policy::RoundRobin] {
        let figures = &run(&scenario, &Kind::Ours(policy), 3, false).windows[0];
        let n = figures.count as f64;
        for (share, weight) in figures.shares.iter().zip([1.0, 2.0, 3.0, 10.0]) {
            let p: f64 = weight / 16.0;
            worst = worst.max((share - p).abs() / (p * (1.0 - p) / n).sqrt());
        }
    }
    Checked {
        what: "random and round_robin choose by weight".to_owned(),
        figures: format!("{worst:.1} standard deviations at most"),
        holds: worst < 5.0,
    }
}

/// Nobody among equal servers starves, though what makes them slow is the same for all, and so nobody becomes faster by
/// getting less.
fn shares(n: usize) -> Checked {
    let mut scenario = one_database(n, 2.0 * n as f64 / 3.0, 2, 4.0);
    scenario.windows = (0..10)
        .map(|k| Window {
            name: String::new(),
            from: 5.0 + 4.0 * f64::from(k),
            to: 9.0 + 4.0 * f64::from(k),
        })
        .collect();
    let runs = seeds(&scenario, &Kind::Ours(Policy::LeastTime), 4);
    let shares = runs.iter().flat_map(|r| &r.windows).flat_map(|w| &w.shares);
    let fair = shares.map(|share| share * n as f64);
    let (least, most) = fair.fold((f64::MAX, 0.0_f64), |(least, most), share| {
        (least.min(share), most.max(share))
    });
    Checked {
        what: format!("none of {n} equal servers with one database behind them starves"),
        figures: format!("{least:.2} to {most:.2} of a fair one"),
        holds: least > 0.05 && most < 2.5,
    }
}

/// Who is before whom, with a margin that no seed crosses.
fn orderings() -> Vec<Checked> {
    let scenarios = [antagonists(0.9, 4, 8.0), antagonists(1.27, 50, 8.0)];
    let ours = Kind::Ours(Policy::LeastTime);
    let others = [
        (Kind::Prequal(PREQUAL), 0.9),
        (Kind::LeastRequest(2), 0.6),
        (Kind::PeakEwma(super::rule::Whose::Finagle, 10.0), 0.8),
        (Kind::SmoothWrr, 0.5),
    ];
    let mut kinds = vec![ours, Kind::Oracle(Sees::Soonest)];
    kinds.extend(others.map(|(kind, _)| kind));
    let cells = study(&scenarios, &kinds, 3);
    let p99 = |cell: &Cell| cell.estimate(0, |f| f.p99).mean;
    let mut all = Vec::new();
    for (scenario, row) in scenarios.iter().zip(&cells) {
        let ours = p99(&row[0]);
        for ((kind, most), cell) in others.iter().zip(&row[2..]) {
            let theirs = p99(cell);
            all.push(Checked {
                what: format!(
                    "{}: p99 below {most} of that of {}",
                    scenario.name,
                    kind.name()
                ),
                figures: format!("{ours:.1} and {theirs:.1} ms"),
                holds: ours < most * theirs,
            });
        }
        let bound = p99(&row[1]);
        all.push(Checked {
            what: format!("{}: nobody beats the oracle", scenario.name),
            figures: format!("{bound:.1} ms, {ours:.1} ours"),
            holds: bound < ours,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_same_again_and_books_are_right_after_each_step() {
        let mut scenario = antagonists(0.9, 4, 1.0);
        scenario.windows[0].from = 0.5;
        scenario.windows[0].to = 1.5;
        let kind = Kind::Ours(Policy::LeastTime);
        let [a, b] = [(); 2].map(|()| run(&scenario, &kind, 5, true));
        assert!(a.faults.is_empty(), "{:?}", a.faults);
        assert_eq!((a.events, a.windows[0].p99), (b.events, b.windows[0].p99));
        let other = run(&scenario, &kind, 6, false);
        assert_ne!(a.windows[0].p99, other.windows[0].p99);
    }

    #[test]
    fn what_arrives_does_not_depend_on_the_rule() {
        let mut scenario = antagonists(0.9, 4, 1.0);
        (scenario.windows[0].from, scenario.windows[0].to) = (0.5, 2.0);
        let kinds = [
            Kind::Ours(Policy::Random),
            Kind::Prequal(PREQUAL),
            Kind::Jiq,
        ];
        let counts = kinds.map(|kind| run(&scenario, &kind, 5, false).windows[0].count);
        assert!(counts.iter().all(|&n| n == counts[0]), "{counts:?}");
    }
}
