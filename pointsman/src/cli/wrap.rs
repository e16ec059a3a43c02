//! `instance register … -- COMMAND`: registered as long as the command runs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use model::Period;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::{Client, Refused};
use super::instance::Register;

/// How often the command is looked after.
const STEP: Duration = Duration::from_millis(50);

/// How long a command that was told to stop may take before the instance is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a node has to answer: one that is frozen must not keep heartbeats from the next, and leases of 15 s are usual.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a command that is to stop waits for the instance to be out of traffic.
const LEAVING: Duration = Duration::from_secs(5);

/// Between attempts to register: at first, and at the most.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

pub(super) fn run(register: &Register) -> anyhow::Result<ExitCode> {
    let (program, arguments) = register.command.split_first().context("no command")?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    let mut signals = runtime.block_on(async {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        anyhow::Ok([signal(kinds[0])?, signal(kinds[1])?])
    })?;
    // What is refused is told before anything runs.
    let keeper = Keeper::begin(register)?;
    let spawned = Command::new(program).args(arguments).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(fault) => {
            keeper.leave();
            return Err(fault).with_context(|| format!("cannot run {program}"));
        }
    };
    let (leave, left) = (channel(), channel());
    std::thread::scope(|scope| {
        scope.spawn(move || keeper.keep(&leave.1, &left.0));
        let orders = Orders(leave.0, left.1);
        let outcome = look_after(&mut child, &runtime, &mut signals, &orders);
        if outcome.is_err() {
            // Not left behind unregistered: whoever started us thinks that it does not run.
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(code(outcome?))
    })
}

/// To who keeps the instance registered: that it is to go; and that it has gone. Dropped, it is to go as well.
struct Orders(Sender<()>, Receiver<()>);

fn look_after(
    child: &mut Child,
    runtime: &Runtime,
    [terminate, interrupt]: &mut [Signal; 2],
    orders: &Orders,
) -> anyhow::Result<ExitStatus> {
    let mut given_up = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
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
            let _ = orders.0.send(());
            let _ = orders.1.recv_timeout(LEAVING);
            terminate_child(child)?;
            given_up = Some(Instant::now() + PATIENCE);
        }
    }
}

/// Keeps an instance registered, at whichever node answers.
struct Keeper<'a> {
    register: &'a Register,
    client: Client<'a>,
    body: Value,
    /// Between heartbeats; `None` while it is not registered.
    beats: Option<Duration>,
    /// Between attempts while none succeeds.
    pause: Duration,
    /// Whether standard error knows that none does, and whether because a node refuses it.
    told: Option<bool>,
}

impl<'a> Keeper<'a> {
    /// Registers it, if a node answers. Fails if that refuses it.
    fn begin(register: &'a Register) -> anyhow::Result<Self> {
        let mut keeper = Self {
            client: Client::waiting(&register.remote, ANSWER),
            body: register.body()?,
            register,
            beats: None,
            pause: PAUSES[0],
            told: None,
        };
        match keeper.put() {
            Err(fault) if is_refused(&fault) => return Err(fault),
            outcome => keeper.tell(outcome),
        }
        Ok(keeper)
    }

    /// Goes on until it is told to leave, or nobody can tell it any more.
    fn keep(mut self, leave: &Receiver<()>, left: &Sender<()>) {
        loop {
            let next = self.beats.filter(|_| self.told.is_none());
            let told = leave.recv_timeout(next.unwrap_or(self.pause));
            if told != Err(RecvTimeoutError::Timeout) {
                break;
            }
            let outcome = self.renew();
            self.tell(outcome);
        }
        self.leave();
        // Who waits for it may have ended.
        let _ = left.send(());
    }

    fn leave(&self) {
        // Without a node, the lease runs out by itself.
        let _ = self.client.remove(&self.register.name.url(&self.client));
    }

    fn put(&mut self) -> anyhow::Result<()> {
        let record = self.register.put(&self.client, &self.body)?;
        self.beats = Some(heartbeat_pause(&record));
        Ok(())
    }

    fn renew(&mut self) -> anyhow::Result<()> {
        if self.beats.is_none() {
            return self.put();
        }
        let beat = self.register.name.heartbeat_url(&self.client);
        match self.client.post(&beat) {
            // The node has forgotten us: registering anew says everything it needs.
            Err(fault) if is_refused(&fault) => {
                self.beats = None;
                self.put()
            }
            outcome => outcome.map(|_| ()),
        }
    }

    /// Takes in what came of an attempt; what is new about it is said once.
    fn tell(&mut self, outcome: anyhow::Result<()>) {
        let id = &self.register.name.id;
        let Err(fault) = outcome else {
            self.pause = PAUSES[0];
            if self.told.take().is_some() {
                eprintln!("pointsman: {id} is registered");
            }
            return;
        };
        // As many as wait for the same node must not come at once.
        self.pause = (self.pause * 2)
            .min(PAUSES[1])
            .mul_f64(0.5 + fastrand::f64() / 2.0);
        let refused = Some(is_refused(&fault));
        if self.told != refused {
            self.told = refused;
            let what = match self.beats {
                None => "is not registered at present",
                Some(_) => "has no heartbeats at present",
            };
            eprintln!("pointsman: {id} {what}, which is tried again: {fault}");
        }
    }
}

/// Whether a node says no, and not only that it cannot at present.
fn is_refused(fault: &anyhow::Error) -> bool {
    let refused = fault.downcast_ref::<Refused>();
    refused.is_some_and(|refused| {
        refused.status.is_client_error() && !matches!(refused.status.as_u16(), 408 | 429)
    })
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

fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(code as u8),
        // As shells say it.
        (None, Some(signal)) => ExitCode::from(128 + signal as u8),
        (None, None) => ExitCode::FAILURE,
    }
}
