//! Listeners that are instances of what they lead to.

use super::{config, faults};

/// A listener at this address, and a service with these instances; both may have more.
fn one(bind: &str, listener: &str, instance: &str, service: &str) -> String {
    format!(
        "[listener.web]\nbind = \"{bind}\"\n{listener}\n[[service.shop.instance]]\naddress = \"10.0.0.1:80\"\n\
         [[service.shop.instance]]\naddress = \"{instance}\"\n{service}"
    )
}

#[test]
fn a_listener_that_is_an_instance_of_its_own_service_is_refused() {
    let http = "service = \"shop\"";
    let found = faults(&one("127.0.0.1:80", http, "127.0.0.1:80", ""));
    assert_eq!(found.len(), 1, "{found:?}");
    let text = found[0].to_string();
    assert!(
        text.starts_with(
            "a.toml:7:1: error: service.shop.instance[2].address: is where listener.web listens, which leads here again"
        ),
        "{text}"
    );
    let route = "[[listener.web.route]]\nhost = \"a.example\"\nservices = [{ service = \"shop\", weight = 1 }, { service = \"other\", weight = 9 }]";
    let tls = "tls = { certificates = [{ cert = \"a\", key = \"b\" }] }";
    for (bind, listener, instance, service) in [
        ("0.0.0.0:80", http, "127.0.0.1:80", ""),
        ("[::]:80", http, "localhost:80", ""),
        ("10.1.1.1:80", http, "10.1.1.1:80", ""),
        ("127.0.0.1:80", route, "127.0.0.1:80", ""),
        (
            "127.0.0.1:80",
            "protocol = \"tcp\"\nservice = \"shop\"",
            "127.0.0.1:80",
            "",
        ),
        (
            "127.0.0.1:80",
            "protocol = \"udp\"\nservice = \"shop\"",
            "127.0.0.1:80",
            "",
        ),
        (
            "127.0.0.1:80",
            &format!("protocol = \"https\"\nservice = \"shop\"\n{tls}"),
            "127.0.0.1:80",
            "[service.shop]\ntls = {}",
        ),
    ] {
        let text = one(bind, listener, instance, service);
        assert_eq!(faults(&text).len(), 1, "{text}");
    }
}

#[test]
fn what_only_looks_like_a_loop_is_left_alone() {
    let http = "service = \"shop\"";
    let rewriting =
        "[[listener.web.route]]\nservice = \"shop\"\nhost = \"old\"\nfilters = { host = \"new\" }";
    let tcp = "protocol = \"tcp\"";
    let outside = "[[listener.web.route]]\nservice = \"shop\"\nsource = [\"10.0.0.0/8\"]";
    for (bind, listener, instance, service) in [
        ("127.0.0.1:80", http, "127.0.0.1:81", ""),
        ("127.0.0.1:80", http, "127.0.0.2:80", ""),
        ("0.0.0.0:80", http, "10.0.0.2:80", ""),
        ("127.0.0.1:80", "service = \"other\"", "127.0.0.1:80", ""),
        ("127.0.0.1:80", rewriting, "127.0.0.1:80", ""),
        (
            "127.0.0.1:80",
            &format!("{tcp}\n{outside}"),
            "127.0.0.1:80",
            "",
        ),
        // A handshake that fails ends it.
        (
            "127.0.0.1:80",
            http,
            "127.0.0.1:80",
            "[service.shop]\ntls = {}",
        ),
    ] {
        config(&one(bind, listener, instance, service));
    }
}

#[test]
fn listeners_that_lead_to_each_other_are_refused_if_nothing_else_can_come_of_it() {
    let pair = |more: &str| {
        format!(
            "[listener.a]\nbind = \"127.0.0.1:80\"\nservice = \"one\"\n\
             [listener.b]\nbind = \"127.0.0.1:81\"\nservice = \"two\"\n{more}\n\
             [[service.one.instance]]\naddress = \"127.0.0.1:81\"\n\
             [[service.two.instance]]\naddress = \"127.0.0.1:80\"\n"
        )
    };
    assert_eq!(faults(&pair("")).len(), 2);
    // A listener behind a listener, with a way out.
    config(&pair(
        "[[listener.b.route]]\nservice = \"three\"\npath_prefix = \"/x\"",
    ));
    config(
        &pair("")
            .replace("127.0.0.1:80\"\n", "127.0.0.1:82\"\n")
            .replacen(":82", ":80", 1),
    );
}
