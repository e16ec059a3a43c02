//! What happens in the worst hour: power cuts, killed instances, full disks, stopped clocks, ten thousand clients that
//! mean no good. Minutes of it, so that it has a step of its own: `cargo test --release --test survival`.

#[path = "../harness/mod.rs"]
mod harness;

mod changes;
mod clock;
mod crash;
mod cuts;
mod disk;
mod floods;
mod idle;
mod killed_instance;
mod layer4;
mod network;
mod slow_clients;
mod stopped;

use std::process::{Command, Stdio};

/// Names what a test needs and this machine has not. Where `CI` is set, that is a failure.
fn skip(test: &str, why: &str) {
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    assert!(
        !strict,
        "{test}: {why}, and with CI=true nothing is skipped"
    );
    eprintln!("skipped: {test}: {why}");
}

/// A command with an administrator's rights; `None` if they are not to be had without asking.
fn privileged(program: &str) -> Option<Command> {
    let mut command = Command::new("sudo");
    if rustix::process::geteuid().is_root() {
        command = Command::new(program);
    } else {
        let may = Command::new("sudo")
            .args(["-n", "true"])
            .stderr(Stdio::null())
            .status();
        if !may.is_ok_and(|status| status.success()) {
            return None;
        }
        command.args(["-n", program]);
    }
    Some(command)
}
