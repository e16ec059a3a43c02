//! A cluster in virtual time: what nodes do is the program's own code; network, disks, clocks and misfortunes are the
//! seed's.
//!
//! Every node has a runtime of its own whose clock stands still until it is moved, so a node can be frozen, run too
//! fast, or cease to be between any two of its steps. All of them take turns on one thread.

mod clients;
mod network;
mod world;

use world::World;

/// Seeds that are tried unless told otherwise: a few seconds in a debug build.
const SEEDS: u64 = 30;

/// Seeds are `SIMULATE=first..end`, or `SIMULATE=seed`; the second also tells what happens.
#[test]
fn whatever_happens_the_cluster_keeps_its_promises() {
    let asked = std::env::var("SIMULATE").unwrap_or_else(|_| format!("0..{SEEDS}"));
    let number = |text: &str| text.parse::<u64>().expect("SIMULATE=first..end, or a seed");
    let (seeds, tell) = match asked.split_once("..") {
        Some((first, end)) => (number(first)..number(end), false),
        None => (number(&asked)..number(&asked) + 1, true),
    };
    let mut sums = world::Sums::default();
    let began = std::time::Instant::now();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| World::new(seed, tell).run());
        match run {
            Ok(found) => sums.add(&found),
            Err(why) => {
                eprintln!(
                    "seed {seed} failed: SIMULATE={seed} runs it again and tells what happens"
                );
                std::panic::resume_unwind(why);
            }
        }
    }
    eprintln!("{} seeds in {:.1?}: {sums}", seeds.count(), began.elapsed());
    sums.assert_something_happened();
}
