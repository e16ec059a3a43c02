//! `http`, `tls`, `h2` and `tcp`: what a proxied request costs, beside nginx and HAProxy, when they understand it, when it
//! comes in TLS or in HTTP/2, and when they pass it on without looking.

mod case;
mod contender;
mod h2load;
mod handshake;
mod idle;
mod round;
mod settings;
mod summary;
mod syscalls;
mod wrk;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use crate::machine::{self, LOAD_CPU};
use crate::pointsman;
use crate::process::{Running, free_address};
use crate::report;
use crate::scratch::Scratch;
use case::Case;
use contender::Contender;
use handshake::Certificate;
use round::Round;

pub(crate) use contender::{first_line, found};
pub(crate) use settings::nginx_main;

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

/// What the contenders make of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// They understand them.
    Http,
    /// The same, in TLS on the clients' side.
    Tls,
    /// They understand them, and the clients speak HTTP/2.
    H2,
    /// They pass them on.
    Tcp,
}

/// What every part of the benchmark needs.
struct Bench {
    layer: Layer,
    scratch: Scratch,
    contenders: Vec<Contender>,
    certificate: Certificate,
    rounds: u32,
    seconds: f64,
    /// Idle connections to measure the memory of.
    idle: usize,
}

pub(crate) fn run(options: &Options, layer: Layer) -> anyhow::Result<()> {
    machine::pin(&[LOAD_CPU])?;
    let scratch = Scratch::new()?;
    let origin = free_address()?;
    let mut origin_command = Command::new(std::env::current_exe()?);
    origin_command.args(["origin", "--bind", &origin.to_string()]);
    let mut origin_process = Running::start("origin", &mut origin_command, &[LOAD_CPU], &scratch)?;
    origin_process.wait_for(origin)?;
    let certificate = Certificate::make(&scratch)?;
    let many = match layer {
        Layer::H2 => Some(start_many(&scratch)?),
        _ => None,
    };
    let address = many.as_ref().map(|(address, _)| *address);
    let bench = Bench {
        layer,
        contenders: contender::find(layer, &scratch, &certificate, origin, address)?,
        certificate,
        scratch,
        rounds: if options.quick { 2 } else { options.rounds },
        seconds: if options.quick { 1.0 } else { options.seconds },
        idle: match (options.quick, layer) {
            (true, _) => 2_000,
            (false, Layer::Http | Layer::Tls | Layer::H2) => 10_000,
            // Each has two descriptors, and many a machine gives a process 20,000.
            (false, Layer::Tcp) => 8_000,
        },
    };
    let facts = bench.describe();
    let cases = Case::all(layer)
        .into_iter()
        .filter(|case| case.name.contains(&options.case));
    let measured = cases
        .map(|case| bench.case(&case))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let idle = bench.idle()?;
    let syscalls = match layer {
        Layer::Tls | Layer::H2 => Value::Null,
        Layer::Http | Layer::Tcp => bench.syscalls()?,
    };
    let measured = json!({
        "bench": layer.name(), "facts": facts, "cases": measured, "idle": idle, "syscalls": syscalls,
    });
    report::write(options.json.as_deref(), &measured)
}

/// An instance that speaks HTTP/2: a node that answers by itself, the same for everybody.
fn start_many(scratch: &Scratch) -> anyhow::Result<(SocketAddr, Running)> {
    let bind = free_address()?;
    let cases = Case::all(Layer::H2);
    let sizes: BTreeSet<usize> = cases.iter().map(|case| case.size).collect();
    let configuration = settings::origin(bind, free_address()?, &sizes);
    let file = scratch.write("origin.toml", &configuration)?;
    let mut command = pointsman::serve(&pointsman::binary()?, &file);
    let mut running = Running::start("origin-h2", &mut command, &[LOAD_CPU], scratch)?;
    running.wait_for(bind)?;
    Ok((bind, running))
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::H2 => "h2",
            Self::Tcp => "tcp",
        }
    }
}

impl Bench {
    /// Says what is measured, and how.
    fn describe(&self) -> Value {
        let mut facts: Vec<(&str, String)> = machine::facts();
        let cores = "proxy alone on core 0; origin and load generator on core 1";
        facts.push(("placement", cores.into()));
        facts.push((
            "load generator",
            match self.layer {
                Layer::H2 => h2load::version().unwrap_or("h2load is not there".into()),
                _ => wrk::version().unwrap_or("wrk is not there: our own".into()),
            },
        ));
        let rounds = format!(
            "{} of {} s at full load and as long at a fixed rate, contenders in turn, a warm-up before each",
            self.rounds, self.seconds
        );
        facts.push(("rounds", rounds));
        println!("{}: what a proxied request costs", self.layer.name());
        report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
        for contender in &self.contenders {
            println!("\n{}: {}", contender.name, contender.version);
            contender
                .configuration
                .lines()
                .for_each(|line| println!("  | {line}"));
        }
        let contenders = self.contenders.iter().map(
            |c| json!({ "name": c.name, "version": c.version, "configuration": c.configuration }),
        );
        json!({
            "machine": facts.iter().map(|(n, v)| ((*n).to_owned(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "contenders": contenders.collect::<Vec<_>>(),
        })
    }

    /// Runs every round of a case, shows them, and sums them up.
    fn case(&self, case: &Case) -> anyhow::Result<Value> {
        println!("\n{}", case.name);
        let contenders: Vec<&Contender> =
            self.contenders.iter().filter(|c| case.suits(c)).collect();
        let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
        let mut running = Vec::new();
        for contender in &contenders {
            running.push(contender.start(&self.scratch)?);
        }
        for number in 1..=self.rounds {
            for ((contender, process), rounds) in contenders.iter().zip(&running).zip(&mut rounds) {
                let round = round::run(self, case, contender.address, process.pid())?;
                println!("  round {number}  {:<24} {}", contender.name, round.line());
                rounds.push(round);
            }
        }
        Ok(summary::print(case, &contenders, &rounds))
    }
}
