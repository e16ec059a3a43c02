//! Why an instance is passed over.

use serde_json::{Value, json};

use crate::harness::{Home, Origin, get, until};

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
