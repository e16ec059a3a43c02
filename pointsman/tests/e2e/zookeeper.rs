//! ZooKeeper's clients, and what they register.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Home, Node, Origin, PATIENCE, ZkClient, get, until, zk_create, zk_text};

const CONFIG: &str = r#"
    [front.zookeeper]
    bind = "127.0.0.1:0"
    min_session_timeout = "1s"
    [listener.web]
    bind = "127.0.0.1:0"
    service = "shop"
"#;

fn instances(node: &Node, service: &str) -> usize {
    let answer = get(node.api, &format!("/v1/services/{service}"));
    match answer.status {
        200 => answer.json()["instances"].as_array().map_or(0, Vec::len),
        _ => 0,
    }
}

fn registered(port: u16) -> Vec<u8> {
    let payload = json!({ "metadata": { "weight": "5" } });
    let instance = json!({ "name": "shop", "id": "shop-1", "address": "127.0.0.1", "port": port, "payload": payload });
    instance.to_string().into_bytes()
}

#[test]
fn what_a_session_registers_is_sent_traffic_until_the_session_ends() {
    let node = Home::new(CONFIG).start();
    let origin = Origin::named("a");
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    for path in ["/services", "/services/shop"] {
        assert_eq!(client.create(path, b"", 0), 0);
    }
    let before = node.said().len();
    assert_eq!(client.create("/services/shop/broken", b"{", 1), 0);
    // Not ephemeral: a note of some kind, not an instance.
    assert_eq!(client.create("/services/shop/note", &registered(1), 0), 0);
    assert_eq!(
        client.create("/services/shop/shop-1", &registered(origin.port()), 1),
        0
    );
    node.until_eligible("/", 1);
    assert_eq!(get(node.web(), "/").text(), "a");
    let found = node.read("/v1/services/shop");
    let found = &found["instances"];
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&found[0]["id"], &found[0]["weight"]),
        (&json!("shop-1"), &json!(5))
    );
    let said = node.said().text()[before..].to_owned();
    assert!(said.contains("/services/shop/broken"), "{said}");
    let metrics = get(node.api, "/metrics");
    assert!(
        metrics
            .text()
            .contains("\npointsman_zookeeper_skipped_total 1\n")
    );
    client.close();
    until("nothing registered", || {
        (instances(&node, "shop") == 0).then_some(())
    });
    until("no traffic", || {
        (get(node.web(), "/").status == 503).then_some(())
    });
}

#[test]
fn after_a_kill_sessions_can_be_taken_up_and_those_that_are_not_end_with_what_they_registered() {
    let home = Home::new(CONFIG);
    let node = home.start();
    let mut kept = ZkClient::open(node.zookeeper(), 4_000);
    let mut lost = ZkClient::open(node.zookeeper(), 1_000);
    for path in ["/services", "/services/shop"] {
        assert_eq!(kept.create(path, b"", 0), 0);
    }
    assert_eq!(kept.create("/services/shop/kept", &registered(1), 1), 0);
    let other = String::from_utf8(registered(2))
        .expect("JSON")
        .replace("shop-1", "shop-2");
    assert_eq!(lost.create("/services/shop/lost", other.as_bytes(), 1), 0);
    until("both registered", || {
        (instances(&node, "shop") == 2).then_some(())
    });
    node.kill();
    let node = home.start();
    let (session, password) = (kept.session, kept.password.clone());
    let forger = ZkClient::resume(node.zookeeper(), 4_000, session, &[7; 16]);
    assert!(forger.is_none());
    let again = ZkClient::resume(node.zookeeper(), 4_000, session, &password);
    let mut again = again.expect("the session is still there");
    until("the other's instance gone", || {
        again.ask(11, &[]);
        (instances(&node, "shop") == 1).then_some(())
    });
    assert_eq!(again.data("/services/shop/lost"), Err(-101));
    assert_eq!(again.data("/services/shop/kept"), Ok(registered(1)));
    let over = ZkClient::resume(node.zookeeper(), 1_000, lost.session, &lost.password);
    assert!(over.is_none());
}

#[test]
fn a_thousand_requests_at_once_are_answered_in_order() {
    let node = Home::new(CONFIG).start();
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    let mut sent = Vec::new();
    for number in 0..1_000_i32 {
        let path = zk_text(b"/a");
        sent.push(match number % 3 {
            0 => client.send(
                5,
                &[path, zk_text(&number.to_be_bytes()), vec![255; 4]].concat(),
            ),
            1 => client.send(4, &[path, vec![u8::from(number % 7 == 0)]].concat()),
            _ => client.send(1, &zk_create("/a/s-", b"", 3)),
        });
    }
    let mut last = 0;
    for xid in sent {
        let (answered, (error, body)) = client.answer().expect("an answer");
        assert_eq!((answered, error), (xid, 0));
        if xid % 3 == 0 {
            // The data that was set just before.
            let data = i32::from_be_bytes(body[4..8].try_into().expect("four"));
            assert!(data >= last);
            last = data;
        }
    }
}

#[test]
fn a_node_may_have_a_megabyte_and_no_more() {
    let node = Home::new(CONFIG).start();
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    let most = 0xf_ffff - 8 - zk_create("/big", b"", 0).len();
    let data = vec![7; most];
    assert_eq!(client.create("/big", &data, 0), 0);
    assert_eq!(client.data("/big").map(|d| d.len()), Ok(most));
    client.send(1, &zk_create("/bigger", &vec![7; most + 1], 0));
    assert!(client.answer().is_none());
    let mut again = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(again.data("/bigger"), Err(-101));
}

#[test]
fn what_is_no_client_does_no_harm() {
    let node = Home::new(CONFIG).start();
    let at = node.zookeeper();
    let mut idle: Vec<TcpStream> = (0..500)
        .map(|_| TcpStream::connect(at).expect("one"))
        .collect();
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(&[0, 0, 0]).expect("sent");
    }
    for bytes in [
        &(-1_i32).to_be_bytes()[..],
        &i32::MAX.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 4, 1, 2, 3, 4],
    ] {
        let mut stream = TcpStream::connect(at).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        assert!(
            closed.is_err() || answer.is_empty(),
            "{bytes:?}: {answer:?}"
        );
    }
    let mut client = ZkClient::open(at, 10_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    // A frame that is too short for what it says, and one with an operation that there is not.
    assert_eq!(client.ask(1, &[0, 0]).0, -5);
    assert_eq!(client.ask(99, &[]).0, -6);
    assert_eq!(client.data("/a"), Ok(vec![]));
}

#[test]
fn four_letter_words_are_answered_without_a_session() {
    let node = Home::new(CONFIG).start();
    let ask = |word: &str| {
        let mut stream = TcpStream::connect(node.zookeeper()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(word.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert_eq!(ask("ruok"), "imok");
    assert_eq!(ask("isro"), "rw");
    assert!(ask("srvr").contains("\nMode: standalone\n"));
    assert!(ask("envi").contains("zookeeper.version=3.9"));
    assert!(ask("mntr").contains("zk_znode_count\t4\n"));
    // By default not, for it costs as much as there are watches.
    assert!(ask("wchp").contains("not in the whitelist"));
}

#[test]
fn silent_sessions_end_on_time() {
    let node = Home::new(CONFIG).start();
    let mut watcher = ZkClient::open(node.zookeeper(), 20_000);
    let mut silent = ZkClient::open(node.zookeeper(), 1_000);
    assert_eq!(silent.create("/gone", b"", 1), 0);
    assert_eq!(
        watcher.ask(3, &[&zk_text(b"/gone")[..], &[1]].concat()).0,
        0
    );
    std::thread::sleep(Duration::from_millis(500));
    // It is heard of, so its time begins anew.
    silent.ask(11, &[]);
    let heard = std::time::Instant::now();
    until("an event", || {
        watcher.ask(11, &[]);
        (!watcher.events.is_empty()).then_some(())
    });
    assert!(
        heard.elapsed() >= Duration::from_millis(900),
        "{:?}",
        heard.elapsed()
    );
    assert_eq!(watcher.events, [(2, "/gone".to_owned())]);
    assert!(silent.answer().is_none());
}

#[test]
fn who_never_reads_is_cut_off_and_keeps_its_session_and_nobody_else_notices() {
    let node = Home::new(CONFIG).start();
    let at = node.zookeeper();
    // So long a name that each event is as large as this.
    let path = format!("/{}", "n".repeat(200_000));
    let mut writer = ZkClient::open(at, 20_000);
    assert_eq!(writer.create(&path, b"", 0), 0);
    assert_eq!(writer.create("/big", &[7; 900_000], 0), 0);
    let mut deaf = ZkClient::open(at, 20_000);
    assert_eq!(deaf.create("/deaf", b"", 1), 0);
    // Asked for and never read: so much is not even begun with.
    let mut greedy = ZkClient::open(at, 20_000);
    let before = node.memory();
    for _ in 0..100 {
        greedy.send(4, &[&zk_text(b"/big")[..], &[0]].concat());
    }
    // Lasting, so that there is an event for every change.
    assert_eq!(
        deaf.ask(106, &[zk_text(path.as_bytes()), vec![0; 4]].concat())
            .0,
        0
    );
    let set = [zk_text(path.as_bytes()), zk_text(b"x"), vec![255; 4]].concat();
    until("the end of patience", || {
        assert_eq!(writer.ask(5, &set).0, 0);
        (node.metric("pointsman_zookeeper_dropped_total") > 0.0).then_some(())
    });
    for _ in 0..100 {
        assert_eq!(writer.ask(5, &set).0, 0);
    }
    let grown = node.memory().saturating_sub(before);
    // What may wait for the one, once more while it is moved, an answer for the other, and the log's share.
    assert!(grown < 80 << 20, "{grown} bytes");
    // All that was sent before it was cut off, and then the end.
    while deaf.answer().is_some() {}
    assert!(
        (10..200).contains(&deaf.events.len()),
        "{}",
        deaf.events.len()
    );
    let again = ZkClient::resume(at, 20_000, deaf.session, &deaf.password);
    assert_eq!(again.expect("the session").data("/deaf"), Ok(vec![]));
    // And whoever reads late gets all.
    for _ in 0..100 {
        let (_, (error, body)) = greedy.answer().expect("an answer");
        assert_eq!((error, body.len()), (0, 4 + 900_000 + 68));
    }
}

#[test]
fn tools_ask_by_http_and_are_told_what_is_not_done_here() {
    let at = crate::harness::free_address();
    let node = Home::new(&format!(
        "[front.zookeeper]\nbind = \"127.0.0.1:0\"\nadmin = \"{at}\"\n"
    ))
    .start();
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(client.create("/a", b"", 1), 0);
    let ask = |name: &str| get(at, &format!("/commands/{name}"));
    let listed = get(at, "/commands").json();
    for name in listed.as_array().expect("names") {
        let name = name.as_str().expect("a name");
        let answer = ask(name);
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.json()["command"], *name);
        assert_eq!(answer.json()["error"], json!(null));
    }
    assert_eq!(ask("mntr").json()["znode_count"], 5);
    let dumped = ask("dump").json()["session_id_to_ephemeral_paths"].clone();
    assert_eq!(dumped[format!("0x{:x}", client.session)], json!(["/a"]));
    for _ in 0..10 {
        client.ask(11, &[]);
    }
    assert_eq!(ask("srst").status, 200);
    assert!(ask("stat").json()["packets_received"].as_u64() < Some(10));
    for name in ["snapshot", "restore", "leader"] {
        assert_eq!(ask(name).status, 501, "{name}");
        assert!(ask(name).json()["error"].is_string());
    }
    assert_eq!(ask("nonsense").status, 404);
}
