//! A wall clock that is set back, and forward.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Home, ZkClient, until, zk_text};
use crate::skip;

/// The library that gives a process another wall clock, where Debian's package puts it.
fn library() -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    [
        format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1"),
        "/usr/lib/faketime/libfaketimeMT.so.1".into(),
        "/usr/lib64/faketime/libfaketimeMT.so.1".into(),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| Path::exists(path))
}

/// A home whose wall clock is what the file says.
fn with_clock(home: Home, library: &Path, clock: &Path) -> Home {
    std::fs::write(clock, "+0").expect("a file");
    home.env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[test]
fn leases_and_checks_go_by_time_that_passes_and_not_by_the_clock_on_the_wall() {
    let Some(library) = library() else {
        return skip(
            "another wall clock",
            "libfaketime is not installed (package faketime)",
        );
    };
    let home = Home::new("");
    let clock = home.path().join("clock");
    let home = with_clock(home, &library, &clock);
    let node = home.start();
    let register = |id: &str, lease: Value| {
        let body = json!({ "address": "127.0.0.1", "port": 1, "lease": lease });
        node.register("s", id, &body);
        node.read(&format!("/v1/services/s/instances/{id}"))["registered_at"].to_string()
    };
    let before = register("day", json!({ "ttl": "1d", "grace": "0s" }));
    for (offset, short) in [("-400d", "back"), ("+400d", "forward")] {
        std::fs::write(&clock, offset).expect("a file");
        // The wall clock is another one indeed, or this would prove nothing.
        let after = register(short, json!({ "ttl": "1s", "grace": "0s" }));
        let year = |text: &str| text.get(1..5).map(str::to_owned);
        assert_ne!(year(&before), year(&after), "{before} {after}");
        // A lease of a second runs out in about a second, and one of a day does not.
        until("the short lease's end", || {
            node.health("s", short).is_none().then_some(())
        });
        assert_eq!(node.health("s", "day").as_deref(), Some("passing"));
        let beat = node.call(
            "POST",
            "/v1/services/s/instances/day/heartbeat",
            &Value::Null,
        );
        assert_eq!(beat.json()["status"], "renewed");
    }
    node.kill();
    // A log that was written in another century is none the worse.
    std::fs::write(&clock, "-400d").expect("a file");
    let node = home.start();
    assert_eq!(node.health("s", "day").as_deref(), Some("passing"));
}

#[test]
fn sessions_of_zookeepers_clients_do_not_go_by_the_clock_on_the_wall_either() {
    let Some(library) = library() else {
        return skip(
            "another wall clock for sessions",
            "libfaketime is not installed (package faketime)",
        );
    };
    let home =
        Home::new("[front.zookeeper]\nbind = \"127.0.0.1:0\"\nmin_session_timeout = \"1s\"\n");
    let clock = home.path().join("clock");
    let home = with_clock(home, &library, &clock);
    let node = home.start();
    let mut long = ZkClient::open(node.zookeeper(), 30_000);
    assert_eq!(long.create("/long", b"", 1), 0);
    // The statistics of what was made just now.
    let created = |client: &mut ZkClient, path: &str| {
        let (error, stat) = client.ask(3, &[&zk_text(path.as_bytes())[..], &[0]].concat());
        (error == 0).then(|| i64::from_be_bytes(stat[16..24].try_into().expect("eight")))
    };
    let before = created(&mut long, "/long").expect("a node");
    let year = 365 * 86_400_000;
    for (offset, path) in [("-400d", "/back"), ("+400d", "/forward")] {
        std::fs::write(&clock, offset).expect("a file");
        let mut short = ZkClient::open(node.zookeeper(), 1_000);
        assert_eq!(short.create(path, b"", 1), 0);
        let after = created(&mut short, path).expect("a node");
        assert!((after - before).abs() > year, "{before} {after}");
        // One of a second is over after about a second, and one of thirty is not.
        until("the short session's end", || {
            created(&mut long, path).is_none().then_some(())
        });
        assert_eq!(created(&mut long, "/long"), Some(before));
    }
    node.kill();
    std::fs::write(&clock, "-400d").expect("a file");
    let node = home.start();
    let again = ZkClient::resume(node.zookeeper(), 30_000, long.session, &long.password);
    assert_eq!(again.expect("the session").data("/long"), Ok(vec![]));
}
