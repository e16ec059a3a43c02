//! The description says what the API does: every path, method, parameter and field, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::Server;
use super::wire::Watch;
use crate::http::ROUTES;
use crate::http::node::OPENAPI;
use crate::{Reason, Refused};

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn schema<'a>(description: &'a Value, mut schema: &'a Value) -> &'a Value {
    while let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap();
        schema = description
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{reference}"));
    }
    schema
}

fn names(object: &Value) -> BTreeSet<String> {
    let object = object.as_object().cloned().unwrap_or_default();
    object.into_iter().map(|(name, _)| name).collect()
}

/// Each operation: path, method, and what is said of it.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    operations
}

fn example(path: &str) -> String {
    path.replace("{service}", "shop")
        .replace("{id}", "a")
        .replace("{name}", "n4")
        .replace("{certificate}", "shop")
}

/// The names that an answer lists as known in its complaint about `qqqq`.
fn known(answer: &super::Answer, place: &str) -> BTreeSet<String> {
    let body = answer.json();
    let errors = body["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{body}"));
    let complaint = errors
        .iter()
        .find(|error| error["pointer"] == place || error["parameter"] == place)
        .unwrap_or_else(|| panic!("{place} in {body}"));
    let detail = complaint["detail"].as_str().unwrap();
    match detail.split_once("known are ") {
        Some((_, list)) => list.split(", ").map(Into::into).collect(),
        None => BTreeSet::new(),
    }
}

#[tokio::test]
async fn every_path_and_method_is_described_and_nothing_else_is() {
    let description = description();
    let paths: BTreeSet<_> = ROUTES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(names(&description["paths"]), paths);
    let server = Server::start().await;
    for path in paths {
        let answer = server.call("BREW", &example(&path), None).await;
        let allowed = answer.header("allow").unwrap().split(',');
        let allowed: BTreeSet<_> = allowed
            .filter(|m| *m != "HEAD")
            .map(str::to_lowercase)
            .collect();
        assert_eq!(names(&description["paths"][&path]), allowed, "{path}");
    }
}

#[tokio::test]
async fn every_parameter_is_described_and_nothing_else_is() {
    let description = description();
    let server = Server::start().await;
    for (path, method, operation) in operations(&description) {
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let within = |place: &str| -> BTreeSet<String> {
            let within = parameters.iter().filter(|p| p["in"] == place);
            within.map(|p| p["name"].as_str().unwrap().into()).collect()
        };
        let in_path = path.split(['{', '}']).skip(1).step_by(2);
        assert_eq!(within("path"), in_path.map(Into::into).collect(), "{path}");
        if ["/metrics", "/healthz", "/readyz", "/openapi.json"].contains(&&*path) {
            // Whoever scrapes and probes may add what it likes.
            continue;
        }
        let target = format!("{}?qqqq=1", example(&path));
        let body = operation.get("requestBody").map(|_| json!({}));
        let answer = server.call(&method, &target, body).await;
        assert_eq!(known(&answer, "qqqq"), within("query"), "{method} {path}");
    }
}

#[tokio::test]
async fn every_field_of_a_request_is_described_and_nothing_else_is() {
    let description = description();
    let server = Server::start().await;
    let mut seen = 0;
    for (path, method, operation) in operations(&description) {
        let Some(content) = operation["requestBody"]["content"].as_object() else {
            continue;
        };
        for (kind, media) in content {
            let top = schema(&description, &media["schema"]);
            let headers = [("Content-Type", kind.as_str())];
            let mut body = json!({ "qqqq": 1 });
            let mut places = vec![("#/qqqq".to_owned(), top)];
            for name in ["lease", "check"] {
                if let Some(inner) = top["properties"].get(name) {
                    body[name] = json!({ "qqqq": 1 });
                    places.push((format!("#/{name}/qqqq"), schema(&description, inner)));
                }
            }
            if let Some(list) = top["properties"].get("beats") {
                body["beats"] = json!([{ "qqqq": 1 }]);
                places.push((
                    "#/beats/0/qqqq".into(),
                    schema(&description, &list["items"]),
                ));
            }
            let answer = server
                .raw(&method, &example(&path), &headers, Some(body.to_string()))
                .await;
            for (place, schema) in places {
                assert_eq!(
                    known(&answer, &place),
                    names(&schema["properties"]),
                    "{method} {path} {place}"
                );
                seen += 1;
            }
            let empty = server
                .raw(&method, &example(&path), &headers, Some("{}".into()))
                .await;
            if let Some(required) = top["required"].as_array() {
                let required: Vec<_> = required
                    .iter()
                    .map(|n| format!("#/{}", n.as_str().unwrap()))
                    .collect();
                assert_eq!(empty.places(), required, "{method} {path}");
            }
        }
    }
    assert_eq!(seen, 11);
}

/// Checks values against their schemas, and keeps which properties have been seen.
struct Checker {
    description: Value,
    seen: BTreeMap<String, BTreeSet<String>>,
}

impl Checker {
    fn check(&mut self, name: &str, value: &Value) {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        self.value(&schema, value, name);
    }

    fn value(&mut self, described: &Value, value: &Value, at: &str) {
        if let Some(choices) = described["oneOf"].as_array().cloned() {
            let choice = choices.iter().find(|choice| choice["type"] != "null");
            if !value.is_null() && choices.len() == 2 {
                self.value(choice.unwrap(), value, at);
            }
            return;
        }
        let reference = described["$ref"]
            .as_str()
            .map(|r| r.rsplit('/').next().unwrap().to_owned());
        let described = schema(&self.description, described).clone();
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = &described["type"];
        assert!(
            kinds == kind || kinds.as_array().is_some_and(|k| k.contains(&json!(kind))),
            "{at}: {value}"
        );
        if let Some(words) = described["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value}");
        }
        if let Value::Array(list) = value {
            for item in list {
                self.value(&described["items"], item, at);
            }
        }
        let (Value::Object(object), Some(properties)) =
            (value, described["properties"].as_object())
        else {
            return;
        };
        self.fields(&described, properties, object, at);
        let seen = self.seen.entry(reference.unwrap_or_default()).or_default();
        seen.extend(object.keys().cloned());
    }

    fn fields(
        &mut self,
        described: &Value,
        properties: &Map<String, Value>,
        object: &Map<String, Value>,
        at: &str,
    ) {
        for name in described["required"].as_array().into_iter().flatten() {
            assert!(
                object.contains_key(name.as_str().unwrap()),
                "{at}: {name} is missing in {object:?}"
            );
        }
        for (name, value) in object {
            let property = properties
                .get(name)
                .unwrap_or_else(|| panic!("{at}: {name} is not described"));
            self.value(property, value, &format!("{at}.{name}"));
        }
    }
}

#[tokio::test]
async fn every_field_of_an_answer_is_described_and_nothing_else_is() {
    let server = Server::start().await;
    let mut checker = Checker {
        description: description(),
        seen: BTreeMap::new(),
    };
    let target = "/v1/services/shop/instances/a";
    let mut watch = Watch::open(server.address, "/v1/services/shop/watch", None).await;
    let checks = [
        json!({ "tcp": true, "port": 1 }),
        json!({ "udp": true, "send": "a", "expect": "b" }),
        json!({ "grpc": "shop.Cart" }),
        json!({ "protocol": "mysql", "user": "u", "password": "p", "database": "d" }),
        json!({ "http": "/", "host": "h", "headers": { "a": "b" }, "body": "x", "status": 200 }),
    ];
    for check in checks {
        let body = json!({ "address": "::1", "port": 1, "check": check, "zone": "z", "tags": ["t"], "metadata": { "a": "b" } });
        checker.check("Registration", &body);
        checker.check(
            "Instance",
            &server.call("PUT", target, Some(body)).await.json(),
        );
    }
    checker.check("InstanceList", &watch.next().await.unwrap().data);
    checker.check("Change", &watch.next().await.unwrap().data);
    let lost = "/v1/services/lost/instances/a";
    let body = json!({ "address": "nowhere.example", "port": 1, "persistent": true });
    server.call("PUT", lost, Some(body)).await;
    let gets = [
        ("Instance", lost),
        ("ServiceList", "/v1/services"),
        ("InstanceList", "/v1/services/shop"),
        ("Instance", target),
        ("Picked", "/v1/pick/shop"),
        ("Explanation", "/v1/explain?url=shop:80"),
        ("TutorialInstances", "/query?service_name=shop"),
        ("Home", "/v1/cluster/home?name=checkout"),
        ("Status", "/healthz"),
        ("Status", "/readyz"),
        ("Problem", "/v1/pick/none"),
        ("Problem", "/v1/services/none?x=1"),
    ];
    for (name, target) in gets {
        checker.check(name, &server.get(target).await.json());
    }
    let posts = [
        (
            "Beaten",
            "/v1/services/shop/instances/a/heartbeat",
            json!(null),
        ),
        (
            "BeatsOutcome",
            "/v1/heartbeats",
            json!({ "beats": [{ "service": "x", "id": "y" }] }),
        ),
        (
            "TutorialRegistered",
            "/register",
            json!({ "service_name": "t", "ip_address": "::1", "port": 1 }),
        ),
        ("Problem", "/register", json!({ "port": 0 })),
    ];
    for (name, target, body) in posts {
        checker.check(name, &server.call("POST", target, Some(body)).await.json());
    }
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let body = json!({ "address": "127.0.0.1", "port": dead });
    server
        .call("PUT", "/v1/services/dead/instances/a", Some(body))
        .await;
    let body = json!({ "service_name": "dead" });
    checker.check(
        "Problem",
        &server
            .call("POST", "/load_balance", Some(body))
            .await
            .json(),
    );
    let event = server
        .raw(
            "GET",
            "/v1/services/shop/watch",
            &[("Last-Event-ID", "x")],
            None,
        )
        .await;
    checker.check("Problem", &event.json());
    let addition = json!({ "address": "10.0.0.4:7071", "observer": true });
    checker.check("NodeAddition", &addition);
    let added = server.call("PUT", "/v1/cluster/nodes/n4", Some(addition));
    checker.check("Message", &added.await.json());
    let given = json!({ "certificate": "a", "key": "b" });
    checker.check("CertificateGiven", &given);
    let target = "/v1/certificates/shop";
    let set = server.call("PUT", target, Some(given)).await;
    checker.check("Certificate", &set.json());
    let all = server.get("/v1/certificates").await;
    checker.check("CertificateList", &all.json());
    checker.check(
        "Cluster",
        &server.call("GET", "/v1/cluster", None).await.json(),
    );
    let target = "/v1/services/shop/instances/a";
    *server.memory.refuse.lock().unwrap() = Some(Refused {
        reason: Reason::Overloaded,
        detail: "no".into(),
    });
    checker.check("Problem", &server.call("DELETE", target, None).await.json());

    // Requests are compared by the test before; these are their schemas, and values without fields.
    let requests = [
        "Beat",
        "Beats",
        "Patch",
        "Registration",
        "TutorialRegistration",
        "TutorialRequest",
    ];
    for (name, schema) in checker.description["components"]["schemas"]
        .as_object()
        .unwrap()
    {
        if let Some(properties) = schema.get("properties")
            && !requests.contains(&&**name)
        {
            assert_eq!(checker.seen.get(name), Some(&names(properties)), "{name}");
        }
    }
}
