//! A disk that is full.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Home, Load, Origin, get, until};
use crate::{privileged, skip};

/// A small file system in memory, mounted until it is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(path: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a directory");
        let mut mount = privileged("mount")?;
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path);
        let done = mount.stderr(Stdio::null()).status();
        done.is_ok_and(|s| s.success())
            .then(|| Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a node of a failed test may use it still.
        let _ = privileged("umount").map(|mut umount| umount.arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_refuses_writes_by_name_and_costs_no_read_no_request_and_nothing_acknowledged() {
    let home = Home::new(
        "[log.access]\nformat = \"off\"\n[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n",
    );
    let disk = home.path().join("disk");
    let options = format!(
        "size=2m,mode=0777,uid={}",
        rustix::process::geteuid().as_raw()
    );
    let Some(_mounted) = Mounted::at(&disk, &options) else {
        return skip("a full disk", "a file system needs root to be mounted");
    };
    let home = home.data_at(disk.join("data"));
    let node = home.start();
    let origin = Origin::named("a");
    let lasting = json!({ "address": "127.0.0.1", "port": origin.port(), "persistent": true });
    node.register("shop", "a", &lasting);
    node.until_eligible("/", 1);
    let load = Load::start(node.web(), 2, "/");

    let filler = disk.join("filler");
    let full = fs::write(&filler, vec![0; 8 << 20]).expect_err("it is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let large = |number: usize| {
        let metadata: serde_json::Map<String, serde_json::Value> = (0..4)
            .map(|n| (format!("m{n}"), json!("x".repeat(4_000))))
            .collect();
        let body =
            json!({ "address": "10.0.0.1", "port": 1, "persistent": true, "metadata": metadata });
        node.call(
            "PUT",
            &format!("/v1/services/large/instances/i{number}"),
            &body,
        )
    };
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let refused = until("a refusal", || {
        number += 1;
        let answer = large(number);
        if answer.status == 201 {
            acknowledged.push(number);
            return None;
        }
        Some(answer)
    });
    assert_eq!(refused.status, 503, "{}", refused.text());
    let detail = refused.json()["detail"]
        .as_str()
        .expect("a detail")
        .to_owned();
    println!("refused with: {detail}");
    assert!(detail.contains("No space left on device"), "{detail}");
    assert!(refused.header("retry-after").is_some());
    let said = node
        .said()
        .until_line("pointsman: registry: nothing can be registered here: ");
    assert!(said.contains("No space left on device"), "{said}");
    // Nothing of it is there, reads go on, and so does traffic; again and again.
    for further in 1..20 {
        assert_eq!(large(number + further).status, 503);
        assert_eq!(
            node.health("large", &format!("i{}", number + further)),
            None
        );
    }
    assert_eq!(node.health("shop", "a").as_deref(), Some("passing"));
    assert_eq!(get(node.api, "/healthz").status, 200);
    load.further(500);

    fs::remove_file(&filler).expect("it is there");
    let took = until("writes again, or the advice to restart", || {
        let answer = large(0);
        (answer.status == 201 || answer.text().contains("restart")).then_some(answer.status)
    });
    load.further(100);
    load.finish().assert_whole();
    if took == 201 {
        acknowledged.push(0);
        node.said()
            .until_line("pointsman: registry: what is registered is written again");
    }
    println!("writes after space was freed: {took}");
    assert_eq!(
        get(node.api, "/readyz").status,
        if took == 201 { 200 } else { 503 }
    );
    node.kill();
    let node = home.start();
    println!("{}", node.said().text());
    assert_eq!(node.health("shop", "a").as_deref(), Some("passing"));
    let list = node.read("/v1/services/large");
    let mut ids: Vec<usize> = list["instances"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|i| {
            i["id"]
                .as_str()
                .and_then(|id| id[1..].parse().ok())
                .expect("a number")
        })
        .collect();
    ids.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(ids, acknowledged);
}

#[test]
fn a_disk_that_is_mounted_read_only_is_told_at_the_start() {
    let home = Home::new("");
    let disk = home.path().join("disk");
    let Some(_mounted) = Mounted::at(&disk, "size=1m,ro") else {
        return skip("a read-only disk", "a file system needs root to be mounted");
    };
    let said = home.data_at(disk.join("data")).refusal();
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains(&disk.display().to_string()), "{said}");
}
