//! `instance register|deregister|drain|list`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Remote, lookup, wrap};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register an instance; with a command after `--`, for as long as that runs
    Register(Box<Register>),
    /// Remove an instance
    Deregister {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        remote: Remote,
    },
    /// Send an instance no new work
    Drain {
        #[command(flatten)]
        name: Name,
        /// Send it work again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// List a service's instances
    List {
        /// The service
        service: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The service
    pub(super) service: String,
    /// The instance
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    pub(super) name: Name,
    /// Where it is: host:port
    #[arg(long)]
    address: String,
    /// Its share of the traffic
    #[arg(long, default_value_t = 1)]
    weight: u16,
    /// 0 gets the traffic, 1 what 0 has no room for, and so on
    #[arg(long, default_value_t = 0)]
    tier: u8,
    /// The failure domain it runs in
    #[arg(long)]
    zone: Option<String>,
    /// A word to select it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Something its readers may want to know; may be repeated
    #[arg(long = "meta", value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// How long one heartbeat holds, such as 15s
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Keep it without heartbeats, until it is deregistered
    #[arg(long, conflicts_with = "ttl")]
    persistent: bool,
    /// Check it by an HTTP request for this path
    #[arg(long, value_name = "PATH", conflicts_with = "check_tcp")]
    check_http: Option<String>,
    /// Check it by a TCP connection
    #[arg(long)]
    check_tcp: bool,
    /// Time from one check to the next
    #[arg(long, value_name = "TIME")]
    check_interval: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
    /// Run this; the instance is registered as long as it runs, and kept alive by heartbeats. It runs where no node answers, too:
    /// the instance is then registered as soon as one does
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Register(register) if register.command.is_empty() => {
            let record = register.put(&Client::new(&register.remote), &register.body()?)?;
            tell(&register.remote, &record, "registered")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Register(register) => wrap::run(&register),
        Command::Deregister { name, remote } => {
            let client = Client::new(&remote);
            let record = client.remove(&name.url(&client))?;
            tell(&remote, &record, "deregistered")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Drain { name, undo, remote } => {
            let client = Client::new(&remote);
            let record = client.patch(&name.url(&client), &json!({ "drain": !undo }))?;
            tell(
                &remote,
                &record,
                if undo {
                    "takes new work again"
                } else {
                    "draining"
                },
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::List { service, remote } => lookup::show(&service, &remote),
    }
}

fn tell(remote: &Remote, record: &Value, what: &str) -> anyhow::Result<()> {
    match remote.json {
        true => writeln!(stdout(), "{record}")?,
        false => writeln!(stdout(), "{what}")?,
    }
    Ok(())
}

impl Name {
    pub(super) fn url(&self, client: &Client<'_>) -> String {
        client.url(
            &["v1", "services", &self.service, "instances", &self.id],
            &[],
        )
    }

    pub(super) fn heartbeat_url(&self, client: &Client<'_>) -> String {
        client.url(
            &[
                "v1",
                "services",
                &self.service,
                "instances",
                &self.id,
                "heartbeat",
            ],
            &[],
        )
    }
}

impl Register {
    /// Registers the instance; returns its record.
    pub(super) fn put(&self, client: &Client<'_>, body: &Value) -> anyhow::Result<Value> {
        client.put(&self.name.url(client), body)
    }

    /// What is registered.
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let (address, port) = self.address.rsplit_once(':').with_context(|| {
            format!("--address {:?} has no port; write host:port", self.address)
        })?;
        let port: u16 = port
            .parse()
            .with_context(|| format!("--address {:?} ends with no port number", self.address))?;
        let mut body = Map::new();
        body.insert("address".into(), json!(address));
        body.insert("port".into(), json!(port));
        body.insert("weight".into(), json!(self.weight));
        if self.tier != 0 {
            body.insert("tier".into(), json!(self.tier));
        }
        if let Some(zone) = &self.zone {
            body.insert("zone".into(), json!(zone));
        }
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        let pairs = self.metadata.iter().map(|pair| pair_of(pair));
        let pairs: Map<_, _> = pairs.collect::<anyhow::Result<_>>()?;
        if !pairs.is_empty() {
            body.insert("metadata".into(), pairs.into());
        }
        if let Some(ttl) = &self.ttl {
            body.insert("lease".into(), json!({ "ttl": ttl }));
        }
        if self.persistent {
            body.insert("persistent".into(), json!(true));
        }
        if let Some(check) = self.check() {
            body.insert("check".into(), check);
        }
        Ok(body.into())
    }

    fn check(&self) -> Option<Value> {
        let mut check = match &self.check_http {
            Some(path) => json!({ "http": path }),
            None if self.check_tcp => json!({ "tcp": true }),
            None => return None,
        };
        if let Some(interval) = &self.check_interval {
            check["interval"] = json!(interval);
        }
        Some(check)
    }
}

fn pair_of(pair: &str) -> anyhow::Result<(String, Value)> {
    let (name, value) = pair
        .split_once('=')
        .with_context(|| format!("--meta {pair:?} is no NAME=VALUE"))?;
    Ok((name.into(), json!(value)))
}
