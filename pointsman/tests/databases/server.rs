//! Servers as processes of their own, in directories of their own.

use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{free_address, until};

/// Debian's `nobody` and `nogroup`, whom nothing belongs to: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// Finds every program, or names those that are missing. Where `CI` is set, that is a failure.
pub(crate) fn programs<const N: usize>(test: &str, names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(find);
    let missing: Vec<_> = names
        .iter()
        .zip(&found)
        .filter(|(_, f)| f.is_none())
        .map(|(n, _)| *n)
        .collect();
    if missing.is_empty() {
        return Some(found.map(Option::unwrap));
    }
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    let missing = missing.join(", ");
    assert!(
        !strict,
        "{test}: {missing} is not installed, and with CI=true nothing is skipped"
    );
    eprintln!("skipped: {test}: {missing} is not installed");
    None
}

/// On the path, where only administrators have it on theirs, or where Debian keeps PostgreSQL's, the latest first.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(Into::into);
    let places = versions
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .chain(more);
    places
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    free_address().port()
}

/// A directory in `within` that servers may write to.
pub(crate) fn directory(within: &Path, name: &str) -> PathBuf {
    let path = within.join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    if rustix::process::geteuid().is_root() {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("a directory of nobody's");
    }
    path
}

/// A command that an administrator runs as nobody, and everybody else as themselves.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent");
    command
}

/// Runs it to its end, which must be a good one; returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert_good(command.get_program(), &output);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_good(program: &OsStr, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program:?}: {}\n{said}",
        output.status
    );
}

/// A running server, which ends with the test.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    pub(crate) port: u16,
}

impl Server {
    /// Starts `command`; what it says goes to a file in `within`. It is there once `is_up` says so.
    pub(crate) fn start(
        mut command: Command,
        within: &Path,
        port: u16,
        is_up: impl Fn() -> bool,
    ) -> Self {
        let log = within.join(format!("log-{port}"));
        let file = std::fs::File::create(&log).expect("a file");
        command
            .stdout(file.try_clone().expect("a file"))
            .stderr(file);
        let child = command.spawn().expect("the server starts");
        let mut server = Self { child, log, port };
        until("a server that answers", || {
            let ended = server.child.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended: {ended:?}");
            is_up().then_some(())
        });
        server
    }

    /// Stops it with this signal, and waits until it has.
    pub(crate) fn stop(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        until("the server's end", || {
            self.child.try_wait().expect("its state")
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // In order, for those that have children and shared memory; PostgreSQL's children end with it in any case.
            let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
            for _ in 0..500 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- the server on port {} said:\n{said}", self.port);
        }
    }
}
