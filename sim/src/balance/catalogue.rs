//! The scenarios, and the rules that are compared.

use std::iter::repeat_n;

use model::Policy;

use super::rule::{C3, Kind, Prequal, Sees, Whose};
use super::scenario::{Antagonists, Database, Happening, Pauses, Scenario, Window, Work};
use super::server::{Build, State};

/// How long scenarios are, and how many there are of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For figures.
    Full,
    /// To see that everything works, and about what comes out.
    Quick,
}

impl Extent {
    const fn seconds(self, full: f64) -> f64 {
        match self {
            Self::Full => full,
            Self::Quick => full / 4.0,
        }
    }
}

/// `n` equal servers.
fn equal(n: usize) -> Vec<Build> {
    vec![Build::sharing(1.0, 1); n]
}

/// Half of `n` at 0.6 of the others' speed. Nobody is told.
fn mixed(n: usize) -> Vec<Build> {
    let slow = repeat_n(Build::sharing(0.6, 1), n / 2);
    repeat_n(Build::sharing(1.0, 1), n - n / 2)
        .chain(slow)
        .collect()
}

/// Speeds from 0.5 to 2; `known` if the weights say so.
fn uneven(n: usize, known: bool) -> Vec<Build> {
    let speeds = [0.5, 1.0, 1.0, 2.0];
    let weight = |speed: f64| if known { (2.0 * speed) as u16 } else { 1 };
    (0..n)
        .map(|i| speeds[i % 4])
        .map(|s| Build::sharing(s, weight(s)))
        .collect()
}

/// The fleet of the reference: 100 servers, half of them slow, that antagonists leave one to three times their
/// allocation, drawn anew about every two seconds; work is normal with deviation = mean.
pub fn antagonists(load: f64, balancers: usize, seconds: f64) -> Scenario {
    let about = format!(
        "100 servers, half at 0.6 speed, antagonists leave 1-3 x the allocation; load {load}, {balancers} balancers"
    );
    let name = format!("antagonists {load}, {balancers} balancers");
    Scenario {
        work: Work::Normal,
        balancers,
        antagonists: Some(Antagonists {
            every: 2.0,
            from: 1.0,
            to: 3.0,
        }),
        ..Scenario::new(&name, &about, mixed(100), load, seconds)
    }
}

/// Prequal's Figure 6: load from 0.75 of the allocation to 1.74, by a ninth more at a time, and one step beyond.
pub fn ramp(balancers: usize, seconds: f64) -> Scenario {
    let mut scenario = antagonists(0.75, balancers, seconds);
    scenario.name = format!("load ramp, {balancers} balancers");
    scenario.about = format!(
        "the same servers; load 0.75 to 1.74 by x 10/9, and 1.94, {seconds} s each; {balancers} balancers"
    );
    scenario.windows.clear();
    scenario.load.clear();
    let (mut load, mut from) = (0.75, 0.0);
    for step in 0..10 {
        // The first step has the warm-up in front of it.
        let begins = if step == 0 { 5.0 } else { from };
        let window = Window {
            name: format!("{load:.2}"),
            from: begins,
            to: begins + seconds,
        };
        scenario.load.push((from, load));
        from = window.to;
        scenario.windows.push(window);
        load *= 10.0 / 9.0;
    }
    scenario
}

/// Servers that serve one job after the other, half of them four times as fast.
fn one_at_a_time(known: bool) -> Vec<Build> {
    let server = |i: usize| {
        let fast = i.is_multiple_of(2);
        let weight = if known && fast { 4 } else { 1 };
        Build {
            concurrency: 1,
            ..Build::sharing(if fast { 2.0 } else { 0.5 }, weight)
        }
    };
    (0..20).map(server).collect()
}

/// Servers of four cores, of which a job has one, half of them at 0.6 of the others' speed.
fn four_cores() -> Vec<Build> {
    let four = |b: Build| Build {
        stride: 0.25,
        speed: 4.0 * b.speed,
        ..b
    };
    mixed(25).into_iter().map(four).collect()
}

/// `n` equal servers that do a tenth of the work; the rest is done by a database of `cores`, of which a job has one.
pub fn one_database(n: usize, cores: f64, balancers: usize, seconds: f64) -> Scenario {
    let build = Build {
        stride: 1.0 / cores,
        ..Build::sharing(0.9 * n as f64, 1)
    };
    let about = format!(
        "{n} equal servers with one database of {cores} cores behind them, which does nine tenths of the work; load 0.9, {balancers} balancers"
    );
    Scenario {
        balancers,
        database: Some(Database { build, part: 0.9 }),
        ..Scenario::new(
            &format!("one database behind {n}"),
            &about,
            equal(n),
            0.9,
            seconds,
        )
    }
}

fn steady(extent: Extent) -> Vec<Scenario> {
    let unequal = "100 servers, speeds 1:2:2:4";
    let one = "20 servers that serve one job after the other, half of them 4 x faster";
    let cores = "25 servers of four cores, one job has one, half of them at 0.6 speed";
    // Name, what it is, servers, load, balancers.
    let all: [(&str, &str, Vec<Build>, f64, usize); 9] = [
        ("equal 0.7", "100 equal servers", equal(100), 0.7, 4),
        ("equal 0.9", "100 equal servers", equal(100), 0.9, 4),
        (
            "equal 0.9, 1 balancer",
            "100 equal servers",
            equal(100),
            0.9,
            1,
        ),
        (
            "equal 20 at 0.8, 1 balancer",
            "20 equal servers",
            equal(20),
            0.8,
            1,
        ),
        ("uneven, weights known", unequal, uneven(100, true), 0.8, 4),
        (
            "uneven, weights unknown",
            unequal,
            uneven(100, false),
            0.8,
            4,
        ),
        ("one at a time, known", one, one_at_a_time(true), 0.7, 1),
        ("one at a time, unknown", one, one_at_a_time(false), 0.7, 1),
        ("four cores", cores, four_cores(), 0.8, 4),
    ];
    let scenario = |(name, servers, builds, load, balancers): (&str, &str, _, f64, usize)| {
        let about = format!("{servers}, exponential work, load {load}, {balancers} balancers");
        Scenario {
            balancers,
            ..Scenario::new(name, &about, builds, load, extent.seconds(10.0))
        }
    };
    let mut all: Vec<Scenario> = all.into_iter().map(scenario).collect();
    all.extend(hard(extent));
    all
}

/// Servers or work that are hard on those who guess.
fn hard(extent: Extent) -> Vec<Scenario> {
    let hard = |name: &str, about: &str| {
        let about = format!("100 equal servers, {about}; load 0.7, 4 balancers");
        Scenario::new(name, &about, equal(100), 0.7, extent.seconds(10.0))
    };
    let pauses = Pauses {
        every: 5.0,
        length: 0.2,
    };
    let bimodal = Work::Bimodal {
        long: 0.05,
        times: 20.0,
    };
    vec![
        one_database(3, 2.0, 2, extent.seconds(40.0)),
        one_database(20, 16.0, 4, extent.seconds(10.0)),
        Scenario {
            pauses: Some(pauses),
            ..hard("pauses", "each stops for 200 ms about every 5 s")
        },
        Scenario {
            work: bimodal,
            ..hard("bimodal", "one job in 20 takes 20 x as long")
        },
        Scenario {
            work: Work::Pareto(1.5),
            ..hard("Pareto", "work is Pareto with exponent 1.5")
        },
    ]
}

fn changing(extent: Extent) -> Vec<Scenario> {
    let quick = extent == Extent::Quick;
    let base = |name: &str, about: &str, n: usize, load: f64, seconds: f64| {
        Scenario::new(name, about, equal(n), load, seconds)
    };
    let restarts = if quick { 5 } else { 20 };
    let mut restart = base(
        "rolling restart",
        "20 equal servers leave for 2 s one after the other and come back cold: 10 s to full capacity; load 0.6, 4 balancers",
        20,
        0.6,
        3.0 * f64::from(restarts) + 10.0,
    );
    for server in 0..restarts as usize {
        let at = 5.0 + 3.0 * server as f64;
        restart.happenings.push((at, Happening::Leaves(server)));
        restart
            .happenings
            .push((at + 2.0, Happening::Comes(server, 10.0)));
    }
    let mut out = base(
        "scale-out",
        "40 equal servers at load 1.05 of their number get 20 more, cold: 30 s to full capacity; 4 balancers",
        60,
        0.9,
        if quick { 10.0 } else { 30.0 },
    );
    out.present = 40;
    out.load = vec![(0.0, 0.9), (5.0, 1.05)];
    out.happenings = (40..60).map(|s| (5.0, Happening::Comes(s, 30.0))).collect();
    let mut slow = out.clone();
    slow.name = "scale-out, slow_start".to_owned();
    slow.about = "the same, our slow_start is 30 s".to_owned();
    slow.slow_start = 30.0;
    let mut crowd = base(
        "flash crowd",
        "40 equal servers that serve 32 jobs at a time and let 64 wait; load 0.3, for 10 s five times that; 4 balancers",
        40,
        0.3,
        if quick { 12.0 } else { 25.0 },
    );
    crowd.load = vec![(0.0, 0.3), (7.0, 1.5), (17.0, 0.3)];
    for server in &mut crowd.servers {
        (server.concurrency, server.queue) = (32, 64);
    }
    vec![restart, out, slow, crowd]
}

fn failing(extent: Extent) -> Vec<Scenario> {
    let seconds = extent.seconds(20.0);
    let scenario = |servers: usize, part: usize, state: State| {
        let how = if state == State::Failing {
            "failing fast"
        } else {
            "black-holed"
        };
        let name = format!("{part} % {how}");
        let about = format!(
            "{servers} equal servers, {part} % of them begin to be {how} in the 5th second; load 0.4, 4 balancers"
        );
        let mut scenario = Scenario::new(&name, &about, equal(servers), 0.4, seconds);
        scenario.guarded = true;
        let bad = 0..servers * part / 100;
        scenario.happenings = bad.map(|s| (5.0, Happening::Becomes(s, state))).collect();
        scenario
    };
    [(100, 1), (20, 5), (20, 20), (20, 40)]
        .into_iter()
        .flat_map(|(servers, part)| {
            [State::Failing, State::Silent].map(|state| scenario(servers, part, state))
        })
        .collect()
}

/// All scenarios.
pub fn scenarios(extent: Extent) -> Vec<Scenario> {
    let seconds = extent.seconds(10.0);
    let mut all: Vec<Scenario> = [1, 4, 16, 50]
        .into_iter()
        .flat_map(|balancers| [0.9, 1.27].map(|load| antagonists(load, balancers, seconds)))
        .collect();
    all.extend([4, 50].map(|balancers| ramp(balancers, extent.seconds(4.0))));
    all.extend(steady(extent));
    all.extend(changing(extent));
    all.extend(failing(extent));
    all
}

/// Prequal with what the sweep found best: its quantile is below the 0.84 of the paper.
pub const PREQUAL: Prequal = Prequal {
    probes: 3.0,
    removals: 1.0,
    hot: 0.6,
    window: 16,
    age: 2.0,
};

/// C3 with what the sweep found best: looking at all servers, where the paper has three replicas.
pub const C3_BEST: C3 = C3 {
    exponent: 2,
    processor_time: false,
    clients: 1.0,
    choices: 100,
};

/// The rules that are compared, those of others as the sweep found them best.
pub fn rules() -> Vec<Kind> {
    vec![
        Kind::Ours(Policy::LeastTime),
        Kind::OursTold(Policy::LeastTime),
        Kind::Ours(Policy::LeastConn),
        Kind::Ours(Policy::PeakEwma),
        Kind::Ours(Policy::RoundRobin),
        Kind::Ours(Policy::Random),
        Kind::Prequal(PREQUAL),
        Kind::C3(C3_BEST),
        Kind::ProbedC3(C3_BEST, PREQUAL),
        Kind::PeakEwma(Whose::Finagle, 3.0),
        Kind::PeakEwma(Whose::Envoy, 3.0),
        Kind::LeastRequest(4),
        Kind::Tree,
        Kind::LeastConn,
        Kind::RandomTwo,
        Kind::SmoothWrr,
        Kind::ClientWrr(1.0, 1.0, 1.0),
        Kind::Jiq,
        Kind::Polling(0.05),
        Kind::Oracle(Sees::Shortest),
        Kind::Oracle(Sees::Soonest),
    ]
}
