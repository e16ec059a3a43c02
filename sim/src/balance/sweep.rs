//! The settings that others' rules are compared with: the best of what was tried, in the scenario that they are made
//! for.

use super::catalogue::{C3_BEST, Extent, PREQUAL, antagonists};
use super::rule::{C3, Kind, Prequal, Whose};
use super::study::study;

/// One setting of one rule.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The rule with its settings.
    pub kind: Kind,
    /// p99 in milliseconds, by scenario.
    pub p99: Vec<f64>,
    /// The geometric mean of these, as a multiple of the rule's best.
    pub score: f64,
}

/// What is tried, rule by rule.
pub fn settings() -> Vec<Vec<Kind>> {
    let prequal = |probes: f64, hot: f64, window: usize, age: f64| Prequal {
        probes,
        hot,
        window,
        age,
        ..PREQUAL
    };
    let mut pools = Vec::new();
    for probes in [2.0, 3.0, 5.0] {
        pools.push(prequal(probes, PREQUAL.hot, PREQUAL.window, PREQUAL.age));
    }
    for hot in [0.3, 0.45, 0.75, 0.84, 0.9] {
        pools.push(prequal(3.0, hot, PREQUAL.window, PREQUAL.age));
    }
    for (window, age) in [(4, 2.0), (8, 1.0), (32, 2.0), (32, 5.0), (64, 2.0)] {
        pools.push(prequal(3.0, PREQUAL.hot, window, age));
    }
    let c3 = |exponent, processor_time, clients, choices| C3 {
        exponent,
        processor_time,
        clients,
        choices,
    };
    let mut answers = Vec::new();
    for choices in [2, 4, 8, 100] {
        for (exponent, clients) in [(3, 4.0), (3, 1.0), (2, 4.0), (2, 1.0)] {
            answers.push(Kind::C3(c3(exponent, false, clients, choices)));
        }
    }
    answers.extend([4, 8].map(|choices| Kind::C3(c3(3, true, 4.0, choices))));
    let probed = [(3, false), (2, false), (3, true), (2, true), (1, true)];
    let probed = probed.map(|(exponent, time)| {
        Kind::ProbedC3(
            c3(exponent, time, C3_BEST.clients, C3_BEST.choices),
            PREQUAL,
        )
    });
    let decays = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
    vec![
        pools.into_iter().map(Kind::Prequal).collect(),
        answers,
        probed.to_vec(),
        decays
            .map(|decay| Kind::PeakEwma(Whose::Finagle, decay))
            .to_vec(),
        decays
            .map(|decay| Kind::PeakEwma(Whose::Envoy, decay))
            .to_vec(),
        [2, 3, 4, 8].map(Kind::LeastRequest).to_vec(),
        [(10.0, 1.0), (1.0, 1.0), (1.0, 0.1), (0.1, 0.1)]
            .map(|(blackout, update)| Kind::ClientWrr(blackout, update, 1.0))
            .to_vec(),
        [0.05, 0.1, 0.5, 2.0].map(Kind::Polling).to_vec(),
    ]
}

/// Tries all of them under antagonists, at two loads, with 4 and with 50 balancers. By rule, the best first.
pub fn sweep(extent: Extent) -> Vec<Vec<Tried>> {
    let (seconds, seeds) = match extent {
        Extent::Full => (8.0, 3),
        Extent::Quick => (2.0, 1),
    };
    let scenarios = [(0.9, 4), (1.27, 4), (0.9, 50), (1.27, 50)];
    let scenarios = scenarios.map(|(load, balancers)| antagonists(load, balancers, seconds));
    settings()
        .into_iter()
        .map(|kinds| {
            let cells = study(&scenarios, &kinds, seeds);
            let p99 = |n: usize| {
                cells
                    .iter()
                    .map(move |row| row[n].estimate(0, |f| f.p99).mean)
            };
            let mut tried: Vec<Tried> = (0..)
                .zip(kinds)
                .map(|(n, kind)| {
                    let p99: Vec<f64> = p99(n).collect();
                    let product: f64 = p99.iter().product();
                    Tried {
                        kind,
                        score: product.sqrt().sqrt(),
                        p99,
                    }
                })
                .collect();
            tried.sort_by(|a, b| a.score.total_cmp(&b.score));
            let best = tried[0].score;
            tried.iter_mut().for_each(|t| t.score /= best);
            tried
        })
        .collect()
}
