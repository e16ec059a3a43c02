//! The node that is measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::api::Api;
use crate::pointsman;
use crate::process::{Running, free_address};
use crate::scratch::Scratch;
use crate::usage::{Cpu, Memory};

/// What it is started with; the same again after it was killed.
pub(super) struct Configuration {
    pub(super) text: String,
    file: PathBuf,
    address: SocketAddr,
}

pub(super) fn configuration(scratch: &Scratch) -> anyhow::Result<Configuration> {
    let address = free_address()?;
    let data = scratch.path().join("data");
    let text = format!(
        "[node]\nworkers = 1\ndurability = \"disk\"\ndata_dir = \"{}\"\n\n\
         [api]\nbind = \"{address}\"\nmax_connections = 12000\n",
        data.display()
    );
    let file = scratch.write("registry.toml", &text)?;
    Ok(Configuration {
        text,
        file,
        address,
    })
}

pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) api: Api,
    process: Running,
}

impl Node {
    /// Starts it; it is ready when this returns.
    pub(super) fn start(
        binary: &Path,
        configuration: &Configuration,
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let mut command = pointsman::serve(binary, &configuration.file);
        let cores: Vec<usize> = (0..std::thread::available_parallelism()?.get()).collect();
        let mut process = Running::start("pointsman", &mut command, &cores, scratch)?;
        process.wait_for(configuration.address)?;
        let api = Api::at(configuration.address);
        // Connections are queued from the first moment on, and answered once everything has been read from disk.
        api.read("/readyz")?;
        Ok(Self {
            address: configuration.address,
            api,
            process,
        })
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::of(self.process.pid())
    }

    pub(super) fn cpu(&self) -> Cpu {
        Cpu::of(self.process.pid())
    }

    /// Ends it as a power failure would.
    pub(super) fn kill(self) -> std::io::Result<()> {
        self.process.kill()
    }
}
