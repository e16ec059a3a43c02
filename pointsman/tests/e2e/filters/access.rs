//! Who may, by address.

use super::{Ask, BOTH, all, before, mirror, refused};

#[test]
fn clients_have_access_by_their_address() {
    let origin = mirror();
    let routes = r#"
        filters.deny = ["127.0.0.0/8"]
        filters.response_headers = { set = { X-Seen = "{client}" } }
        [[listener.web.route]]
        path_prefix = "/in"
        service = "shop"
        filters.allow = ["127.0.0.1", "::1"]
        [[listener.web.route]]
        path_prefix = "/out"
        service = "shop"
        filters.allow = ["10.0.0.0/8"]
    "#;
    let node = before(&origin, routes);
    for speaks in BOTH {
        assert_eq!(Ask::get("/in").of(&node, speaks).status, 200);
        assert_eq!(Ask::get("/out").of(&node, speaks).status, 403);
        let denied = Ask::get("/").of(&node, speaks);
        assert_eq!(
            (denied.status, all(&denied, "x-seen")),
            (403, vec!["127.0.0.1"])
        );
        // A claim of somebody who is not trusted is none.
        let forged = [("x-forwarded-for", "10.0.0.1")];
        assert_eq!(Ask::get("/out").with(&forged).of(&node, speaks).status, 403);
    }
    assert_eq!(refused(&node, "address"), 2.0);
    node.logged().until_line("\"ended\":\"address\"");
    assert!(origin.heard().iter().all(|heard| heard.path() == "/in"));
}

#[test]
fn behind_a_trusted_peer_the_client_is_whom_it_names() {
    let origin = mirror();
    let config = super::config(&origin, "filters.deny = [\"10.0.0.0/8\"]").replace(
        "bind = \"127.0.0.1:0\"\n",
        "bind = \"127.0.0.1:0\"\ntrusted_peers = [\"127.0.0.1\"]\n",
    );
    let node = crate::harness::Home::new(&config).start();
    node.until_eligible("/", 1);
    for speaks in BOTH {
        for (named, status) in [
            ("10.1.1.1", 403),
            ("10.1.1.1, 9.9.9.9", 200),
            ("9.9.9.9", 200),
        ] {
            let fields = [("x-forwarded-for", named)];
            let answer = Ask::get("/").with(&fields).of(&node, speaks);
            assert_eq!(answer.status, status, "{named}");
        }
    }
}
