//! The program this is all about.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};

/// The release binary: `POINTSMAN_BIN`, or built when this is called first.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let built = build()?;
    Ok(BUILT.get_or_init(|| built).clone())
}

fn build() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("POINTSMAN_BIN") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "pointsman"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cargo does not start; name a binary in POINTSMAN_BIN")?;
    ensure!(status.success(), "pointsman does not build");
    let own = std::env::current_exe()?;
    // Built by the same cargo into the same directory, but never in debug.
    let target = own.ancestors().nth(2).unwrap_or(Path::new("."));
    Ok(target.join("release/pointsman"))
}

/// `pointsman serve` with a configuration.
pub(crate) fn serve(binary: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("serve").arg("-c").arg(configuration);
    command
}

/// A listener that sends every request to the service `origin`, which has `origin` as its static instance.
pub(crate) fn listener(bind: SocketAddr, origin: SocketAddr, policy: &str) -> String {
    format!(
        "[listener.web]\nbind = \"{bind}\"\nservice = \"origin\"\n\n\
         [service.origin]\npolicy = \"{policy}\"\n\n\
         [[service.origin.instance]]\nid = \"static\"\naddress = \"{origin}\"\n"
    )
}

/// The version that a binary says it has, and where it came from.
pub(crate) fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    output.map_or_else(
        |e| e.to_string(),
        |o| String::from_utf8_lossy(&o.stdout).trim().into(),
    )
}
