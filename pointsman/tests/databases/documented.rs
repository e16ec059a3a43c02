//! The page about databases: its configurations are good ones, and its tour goes as it says.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Directory, binary, pointsman};
use crate::server;

const PAGE: &str = include_str!("../../../docs/databases.md");

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    let after = PAGE.split(&*begin).skip(1);
    after
        .map(|rest| rest.split("```\n").next().expect("an end"))
        .collect()
}

#[test]
fn the_configurations_of_the_page_have_no_fault() {
    let directory = Directory::new();
    let configurations = blocks("toml");
    assert_eq!(configurations.len(), 2);
    for (n, text) in configurations.into_iter().enumerate() {
        let file = directory.write(&format!("{n}.toml"), text);
        // The certificates that it names are nowhere.
        let file = file.to_str().expect("a path");
        let output = pointsman(["config", "check", "--no-files", "-c", file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{n}: {said}");
    }
}

#[test]
fn the_tour_of_the_page_goes_as_it_says() {
    let name = "the_tour_of_the_page_goes_as_it_says";
    let Some([_, _, bash]) = server::programs(name, ["redis-server", "redis-cli", "bash"]) else {
        return;
    };
    let directory = Directory::new();
    let mut tour = blocks("sh")
        .first()
        .expect("a tour")
        .replace("/tmp", directory.path().to_str().expect("a path"));
    // The ports of the page may be taken here.
    for port in [6401, 6402, 7070] {
        tour = tour.replace(&port.to_string(), &server::free_port().to_string());
    }
    let api = tour
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .expect("the API's address");
    let api = format!("[api]\nbind = {api:?}\n[service.cache.check]");
    tour = tour.replacen("[service.cache.check]", &api, 1);
    let said = run(&bash, &tour);
    let row = |n: usize, id: &str| {
        let mut rows = said.lines().filter(|line| line.starts_with(id));
        rows.nth(n)
            .unwrap_or_else(|| panic!("{id} in {said}"))
            .to_owned()
    };
    assert!(
        row(0, "one").contains(" primary ") && row(0, "two").contains(" replica "),
        "{said}"
    );
    assert!(
        row(1, "two").contains(" primary ") && row(1, "one").contains(" replica "),
        "{said}"
    );
    let picked: Vec<_> = said.lines().filter(|line| line.starts_with('{')).collect();
    assert!(
        picked[0].contains("\"id\":\"one\"") && picked[1].contains("\"id\":\"two\""),
        "{said}"
    );
}

/// Job control, for `%1` and the like as at a prompt; and whatever still runs at the end is ended.
const LEAVES_NOTHING: &str =
    "set -m\ntrap 'kill $(jobs -p) 2> /dev/null' EXIT\ntrap 'exit 1' TERM\n";

/// What the script printed.
fn run(bash: &Path, script: &str) -> String {
    let program = Path::new(binary()).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let port = script
        .split("[api]\nbind = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let child = Command::new(bash)
        .args(["-c", &format!("{LEAVES_NOTHING}{script}\nwait")])
        .env("PATH", format!("{}:{path}", program.display()))
        .env(
            "POINTSMAN_API",
            format!("http://{}", port.expect("an address")),
        )
        .current_dir("/")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let pid = Pid::from_child(&child);
    let (done, over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        // It takes five seconds; one that hangs is ended.
        if over.recv_timeout(crate::harness::PATIENCE * 2).is_err() {
            let _ = kill_process(pid, Signal::TERM);
        }
    });
    let output = child.wait_with_output().expect("its end");
    let _ = done.send(());
    guard.join().expect("no panic");
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
