//! The processes that are measured.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::scratch::Scratch;
use crate::{guard, machine, usage};

/// How long a process may take to listen, or to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process and its children. Stopped when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` on these cores; what it prints goes to a file.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        cpus: &[usize],
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let log = scratch.path().join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        // A process begins on the cores of the thread that starts it; a thread of its own keeps ours where we are.
        let spawned = std::thread::scope(|scope| {
            let start = || machine::pin(cpus).and_then(|()| Ok(command.spawn()?));
            scope.spawn(start).join()
        });
        let child = spawned
            .expect("starting a process does not panic")
            .with_context(|| format!("{name} does not start"))?;
        guard::begun(child.id());
        Ok(Self {
            name: name.into(),
            child,
            log,
        })
    }

    /// The first process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections at `address`.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.printed()),
        }
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let all = usage::tree(self.pid());
        signal(self.pid(), Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // nginx's workers outlive a master that is killed, so each of them is.
        all.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        guard::ended(self.pid());
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    // One that has ended meanwhile needs no signal.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Interrupts a process as Ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    signal(child.id(), Signal::INT);
}

/// An address on loopback that nobody listens on just now.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// An address on loopback that nobody listens on just now, and that no connection is made from: whoever is killed can listen
/// there again. The kernel takes ports for connections from above.
pub(crate) fn lasting_address() -> std::io::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 10_000;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16)) {
            return listener.local_addr();
        }
    }
}
