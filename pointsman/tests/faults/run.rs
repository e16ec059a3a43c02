//! One thing after the other happens to the nodes; clients go on all the time.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::Asked;
use crate::cells::{self, GivenUp};
use crate::fault::{Done, Fault};
use crate::histories::{Books, Ended};
use crate::leases::{self, Kept};
use crate::nodes::{Nodes, Site};
use crate::pulse::Pulse;
use crate::registers;
use crate::report::Report;
use crate::traffic::{self, Traffic};

/// Clients of each kind.
const CLIENTS: u64 = 4;
/// Threads that send requests.
const SENDERS: u64 = 3;
/// How long nothing happens in between.
const REST: Duration = Duration::from_millis(700);
/// How long, while there is a majority, nothing may be written at the most: a bound for machines that are busy, not for us.
const STALLED: Duration = Duration::from_secs(45);

/// All that runs beside the faults.
#[derive(Default)]
struct Clients {
    pulse: Pulse,
    traffic: Traffic,
    leases: Kept,
    sessions: GivenUp,
}

pub(crate) fn run(asked: &Asked) -> ExitCode {
    println!(
        "seed {}, {} nodes, {:?} of faults",
        asked.seed, asked.nodes, asked.time
    );
    let mut nodes = match Nodes::start_all(asked.nodes, asked.seed) {
        Ok(nodes) => nodes,
        Err(why) => {
            eprintln!("the nodes do not begin: {why}");
            return ExitCode::FAILURE;
        }
    };
    let (books, clients, mut report) = (Books::new(), Clients::default(), Report::default());
    let sites = nodes.sites.clone();
    // A panic is a violation like others: logs are kept, and what was seen so far is told.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        with_clients(asked, &books, &clients, &sites, |books| {
            faults(asked, &mut nodes, books, &clients, &mut report)
        })
    }));
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(why)) => books.violated(why),
        Err(_) => books.violated("the test itself has panicked; see above".into()),
    }
    let violations = books.violations();
    if !violations.is_empty() {
        nodes.keep_data();
    }
    nodes.finish();
    tell(&clients, &mut report);
    match violations.as_slice() {
        [] => {
            println!(
                "every history is linearizable; no lease ended early, none too late; no request failed"
            );
            ExitCode::SUCCESS
        }
        violations => {
            println!(
                "{} VIOLATIONS, the first: {}",
                violations.len(),
                violations[0]
            );
            ExitCode::FAILURE
        }
    }
}

fn tell(clients: &Clients, report: &mut Report) {
    report.print();
    let traffic = &clients.traffic;
    println!(
        "{} requests through the balancers answered, {} failed, slowest {:.0?}; {} lost with the node that they were sent to; \
         an instance was replaced {} times",
        traffic.answered.load(Relaxed),
        traffic.failed.lock().expect("failures").len(),
        traffic.worst.lock().expect("a time"),
        traffic.disturbed.load(Relaxed),
        traffic.moved.load(Relaxed)
    );
    println!(
        "{} rounds of heartbeats acknowledged",
        clients.leases.beats.lock().expect("a count")
    );
}

/// Runs `work` while clients do theirs.
fn with_clients(
    asked: &Asked,
    books: &Books,
    clients: &Clients,
    sites: &[Arc<Site>],
    work: impl FnOnce(&Books) -> Result<(), String>,
) -> Result<(), String> {
    let _origins = traffic::begin(&sites[0])?;
    clients.leases.begin(&sites[0])?;
    // Until all nodes know the instances, their clients could not be answered.
    std::thread::sleep(Duration::from_secs(3));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let seed = asked.seed.wrapping_mul(1_000) + client;
            scope.spawn(move || registers::run(books, sites, seed));
            scope.spawn(move || cells::run(books, sites, &clients.sessions, seed));
        }
        for sender in 0..SENDERS {
            scope.spawn(move || clients.traffic.run(books, sites, asked.seed + sender));
        }
        for site in sites {
            scope.spawn(move || clients.pulse.run(books, site));
        }
        scope.spawn(|| clients.traffic.roll(books, sites));
        scope.spawn(|| clients.leases.run(books, sites));
        let done = catch_unwind(AssertUnwindSafe(|| work(books)));
        books.finish();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Faults until the time is over, or something is seen that must not be.
fn faults(
    asked: &Asked,
    nodes: &mut Nodes,
    books: &Books,
    clients: &Clients,
    report: &mut Report,
) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(asked.seed);
    let mut all = Fault::all();
    if let Some(only) = &asked.only {
        all.retain(|fault| fault.to_string().contains(only.as_str()));
    }
    if all.is_empty() {
        let names: Vec<String> = Fault::all().iter().map(Fault::to_string).collect();
        return Err(format!(
            "there is no such fault; there are: {}",
            names.join("; ")
        ));
    }
    let began = Instant::now();
    let (mut bag, mut rounds): (Vec<Fault>, Vec<Ended>) = (Vec::new(), Vec::new());
    while began.elapsed() < asked.time && books.violations().is_empty() {
        if bag.is_empty() {
            bag = all.clone();
            random.shuffle(&mut bag);
        }
        let mut now = vec![bag.pop().expect("a fault")];
        // Of five nodes, the loss of two is survived.
        if nodes.count() == 5 && now[0].may_be_one_of_two() {
            let second = bag.pop_if(|second| second.may_be_one_of_two());
            now.extend(second.map(|second| second.beside(now[0])));
        }
        let drawn = Duration::from_millis(random.u64(1_500..5_000));
        let duration = asked.hold.map_or(drawn, Duration::from_secs);
        round(&now, duration, nodes, books, clients, report, &mut random)?;
        let ended = books.turn();
        let (calls, open) = ended.counts();
        report.calls += calls;
        report.open += open;
        report.rounds += 1;
        report.writes += clients.pulse.forget();
        ended.check()?;
        rounds.push(ended);
    }
    last_look(nodes, books, clients, &mut rounds)
}

/// One fault, from before it to after it.
fn round(
    faults: &[Fault],
    duration: Duration,
    nodes: &mut Nodes,
    books: &Books,
    clients: &Clients,
    report: &mut Report,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let leader = nodes.until_well()?;
    std::thread::sleep(REST);
    let number = books.current().number;
    let silent = leases::silent(nodes.site(leader), number)?;
    // Somebody else may lead since.
    let leader = nodes.leader().unwrap_or(leader);
    let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let begun = Instant::now();
    let mut done: Vec<Done> = Vec::new();
    for fault in faults {
        let spared: BTreeSet<usize> = done.iter().flat_map(Done::places).collect();
        done.push(fault.happen(nodes, leader, &spared, random));
    }
    let places: Vec<String> = done
        .iter()
        .flat_map(Done::places)
        .map(|p| format!("n{p}"))
        .collect();
    println!(
        "round {number}: {} ({}; n{leader} led), {duration:.1?}",
        names.join(", "),
        places.join(" ")
    );
    std::thread::sleep(duration);
    for fault in &done {
        fault.last(nodes)?;
    }
    let majority = faults.iter().all(|fault| fault.leaves_a_majority());
    while majority && clients.pulse.since(begun) == 0 {
        if begun.elapsed() > STALLED {
            return Err(format!(
                "with a majority of the nodes, nothing was written for {STALLED:?}: {}",
                names.join(", ")
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let over = Instant::now();
    done.iter().for_each(|fault| fault.mend(nodes));
    let mended = Instant::now();
    let leader = nodes.until_well()?;
    let well = mended.elapsed();
    done.iter().try_for_each(|fault| fault.verify(nodes))?;
    clients.leases.verify(nodes.site(leader))?;
    leases::until_ended(nodes.site(leader), &silent)?;
    let window = match majority {
        true => clients.pulse.longest_gap(begun, over),
        false => clients.pulse.first_after(mended).unwrap_or(STALLED),
    };
    println!(
        "         nothing written for {} ms; well again {} ms after it was mended; writes meanwhile {:?}",
        window.as_millis(),
        well.as_millis(),
        clients.pulse.by_node(begun, over)
    );
    report.add(faults, window);
    Ok(())
}

/// Everything that was ever acknowledged is there still, at every node; what is to be gone is gone.
fn last_look(
    nodes: &Nodes,
    books: &Books,
    clients: &Clients,
    rounds: &mut [Ended],
) -> Result<(), String> {
    let leader = nodes.until_well()?;
    clients.leases.verify(nodes.site(leader))?;
    for (index, ended) in rounds.iter_mut().enumerate() {
        registers::read_again(ended, &nodes.sites[index % nodes.count()])?;
        ended.check()?;
    }
    let gone = clients.sessions.lock().expect("sessions").clone();
    for path in &gone {
        if cells::is_there(nodes.site(leader), path) == Some(true) {
            books.violated(format!(
                "the session is over whose ephemeral node {path} is there"
            ));
        }
    }
    println!(
        "{} sessions of ZooKeeper's clients ended while they were out of touch",
        gone.len()
    );
    Ok(())
}
