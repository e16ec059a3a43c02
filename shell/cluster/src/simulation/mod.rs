//! A cluster in virtual time: what nodes do is the program's own code; network, disks, clocks and misfortunes are the
//! seed's.
//!
//! Every node has a runtime of its own whose clock stands still until it is moved, so a node can be frozen, run too
//! fast, or cease to be between any two of its steps. All of them take turns on one thread.

mod clients;
mod network;
mod world;

use std::panic::{catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::node::lock;
use world::{Sums, World};

/// Seeds that are tried unless told otherwise.
const SEEDS: u64 = 24;

/// Seeds are `SIMULATE=first..end`, or `SIMULATE=seed`; the second also tells what happens.
#[test]
fn whatever_happens_the_cluster_keeps_its_promises() {
    let asked = std::env::var("SIMULATE").unwrap_or_else(|_| format!("0..{SEEDS}"));
    let number = |text: &str| text.parse::<u64>().expect("SIMULATE=first..end, or a seed");
    let (seeds, tell) = match asked.split_once("..") {
        Some((first, end)) => (number(first)..number(end), false),
        None => (number(&asked)..number(&asked) + 1, true),
    };
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sums = Mutex::new(Sums::default());
    let run = || {
        while let seed = next.fetch_add(1, Relaxed)
            && seeds.contains(&seed)
        {
            let found = catch_unwind(|| World::new(seed, tell).run());
            let found = found.unwrap_or_else(|why| {
                eprintln!(
                    "seed {seed} failed: SIMULATE={seed} runs it again and tells what happens"
                );
                resume_unwind(why)
            });
            let mut sums = lock(&sums);
            sums.add(&found);
            if sums.seeds.is_multiple_of(1_000) {
                eprintln!("{sums}");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(run);
        }
    });
    let sums = sums.into_inner().expect("sums");
    eprintln!("{sums}; {:.1?}", began.elapsed());
    sums.assert_something_happened();
}

#[test]
fn what_others_pass_on_to_a_leader_whose_disk_is_full_waits_for_the_next_leader() {
    for seed in 0..4 {
        World::new(seed, false).fill_a_leader();
    }
}

#[test]
fn a_change_of_voters_is_finished_by_the_next_leader_if_its_own_ends_in_the_middle() {
    let ended: Vec<Option<bool>> = (0..40)
        .map(|seed| World::new(seed, false).interrupted_change())
        .collect();
    // The first step may be lost with its leader, too: then nothing has changed.
    let finished = ended.iter().filter(|ended| **ended == Some(true)).count();
    assert!(finished > 3, "{ended:?}");
}

#[test]
fn a_leader_that_does_not_hear_the_others_is_followed_by_one_that_does_within_a_second() {
    let took: Vec<Duration> = (0..24)
        .map(|seed| World::new(seed, false).deafen_a_leader())
        .collect();
    let longest = took.iter().max().expect("some seeds");
    assert!(*longest < Duration::from_secs(1), "{took:?}");
}

#[test]
fn nobody_follows_a_leader_whose_followers_or_their_disks_pause() {
    let pause = Duration::from_millis(600);
    for seed in 0..8 {
        let changed = World::new(seed, false).pause_disks(pause);
        assert!(!changed, "seed {seed}: disks that paused");
        let changed = World::new(seed, false).pause_followers(pause);
        assert!(!changed, "seed {seed}: followers that paused");
    }
}
