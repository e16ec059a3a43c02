//! etcd (Debian: `etcd-server`), with its defaults.

use std::path::Path;
use std::process::Command;

use super::{Node, first_line, setting};
use crate::process::lasting_address;

fn program() -> String {
    setting("ETCD_BIN", "etcd")
}

pub(super) fn missing() -> Option<String> {
    let program = program();
    first_line(Path::new(&program), "--version")
        .is_none()
        .then(|| {
            format!(
                "{program} does not start: install etcd-server, or name the program in ETCD_BIN"
            )
        })
}

pub(super) fn settings() -> String {
    let version = first_line(Path::new(&program()), "--version").unwrap_or_default();
    format!(
        "{version}; its defaults (elections after 1 s, heartbeats every 100 ms), each write synced"
    )
}

pub(super) fn nodes(count: usize, directory: &Path) -> anyhow::Result<Vec<Node>> {
    let mut places = Vec::new();
    for number in 1..=count {
        places.push((format!("n{number}"), lasting_address()?, lasting_address()?));
    }
    let all = places
        .iter()
        .map(|(name, _, peer)| format!("{name}=http://{peer}"));
    let all = all.collect::<Vec<_>>().join(",");
    let node = |(name, clients, peer): (String, _, _)| {
        let mut command = Command::new(program());
        command.args(["--name", &name, "--data-dir"]);
        command.arg(directory.join(&name));
        for (option, address) in [
            ("--listen-client-urls", clients),
            ("--advertise-client-urls", clients),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", peer),
        ] {
            command.arg(option).arg(format!("http://{address}"));
        }
        command.args(["--initial-cluster", &all]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        Node {
            name: format!("etcd-{count}-{name}"),
            command,
            http: Some(clients),
            sessions: None,
            process: None,
        }
    };
    Ok(places.into_iter().map(node).collect())
}
