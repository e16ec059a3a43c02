//! What is left after disks were lost or damaged, and how a cluster goes on from there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, NAMES, ids, leader_of, try_register};
use crate::harness::{Home, Node, pointsman, until};

fn cluster_command(node: &Node, args: [&str; 2]) -> (bool, String) {
    let output = pointsman(["cluster", args[0], args[1], "--api", &node.url()]);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The newest segment of a node's log.
fn segment(home: &Home) -> PathBuf {
    let files = std::fs::read_dir(home.data()).expect("a directory");
    let paths = files.map(|file| file.expect("a file").path());
    let logs = paths.filter(|path| {
        path.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("log-"))
    });
    logs.max().expect("a segment")
}

#[test]
fn a_damaged_log_is_refused_and_its_node_comes_back_from_the_others() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    for n in 0..50 {
        assert_eq!(
            try_register(&cluster.nodes[leader], &format!("i-{n}")).status,
            201
        );
    }
    let hurt = NAMES.into_iter().find(|n| *n != leader).expect("one");
    until("it has them", || {
        (ids(&cluster.nodes[hurt]).len() == 50).then_some(())
    });
    cluster.nodes.remove(hurt).expect("it runs").stop();
    let home = &cluster.homes[hurt];
    let path = segment(home);
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[600] ^= 1;
    std::fs::write(&path, bytes).expect("a segment");
    let refusal = home.refusal();
    assert!(refusal.contains("is damaged at byte"), "{refusal}");
    assert!(refusal.contains("pointsman cluster wipe"), "{refusal}");
    let (well, said) = home.run(&["cluster", "wipe"]);
    let place = home.data().display().to_string();
    assert!(
        !well && said.contains("--yes") && said.contains(&place),
        "{said}"
    );
    let (well, said) = home.run(&["cluster", "wipe", "--yes"]);
    assert!(well && said.contains("aside-1"), "{said}");
    // Its old data is not deleted, and it does not take part as if it had never promised anything.
    assert!(
        home.data()
            .join("aside-1")
            .join(path.file_name().expect("a name"))
            .exists()
    );
    cluster.start(hurt);
    let said = cluster.nodes[hurt].said();
    said.until_line(&format!("pointsman cluster remove {hurt}"));
    said.until_line("was refused: it means this node with another data directory");
    let (well, said) = cluster_command(&cluster.nodes[leader], ["remove", hurt]);
    assert!(well, "{said}");
    until("it is taken in", || {
        (ids(&cluster.nodes[hurt]).len() == 50).then_some(())
    });
    let (well, said) = cluster_command(&cluster.nodes[hurt], ["promote", hurt]);
    assert!(
        well && said.contains("one of 3, which survive the loss of 1"),
        "{said}"
    );
    // That the others were refused meanwhile is over, and so is every fault.
    until("all is well", || {
        let (well, _) = cluster_command(&cluster.nodes[hurt], ["status", "--json"]);
        well.then_some(())
    });
}

#[test]
fn nobody_s_data_is_moved_aside_unless_it_is_said_whose() {
    let home = Home::new("");
    let node = home.start();
    node.register(
        "s",
        "a",
        &json!({ "address": "127.0.0.1", "port": 1, "persistent": true }),
    );
    node.stop();
    let said = pointsman(["cluster", "wipe", "--yes"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(
        text.contains("-c FILE") && text.contains("--data-dir"),
        "{text}"
    );
    let place = home.data().display().to_string();
    let said = pointsman(["cluster", "wipe", "--yes", "--data-dir", &place]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains(&place), "{said:?}");
    assert!(home.data().join("aside-1").exists());
    assert_eq!(home.start().health("s", "a"), None);
}

#[test]
fn nothing_is_restored_or_made_a_cluster_unless_it_is_said_whose() {
    let home = Home::new("");
    let node = home.start();
    assert_eq!(try_register(&node, "a").status, 201);
    let backup = home.path().join("backup").display().to_string();
    let (well, said) = cluster_command(&node, ["snapshot", &backup]);
    assert!(well, "{said}");
    let refused = |said: Output| {
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains("say which node's data is meant"), "{text}");
        text
    };
    let text = refused(pointsman(["cluster", "restore", &backup]));
    assert!(
        text.contains("-c FILE") && text.contains("--data-dir"),
        "{text}"
    );
    let text = refused(pointsman(["cluster", "recover", "--yes"]));
    assert!(
        text.contains("-c FILE") && !text.contains("--data-dir"),
        "{text}"
    );
    // A node that runs without a configuration has but a directory.
    let place = home.path().join("other").display().to_string();
    let restore = ["cluster", "restore", &backup, "--data-dir", &place];
    let said = pointsman(restore);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains(&place), "{said:?}");
    let said = pointsman(restore);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("is not empty"), "{text}");
}

#[test]
fn one_node_that_is_left_goes_on_and_the_others_join_it_anew() {
    let mut cluster = Cluster::plain();
    cluster.leader();
    for n in 0..20 {
        assert_eq!(
            try_register(&cluster.nodes["n2"], &format!("i-{n}")).status,
            201
        );
    }
    until("all have them", || {
        cluster
            .nodes
            .values()
            .all(|node| ids(node).len() == 20)
            .then_some(())
    });
    for name in NAMES {
        cluster.nodes.remove(name).expect("it runs").kill();
    }
    let home = &cluster.homes["n3"];
    let (well, said) = home.run(&["cluster", "recover"]);
    assert!(!well && said.contains("--yes"), "{said}");
    let (well, said) = home.run(&["cluster", "recover", "--yes", "--json"]);
    assert!(
        well && said.contains("\"instances\":20") && said.contains("\"left_out\":[\"n"),
        "{said}"
    );
    // Once more does no harm.
    let (well, said) = home.run(&["cluster", "recover", "--yes"]);
    assert!(well && said.contains("with 20 instances"), "{said}");
    cluster.start("n3");
    until("it leads", || {
        (leader_of(&cluster.nodes["n3"])? == "n3").then_some(())
    });
    assert_eq!(try_register(&cluster.nodes["n3"], "after").status, 201);
    // One with its old data is a stranger to it, and has no say.
    cluster.start("n1");
    until("it is refused", || {
        let refused = cluster.nodes["n3"].read("/v1/cluster")["refused"].clone();
        refused
            .as_str()?
            .contains("with another data directory")
            .then_some(())
    });
    assert_eq!(try_register(&cluster.nodes["n3"], "more").status, 201);
    cluster.nodes.remove("n1").expect("it runs").stop();
    for name in ["n1", "n2"] {
        let (well, said) = cluster.homes[name].run(&["cluster", "wipe", "--yes"]);
        assert!(well, "{said}");
        cluster.start(name);
        until("it has everything", || {
            (ids(&cluster.nodes[name]).len() == 22).then_some(())
        });
        let (well, said) = cluster_command(&cluster.nodes["n3"], ["promote", name]);
        assert!(well, "{said}");
    }
    // And after all that, any one may be lost.
    let leader = cluster.leader();
    cluster.nodes.remove(leader).expect("it runs").kill();
    until("a write", || {
        let node = cluster.other_than(leader);
        (try_register(node, "last").status == 201).then_some(())
    });
}

#[test]
fn a_snapshot_is_saved_checked_and_restored_into_a_new_cluster_or_a_node_that_is_alone() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    for n in 0..30 {
        assert_eq!(
            try_register(&cluster.nodes[leader], &format!("i-{n}")).status,
            201
        );
    }
    let home = Home::new("");
    let file = home.path().join("backup");
    let (well, said) = cluster_command(
        &cluster.nodes[leader],
        ["snapshot", &file.display().to_string()],
    );
    assert!(well && said.contains("with 30 instances"), "{said}");
    drop(cluster);
    // Passwords of checks are in it.
    let mode = std::fs::metadata(&file).expect("a snapshot").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let path = file.display().to_string();
    let (well, said) = home.run(&["cluster", "restore", &path]);
    assert!(well && said.contains("with 30 instances"), "{said}");
    let node = home.start();
    assert_eq!(ids(&node).len(), 30);
    assert_eq!(try_register(&node, "after").status, 201);
    // Also of a node that is alone.
    let (well, said) = cluster_command(&node, ["snapshot", &path]);
    assert!(well && said.contains("with 31 instances"), "{said}");
    node.stop();
    let (well, said) = home.run(&["cluster", "restore", &path]);
    assert!(!well && said.contains("is not empty"), "{said}");
    assert_eq!(ids(&home.start()).len(), 31);
    let mut bytes = std::fs::read(&file).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("a snapshot");
    let (well, said) = Home::new("").run(&["cluster", "restore", &path]);
    assert!(!well && said.contains("is damaged at byte"), "{said}");
}

#[test]
fn a_copy_of_a_cluster_that_has_had_many_leaders_begins_another_that_works() {
    let mut cluster = Cluster::plain();
    let mut leaders = vec![cluster.leader()];
    for _ in 0..2 {
        let asked = &cluster.nodes[leaders[leaders.len() - 1]];
        let (well, said) = cluster_command(asked, ["transfer", "--json"]);
        assert!(well, "{said}");
        leaders.push(cluster.leader());
    }
    let last = &cluster.nodes[leaders[2]];
    assert_eq!(try_register(last, "a").status, 201);
    let home = Home::new("");
    let file = home.path().join("backup").display().to_string();
    let (well, said) = cluster_command(last, ["snapshot", &file]);
    assert!(well, "{said}");
    drop(cluster);

    cluster = Cluster::of_one(home);
    let (well, said) = cluster.homes["n1"].run(&["cluster", "restore", &file]);
    assert!(well, "{said}");
    cluster.start("n1");
    cluster.leader();
    assert_eq!(try_register(&cluster.nodes["n1"], "b").status, 201);
    // What is written now is later than what was restored, for those that join, too.
    cluster.join("n2");
    cluster.join("n3");
    for name in ["n2", "n3"] {
        until("the others have it", || {
            (ids(&cluster.nodes[name]) == ["a", "b"]).then_some(())
        });
        let (well, said) = cluster_command(&cluster.nodes["n1"], ["promote", name]);
        assert!(well, "{said}");
    }
    assert_eq!(try_register(&cluster.nodes["n2"], "c").status, 201);
    cluster.nodes.remove("n1").expect("it runs").kill();
    until("they go on", || {
        (try_register(&cluster.nodes["n2"], "d").status == 201).then_some(())
    });
    assert_eq!(ids(&cluster.nodes["n2"]), ["a", "b", "c", "d"]);
}

#[test]
fn a_node_whose_disk_was_set_back_is_filled_again_and_the_leader_goes_on() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    let back = NAMES.into_iter().find(|n| *n != leader).expect("one");
    let register = |cluster: &Cluster, numbers: std::ops::Range<usize>| {
        for n in numbers {
            let answer = try_register(&cluster.nodes[leader], &format!("i-{n}"));
            assert_eq!(answer.status, 201);
        }
    };
    let until_it_has = |cluster: &Cluster, count: usize| {
        until("it has them", || {
            (ids(&cluster.nodes[back]).len() == count).then_some(())
        });
    };
    register(&cluster, 0..10);
    until_it_has(&cluster, 10);
    cluster.nodes.remove(back).expect("it runs").stop();
    let data = cluster.homes[back].data().to_owned();
    let copy = data.with_extension("copy");
    let copied = |from: &Path, to: &Path| {
        std::fs::create_dir(to).expect("a directory");
        for file in std::fs::read_dir(from).expect("a directory") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    };
    copied(&data, &copy);
    cluster.start(back);
    register(&cluster, 10..30);
    until_it_has(&cluster, 30);
    cluster.nodes.remove(back).expect("it runs").stop();
    std::fs::remove_dir_all(&data).expect("a directory");
    copied(&copy, &data);
    cluster.start(back);
    register(&cluster, 30..40);
    until_it_has(&cluster, 40);
    assert_eq!(cluster.leader(), leader);
    until("all is well", || {
        let (well, _) = cluster_command(&cluster.nodes[back], ["status", "--json"]);
        well.then_some(())
    });
}

#[test]
fn a_node_that_was_alone_becomes_the_first_of_a_cluster() {
    let home = Home::new("");
    let node = home.start();
    assert_eq!(try_register(&node, "a").status, 201);
    node.stop();
    let mut cluster = Cluster::of_one(home);
    let refusal = cluster.homes["n1"].refusal();
    assert!(refusal.contains("pointsman cluster recover"), "{refusal}");
    let (well, said) = cluster.homes["n1"].run(&["cluster", "recover", "--yes"]);
    assert!(well, "{said}");
    cluster.start("n1");
    until("it leads", || {
        (leader_of(&cluster.nodes["n1"])? == "n1").then_some(())
    });
    // A majority of one need not be asked. The length of the silence is what is tested.
    let silent = Instant::now();
    while silent.elapsed() < Duration::from_secs(3) {
        assert_eq!(leader_of(&cluster.nodes["n1"]).as_deref(), Some("n1"));
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.join("n2");
    until("the other has it", || {
        (ids(&cluster.nodes["n2"]) == ["a"]).then_some(())
    });
    assert_eq!(try_register(&cluster.nodes["n2"], "b").status, 201);
}
