//! Changes of the configuration while everything goes on.

use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::harness::{Connection, Home, Load, Node, Origin, Reply, free_address, get, until};

/// A configuration with listeners at these addresses, which answer with their names.
fn listeners(at: &[(&str, &str)]) -> String {
    at.iter()
        .map(|(name, bind)| {
            format!(
                "[listener.{name}]\nbind = {bind:?}\n[[listener.{name}.route]]\n\
                 [listener.{name}.route.answer]\nbody = {name:?}\n"
            )
        })
        .collect()
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn a_change_takes_effect_and_a_kept_connection_and_a_long_download_survive_it() {
    const SIZE: usize = 8 << 20;
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let large = Origin::raw(move |mut connection, _| {
        let Ok(_) = connection.line() else { return };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        connection.try_send(head).expect("a client");
        connection.try_send(vec![b'x'; SIZE / 2]).expect("a client");
        if let Some(gate) = gate.lock().unwrap().take() {
            let _ = gate.recv();
        }
        connection.try_send(vec![b'y'; SIZE / 2]).expect("a client");
    });
    let config = |listener: &str, service: &str| {
        format!(
            "[listener.{listener}]\nbind = \"127.0.0.1:0\"\nservice = {service:?}\n\
             [[service.large.instance]]\naddress = \"127.0.0.1:{}\"\n",
            large.port()
        )
    };
    let node = Home::new(&config("web", "large")).start();
    let mut kept = Connection::open(node.web());
    let mut download = Connection::open(node.web());
    download.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(download.try_head().expect("an answer").status, 200);
    let half = download.take(SIZE / 2).expect("half of it");
    assert!(half.iter().all(|&b| b == b'x'));

    let other = Origin::named("other");
    node.register("other", "other", &crate::lasting(&other));
    let said = node.reload(&config("web", "other"));
    assert!(
        said.contains("listener.web") && said.contains("in effect"),
        "{said}"
    );
    // A connection from before is served by what holds now.
    assert_eq!(kept.get("/").text(), "other");
    assert_eq!(kept.get("/").text(), "other");
    release.send(()).expect("a download");
    let rest = download.take(SIZE / 2).expect("the other half");
    assert!(rest.iter().all(|&b| b == b'y'));
    assert_eq!(download.get("/").text(), "other");
}

#[test]
fn a_faulty_file_changes_nothing_and_every_fault_is_told() {
    let node = Home::new(&listeners(&[("web", "127.0.0.1:0")])).start();
    let mut kept = Connection::open(node.web());
    assert_eq!(kept.get("/").text(), "web");
    let said = node
        .reload("[listener.web]\nbind = \"127.0.0.1:0\"\nservise = \"x\"\nmax_head = 5\n[oops\n");
    assert!(said.contains("running configuration stays"), "{said}");
    assert!(
        said.contains("servise") && said.contains("pointsman.toml:"),
        "{said}"
    );
    assert_eq!(kept.get("/").text(), "web");
    let said = node.reload(&listeners(&[("web", "127.0.0.1:0")]));
    assert!(said.contains("is unchanged"), "{said}");
}

#[test]
fn a_listener_appears_moves_and_goes_and_its_connections_go_on() {
    let (first, second, third) = (free_address(), free_address(), free_address());
    let text = |at: SocketAddr| at.to_string();
    let node = Home::new(&listeners(&[("web", &text(first))])).start();
    let mut kept = Connection::open(first);
    assert_eq!(kept.get("/").text(), "web");

    node.reload(&listeners(&[("web", &text(first)), ("new", &text(second))]));
    until("the new listener", || (!refuses(second)).then_some(()));
    assert_eq!(get(second, "/").text(), "new");

    node.reload(&listeners(&[("web", &text(third)), ("new", &text(second))]));
    until("the moved listener", || (!refuses(third)).then_some(()));
    assert_eq!(get(third, "/").text(), "web");
    until("the old address closed", || refuses(first).then_some(()));
    assert_eq!(kept.get("/").text(), "web");

    let mut of_new = Connection::open(second);
    assert_eq!(of_new.get("/").text(), "new");
    node.reload(&listeners(&[("web", &text(third))]));
    until("the new listener gone", || refuses(second).then_some(()));
    assert_eq!(kept.get("/").text(), "web");
}

#[test]
fn a_port_that_is_taken_leaves_the_running_configuration_as_it_was() {
    let node = Home::new(&listeners(&[("web", "127.0.0.1:0")])).start();
    let taken = TcpListener::bind(free_address()).expect("a port");
    let port = taken.local_addr().expect("an address");
    let changed = listeners(&[("web", "127.0.0.1:0"), ("more", &port.to_string())]);
    let said = node.reload(&changed.replace("body = \"web\"", "body = \"changed\""));
    assert!(said.contains("running configuration stays"), "{said}");
    assert!(said.contains(&port.port().to_string()), "{said}");
    assert_eq!(get(node.web(), "/").text(), "web");
    drop(taken);
    let said = node.reload(&changed);
    assert!(said.contains("in effect"), "{said}");
    until("the listener", || (!refuses(port)).then_some(()));
    assert_eq!(get(port, "/").text(), "more");
}

#[test]
fn two_listeners_swap_their_addresses() {
    let (one, two) = (free_address().to_string(), free_address().to_string());
    let node = Home::new(&listeners(&[("a", &one), ("b", &two)])).start();
    let said = node.reload(&listeners(&[("a", &two), ("b", &one)]));
    assert!(said.contains("in effect"), "{said}");
    let (one, two) = (one.parse().expect("one"), two.parse().expect("one"));
    until("swapped", || {
        (get(one, "/").text() == "b" && get(two, "/").text() == "a").then_some(())
    });
    for _ in 0..20 {
        assert_eq!((get(one, "/").text(), get(two, "/").text()), ("b", "a"));
    }
}

#[test]
fn a_listener_widens_to_every_address_at_the_port_it_has() {
    let port = free_address();
    let node = Home::new(&listeners(&[("web", &port.to_string())])).start();
    let mut kept = Connection::open(port);
    assert_eq!(kept.get("/").text(), "web");
    let wide = format!("0.0.0.0:{}", port.port());
    let said = node.reload(&listeners(&[("web", &wide)]));
    assert!(said.contains("in effect"), "{said}");
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port.port()));
    for address in [port, elsewhere] {
        assert_eq!(get(address, "/").text(), "web");
    }
    assert_eq!(kept.get("/").text(), "web");
}

#[test]
fn watched_files_need_no_signal() {
    let home = Home::new(&listeners(&[("web", "127.0.0.1:0")])).arg("--watch-config");
    let node = home.start();
    let before = node.said().len();
    let changed =
        listeners(&[("web", "127.0.0.1:0")]).replace("body = \"web\"", "body = \"fresh\"");
    home.configure(&changed);
    let said = node.said_about_configuration(before);
    assert!(said.contains("in effect"), "{said}");
    assert_eq!(get(node.web(), "/").text(), "fresh");
    let before = node.said().len();
    home.configure("[listener.web]\nbind = 7\n");
    let said = node.said_about_configuration(before);
    assert!(said.contains("stays"), "{said}");
    assert_eq!(get(node.web(), "/").text(), "fresh");
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let (a, b) = (Origin::named("a"), Origin::answering(|_| Reply::text("b")));
    let config = |policy: &str, weight: u16| {
        format!(
            "{}\n[service.shop]\npolicy = {policy:?}\n\
             [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\nweight = {weight}\n\
             [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
            crate::SHOP,
            a.port(),
            b.port()
        )
    };
    let node: Node = Home::new(&config("random", 1)).start();
    let load = Load::start(node.web(), 3, "/");
    for round in 0..100 {
        let policy = ["round_robin", "least_conn", "random"][round % 3];
        let said = node.reload(&config(policy, 1 + round as u16 % 5));
        assert!(said.contains("in effect"), "{said}");
    }
    load.further(50);
    let tally = load.finish();
    tally.assert_whole();
    assert!(tally.of("a") > 0 && tally.of("b") > 0, "{tally:?}");
}

#[test]
fn a_reload_that_cannot_read_its_file_says_why() {
    let home = Home::new("");
    let node = home.start();
    std::fs::remove_file(home.path().join("pointsman.toml")).unwrap();
    node.signal(rustix::process::Signal::HUP);
    let said = node.said().until_line("cannot read the configuration");
    assert!(said.contains("No such file"), "{said}");
}

#[test]
fn what_waits_for_the_next_start_is_told_by_what_runs_and_at_every_reload() {
    let settings = |connections: u32, zone: &str| {
        format!("[node]\nzone = \"{zone}\"\n[api]\nmax_connections = {connections}\n")
    };
    let node = Home::new(&settings(100, "a")).start();
    let pending = "~ api.max_connections = 100 -> 200 (at the next start)";
    let said = node.reload(&settings(200, "a"));
    assert!(said.contains(pending), "{said}");
    // Of what has waited since an earlier reload, too.
    let said = node.reload(&settings(200, "b"));
    assert!(said.contains(pending), "{said}");
    assert!(said.contains("~ node.zone = \"a\" -> \"b\"\n"), "{said}");
    let said = node.reload(&settings(200, "b"));
    assert!(
        said.contains(pending) && said.contains("is unchanged"),
        "{said}"
    );
    assert!(!said.contains("node.zone"), "{said}");
    // Changed back: it is what runs.
    let said = node.reload(&settings(100, "b"));
    assert!(said.contains("is in effect"), "{said}");
    assert!(!said.contains("max_connections"), "{said}");
    let said = node.reload(&settings(100, "b"));
    assert!(!said.contains("next start"), "{said}");
}
