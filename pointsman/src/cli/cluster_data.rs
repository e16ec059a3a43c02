//! `cluster snapshot|restore|recover|wipe`.

use std::fs::{File, Permissions};
use std::io::{Write, copy, stdout};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use ::cluster::rescue::{self, Rescued};
use anyhow::{Context, bail};
use config::Config;
use serde_json::json;

use super::check::load;
use super::client::Client;
use super::cluster::Whose;
use super::{Files, Remote};
use crate::node::registry_options;

/// Saves a snapshot: under another name first, and checked before it gets its own.
pub(super) fn snapshot(file: &Path, remote: &Remote) -> anyhow::Result<ExitCode> {
    let client = Client::new(remote);
    let mut from = client.download(&client.url_of_all(&["v1", "cluster", "snapshot"], &[]))?;
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let place = || format!("cannot write {}", part.display());
    // What checks sign in with is in it, as it is in the data directory.
    let mut private = File::options();
    private.write(true).create(true).truncate(true).mode(0o600);
    let mut out = private.open(part).with_context(place)?;
    // One that an earlier try has left may be for all to read.
    out.set_permissions(Permissions::from_mode(0o600))
        .with_context(place)?;
    let bytes = copy(&mut from, &mut out).context("the snapshot broke off")?;
    out.sync_all().with_context(place)?;
    let checked = rescue::verify(File::open(part).with_context(place)?);
    let (revision, instances) =
        checked.context("the snapshot did not come whole; take it again")?;
    std::fs::rename(part, file).with_context(|| format!("cannot write {}", file.display()))?;
    if remote.json {
        let said = json!({ "revision": revision.0, "instances": instances, "bytes": bytes });
        writeln!(stdout(), "{said}")?;
    } else {
        let file = file.display();
        writeln!(
            stdout(),
            "revision {revision} with {instances} instances is in {file}, {bytes} bytes"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(file: &Path, whose: &Whose, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = whose.config()?;
    let options = registry_options(&config)?;
    let from = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let restored = rescue::restore(&options, from).context("nothing was restored")?;
    if as_json {
        return tell_json(&restored);
    }
    tell(&restored, &config, "is at")?;
    next_steps(config.cluster.is_some())
}

pub(super) fn recover(files: &Files, yes: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    if files.files.is_empty() {
        // What the node is called, and where others reach it, is nowhere else.
        bail!("say which node's data is meant: by -c FILE, as the node is started with");
    }
    if !yes {
        bail!(
            "this makes the node a cluster of its own. If its others run on, there are two, which both take writes: stop them \
             first, and empty them afterwards. Say so with --yes"
        );
    }
    let config = load(files)?.config;
    let recovered = rescue::recover(&registry_options(&config)?).context("nothing was changed")?;
    if as_json {
        return tell_json(&recovered);
    }
    tell(&recovered, &config, "goes on from")?;
    for name in &recovered.left_out {
        writeln!(stdout(), "{name} does not belong to it any more")?;
    }
    next_steps(true)
}

pub(super) fn wipe(whose: &Whose, yes: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = whose.config()?;
    let directory = &config.node.data_dir;
    let place = directory.display();
    if !yes {
        bail!(
            "this moves aside all that the node has in {place}, votes and all. Other nodes must have it, or a snapshot. Say so \
             with --yes"
        );
    }
    let aside = rescue::wipe(directory)?;
    let mut out = stdout();
    if as_json {
        writeln!(out, "{}", json!({ "aside": aside.display().to_string() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "the node's data of {place} is in {} now; remove it when it is not needed",
        aside.display()
    )?;
    if config.cluster.is_some() || whose.data_dir.is_some() {
        writeln!(
            out,
            "if the node belongs to a cluster still: `pointsman cluster remove NAME` at another node; then start it, and \
             `pointsman cluster promote NAME`"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Whose {
    /// The configuration of the node that is meant. In the default directory, another one's data may be.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = load(&self.files)?.config;
        match &self.data_dir {
            Some(directory) => config.node.data_dir = directory.clone(),
            None if self.files.files.is_empty() => bail!(
                "say which node's data is meant: by -c FILE, as the node is started with, or by --data-dir DIR. Without either, it \
                 would be what is in {}",
                config.node.data_dir.display()
            ),
            None => {}
        }
        Ok(config)
    }
}

fn tell_json(rescued: &Rescued) -> anyhow::Result<ExitCode> {
    let said = json!({
        "revision": rescued.revision.0, "instances": rescued.instances, "left_out": rescued.left_out,
    });
    writeln!(stdout(), "{said}")?;
    Ok(ExitCode::SUCCESS)
}

fn tell(rescued: &Rescued, config: &Config, what: &str) -> anyhow::Result<()> {
    let Rescued {
        revision,
        instances,
        ..
    } = rescued;
    writeln!(
        stdout(),
        "the data directory {} {what} revision {revision}, with {instances} instances",
        config.node.data_dir.display()
    )?;
    Ok(())
}

fn next_steps(cluster: bool) -> anyhow::Result<ExitCode> {
    if cluster {
        writeln!(
            stdout(),
            "the node is the only one of its cluster: start it; then start others with empty data directories, which join it as \
             observers, and `pointsman cluster promote` them one by one"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
