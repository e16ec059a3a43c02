//! The command line.

mod certificate;
mod check;
mod client;
mod cluster;
mod cluster_data;
mod import;
mod instance;
mod lookup;
mod output;
mod serve;
mod watch;
mod wrap;

pub(crate) use output::Palette;
pub(crate) use serve::runtime;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::demo;

/// One binary that knows which instances of which service are alive and sends every request to the right
/// one.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a whole working system on loopback, sample services included
    Demo(demo::Options),
    /// Run a node
    Serve(serve::Options),
    /// Check and show configuration
    #[command(subcommand)]
    Config(check::Command),
    /// Look at services
    #[command(subcommand)]
    Service(lookup::Command),
    /// Register and change instances
    #[command(subcommand)]
    Instance(instance::Command),
    /// Print a service's changes as they happen
    Watch(watch::Options),
    /// Give the node certificates, and look at those that it has
    #[command(subcommand)]
    Certificate(certificate::Command),
    /// Look at the cluster, change who belongs to it, and rescue it
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Say where a request would go, and why. Exits with 0 if an instance would get it; with 1 if not, be it that it is answered
    /// by a redirection or a fixed answer, by 404 or 503, or by nobody
    Explain(lookup::ExplainOptions),
    /// Take over what another system has
    #[command(subcommand)]
    Import(import::Command),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands into a directory
    Man {
        /// The directory, such as /usr/local/share/man/man1; there, the page of each command is a file that the others refer to
        directory: Option<PathBuf>,
    },
}

/// How commands reach a node.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The node's API: a URL, or host:port; may be repeated, or several with commas: the next is asked where one does not answer
    #[arg(
        long,
        env = "POINTSMAN_API",
        default_value = "http://127.0.0.1:7070",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = client::api,
        global = true
    )]
    api: Vec<String>,
    /// The namespace
    #[arg(
        long,
        short,
        env = "POINTSMAN_NAMESPACE",
        default_value = "default",
        global = true
    )]
    namespace: String,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
}

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::Serve(options) => serve::run(&options),
        Command::Config(command) => check::run(&command),
        Command::Service(command) => lookup::run(&command),
        Command::Instance(command) => instance::run(command),
        Command::Watch(options) => watch::run(&options),
        Command::Certificate(command) => certificate::run(&command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Explain(options) => lookup::explain(&options),
        Command::Import(command) => import::run(&command),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            // Into memory first: it panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "pointsman", &mut script);
            print(&script)
        }
        Command::Man { directory } => manual(directory.as_deref()),
    };
    match outcome {
        Ok(code) => code,
        // As if the signal had ended us that others get then: 128 + SIGPIPE.
        Err(fault) if output::is_closed_pipe(&fault) => ExitCode::from(141),
        Err(fault) => {
            output::fault(&fault);
            ExitCode::FAILURE
        }
    }
}

fn manual(directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    if let Some(directory) = directory {
        clap_mangen::generate_to(Cli::command(), directory)
            .with_context(|| format!("the pages cannot be written into {}", directory.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text)?;
    Ok(ExitCode::SUCCESS)
}

/// Configuration files named on the command line.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Files {
    /// A configuration file, or a directory of `*.toml` files; may be repeated
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    files: Vec<PathBuf>,
}
