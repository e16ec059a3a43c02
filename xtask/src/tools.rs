//! Programs that steps need: looked for, and installed where that is possible.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one call of apt-get may take. A slow mirror needs a minute for the largest of our tools.
const PATIENCE: Duration = Duration::from_secs(300);

/// A program and the Debian package that has it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// Makes sure of every tool. The error names those that are missing and cannot be installed.
pub(crate) fn ensure(tools: &[Tool]) -> Result<(), String> {
    let missing = || tools.iter().filter(|tool| !is_there(tool.program));
    let packages: Vec<&str> = missing().map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if let Some(apt_get) = apt_get() {
        let install = [&["install", "--yes", "--no-install-recommends"], &*packages].concat();
        // What is known of the mirrors may be old, or nothing at all.
        if !quietly(&apt_get, &install) && quietly(&apt_get, &["update"]) {
            quietly(&apt_get, &install);
        }
    }
    let still: Vec<&str> = missing().map(|tool| tool.program).collect();
    match still.is_empty() {
        true => Ok(()),
        false => Err(format!("{} is not installed", still.join(", "))),
    }
}

/// Whether the program is on the path, or where only administrators have it on theirs.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(more)
        .any(|directory| directory.join(program).is_file())
}

/// How to call apt-get with the rights it needs, if there is a way that asks nothing.
fn apt_get() -> Option<Vec<&'static str>> {
    if !is_there("apt-get") {
        return None;
    }
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(vec!["apt-get"]);
    }
    let sudo = is_there("sudo") && quietly(&["sudo", "-n"], &["true"]);
    sudo.then(|| vec!["sudo", "-n", "apt-get"])
}

fn quietly(program: &[&str], args: &[&str]) -> bool {
    let child = Command::new(program[0])
        .args(&program[1..])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Keeps a daemon that comes with its package (nginx) from being started.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => return false,
        }
    }
    // It may be gone by now, and that is as good.
    let _ = child.kill();
    let _ = child.wait();
    false
}
