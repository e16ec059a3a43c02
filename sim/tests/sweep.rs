//! Sweeps over seeds. `cargo run --release -p pointsman-sim -- http --seeds 100000` is the long one.

use std::collections::BTreeMap;

use sim::http::run;

#[test]
fn every_property_holds_on_every_seed() {
    let mut coverage: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..200 {
        let report = run(seed, false);
        assert!(
            report.violations.is_empty(),
            "see `cargo run -p pointsman-sim -- http --seed {seed}`: {:#?}",
            report.violations
        );
        for (what, times) in report.coverage {
            *coverage.entry(what).or_default() += times;
        }
    }
    // A sweep that exercises nothing finds nothing.
    for what in EXERCISED {
        let times = coverage.get(what).copied().unwrap_or(0);
        assert!(
            times >= 5,
            "{what}: only {times} times; in all {coverage:#?}"
        );
    }
}

const EXERCISED: [&str; 35] = [
    "client BadChunk",
    "client BigHead",
    "client Garbage",
    "client HalfClose",
    "client SlowBody",
    "client SlowHead",
    "client Stuck",
    "client Vanishes",
    "deed Answered",
    "deed DiedBefore",
    "deed DiedWithin",
    "deed Eager",
    "deed Early",
    "deed Extra",
    "deed Flood",
    "deed Garbage",
    "deed HugeHead",
    "deed Silent",
    "deed Stalled",
    "deed Tunnelled",
    "deed Unasked",
    "drain at work",
    "hedge",
    "hedge that won",
    "informational answer",
    "instance closes an idle connection",
    "outcome Cut",
    "outcome Refused(400)",
    "outcome Refused(408)",
    "outcome Refused(502)",
    "outcome Refused(504)",
    "outcome Eager",
    "outcome TooEarly",
    "outcome Tunnel",
    "table swap",
];

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..40 {
        let first = run(seed, false);
        // Other allocations, so other addresses.
        let _elsewhere = vec![0_u8; 1 << 20];
        assert_eq!(first.hash, run(seed, true).hash, "seed {seed}");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let hashes: std::collections::BTreeSet<_> = (0..40).map(|s| run(s, false).hash).collect();
    assert_eq!(hashes.len(), 40);
}

/// Seeds that found something once.
#[test]
fn what_was_found_stays_mended() {
    for seed in REGRESSIONS {
        let violations = run(seed, false).violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

const REGRESSIONS: [u64; 6] = [4, 6, 4_781, 6_891, 7_320, 9_348];
