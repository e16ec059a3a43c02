//! `certificate set|list|remove`.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Remote;
use super::client::Client;
use super::output::table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Give the node a certificate, or another in its place; connections go on
    Set {
        /// Its name, as the configuration has it: certificates = [{ name = "…" }]
        name: String,
        /// A PEM file with the certificate, and behind it those that lead from it to a root
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// A PEM file with its private key, not encrypted
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the certificates that the node shows to others, what for, until when, and who uses them
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Have the node forget a certificate that nobody uses
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Set {
            name,
            certificate,
            key,
            remote,
        } => {
            let client = Client::new(remote);
            let body = json!({ "certificate": read(certificate)?, "key": read(key)? });
            let set = client.put(&url(&client, name), &body)?;
            let said = format!("set, good until {}", text(&set["expires"]));
            tell(remote, &set, &said)?;
        }
        Command::List { remote } => {
            let client = Client::new(remote);
            let all = client.read(&client.url_of_all(&["v1", "certificates"], &[]))?;
            match remote.json {
                true => writeln!(stdout(), "{all}")?,
                false => list(&all)?,
            }
        }
        Command::Remove { name, remote } => {
            let client = Client::new(remote);
            let removed = client.remove(&url(&client, name))?;
            tell(remote, &removed, "removed")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn url(client: &Client<'_>, name: &str) -> String {
    client.url_of_all(&["v1", "certificates", name], &[])
}

fn read(path: &Path) -> anyhow::Result<String> {
    let read = std::fs::read_to_string(path);
    read.with_context(|| format!("{} cannot be read as PEM", path.display()))
}

fn tell(remote: &Remote, answer: &Value, what: &str) -> anyhow::Result<()> {
    match remote.json {
        true => writeln!(stdout(), "{answer}")?,
        false => writeln!(stdout(), "{what}")?,
    }
    Ok(())
}

fn list(answer: &Value) -> anyhow::Result<()> {
    let all = answer["certificates"].as_array();
    let rows: Vec<_> = all.into_iter().flatten().map(row).collect();
    table(&["NAME", "HOSTS", "EXPIRES", "USED BY"], &rows)?;
    Ok(())
}

fn row(certificate: &Value) -> Vec<String> {
    let name = match &certificate["name"] {
        Value::Null => text(&certificate["file"]),
        name => text(name),
    };
    let joined = |list: &Value| {
        let list = list.as_array().into_iter().flatten().map(text);
        list.collect::<Vec<_>>().join(", ")
    };
    let expires = match &certificate["expires"] {
        Value::Null => "not set yet".into(),
        at => text(at),
    };
    vec![
        name,
        joined(&certificate["hosts"]),
        expires,
        joined(&certificate["used_by"]),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}
