//! The key that cookies of services' `persistence` are made with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use config::{Config, Durability};

/// As many bytes as SHA-256 has.
const LEN: usize = 32;

/// The configuration's secret; else the key in the data directory, drawn now if there is none; else one for this run.
///
/// # Errors
/// When the file cannot be read or written, or is not what was written there.
pub(super) fn session_key(config: &Config) -> anyhow::Result<Box<[u8]>> {
    match (&config.node.session_secret, config.node.durability) {
        (Some(secret), _) => Ok(secret.0.as_bytes().into()),
        (None, Durability::Memory) => Ok(drawn().into()),
        (None, Durability::Disk) => {
            let path = config.node.data_dir.join("session.key");
            kept(&path).with_context(|| format!("the key of session cookies, {}", path.display()))
        }
    }
}

fn kept(path: &Path) -> anyhow::Result<Box<[u8]>> {
    match fs::read(path) {
        Ok(key) if key.len() == LEN => Ok(key.into()),
        Ok(key) => anyhow::bail!(
            "has {} bytes and should have {LEN}; remove it, and all sessions begin anew",
            key.len()
        ),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            let key = drawn();
            write(path, &key)?;
            Ok(key.into())
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn drawn() -> [u8; LEN] {
    let mut key = [0; LEN];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut key)
        .expect("the system has random numbers");
    key
}
