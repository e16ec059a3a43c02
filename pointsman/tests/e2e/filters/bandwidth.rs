//! Bodies that are held back.

use std::time::{Duration, Instant};

use super::{Ask, BOTH, before};
use crate::harness::{Origin, Reply};

#[test]
fn bodies_move_no_faster_than_they_may_and_arrive_whole() {
    let origin = Origin::answering(|heard| match heard.path() {
        "/up" => Reply::text(&heard.body.len().to_string()),
        _ => Reply {
            body: vec![b'x'; 600_000],
            ..Reply::text("")
        },
    });
    let node = before(
        &origin,
        "filters.bandwidth = { request = \"1MiB\", response = \"1MiB\" }",
    );
    for speaks in BOTH {
        let began = Instant::now();
        let down = Ask::get("/").of(&node, speaks);
        let took = began.elapsed();
        assert_eq!(down.body.len(), 600_000);
        // All but what came with the head, at a MiB a second.
        assert!(took >= Duration::from_millis(450), "{speaks:?}: {took:?}");
        let body = vec![b'y'; 600_000];
        let began = Instant::now();
        let up = Ask {
            method: "POST",
            body: &body,
            ..Ask::get("/up")
        };
        assert_eq!(up.of(&node, speaks).text(), "600000");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300), "{speaks:?}: {took:?}");
        // What is small does not wait.
        assert_eq!(Ask::get("/up").of(&node, speaks).text(), "0");
    }
}
