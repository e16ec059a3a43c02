//! `serve`: runs a node until it is told to stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use config::Parsed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Files;
use super::check::load;
use crate::node::{Node, Reconfigured, cores, reach};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    files: Files,
    /// Take over changes of the configuration files without being told
    #[arg(long)]
    watch_config: bool,
}

/// How often the files are looked at with `--watch-config`.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // Before they are read: a change while the node starts must not be taken for what it started with.
    let seen = fingerprint(&options.files);
    // Nothing else of it is kept: where each key was written may be more than all the rest.
    let Parsed {
        config, warnings, ..
    } = load(&options.files)?;
    for warning in &warnings {
        eprintln!("{warning}");
    }
    take_all_descriptors();
    runtime()?.block_on(serve(options, config, seen))
}

/// Raises the limit of open files to what the administrator allows at the most: the usual 1,024, made for select(2), are
/// 500 proxied connections.
fn take_all_descriptors() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        ..now
    };
    // As many as before do, too.
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// The control plane's threads. Two are enough: what is hot runs on the workers. On a machine with few cores they would take
/// work from each other, and the core from the log. (Measured on two cores: with one thread a lone write through the API takes
/// 16 % less of the processor, a read 10 %.)
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores() / 2).clamp(1, 2))
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control plane")
}

async fn serve(
    options: &Options,
    config: config::Config,
    mut seen: Fingerprint,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let node = Node::start(config).await?;
    eprintln!("pointsman {}", env!("CARGO_PKG_VERSION"));
    eprintln!("  api       http://{}", node.api());
    if let Some(address) = node.zookeeper() {
        eprintln!("  zookeeper {address}");
    }
    if let Some(address) = node.zookeeper_tls() {
        eprintln!("  zookeeper-tls {address}");
    }
    for (name, address) in node.shared().bound() {
        eprintln!("  listener  {name} on {address}");
    }
    if let Some(warning) = reach::warning(node.api()) {
        eprintln!("pointsman: {warning}");
    }
    // The last line, so that whoever waits for it has read the addresses.
    eprintln!("pointsman: serving");
    loop {
        match signals.next(options.watch_config.then_some(LOOK)).await {
            Event::Stop => break,
            Event::Reload => {
                node.reopen_logs();
                seen = fingerprint(&options.files);
                node.count_reload(reload(&node, &options.files).await);
            }
            Event::Look => {
                let now = fingerprint(&options.files);
                if now != seen {
                    seen = now;
                    node.count_reload(reload(&node, &options.files).await);
                }
            }
        }
    }
    eprintln!("pointsman: stopping; requests in progress may finish");
    match node.stop().await? {
        0 => eprintln!("pointsman: stopped"),
        cut => eprintln!("pointsman: stopped; {cut} connections were still open and were cut off"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the node goes by what the files say now.
async fn reload(node: &Node, files: &Files) -> bool {
    let Parsed {
        config, warnings, ..
    } = match load(files) {
        Ok(parsed) => parsed,
        Err(fault) => {
            eprintln!("pointsman: {fault:#}\npointsman: the running configuration stays");
            return false;
        }
    };
    for warning in &warnings {
        eprintln!("{warning}");
    }
    let taken = node.reconfigure(config).await;
    let done = taken.is_ok();
    match taken {
        Ok(Reconfigured { changed, changes }) => {
            match (changed, changes.is_empty()) {
                (true, _) => eprintln!("pointsman: the configuration has changed"),
                (false, false) => eprintln!("pointsman: what runs differs from the configuration"),
                (false, true) => {}
            }
            for change in changes {
                eprintln!("  {change}");
            }
            match changed {
                true => eprintln!("pointsman: the new configuration is in effect"),
                false => eprintln!("pointsman: the configuration is unchanged"),
            }
        }
        Err(fault) => eprintln!("pointsman: {fault:#}\npointsman: the running configuration stays"),
    }
    done
}

/// What the files look like from outside: sizes and times of change.
type Fingerprint = Vec<(std::path::PathBuf, u64, Option<std::time::SystemTime>)>;

fn fingerprint(files: &Files) -> Fingerprint {
    let mut prints = Vec::new();
    let mut add = |path: std::path::PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let time = metadata.as_ref().and_then(|m| m.modified().ok());
        prints.push((path, metadata.map_or(0, |m| m.len()), time));
    };
    for path in &files.files {
        add(path.clone());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| add(entry.path()));
    }
    prints.sort();
    prints
}

enum Event {
    Stop,
    Reload,
    Look,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self, look: Option<Duration>) -> Event {
        let look = async {
            match look {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hang_up.recv() => Event::Reload,
            () = look => Event::Look,
        }
    }
}
