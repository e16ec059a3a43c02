//! `propagate`: how long after the answer to a registration the instance has its first request, and how long after the
//! answer to a deregistration it has its last.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api::Api;
use crate::load::{self, Outcome, Pace, Plan};
use crate::machine::{self, LOAD_CPU, PROXY_CPU};
use crate::process::{Running, free_address};
use crate::report::{self, Table, quantile};
use crate::scratch::Scratch;
use crate::{origin, pointsman};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often to register and deregister
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Requests a second through the listener, by turns to the instances there are
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Whether registrations are synced to disk
    #[arg(long, value_enum, default_value = "disk")]
    durability: Durability,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    Disk,
    Memory,
}

/// How long the first request may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a deregistration we listen for late requests; a hundred times what is expected.
const AFTERMATH: Duration = Duration::from_millis(50);
const INSTANCE: &str = "/v1/services/origin/instances/new";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let repetitions = if options.quick {
        20
    } else {
        options.repetitions
    };
    machine::pin(&[LOAD_CPU])?;
    let scratch = Scratch::new()?;
    let [old, new] = [Arrivals::origin()?, Arrivals::origin()?];
    let (listener, api) = (free_address()?, free_address()?);
    let configuration = configuration(options.durability, &scratch, listener, api, old.address);
    let binary = pointsman::binary()?;
    let facts = describe(options, repetitions, &binary, &configuration, &scratch);
    let file = scratch.write("pointsman.toml", &configuration)?;
    let mut command: Command = pointsman::serve(&binary, &file);
    let mut process = Running::start("pointsman", &mut command, &[PROXY_CPU], &scratch)?;
    process.wait_for(listener)?;
    process.wait_for(api)?;

    let load = Load::start(listener, options.rate);
    let api = Api::at(api);
    let measured = repeat(&api, &new, repetitions);
    let load = load.stop()?;
    let measured = measured?;

    let table = measured.print();
    println!(
        "  {} requests through the listener meanwhile, {}",
        load.answered,
        load.faults()
    );
    let measured = json!({
        "bench": "propagate", "facts": facts, "results": table,
        "requests": load.answered, "errors": load.errors(),
    });
    report::write(options.json.as_deref(), &measured)
}

fn configuration(
    durability: Durability,
    scratch: &Scratch,
    bind: SocketAddr,
    api: SocketAddr,
    origin: SocketAddr,
) -> String {
    let durability = match durability {
        Durability::Disk => "disk",
        Durability::Memory => "memory",
    };
    let data = scratch.path().join("data");
    let listener = pointsman::listener(bind, origin, "round_robin");
    format!(
        "[node]\nworkers = 1\ndurability = \"{durability}\"\ndata_dir = \"{}\"\n\n[api]\nbind = \"{api}\"\n\n\
         [log.access]\nformat = \"off\"\n\n{listener}",
        data.display()
    )
}

fn describe(
    options: &Options,
    repetitions: u32,
    binary: &std::path::Path,
    configuration: &str,
    scratch: &Scratch,
) -> Value {
    let mut facts = machine::facts();
    facts.push(("pointsman", pointsman::version(binary)));
    facts.push((
        "placement",
        "pointsman on core 0; client, load generator and instances on core 1".into(),
    ));
    facts.push(("disk", scratch.filesystem()));
    facts.push(("repetitions", repetitions.to_string()));
    let between = 1e6 / options.rate;
    facts.push((
        "load",
        format!(
            "{} requests/s: one every {between:.0} µs, which is how fine this measures",
            options.rate
        ),
    ));
    println!("propagate: from the registry to traffic");
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    configuration
        .lines()
        .for_each(|line| println!("  | {line}"));
    facts
        .iter()
        .map(|(n, v)| ((*n).to_owned(), json!(v)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Times of all repetitions, in ms after the answer; 0 when it happened before the answer was here.
#[derive(Default)]
struct Measured {
    registered: Vec<f64>,
    deregistered: Vec<f64>,
}

fn repeat(api: &Api, new: &Arrivals, repetitions: u32) -> anyhow::Result<Measured> {
    let registration = json!({
        "address": new.address.ip().to_string(), "port": new.address.port(), "persistent": true,
    });
    let mut measured = Measured::default();
    for _ in 0..repetitions {
        new.first.store(0, Relaxed);
        api.put(INSTANCE, &registration)?;
        let answered = moment();
        let first = new.first_arrival()?;
        measured
            .registered
            .push(first.saturating_sub(answered) as f64 / 1e6);
        // Not in step with anything that recurs.
        std::thread::sleep(Duration::from_micros(fastrand::u64(5_000..25_000)));
        api.delete(INSTANCE)?;
        let answered = moment();
        std::thread::sleep(AFTERMATH);
        let last = new.last.load(Relaxed);
        measured
            .deregistered
            .push(last.saturating_sub(answered) as f64 / 1e6);
    }
    Ok(measured)
}

impl Measured {
    fn print(&self) -> Value {
        let mut table = Table::new(&[
            "ms after the answer",
            "p50",
            "p99",
            "max",
            "before the answer",
        ]);
        let mut rows = Vec::new();
        for (name, times) in [
            ("registration → first request", &self.registered),
            ("deregistration → last request", &self.deregistered),
        ] {
            let at = |q| quantile(times.clone(), q);
            let early = times.iter().filter(|time| **time <= 0.0).count();
            let cells = [0.5, 0.99, 1.0].map(|q| format!("{:.2}", at(q)));
            let early_cell = format!("{early} of {}", times.len());
            table.row([vec![name.into()], cells.into(), vec![early_cell]].concat());
            rows.push(json!({
                "what": name, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "before_the_answer": early, "all_ms": times,
            }));
        }
        table.print();
        rows.into()
    }
}

/// An instance, and when requests arrived there.
struct Arrivals {
    address: SocketAddr,
    first: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Arrivals {
    /// Starts an instance on a thread of its own.
    fn origin() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (first, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (its_first, its_last) = (first.clone(), last.clone());
        std::thread::spawn(move || {
            origin::serve(listener, move || {
                let now = moment();
                let _ = its_first.compare_exchange(0, now, Relaxed, Relaxed);
                its_last.store(now, Relaxed);
            })
        });
        Ok(Self {
            address,
            first,
            last,
        })
    }

    /// Waits for the first request since `first` was set to 0.
    fn first_arrival(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.first.load(Relaxed) {
                0 => std::thread::sleep(Duration::from_micros(200)),
                at => return Ok(at),
            }
        }
        bail!("no request reached a registered instance in {PATIENCE:?}")
    }
}

/// Requests through the listener, all the time.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Outcome>>,
}

impl Load {
    fn start(target: SocketAddr, rate: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let plan = Plan {
            target,
            connections: 16,
            pipeline: 1,
            pace: Pace::Open(rate),
            time: None,
        };
        let request = format!("GET /128 HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let thread = std::thread::spawn(move || {
            load::run(&plan, &mut |out| {
                let more = !stopped.load(Relaxed);
                if more {
                    out.extend_from_slice(request.as_bytes());
                }
                more
            })
        });
        Self { stop, thread }
    }

    fn stop(self) -> anyhow::Result<Outcome> {
        self.stop.store(true, Relaxed);
        let outcome = self
            .thread
            .join()
            .ok()
            .context("the load generator panicked")?;
        Ok(outcome?)
    }
}

/// Nanoseconds since the program began to count; never 0.
fn moment() -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    ORIGIN.elapsed().as_nanos() as u64 + 1
}
