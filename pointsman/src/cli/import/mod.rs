//! `import`: takes over what another system has.

mod client;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use wire::zookeeper::{ErrorCode, OpCode};

use client::{Client, Node};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy a ZooKeeper's tree; may be repeated while both run
    Zookeeper(Zookeeper),
}

#[derive(Debug, Args)]
pub(crate) struct Zookeeper {
    /// The server to read from: host:port
    from: String,
    /// Where pointsman serves ZooKeeper's clients: host:port
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "ADDRESS")]
    to: String,
    /// Only what is at and below this path
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// Prove this identity to both, for what access lists protect: user:password
    #[arg(long, value_name = "IDENTITY")]
    digest: Option<String>,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Zookeeper(options) = command;
    let mut copy = Copy {
        from: Client::connect(&options.from)?,
        to: Client::connect(&options.to)?,
        counts: Counts::default(),
    };
    if let Some(identity) = &options.digest {
        copy.from.authenticate(identity)?;
        copy.to.authenticate(identity)?;
    }
    copy.parents(&options.path)?;
    copy.tree(&options.path)?;
    let Counts {
        created,
        changed,
        same,
        ephemeral,
        kept,
    } = copy.counts;
    println!("{created} nodes created, {changed} changed, {same} the same already");
    println!("{ephemeral} ephemeral ones left to the sessions that will make them");
    if kept > 0 {
        println!("{kept} could not be read or written for want of permission; see --digest");
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Counts {
    created: u64,
    changed: u64,
    same: u64,
    ephemeral: u64,
    kept: u64,
}

struct Copy {
    from: Client,
    to: Client,
    counts: Counts,
}

impl Copy {
    /// The nodes above a path, so that it can be created.
    fn parents(&mut self, path: &str) -> anyhow::Result<()> {
        for (end, _) in path.match_indices('/').skip(1) {
            self.node(&path[..end])?;
        }
        Ok(())
    }

    fn tree(&mut self, root: &str) -> anyhow::Result<()> {
        // A stack of its own: paths of other servers may be deeper than ours.
        let mut paths = vec![root.to_owned()];
        let mut behind = Vec::new();
        while let Some(path) = paths.pop() {
            let Some(node) = self.node(&path)? else {
                continue;
            };
            let Some(children) = self.allowed(|copy| copy.from.children(&path))?.flatten() else {
                continue;
            };
            let prefix = if path == "/" { "" } else { &path };
            paths.extend(children.iter().map(|name| format!("{prefix}/{name}")));
            if node.creates > 0 {
                behind.push((path, node.creates));
            }
        }
        // Once everything is there.
        for (path, creates) in behind {
            self.count_up(&path, creates)?;
        }
        Ok(())
    }

    /// Copies one node; `None` if there is nothing below it to be copied.
    fn node(&mut self, path: &str) -> anyhow::Result<Option<Node>> {
        // What servers keep for themselves.
        if path == "/zookeeper" || path.starts_with("/zookeeper/") {
            return Ok(None);
        }
        let Some(Some(node)) = self.allowed(|copy| copy.from.read(path))? else {
            return Ok(None);
        };
        if node.ephemeral {
            self.counts.ephemeral += 1;
            return Ok(None);
        }
        let written = self.allowed(|copy| copy.write(path, &node))?;
        Ok(written.map(|()| node))
    }

    fn write(&mut self, path: &str, node: &Node) -> anyhow::Result<()> {
        match self.to.read(path)? {
            Some(present) if present.data == node.data => self.counts.same += 1,
            Some(_) => {
                self.to.set(path, node.data.as_deref())?;
                self.counts.changed += 1;
            }
            None => {
                self.to.create(path, node)?;
                self.counts.created += 1;
            }
        }
        Ok(())
    }

    /// The number of the next sequential child is how many there ever were. It must not fall behind, or new nodes would
    /// get names that are taken.
    fn count_up(&mut self, path: &str, creates: u32) -> anyhow::Result<()> {
        let Some(present) = self.to.read(path)? else {
            return Ok(());
        };
        let mut missing = creates.saturating_sub(present.creates);
        while missing > 0 {
            let step = missing.min(250);
            match self.to.touch_children(path, step) {
                Err(fault) if is(&fault, ErrorCode::NoAuth) => return Ok(()),
                touched => touched?,
            }
            missing -= step;
        }
        Ok(())
    }

    /// What is not allowed is counted and left out.
    fn allowed<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match read(self) {
            Err(fault) if is(&fault, ErrorCode::NoAuth) => {
                self.counts.kept += 1;
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

fn is(fault: &anyhow::Error, code: ErrorCode) -> bool {
    fault
        .downcast_ref::<client::Refused>()
        .is_some_and(|r| r.0 == code.code())
}

/// Fails if an operation was refused.
fn accepted(op: OpCode, error: i32) -> anyhow::Result<()> {
    if error != 0 {
        bail!(client::Refused(error, op));
    }
    Ok(())
}
