//! How many requests in a time and at a time, and how large.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Ask, BOTH, Speaks, before, mirror, refused};
use crate::harness::{Connection, Origin, Reply, get, until};

#[test]
fn what_is_beyond_the_burst_is_refused_by_key_and_on_all_workers() {
    let origin = mirror();
    // So slow that nothing comes back while the test runs.
    let node = before(
        &origin,
        "filters.rate_limit = [{ rate = \"1/h\", burst = 5, key = \"header:X-Key\" }]",
    );
    for speaks in BOTH {
        let key = format!("{speaks:?}");
        let fields = [("x-key", &*key)];
        // Each on a connection of its own: whichever worker has it, the limit is one.
        let statuses: Vec<_> = (0..12)
            .map(|_| Ask::get("/").with(&fields).of(&node, speaks).status)
            .collect();
        assert_eq!(statuses[..5], [200; 5]);
        assert_eq!(statuses[5..], [429; 7]);
        let refused = Ask::get("/").with(&fields).of(&node, speaks);
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&wait), "{wait}");
        // Others have their own, and who has no key has no limit.
        let other = [("x-key", "other")];
        assert_eq!(Ask::get("/").with(&other).of(&node, speaks).status, 200);
        (0..7).for_each(|_| assert_eq!(Ask::get("/").of(&node, speaks).status, 200));
    }
    assert_eq!(refused(&node, "rate"), 16.0);
    node.logged().until_line("\"ended\":\"rate\"");
}

#[test]
fn what_a_limit_remembers_outlives_a_change_of_something_else() {
    let origin = mirror();
    let filters = "filters.rate_limit = [{ rate = \"1/h\", burst = 2 }]\n";
    let node = before(&origin, filters);
    let statuses = || {
        (0..3)
            .map(|_| get(node.web(), "/").status)
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses(), [200, 200, 429]);
    let more = format!("{filters}filters.max_body = \"1KiB\"\n");
    node.reload(&super::config(&origin, &more));
    assert_eq!(statuses(), [429; 3]);
    node.reload(&super::config(&origin, &filters.replace("2 }", "3 }")));
    assert_eq!(statuses(), [200; 3]);
}

#[test]
fn what_is_delayed_goes_on_in_its_turn_and_no_more_than_the_burst_wait() {
    let origin = mirror();
    let node = before(
        &origin,
        "filters.rate_limit = [{ rate = \"10/s\", burst = 4, key = \"route\", excess = \"delay\" }]",
    );
    let began = Instant::now();
    let web = node.web();
    let asked: Vec<_> = (0..12)
        .map(|_| std::thread::spawn(move || get(web, "/").status))
        .collect();
    let statuses: Vec<_> = asked
        .into_iter()
        .map(|asked| asked.join().unwrap())
        .collect();
    let took = began.elapsed();
    let passed = statuses.iter().filter(|&&status| status == 200).count();
    let refused = statuses.iter().filter(|&&status| status == 429).count();
    assert_eq!(passed + refused, 12, "{statuses:?}");
    // One at once, four that wait; and as many more as the machine took tenths of a second to ask.
    assert!(passed >= 5, "{statuses:?}");
    assert!(
        took >= Duration::from_millis(100) * (passed as u32 - 1),
        "{took:?} for {passed}"
    );
}

#[test]
fn no_more_than_so_many_are_served_at_a_time() {
    let open = Arc::new(AtomicBool::new(false));
    let present = Arc::new(AtomicUsize::new(0));
    let (wait, here) = (open.clone(), present.clone());
    let origin = Origin::answering(move |heard| {
        if heard.path() == "/slow" {
            here.fetch_add(1, SeqCst);
            until("it is let go", || wait.load(SeqCst).then_some(()));
        }
        Reply::text("done")
    });
    let node = before(&origin, "filters.concurrency = [{ max = 2 }]");
    let web = node.web();
    let slow: Vec<_> = (0..2)
        .map(|_| std::thread::spawn(move || get(web, "/slow").status))
        .collect();
    until("both are under way", || {
        (present.load(SeqCst) == 2).then_some(())
    });
    for speaks in BOTH {
        let refused = Ask::get("/").of(&node, speaks);
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (429, Some("1"))
        );
    }
    open.store(true, SeqCst);
    slow.into_iter()
        .for_each(|slow| assert_eq!(slow.join().unwrap(), 200));
    for speaks in BOTH {
        until("their places are free again", || {
            (Ask::get("/").of(&node, speaks).status == 200).then_some(())
        });
    }
    assert!(refused(&node, "concurrency") >= 2.0);
}

#[test]
fn bodies_are_held_to_their_limit_however_they_come() {
    let origin = Origin::answering(|heard| Reply::text(&heard.body.len().to_string()));
    let node = before(&origin, "filters.max_body = \"100KiB\"");
    let most = vec![b'x'; 100 << 10];
    let more = vec![b'x'; (100 << 10) + 1];
    for speaks in BOTH {
        let ask = |body| Ask {
            method: "POST",
            body,
            ..Ask::get("/")
        };
        let whole = ask(&most).of(&node, speaks);
        assert_eq!((whole.status, whole.text()), (200, "102400"));
        // In HTTP/2 without a Content-Length: the limit is met on the way.
        assert_eq!(ask(&more).of(&node, speaks).status, 413, "{speaks:?}");
    }
    let chunked = |bytes: usize| {
        let mut client = Connection::open(node.web());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes));
        let _ = client.try_send(chunk);
        client.answer().status
    };
    assert_eq!(
        (
            chunked(100 << 10),
            chunked((100 << 10) + 1),
            chunked(1 << 20)
        ),
        (200, 413, 413)
    );
    // Whoever asks first is told before it sends anything.
    let mut client = Connection::open(node.web());
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 102401\r\n\r\n",
    );
    assert_eq!(client.try_head().unwrap().status, 413);
    assert!(refused(&node, "body") >= 5.0);
    assert_eq!(Ask::get("/").of(&node, Speaks::Http11).status, 200);
}
