//! Why an instance is passed over.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, Origin, Reply, binary, get, until};
use crate::tls::Authority;

#[test]
fn explain_says_of_every_instance_why_it_gets_work_or_not() {
    let node = Home::new(crate::SHOP).start();
    let origin = Origin::named("good");
    let with = |more: Value| {
        let mut body = crate::lasting(&origin);
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("one").clone());
        body
    };
    node.register("shop", "good", &with(json!({})));
    node.register("shop", "drained", &with(json!({ "drain": true })));
    node.register("shop", "off", &with(json!({ "enabled": false })));
    node.register("shop", "weightless", &with(json!({ "weight": 0 })));
    let check = json!({ "tcp": true, "port": 1, "interval": "100ms", "fall": 1 });
    node.register("shop", "ill", &with(json!({ "check": check })));
    node.until_health("shop", "ill", "critical");
    let url = format!("/v1/explain?url=http://{}/", node.web());
    let instances = until("ill being passed over", || {
        let instances = node.read(&url)["service"]["instances"].clone();
        let ill = instances
            .as_array()?
            .iter()
            .find(|i| i["id"] == "ill")?
            .clone();
        (ill["why"] == "critical").then_some(instances)
    });
    let why = |id: &str| {
        let found = instances
            .as_array()
            .into_iter()
            .flatten()
            .find(|i| i["id"] == id);
        found.expect("listed")["why"]
            .as_str()
            .expect("a reason")
            .to_owned()
    };
    assert_eq!(why("good"), "eligible");
    assert!(why("drained").starts_with("draining"), "{}", why("drained"));
    assert_eq!(why("off"), "disabled");
    assert!(
        why("weightless").starts_with("draining"),
        "{}",
        why("weightless")
    );
    for _ in 0..10 {
        assert_eq!(get(node.web(), "/").text(), "good");
    }
}

#[test]
fn an_instance_that_answers_with_errors_only_is_ejected_and_everybody_says_why() {
    // least_time would hardly ask it again after the first error.
    let config = format!("{}[service.shop]\npolicy = \"round_robin\"\n", crate::SHOP);
    let node = Home::new(&config).start();
    let good = Origin::named("good");
    let bad = Origin::answering(|_| Reply {
        status: 500,
        ..Reply::text("no")
    });
    node.register("shop", "good", &crate::lasting(&good));
    node.register("shop", "bad", &crate::lasting(&bad));
    node.until_eligible("/", 2);
    let url = format!("/v1/explain?url=http://{}/", node.web());
    until("bad being ejected", || {
        get(node.web(), "/");
        let answer = node.read(&url);
        let instances = answer["service"]["instances"].as_array()?;
        let bad = instances.iter().find(|i| i["id"] == "bad")?;
        (bad["why"].as_str()?.contains("answered with errors only")).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(get(node.web(), "/").text(), "good");
    }
    let labels = "{service=\"shop\",reason=\"errors\"}";
    assert_eq!(
        node.metric(&format!("pointsman_service_ejections_total{labels}")),
        1.0
    );
    let labels = "{service=\"shop\",instance=\"bad\"}";
    assert_eq!(
        node.metric(&format!("pointsman_instance_ejected{labels}")),
        1.0
    );
    assert_eq!(
        node.metric(&format!("pointsman_instance_errors_total{labels}")),
        5.0
    );
}

#[test]
fn an_instance_whose_name_does_not_resolve_is_shown_as_such_everywhere() {
    let config = format!(
        "{}[[service.shop.instance]]\nid = \"lost\"\naddress = \"no-such-host.invalid:8080\"\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    let url = node.url();
    let why = until("the resolver's answer", || {
        let lost = node.read("/v1/services/shop/instances/lost");
        lost["unresolved"].as_str().map(str::to_owned)
    });
    let shown = node.read("/v1/services/shop");
    assert_eq!(shown["instances"][0]["unresolved"], why);
    assert_eq!(node.read("/v1/services")["services"][0]["unresolved"], 1);
    let answer = get(node.web(), "/");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("could be resolved"),
        "{}",
        answer.text()
    );
    node.logged().until_line("\"ended\":\"unresolved\"");
    let explained = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    assert_eq!(explained["service"]["instances"][0]["unresolved"], why);
    let shop = format!("http://{}/", node.web());
    for (command, word) in [
        (
            &["service", "show", "shop", "--api", &url][..],
            "unresolved",
        ),
        (&["service", "list", "--api", &url], "UNRESOLVED"),
        (&["explain", &shop, "--api", &url], "does not resolve"),
    ] {
        let output = Command::new(binary())
            .args(command)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(word) && !text.contains("  passing  "),
            "{text}"
        );
        let row = text.lines().find(|line| line.starts_with("shop "));
        let row: Vec<_> = row.unwrap_or_default().split_whitespace().collect();
        // SERVICE INSTANCES PASSING WARNING UNKNOWN CRITICAL UNRESOLVED
        assert!(
            command[1] != "list" || row == ["shop", "1", "0", "0", "0", "0", "1"],
            "{text}"
        );
    }
}

#[test]
fn the_scheme_of_a_url_chooses_among_listeners() {
    let home = Home::new("");
    Authority::new()
        .sign(&["shop.example"])
        .write(&home, "shop");
    let at = home.path().display();
    let answer = |body: &str| format!("answer = {{ body = \"{body}\" }}");
    home.configure(&format!(
        "[listener.plain]\nbind = \"127.0.0.1:0\"\n[[listener.plain.route]]\n{}\n\
         [listener.secure]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         tls = {{ certificates = [{{ cert = \"{at}/shop.pem\", key = \"{at}/shop.key\" }}] }}\n\
         [[listener.secure.route]]\n{}\n\
         [listener.passing]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"shop\"\n",
        answer("plain"),
        answer("secure")
    ));
    let node = home.start();
    let [plain, secure, passing] = ["plain", "secure", "passing"].map(|name| node.listener(name));
    for (url, listener) in [
        (format!("http://{plain}/"), json!("plain")),
        (format!("https://{secure}/"), json!("secure")),
        ("http://shop.example/".to_owned(), json!("plain")),
        ("https://shop.example/".to_owned(), json!("secure")),
        // Connections that are passed on are asked for by their port.
        (format!("https://{passing}/"), json!("passing")),
        (secure.to_string(), json!("secure")),
        (format!("https://{plain}/"), Value::Null),
        (format!("http://{secure}/"), Value::Null),
    ] {
        let explained = node.read(&format!("/v1/explain?url={url}"));
        assert_eq!(explained["listener"], listener, "{url}: {explained}");
    }
    let verdict = node.read(&format!("/v1/explain?url=http://{secure}/"))["verdict"].clone();
    assert!(
        verdict
            .as_str()
            .is_some_and(|said| said.contains("speaks https, and no http")),
        "{verdict}"
    );
}

#[test]
fn explain_exits_with_whether_an_instance_would_get_the_request() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [[listener.web.route]]\npath = \"/shop/\"\nservice = \"shop\"\n\
         [[listener.web.route]]\npath = \"/none/\"\nservice = \"none\"\n\
         [[listener.web.route]]\npath = \"/fixed\"\nanswer = { body = \"x\" }\n";
    let node = Home::new(config).start();
    let origin = Origin::named("a");
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/shop/", 1);
    for (path, code) in [
        ("/shop/", 0),
        ("/none/", 1),
        ("/fixed", 1),
        ("/elsewhere", 1),
    ] {
        for json in [&[][..], &["--json"]] {
            let url = format!("http://{}{path}", node.web());
            let mut command = Command::new(binary());
            command
                .args(["explain", &url, "--api", &node.url()])
                .args(json);
            let output = command.output().expect("the program starts");
            assert_eq!(output.status.code(), Some(code), "{path}: {output:?}");
            assert!(!output.stdout.is_empty(), "{path}");
        }
    }
}

#[test]
fn explain_shows_an_instance_that_failed_a_moment_ago() {
    let node = Home::new(crate::SHOP).start();
    let origin = Origin::named("good");
    node.register("shop", "good", &crate::lasting(&origin));
    node.register(
        "shop",
        "bad",
        &json!({ "address": "127.0.0.1", "port": 1, "persistent": true }),
    );
    let url = format!("/v1/explain?url=http://{}/", node.web());
    until("bad being shunned", || {
        assert_eq!(get(node.web(), "/").text(), "good");
        let answer = node.read(&url);
        let instances = answer["service"]["instances"].as_array()?;
        let bad = instances.iter().find(|i| i["id"] == "bad")?;
        (bad["why"].as_str()?.contains("failed a moment ago")).then_some(())
    });
}
