//! By which names the API answers, and who is told that it is open to others.

use std::net::SocketAddr;

use crate::harness::{Answer, Home, free_address, request};

/// What a browser sends to a page's own host over plain HTTP: nothing but the name tells whose page it is.
fn asked(at: SocketAddr, host: &str, path: &str) -> Answer {
    request(
        at,
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Language: de\r\n\
             Referer: http://{host}/\r\nConnection: close\r\n\r\n"
        ),
    )
}

const REBOUND: &str = "evil.example:7070";

#[test]
fn a_page_whose_name_was_led_to_loopback_reads_nothing() {
    let admin = free_address();
    let node = Home::new(&format!(
        "[front.zookeeper]\nbind = \"127.0.0.1:0\"\nadmin = \"{admin}\"\n"
    ))
    .start();
    for path in ["/", "/v1/services", "/metrics", "/v1/cluster", "/nowhere"] {
        let refused = asked(node.api, REBOUND, path);
        assert_eq!(refused.status, 421, "{path}");
        let problem = refused.json();
        assert_eq!(problem["type"], "urn:pointsman:problem:unknown-host");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(
            detail.contains(REBOUND) && detail.contains("api.names"),
            "{detail}"
        );
    }
    let refused = asked(admin, REBOUND, "/commands/stat");
    assert_eq!(refused.status, 421);
    let own = node.api.to_string();
    for host in [
        &*own,
        "localhost",
        "LOCALHOST:7070",
        "[::1]:7070",
        "node.localhost",
    ] {
        assert_eq!(asked(node.api, host, "/v1/services").status, 200, "{host}");
        assert_eq!(asked(admin, host, "/commands/stat").status, 200, "{host}");
    }
    assert!(!node.said().text().contains("everybody who reaches"));
}

#[test]
fn a_name_that_is_the_apis_own_is_answered_to() {
    let config = "[api]\nnames = [\"registry.internal\", \"*.nodes.internal\"]\n";
    let node = Home::new(config).start();
    for (host, status) in [
        ("registry.internal:7070", 200),
        ("Registry.Internal.", 200),
        ("a.nodes.internal", 200),
        ("registry.internal.evil.example", 421),
        (REBOUND, 421),
    ] {
        assert_eq!(
            asked(node.api, host, "/v1/services").status,
            status,
            "{host}"
        );
    }
}

#[test]
fn an_api_that_others_reach_goes_by_every_name_and_says_at_the_start_who_may_change_what() {
    let node = Home::new("").env("TEST_API", "0.0.0.0:0").start();
    assert_eq!(
        asked(node.api, "registry.internal", "/v1/services").status,
        200
    );
    let said = node.said().text();
    let line = format!("pointsman: everybody who reaches {} can change", node.api);
    assert_eq!(said.matches(&line).count(), 1, "{said}");
    // Programs may go by any name; a page still changes nothing.
    let register = "POST /register HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: close\r\n\
                    Content-Length: 2\r\n\r\n{}";
    assert_eq!(request(node.api, register).status, 403);

    let named = Home::new("[api]\nnames = [\"registry.internal\"]\n")
        .env("TEST_API", "0.0.0.0:0")
        .start();
    assert_eq!(
        asked(named.api, "registry.internal", "/v1/services").status,
        200
    );
    assert_eq!(asked(named.api, REBOUND, "/v1/services").status, 421);
}
