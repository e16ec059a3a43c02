//! `instance register … -- COMMAND`: registered as long as the command runs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use model::Period;
use serde_json::Value;

use super::client::Client;
use super::instance::Register;

/// How often the command is looked after.
const STEP: Duration = Duration::from_millis(50);

/// How long a command that was told to stop may take before the instance is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(register: &Register) -> anyhow::Result<ExitCode> {
    let (program, arguments) = register.command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let outcome = look_after(register, &mut child);
    if outcome.is_err() {
        // Not left behind unregistered: whoever started us thinks that it does not run.
        let _ = child.kill();
        let _ = child.wait();
    }
    let client = Client::new(&register.remote);
    // The node may be gone; the lease then runs out by itself.
    let _ = client.remove(&register.name.url(&client));
    Ok(code(outcome?))
}

fn look_after(register: &Register, child: &mut Child) -> anyhow::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stop = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        anyhow::Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    });
    let (mut terminate, mut interrupt) = stop?;
    let record = register.put()?;
    let pause = heartbeat_pause(&record);
    let mut beat = Instant::now() + pause;
    let mut given_up = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= beat {
            heartbeat(register);
            beat = Instant::now() + pause;
        }
        if given_up.is_some_and(|at| Instant::now() >= at) {
            child.kill()?;
        }
        let asked = runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(STEP) => false,
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
            }
        });
        if asked && given_up.is_none() {
            // First out of traffic, then told to stop: nothing is sent to a program that is ending.
            let client = Client::new(&register.remote);
            let _ = client.remove(&register.name.url(&client));
            terminate_child(child)?;
            given_up = Some(Instant::now() + PATIENCE);
        }
    }
}

fn terminate_child(child: &Child) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::TERM,
    )?)
}

/// A third of the lease: two heartbeats may get lost.
fn heartbeat_pause(record: &Value) -> Duration {
    let ttl = record["lease"]["ttl"]
        .as_str()
        .and_then(|t| t.parse::<Period>().ok());
    ttl.map_or(Duration::from_secs(5), |Period(ttl)| ttl / 3)
}

fn heartbeat(register: &Register) {
    let client = Client::new(&register.remote);
    if client.post(&register.name.heartbeat_url(&client)).is_ok() {
        return;
    }
    // The node has forgotten us, or is away: registering anew says everything it needs.
    if let Err(fault) = register.put() {
        eprintln!(
            "pointsman: {} is not registered at present: {fault}",
            register.name.id
        );
    }
}

fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(code as u8),
        // As shells say it.
        (None, Some(signal)) => ExitCode::from(128 + signal as u8),
        (None, None) => ExitCode::FAILURE,
    }
}
