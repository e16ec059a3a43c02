//! What tests of the real program share: nodes as processes, origins behind them, clients before them.
//!
//! Nothing here sleeps for a fixed time: tests wait for conditions, and every wait ends.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses a part of it"
)]

mod client;
mod load;
mod node;
mod origin;
mod port;
mod space;
mod wait;
mod zookeeper;

pub(crate) use client::{Answer, Connection, get, request};
pub(crate) use load::Load;
pub(crate) use node::{Home, Node, Said, binary, pointsman};
pub(crate) use origin::{Heard, Origin, Reply, read_request};
pub(crate) use port::free_address;
pub(crate) use space::in_space;
pub(crate) use wait::{PATIENCE, until};
pub(crate) use zookeeper::{ZkClient, zk_create, zk_text};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A directory that goes when its test ends.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("pointsman-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file for the test");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is the system's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
