//! The two that are measured.

use std::net::SocketAddr;
use std::process::Command;

use crate::pointsman;
use crate::process::{Running, free_address};
use crate::scratch::Scratch;
use crate::usage::{Cpu, Memory};

const JAR: &str = "/usr/share/java/zookeeper.jar";

pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    process: Running,
}

impl Server {
    pub(super) fn pointsman(scratch: &Scratch) -> anyhow::Result<Self> {
        let (api, address) = (free_address()?, free_address()?);
        let text = format!(
            "[node]\nworkers = 1\ndata_dir = \"{}/pointsman\"\n[api]\nbind = \"{api}\"\n[log.access]\nformat = \"off\"\n\
             [front.zookeeper]\nbind = \"{address}\"\n",
            scratch.path().display()
        );
        let file = scratch.write("zookeeper.toml", &text)?;
        let command = pointsman::serve(&pointsman::binary()?, &file);
        Self::start("pointsman", command, address, scratch)
    }

    pub(super) fn zookeeper(scratch: &Scratch) -> anyhow::Result<Self> {
        let address = free_address()?;
        let text = format!(
            "tickTime=2000\ndataDir={}/zookeeper\nclientPort={}\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            scratch.path().display(),
            address.port()
        );
        let file = scratch.write("zoo.cfg", &text)?;
        scratch.write("log4j.properties", "log4j.rootLogger=OFF\n")?;
        let mut command = Command::new("java");
        let path = format!("{}:{JAR}:/usr/share/java/*", scratch.path().display());
        command.args([
            "-cp",
            &path,
            "org.apache.zookeeper.server.ZooKeeperServerMain",
        ]);
        command.arg(file);
        Self::start("ZooKeeper 3.8", command, address, scratch)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let cores: Vec<usize> = (0..std::thread::available_parallelism()?.get()).collect();
        let mut process = Running::start(name, &mut command, &cores, scratch)?;
        process.wait_for(address)?;
        Ok(Self {
            name,
            address,
            process,
        })
    }

    pub(super) fn cpu(&self) -> Cpu {
        Cpu::of(self.process.pid())
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::of(self.process.pid())
    }
}
