//! `demo`: a whole working system on loopback, in one process.

mod drive;
mod sample;
mod screen;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use config::Source;

use crate::cli::{Palette, runtime};
use crate::node::Node;
use sample::Sample;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Drive it: send requests, kill and restart an instance meanwhile, and fail if a request failed
    #[arg(long)]
    check: bool,
    /// The balanced listener
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: String,
    /// The API
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    api: String,
    /// How many requests --check sends
    #[arg(long, default_value_t = 6_000, requires = "check")]
    requests: usize,
    /// Print JSON, for scripts
    #[arg(long, requires = "check")]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(play(options))
}

async fn play(options: &Options) -> anyhow::Result<ExitCode> {
    let data = TemporaryDirectory::new()?;
    let node = Node::start(configuration(options, &data)?).await?;
    let listener = node
        .shared()
        .bound()
        .into_values()
        .next()
        .context("the demo has a listener")?;
    let mut samples = Vec::new();
    for name in ["red", "green", "blue"] {
        samples.push(Sample::start(name, node.api()).await?);
    }
    wait_until_passing(&node, samples.len()).await?;
    let code = if options.check {
        drive::check(
            &node,
            listener,
            &mut samples,
            options.requests,
            options.json,
        )
        .await?
    } else {
        introduce(&node, listener);
        screen::show(&node).await?;
        ExitCode::SUCCESS
    };
    for sample in samples {
        sample.leave().await;
    }
    node.stop().await?;
    Ok(code)
}

/// A directory that is removed when the demo ends.
struct TemporaryDirectory(std::path::PathBuf);

impl TemporaryDirectory {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("pointsman-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // What is left in the temporary directory is the system's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn configuration(options: &Options, data: &TemporaryDirectory) -> anyhow::Result<config::Config> {
    let text = format!(
        "[node]\ndata_dir = {:?}\ndrain_timeout = \"2s\"\n\
         [api]\nbind = {:?}\n\
         [log.access]\nformat = \"off\"\n\
         [listener.web]\nbind = {:?}\nservice = \"hello\"\n",
        data.0.display().to_string(),
        options.api,
        options.listen,
    );
    let source = Source {
        name: "demo".into(),
        text,
    };
    match config::parse(&[source], &|_| None) {
        Ok(parsed) => Ok(parsed.config),
        Err(faults) => bail!("the demo cannot be set up that way\n{faults}"),
    }
}

/// Waits until the samples' checks have passed.
async fn wait_until_passing(node: &Node, count: usize) -> anyhow::Result<()> {
    let key = sample::service();
    let all = async {
        let mut watch = node.shared().registry.watch(&key);
        loop {
            let service = node.shared().registry.service(&key);
            let passing = service.map_or(0, |s| s.counts().of(model::Health::Passing));
            if passing as usize >= count {
                return;
            }
            if watch.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .context("the sample services did not come up within 10 s")
}

fn introduce(node: &Node, listener: std::net::SocketAddr) {
    let palette = Palette::for_stdout();
    let api = node.api();
    let binary = std::env::current_exe().map_or("pointsman".into(), |p| p.display().to_string());
    println!(
        "{}",
        palette.strong("A node, three sample services and a balanced listener are running.")
    );
    println!();
    println!("  curl http://{listener}/                      one of the three answers");
    println!(
        "  curl -X POST http://{listener}/crash         the one that answers dies, and comes back in 10 s"
    );
    println!("  curl http://{api}/query?service_name=hello");
    println!("  curl http://{api}/metrics");
    println!("  {binary} service show hello --api http://{api}");
    println!("  {binary} explain http://{listener}/ --api http://{api}");
    println!("  {binary} watch hello --api http://{api}");
    println!();
    println!("{}", palette.dim("Ctrl-C ends it."));
    println!();
}
