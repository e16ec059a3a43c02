//! `udp`: what a proxied packet costs, beside nginx's stream module. HAProxy balances no UDP.

mod load;
mod settings;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::machine::{self, LOAD_CPU, PROXY_CPU};
use crate::process::Running;
use crate::report::{self, Table, median};
use crate::scratch::Scratch;
use crate::usage::{Cpu, Memory};
use load::Case;
use settings::Contender;

/// The share of nginx's cost that ours may be.
const TARGET: f64 = 0.60;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each case; medians are taken of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Sends packets back for ever: the instance behind the proxies.
#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    /// Where to listen
    #[arg(long)]
    bind: SocketAddr,
}

/// What a round of a contender came to.
struct Round {
    /// Packets that went through, both ways.
    packets: u64,
    lost: u64,
    /// µs of the proxy's core for each.
    cpu: f64,
    busy: f64,
    resident: u64,
}

pub(crate) fn echo(options: &EchoOptions) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(options.bind)?;
    let mut buffer = vec![0; 65_536];
    loop {
        // An error is that of an answer to somebody who has left.
        if let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..n], from);
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    machine::pin(&[LOAD_CPU])?;
    let scratch = Scratch::new()?;
    let origin = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["udp-echo", "--bind", &origin.to_string()]);
    let _origin = Running::start("echo", &mut command, &[LOAD_CPU], &scratch)?;
    let rounds = if options.quick { 2 } else { options.rounds };
    let seconds = if options.quick { 1.0 } else { options.seconds };
    println!("udp: what a proxied packet costs");
    let facts = machine::facts();
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    println!("  placement: proxy alone on core 0; instance and clients on core 1");
    println!("  rounds: {rounds} of {seconds} s, contenders in turn, a warm-up before each");
    let mut measured = Vec::new();
    for case in load::CASES
        .iter()
        .filter(|c| c.name.contains(&options.case))
    {
        measured.push(measure(case, origin, rounds, seconds, &scratch)?);
    }
    let facts: Vec<_> = facts
        .iter()
        .map(|(name, value)| json!([name, value]))
        .collect();
    let measured = json!({ "bench": "udp", "facts": facts, "cases": measured });
    report::write(options.json.as_deref(), &measured)
}

fn measure(
    case: &Case,
    origin: SocketAddr,
    rounds: u32,
    seconds: f64,
    scratch: &Scratch,
) -> anyhow::Result<Value> {
    println!("\n{}", case.name);
    let contenders = settings::contenders(case, origin, scratch)?;
    let mut running = Vec::new();
    for contender in &contenders {
        running.push(start(contender, scratch)?);
    }
    let mut all: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for number in 1..=rounds {
        for ((contender, process), rounds) in contenders.iter().zip(&running).zip(&mut all) {
            let round = round(case, contender.address, process.pid(), seconds)?;
            println!("  round {number}  {:<12} {}", contender.name, round.line());
            rounds.push(round);
        }
    }
    Ok(sum_up(case, &contenders, &all))
}

fn start(contender: &Contender, scratch: &Scratch) -> anyhow::Result<Running> {
    let mut command = Command::new(&contender.program);
    command.args(&contender.arguments);
    let name = format!("{}-udp", contender.name);
    let process = Running::start(&name, &mut command, &[PROXY_CPU], scratch)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    socket.connect(contender.address)?;
    while socket
        .send(b"?")
        .and_then(|_| socket.recv(&mut [0; 8]))
        .is_err()
    {
        if Instant::now() > deadline {
            bail!("{} does not answer: {}", contender.name, process.printed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(process)
}

fn round(case: &Case, target: SocketAddr, pid: u32, seconds: f64) -> anyhow::Result<Round> {
    let mut clients = load::Clients::new(case, target)?;
    clients.run(Duration::from_secs_f64((seconds / 3.0).min(1.0)))?;
    let (before, began) = (Cpu::of(pid), Instant::now());
    let (answered, lost) = clients.run(Duration::from_secs_f64(seconds))?;
    let (used, took) = (
        Cpu::of(pid).since(before).total.as_secs_f64(),
        began.elapsed(),
    );
    let packets = answered * 2;
    Ok(Round {
        packets,
        lost,
        cpu: used * 1e6 / packets.max(1) as f64,
        busy: used / took.as_secs_f64(),
        resident: Memory::of(pid).resident,
    })
}

impl Round {
    fn line(&self) -> String {
        format!(
            "{:>7.2} µs CPU a packet  {:>8} packets  core {:>3.0} % busy  {:>6.1} MiB  {} lost",
            self.cpu,
            self.packets,
            self.busy * 100.0,
            self.resident as f64 / 1024.0,
            self.lost
        )
    }
}

fn sum_up(case: &Case, contenders: &[Contender], all: &[Vec<Round>]) -> Value {
    let mut table = Table::new(&["medians", "µs CPU a packet", "packets lost"]);
    let mut cpu = Vec::new();
    for (contender, rounds) in contenders.iter().zip(all) {
        let median = median(rounds.iter().map(|r| r.cpu).collect());
        let lost: u64 = rounds.iter().map(|r| r.lost).sum();
        table.row(vec![
            contender.name.into(),
            format!("{median:.2}"),
            lost.to_string(),
        ]);
        cpu.push(median);
    }
    table.print();
    let ratio = match cpu[..] {
        [ours, nginx, ..] => {
            let ratio = ours / nginx;
            println!("  CPU, ours / nginx: {ratio:.2} (target ≤ {TARGET:.2})");
            Some(ratio)
        }
        _ => None,
    };
    let rows = contenders.iter().zip(&cpu);
    let rows: Vec<_> = rows
        .map(|(c, cpu)| json!({ "contender": c.name, "version": c.version, "cpu_us": cpu }))
        .collect();
    json!({ "case": case.name, "contenders": rows, "ratio": ratio, "target": TARGET })
}

fn free_address() -> std::io::Result<SocketAddr> {
    UdpSocket::bind("127.0.0.1:0")?.local_addr()
}
