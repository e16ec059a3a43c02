//! `watch`: a service's changes as they happen.

use std::io::{self, BufRead, BufReader, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Remote;
use super::client::Client;
use super::output::Palette;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The service
    service: String,
    /// Watch at the node that serves all subscribers of this name
    #[arg(long, value_name = "NAME")]
    home: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Between attempts to reach the node again.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let client = Client::new(&options.remote);
    let home: Vec<_> = options.home.iter().map(|n| ("home", n.as_str())).collect();
    let url = client.url(&["v1", "services", &options.service, "watch"], &home);
    let mut last: Option<String> = None;
    // The first time a node that is not there is the user's to know; later it may be restarting.
    let mut stream = client.stream(&url, None)?;
    loop {
        let elsewhere = follow(stream, &mut last, options.remote.json)?;
        // To where it was sent, if that answers; if not, the node that was named first knows where to.
        if let Some(api) = elsewhere
            && let Ok(found) = client.stream_at(&api, &url, last.as_deref())
        {
            stream = found;
            continue;
        }
        stream = loop {
            std::thread::sleep(PAUSE);
            if let Ok(stream) = client.stream(&url, last.as_deref()) {
                break stream;
            }
        };
    }
}

/// Prints events until the stream ends; returns the URL of the API to go on at, if it was sent there. Fails when they cannot be
/// printed.
fn follow(
    stream: impl io::Read,
    last: &mut Option<String>,
    json: bool,
) -> io::Result<Option<String>> {
    let (mut event, mut data) = (String::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return Ok(None) };
        match line.split_once(": ") {
            Some(("event", name)) => event = name.into(),
            Some(("id", id)) => *last = Some(id.into()),
            Some(("data", text)) => data.push_str(text),
            _ if event == "elsewhere" && line.is_empty() => {
                let data: Value = serde_json::from_str(&data).unwrap_or_default();
                return Ok(data["api"].as_str().map(str::to_owned));
            }
            _ if line.is_empty() && !data.is_empty() => {
                match json {
                    true => writeln!(stdout(), "{data}")?,
                    false => print(&event, &serde_json::from_str(&data).unwrap_or_default())?,
                }
                (event, data) = (String::new(), String::new());
            }
            _ => {}
        }
    }
    Ok(None)
}

fn print(event: &str, data: &Value) -> io::Result<()> {
    let revision = &data["revision"];
    if event == "snapshot" {
        let count = data["instances"].as_array().map_or(0, Vec::len);
        writeln!(stdout(), "{revision:>8}  {count} instances")?;
        for instance in data["instances"].as_array().into_iter().flatten() {
            writeln!(stdout(), "          {}", shown(instance))?;
        }
        return Ok(());
    }
    let change = data["change"].as_str().unwrap_or_default();
    writeln!(
        stdout(),
        "{revision:>8}  {change:<10}  {}",
        shown(&data["instance"])
    )
}

fn shown(instance: &Value) -> String {
    let palette = Palette::for_stdout();
    let text = |name: &str| instance[name].as_str().unwrap_or_default();
    let reason = text("reason");
    let line = format!(
        "{}  {}:{}  {}  {}  {reason}",
        palette.strong(text("id")),
        text("address"),
        instance["port"],
        palette.health(text("health")),
        text("role"),
    );
    line.trim_end().to_owned()
}
