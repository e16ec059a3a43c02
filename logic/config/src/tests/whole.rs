//! The schema, the parser and the writer know the same keys.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::{FULL, config, leaves, parse_one, source};
use crate::reference::{Absence, Section, Shape, reference, schema};
use crate::{Edit, diff, parse};

/// Calls `visit` with every table of the tree and the section that describes it.
fn walk(
    section: &Section,
    table: &mut toml::Table,
    visit: &mut impl FnMut(&Section, &mut toml::Table),
) {
    visit(section, table);
    for key in &section.keys {
        let Some(value) = table.get_mut(key.name) else {
            continue;
        };
        match (&key.shape, value) {
            (Shape::Table(section), Toml::Table(table)) => walk(section, table, visit),
            (Shape::Named(section), Toml::Table(tables)) => {
                for (_, table) in tables {
                    walk(section, table.as_table_mut().unwrap(), visit);
                }
            }
            (Shape::Many(section), Toml::Array(tables)) => {
                for table in tables {
                    walk(section, table.as_table_mut().unwrap(), visit);
                }
            }
            _ => {}
        }
    }
}

/// Every key of the reference, as a path without names and numbers, with the values that `text` gives it.
pub(super) fn values_by_key(text: &str) -> BTreeMap<String, (Absence, Vec<Toml>)> {
    fn name(section: &Section, path: &str, out: &mut BTreeMap<String, (Absence, Vec<Toml>)>) {
        for key in &section.keys {
            let path = format!("{path}.{}", key.name);
            match &key.shape {
                Shape::Leaf(_) => drop(out.insert(path, (key.fallback.clone(), Vec::new()))),
                Shape::Table(s) | Shape::Named(s) | Shape::Many(s) => name(s, &path, out),
            }
        }
    }
    fn fill(
        section: &Section,
        path: &str,
        value: &Toml,
        out: &mut BTreeMap<String, (Absence, Vec<Toml>)>,
    ) {
        for key in &section.keys {
            let Some(value) = value.get(key.name) else {
                continue;
            };
            let path = format!("{path}.{}", key.name);
            match &key.shape {
                Shape::Leaf(_) => out.get_mut(&path).unwrap().1.push(value.clone()),
                Shape::Table(section) => fill(section, &path, value, out),
                Shape::Named(section) => {
                    let tables = value.as_table().unwrap().values();
                    tables.for_each(|table| fill(section, &path, table, out));
                }
                Shape::Many(section) => {
                    let tables = value.as_array().unwrap();
                    tables
                        .iter()
                        .for_each(|table| fill(section, &path, table, out));
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    name(&reference(), "", &mut out);
    fill(&reference(), "", &toml::from_str(text).unwrap(), &mut out);
    // The same table as a route's, where all of it is.
    out.retain(|key, _| !key.starts_with(".listener.filters."));
    out
}

pub(super) fn default(toml: &str) -> Toml {
    let table: toml::Table = toml::from_str(&format!("v = {toml}")).unwrap();
    table["v"].clone()
}

#[test]
fn the_full_example_of_the_tests_has_every_key_and_no_default() {
    for (key, (absence, values)) in values_by_key(FULL) {
        assert!(!values.is_empty(), "{key} is not in full.toml");
        // One listener has to speak HTTP to have HTTP's keys.
        if let Absence::Default(toml) = &absence
            && key != ".listener.protocol"
        {
            assert!(
                !values.contains(&default(toml)),
                "{key} has its default in full.toml"
            );
        }
    }
}

#[test]
fn effective_values_parse_back_to_the_same_configuration() {
    for text in ["", FULL] {
        let config = config(text);
        let written = config.to_toml();
        let again = parse(&[source("effective", &written)], &|_| None);
        let again = again.unwrap_or_else(|faults| panic!("{faults}\n{written}"));
        assert_eq!(again.config, config);
        assert_eq!(again.config.to_toml(), written);
    }
}

#[test]
fn every_value_written_in_a_file_is_among_the_effective_values() {
    let tree = |text: &str| {
        let mut out = Vec::new();
        leaves(&toml::from_str(text).unwrap(), "", &mut out);
        out.into_iter().collect::<BTreeMap<_, _>>()
    };
    let effective = tree(&config(FULL).to_toml());
    for (key, value) in tree(FULL) {
        // Becomes a route; and a text expanded stands there expanded.
        let routed = [
            "listener.web.service",
            "listener.web.role",
            "listener.secure.service",
            "listener.unwrapped.service",
            // A redirect's parts become its location.
            "listener.web.route[4].redirect.scheme",
            "listener.web.route[4].redirect.host",
            "listener.web.route[4].redirect.path",
        ]
        .contains(&&*key);
        if routed || key.ends_with("\"odd key\"") {
            continue;
        }
        assert_eq!(effective.get(&key), Some(&value), "{key}");
    }
    assert_eq!(
        effective["listener.web.route[4].redirect.location"],
        Toml::from("https://new.example.com/new{query}")
    );
    assert_eq!(
        effective["listener.web.route[10].service"],
        Toml::from("shop/fallback")
    );
    assert_eq!(
        effective["listener.web.route[10].role"],
        Toml::from("replica")
    );
    assert_eq!(
        effective["service.\"shop/orders\".instance[1].metadata.\"odd key\""],
        Toml::from("$${odd}")
    );
}

#[test]
fn every_default_is_among_the_effective_values() {
    let text = "[cluster]\nbind = \"127.0.0.1:4\"\npeers = { a = \"a:1\" }\ntoken = \"0123456789abcdef\"\n[front.zookeeper]\ntls = { certificates = [{ cert = \"a\", key = \"b\" }] }\n[listener.web]\nbind = \"127.0.0.1:1\"\n[[listener.web.route]]\nredirect = { location \
                = \"/\" }\n[[listener.web.route]]\npath = \"/x\"\ncookie = [{ name = \"a\" }]\nservices = [{ service = \"a\" }]\nmirror = { service = \"b\" }\n[[listener.web.route]]\npath = \"/\"\nheader = [{ name = \"a\" }]\nquery = [{ name = \"a\" }]\nfilters.rate_limit = [{ rate = \"1/s\" }]\nfilters.concurrency = [{ max = 1 }]\nfilters.basic_auth = { file = \"a\" }\nfilters.compress = {}\nfilters.cors = { origins = [\"*\"] }\nfilters.error_page = [{ status = [\"404\"], body = \"\" }]\nanswer = {}\n[service.b]\npersistence = {}\ncircuit_breaker = {}\nhedge = {}\n[service.c]\npersistence = { by = \"source_ip\" }\n[service.a]\ncheck = { http \
                = \"/\" }\ntls = {}\n[[service.a.instance]]\naddress = \"a:1\"\n[listener.db]\nbind = \"127.0.0.1:2\"\nprotocol \
                = \"tcp\"\nservice = \"a\"\ntls = { certificates = [{ cert = \"a\", key = \"b\" }] }\n[telemetry.traces]\nendpoint = \"http://a:1\"\n[listener.dns]\nbind = \"127.0.0.1:3\"\nprotocol = \"udp\"\nservice = \"a\"";
    for (key, (absence, values)) in values_by_key(&config(text).to_toml()) {
        if let Absence::Default(toml) = &absence {
            assert!(
                values.contains(&default(toml)),
                "{key} is not {toml} but {values:?}"
            );
        }
    }
}

#[test]
fn every_leaf_of_a_wrong_kind_is_a_fault_of_that_key() {
    let tree: Toml = toml::from_str(FULL).unwrap();
    let mut all = Vec::new();
    leaves(&tree, "", &mut all);
    assert!(all.len() > 60);
    for (path, _) in all {
        let mut broken = tree.clone();
        *at(&mut broken, &path) = Toml::Datetime("2026-01-01".parse().unwrap());
        let faults = parse_one(&toml::to_string(&broken).unwrap()).unwrap_err();
        assert!(
            faults
                .0
                .iter()
                .any(|f| f.key == path && f.what.contains("should be")),
            "{path}: {faults}"
        );
    }
}

/// The value at a path such as `a."b.c"[1].d`.
fn at<'a>(value: &'a mut Toml, path: &str) -> &'a mut Toml {
    let (step, rest) = match path.strip_prefix('"').and_then(|p| p.split_once('"')) {
        Some((quoted, rest)) => (quoted, rest),
        None => path.split_at(path.find(['.', '[']).unwrap_or(path.len())),
    };
    let mut value = &mut value[step];
    let mut rest = rest;
    while let Some((number, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        value = &mut value[number.parse::<usize>().unwrap() - 1];
        rest = after;
    }
    match rest.strip_prefix('.') {
        Some(rest) => at(value, rest),
        None => value,
    }
}

#[test]
fn every_table_refuses_a_key_that_the_schema_does_not_have() {
    let tree: toml::Table = toml::from_str(FULL).unwrap();
    let mut tables = 0;
    walk(&reference(), &mut tree.clone(), &mut |_, _| tables += 1);
    assert!(tables > 15);
    for number in 0..tables {
        let (mut broken, mut n, mut doc) = (tree.clone(), 0, String::new());
        walk(&reference(), &mut broken, &mut |section, table| {
            if n == number {
                table.insert("zzzz".into(), Toml::Boolean(true));
                doc = section.doc.clone();
            }
            n += 1;
        });
        let faults = parse_one(&toml::to_string(&broken).unwrap()).unwrap_err();
        assert!(
            faults
                .0
                .iter()
                .any(|f| f.key.ends_with("zzzz") && f.what == "is no key"),
            "{doc}: {faults}"
        );
    }
}

#[test]
fn every_required_key_is_missed() {
    for (text, key) in [
        ("[listener.web]\nservice = \"a\"", "listener.web.bind"),
        (
            "[[service.a.instance]]\nid = \"b\"",
            "service.a.instance[1].address",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ header = [{}], service = \"a\" }]",
            "listener.web.route[1].header[1].name",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ filters.rate_limit = [{}], service = \"a\" }]",
            "listener.web.route[1].filters.rate_limit[1].rate",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ filters.cors = {}, service = \"a\" }]",
            "listener.web.route[1].filters.cors.origins",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ filters.error_page = [{}], service = \"a\" }]",
            "listener.web.route[1].filters.error_page[1].status",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ filters.concurrency = [{}], service = \"a\" }]",
            "listener.web.route[1].filters.concurrency[1].max",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ cookie = [{}], service = \"a\" }]",
            "listener.web.route[1].cookie[1].name",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ services = [{}] }]",
            "listener.web.route[1].services[1].service",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ mirror = {}, service = \"a\" }]",
            "listener.web.route[1].mirror.service",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nroute = [{ query = [{}], service = \"a\" }]",
            "listener.web.route[1].query[1].name",
        ),
        (
            "[listener.web]\nbind = \"127.0.0.1:1\"\nprotocol = \"https\"\ntls = {}",
            "listener.web.tls.certificates",
        ),
        (
            "[cluster]\npeers = { a = \"a:1\" }\ntoken = \"0123456789abcdef\"",
            "cluster.bind",
        ),
        (
            "[cluster]\nbind = \"127.0.0.1:1\"\npeers = { a = \"a:1\" }",
            "cluster.token",
        ),
        ("[telemetry]\ntraces = {}", "telemetry.traces.endpoint"),
        (
            "[front.zookeeper]\ntls = {}",
            "front.zookeeper.tls.certificates",
        ),
    ] {
        let faults = parse_one(text).unwrap_err();
        assert_eq!(faults.0[0].key, key, "{faults}");
        assert_eq!(faults.0[0].what, "is missing");
    }
    // And there is no other.
    let required = values_by_key("").into_values();
    assert_eq!(
        required
            .filter(|(absence, _)| *absence == Absence::Fault)
            .count(),
        14
    );
}

#[test]
fn the_schema_describes_every_key() {
    fn check(schema: &serde_json::Value, section: &Section) {
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), section.keys.len());
        assert_eq!(schema["additionalProperties"], false);
        for key in &section.keys {
            let property = &properties[key.name];
            assert!(
                property["description"].as_str().unwrap().len() > 10,
                "{}",
                key.name
            );
            match &key.shape {
                Shape::Leaf(_) => {}
                Shape::Table(section) => check(property, section),
                Shape::Named(section) => check(&property["additionalProperties"], section),
                Shape::Many(section) => check(&property["items"], section),
            }
            if let Absence::Default(_) = key.fallback {
                assert!(property.get("default").is_some(), "{}", key.name);
            }
        }
    }
    let schema = schema();
    check(&schema, &reference());
    assert_eq!(
        schema["properties"]["guard"]["properties"]["max_loss"]["default"],
        "30%"
    );
    assert_eq!(
        schema["properties"]["listener"]["additionalProperties"]["required"][0],
        "bind"
    );
}

#[test]
fn several_sources_are_joined_in_their_order() {
    let first = "[listener.web]\nbind = \"127.0.0.1:80\"\n[[listener.web.route]]\npath = \"/a\"\nservice = \"a\"";
    let second = "[[listener.web.route]]\npath = \"/b\"\nservice = \"b\"\n[node]\nname = \"n\"";
    let third = "[node]\nworkers = 2";
    let sources = [
        source("1.toml", first),
        source("2.toml", second),
        source("3.toml", third),
    ];
    let config = parse(&sources, &|_| None).unwrap().config;
    let routes = &config.listener["web"].routes;
    let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["web-1", "web-2"]);
    assert_eq!(config.node.name.as_deref(), Some("n"));
    assert_eq!(config.node.workers, Some(2));
}

#[test]
fn the_environment_stands_for_texts_numbers_and_truth_values() {
    let config = config(
        "[node]\nworkers = \"${NONE:-4}\"\n[api]\nbind = \
         \"127.0.0.1:${PORT}\"\n[service.a.check]\ntcp = \"${YES}\"\nport = \"${PORT}\"",
    );
    assert_eq!(config.node.workers, Some(4));
    assert_eq!(config.api.bind.port(), 8080);
}

#[test]
fn a_diff_names_what_changes_and_what_needs_a_restart() {
    let old = "[node]\nworkers = 2\n[listener.web]\nbind = \"127.0.0.1:80\"\nservice = \"a\"\n[service.a]\n\
               [[service.a.instance]]\naddress = \"a:1\"\n[[service.a.instance]]\naddress = \"a:2\"";
    let new = "[listener.web]\nbind = \"127.0.0.1:81\"\nservice = \"a\"\n[service.a]\nretries = 1\n\
               [[service.a.instance]]\naddress = \"a:2\"\nweight = 2\n[service.b]\n[service.c.check]\ntcp = true";
    let (old, new) = (config(old), config(new));
    let shown: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "- node.workers = 2 (at the next start)");
    assert_eq!(
        shown[1],
        "~ listener.web.bind = \"127.0.0.1:80\" -> \"127.0.0.1:81\""
    );
    assert_eq!(shown[2], "~ service.a.retries = 2 -> 1");
    assert!(
        shown[3].starts_with("- service.a.instance[\"a:1\"] = {"),
        "{}",
        shown[3]
    );
    assert_eq!(shown[4], "~ service.a.instance[\"a:2\"].weight = 1 -> 2");
    assert!(
        shown[5].starts_with("+ service.b = { policy = "),
        "{}",
        shown[5]
    );
    assert!(shown[6].starts_with("+ service.c = {"), "{}", shown[6]);
    assert_eq!(shown.len(), 7);
    assert!(diff(&new, &new).is_empty());
    // A table that needs a restart needs it as a whole, too.
    let front = diff(&config(""), &config("[front.zookeeper]"));
    assert!(front.len() == 1 && front[0].restart, "{front:?}");
    assert_eq!(diff(&new, &old)[0].edit, Edit::Added("2".into()));
}
