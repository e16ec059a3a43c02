//! Why an instance is passed over.

use serde_json::{Value, json};

use crate::harness::{Home, Origin, Reply, get, until};

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
