//! What nodes stand on: a network of namespaces with a router in the middle, where what goes from one place to another can
//! be lost, and disks that have an end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use crate::Asked;
use crate::harness::in_space;

/// Says that the program is in namespaces of its own.
const ENTERED: &str = "POINTSMAN_FAULTS_ENTERED";
/// Where the machines of all nodes come together.
const ROUTER: &str = "router";
/// How much a node's disk holds: several segments and snapshots of what clients write here.
const DISK: &str = "48m";

/// A machine: the clients' is 0, the nodes' are those from 1 on.
pub(crate) type Place = usize;

/// Where the clients are, and the instances.
pub(crate) const WORLD: Place = 0;

/// The network.
#[derive(Default)]
pub(crate) struct Ground {
    /// Rules of the router that lose something, by their numbers, with whom they are about.
    cuts: Mutex<BTreeMap<u32, (Place, Place)>>,
}

pub(crate) fn is_entered() -> bool {
    std::env::var_os(ENTERED).is_some()
}

/// Runs the program again in namespaces of its own, and says loudly if that cannot be.
pub(crate) fn enter(asked: &Asked) -> ExitCode {
    let unshare = || {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        unshare
    };
    // All that will be needed, tried.
    let probe = "mount -t tmpfs tmpfs /run && ip netns add one && ip link add wire0 type veth peer name wire1 netns one && \
                 ip -n one rule add pref 9 from 10.77.1.2 to 10.77.2.2 blackhole";
    let mut tried = unshare();
    tried.args(["sh", "-c", probe]).stdin(Stdio::null());
    let why = match tried.output() {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        Err(e) => Some(format!("unshare does not start: {e}")),
    };
    if let Some(why) = why {
        return skipped(&why);
    }
    let kept = kept(asked.seed);
    let own = kept.join("run");
    std::fs::create_dir_all(&own).expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let mut run = unshare();
    run.arg(program).args(asked.args());
    let status = run.env(ENTERED, "1").env("TMPDIR", &own).status();
    if status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        // Logs are for those who look for what went wrong.
        let _ = std::fs::remove_dir_all(&kept);
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nFAILED: `cargo xtask faults {}` does the same to the nodes again; their logs and data are in {}",
        asked.args().join(" "),
        kept.display()
    );
    ExitCode::FAILURE
}

fn skipped(why: &str) -> ExitCode {
    eprintln!(
        "\n*** SKIPPED: real faults. They need network and mount namespaces (root, or users who may have them), \
         and this machine refuses: {why}\n"
    );
    // Whoever runs this as one of many steps does not pass it off as one that went well.
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults-skipped");
    let _ = std::fs::write(note, why);
    match std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1") {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Where logs are kept of a run that fails.
pub(crate) fn kept(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{seed}"))
}

/// Where it is to the others.
pub(crate) fn address(place: Place) -> String {
    format!("10.77.{place}.2")
}

fn space(place: Place) -> String {
    format!("n{place}")
}

fn wire(place: Place) -> String {
    format!("to-{place}")
}

impl Ground {
    /// Lays the network for so many nodes, around this process.
    pub(crate) fn lay(nodes: usize) -> Result<Self, String> {
        mount(Path::new("/run"), "16m")?;
        mount(&std::env::temp_dir(), "64m")?;
        ip("link set lo up")?;
        ip(&format!("netns add {ROUTER}"))?;
        ip(&format!("-n {ROUTER} link set lo up"))?;
        for place in WORLD..=nodes {
            let own = match place {
                WORLD => {
                    let pid = std::process::id();
                    ip(&format!(
                        "-n {ROUTER} link add {} type veth peer name eth0 netns {pid}",
                        wire(place)
                    ))?;
                    String::new()
                }
                _ => {
                    let space = space(place);
                    ip(&format!("netns add {space}"))?;
                    ip(&format!(
                        "-n {ROUTER} link add {} type veth peer name eth0 netns {space}",
                        wire(place)
                    ))?;
                    format!("-n {space} ")
                }
            };
            ip(&format!(
                "-n {ROUTER} addr add 10.77.{place}.1/24 dev {}",
                wire(place)
            ))?;
            ip(&format!("-n {ROUTER} link set {} up", wire(place)))?;
            // Takes over when the wire is cut: otherwise the router would say so.
            ip(&format!(
                "-n {ROUTER} route add blackhole 10.77.{place}.0/24 metric 9999"
            ))?;
            ip(&format!("{own}addr add {}/24 dev eth0", address(place)))?;
            ip(&format!("{own}link set lo up"))?;
            ip(&format!("{own}link set eth0 up"))?;
            ip(&format!("{own}route add default via 10.77.{place}.1"))?;
        }
        let ground = Self::default();
        in_space(ROUTER, || {
            let forward = "/proc/sys/net/ipv4/ip_forward";
            std::fs::write(forward, "1").map_err(|e| format!("{forward}: {e}"))
        })?;
        Ok(ground)
    }

    /// Runs `work` at a node's machine. Processes and sockets that it makes stay there.
    pub(crate) fn at<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        in_space(&space(place), work)
    }

    /// What goes from one machine to another is lost from now on; what comes back is not. Nobody is told.
    pub(crate) fn lose(&self, from: Place, to: Place) {
        let mut cuts = self.cuts.lock().expect("cuts");
        let number = cuts.keys().next_back().map_or(100, |last| last + 1);
        let (a, b) = (address(from), address(to));
        ip(&format!(
            "-n {ROUTER} rule add pref {number} from {a} to {b} blackhole"
        ))
        .expect("a rule");
        cuts.insert(number, (from, to));
    }

    /// Whatever is lost of what a machine sends or is sent, is not any more.
    pub(crate) fn mend(&self, place: Place) {
        let mut cuts = self.cuts.lock().expect("cuts");
        cuts.retain(|number, (from, to)| {
            let about = *from == place || *to == place;
            if about {
                ip(&format!("-n {ROUTER} rule del pref {number}")).expect("a rule");
            }
            !about
        });
    }

    /// Pulls a machine's wire, or puts it back.
    pub(crate) fn plug(&self, place: Place, state: bool) {
        let state = if state { "up" } else { "down" };
        ip(&format!("-n {ROUTER} link set {} {state}", wire(place))).expect("a wire");
    }

    /// A disk for a node.
    pub(crate) fn disk(&self, at: &Path) -> Result<(), String> {
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        mount(at, DISK)
    }
}

fn mount(at: &Path, size: &str) -> Result<(), String> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
    succeed(mount.arg(at))
}

fn ip(args: &str) -> Result<(), String> {
    succeed(Command::new("ip").args(args.split(' ')))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|e| format!("{command:?}: {e}"))?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&done.stderr);
            Err(format!("{command:?}: {}", said.trim()))
        }
    }
}
