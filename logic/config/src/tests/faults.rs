//! What is wrong is said where it is, with what to do.

use super::{config, env, faults, parse_one, source};
use crate::{Severity, parse};

#[track_caller]
fn one(text: &str) -> String {
    let faults = faults(text);
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 1, "{shown:#?}");
    shown[0].clone()
}

/// A listener with this in it.
fn listener(keys: &str) -> String {
    format!("[listener.web]\nbind = \"127.0.0.1:80\"\n{keys}")
}

fn route(keys: &str) -> String {
    listener(&format!("[[listener.web.route]]\n{keys}"))
}

fn service(keys: &str) -> String {
    format!("[service.shop]\n{keys}")
}

#[test]
fn an_unknown_key_names_the_near_one() {
    assert_eq!(
        one("[node]\n  worker = 2"),
        "a.toml:2:3: error: node.worker: is no key; did you mean workers?"
    );
    assert_eq!(
        one("[log.access]\nqqqqq = 2"),
        "a.toml:2:1: error: log.access.qqqqq: is no key; the keys here are format, path"
    );
}

#[test]
fn what_the_design_has_and_this_version_has_not_is_told_apart() {
    for text in [
        "[front.consul]\nbind = \"127.0.0.1:8500\"",
        &route("files = \"/srv\"\nservice = \"a\""),
        &listener("service = \"a\"\nprotocol = \"http2\""),
    ] {
        let fault = one(text);
        assert!(fault.contains("is not in this version"), "{fault}");
    }
}

#[test]
fn tls_that_cannot_work_is_refused() {
    let tls = |more: &str| {
        listener(&format!(
            "service = \"a\"\nprotocol = \"https\"\ntls = {{ certificates = [{{ cert = \"a\", key = \"b\" }}]{more} }}"
        ))
    };
    assert!(parse_one(&tls("")).is_ok());
    for (text, why) in [
        (
            listener("service = \"a\"\nprotocol = \"https\""),
            "speaks https and has no certificate",
        ),
        (
            listener("service = \"a\"\nprotocol = \"https\"\ntls = { certificates = [] }"),
            "is empty",
        ),
        (
            listener("service = \"a\"\ntls = { certificates = [{ cert = \"a\", key = \"b\" }] }"),
            "has no meaning with protocol = \"http\"",
        ),
        (
            tls(", alpn = [\"h2\"]"),
            "has no meaning with protocol = \"https\"",
        ),
        (tls(", client_auth = \"required\""), "nobody signs"),
        (
            listener(
                "service = \"a\"\nprotocol = \"https\"\ntls = { certificates = [{ cert = \"a\" }] }",
            ),
            "is not one of cert with key, and name",
        ),
        (
            listener(
                "service = \"a\"\nprotocol = \"https\"\ntls = { certificates = [{ name = \"a\", key = \"b\" }] }",
            ),
            "is not one of cert with key, and name",
        ),
        (
            listener(
                "service = \"a\"\nprotocol = \"https\"\ntls = { certificates = [{ name = \"../a\" }] }",
            ),
            "has '/' in it",
        ),
        (tls(", client_ca = \"c\""), "not asked for certificates"),
        (tls(", min_version = \"1.1\""), "1.1"),
        (service("tls = { cert = \"a\" }"), "one of cert and key"),
    ] {
        let fault = one(&text);
        assert!(fault.contains(why), "{fault}");
    }
}

#[test]
fn traces_that_cannot_be_sent_are_refused() {
    let traces = |more: &str| format!("[telemetry.traces]\nendpoint = \"http://a:4318\"\n{more}");
    assert!(parse_one(&traces("")).is_ok());
    for (text, why) in [
        (
            "[telemetry.traces]\nendpoint = \"a:4318\"".into(),
            "is no URL of http or https",
        ),
        (
            traces("ca = \"/ca.pem\""),
            "has no meaning with an endpoint in clear text",
        ),
        (
            traces("headers = { Host = \"a\" }"),
            "has the field Host, which is written anyway",
        ),
        (
            traces("headers = { key = \"a\\nb\" }"),
            "has a value for key that no field can have",
        ),
        (traces("sample = \"0.00001%\""), "is no share"),
        (traces("queue = 1"), "should be from 1024 to 1000000"),
        (
            listener("service = \"a\"\ntrace_context = \"none\""),
            "trace_context",
        ),
        (
            listener("service = \"a\"\nprotocol = \"tcp\"\ntrace_context = \"all\""),
            "has no meaning with protocol = \"tcp\"",
        ),
        (
            route("service = \"a\"\nfilters.request_headers = { remove = [\"Traceparent\"] }"),
            "which the proxy writes itself",
        ),
    ] {
        let fault = one(&text);
        assert!(fault.contains(why), "{fault}");
    }
}

#[test]
fn a_connection_has_no_smaller_window_than_a_stream() {
    let text = listener("service = \"a\"\nhttp2 = { stream_window = \"2MiB\" }");
    let fault = one(&text);
    assert!(fault.contains("connection_window"), "{fault}");
}

#[test]
fn instances_that_are_not_verified_are_warned_of() {
    let parsed = parse_one(&service("tls = { verify = false }")).unwrap();
    assert!(parsed.warnings[0].what.contains("whoever answers"));
}

#[test]
fn connections_cannot_be_respread_by_a_policy_that_would_not_place_them_better() {
    for policy in ["round_robin", "random", "consistent_hash", "maglev"] {
        assert_eq!(
            one(&service(&format!(
                "policy = {policy:?}\nrespread = {{ rate = \"1%\" }}"
            ))),
            format!(
                "a.toml:3:14: error: service.shop.respread.rate: {policy} would not send a client to an instance \
                 that has fewer; choose least_conn as the policy, or leave respread out"
            )
        );
    }
}

#[test]
fn a_value_of_the_wrong_kind_names_both_kinds() {
    for (text, expected) in [
        (
            "[node]\nworkers = \"two\"",
            "a.toml:2:11: error: node.workers: should be a whole number from 0 to 65535, and is the \
             text \"two\"",
        ),
        (
            "[api]\nmax_body = 5",
            "a.toml:2:12: error: api.max_body: should be an amount of bytes, such as \"64KiB\", and is \
             the number 5",
        ),
        (
            "api = []",
            "a.toml:1:7: error: api: should be a table, and is a list",
        ),
        (
            "[service.a.check]\ntcp = 1",
            "a.toml:2:7: error: service.a.check.tcp: should be true or false, and is the number 1",
        ),
    ] {
        assert_eq!(one(text), expected);
    }
}

#[test]
fn columns_count_characters_not_bytes() {
    let fault = &faults("node = { name = \"é\", \"é\" = 1 }")[0];
    assert_eq!((fault.place.line, fault.place.column), (1, 22));
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = "[nod]\n[node]\nname = 5\nworkers = 5000\n[listener.a]\nbind = \"x\"\nservice = \"a b\"\n\
                [listener.b]\nbind = \"127.0.0.1:7070\"\nservice = \"a\"\n[service.s]\nretries = 11\n\
                [service.s.check]\ninterval = \"1\"\ntcp = true\n[[service.s.instance]]\nadress = \"a:1\"";
    let keys: Vec<String> = faults(text).into_iter().map(|f| f.key).collect();
    assert_eq!(
        keys,
        [
            "nod",
            "node.name",
            "node.workers",
            "listener.a.bind",
            "listener.a.service",
            "listener.b.bind",
            "service.s.retries",
            "service.s.check.interval",
            "service.s.instance[1].address",
            "service.s.instance[1].adress",
        ]
    );
}

#[test]
fn a_syntax_error_does_not_hide_the_faults_of_other_lines() {
    let text = "[node]\nname = edge-1\nworkers = \"x\"\n[listener.web]\nbind = 0.0.0.0:80\n[service.a]\nretry = 1";
    let lines: Vec<(usize, bool)> = faults(text)
        .iter()
        .map(|f| (f.place.line, f.what.starts_with("is no TOML")))
        .collect();
    assert_eq!(lines, [(2, true), (3, false), (5, true), (7, false)]);
}

#[test]
fn a_key_set_in_two_files_names_both_places() {
    let sources = [
        source("a.toml", "[node]\nname = \"a\""),
        source("b.toml", "[api]\n\n[node]\n name = \"b\""),
    ];
    let faults = parse(&sources, &env).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "b.toml:4:2: error: node.name: is set already, at a.toml:2:1; keep one of the two"
    );
}

#[test]
fn a_variable_that_is_not_set_is_a_fault() {
    assert_eq!(
        one("[api]\nbind = \"${HOST}:7070\""),
        "a.toml:2:8: error: api.bind: the environment variable HOST is not set; set it, or give a \
         default: ${NAME:-default}"
    );
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let two = |a: &str, b: &str| {
        format!(
            "[listener.a]\nbind = \"{a}\"\nservice = \"x\"\n[listener.b]\nbind = \"{b}\"\nservice = \"x\""
        )
    };
    let fault = one(&two("[::1]:80", "[0::1]:80"));
    assert!(fault.starts_with("a.toml:5:8: error: listener.b.bind: is the address of listener.a.bind too, set at a.toml:2:8;"), "{fault}");
    config(&two("127.0.0.1:0", "127.0.0.1:0"));
    config(&two("127.0.0.1:80", "127.0.0.2:80"));
    let fault = one(&listener("service = \"a\"\n[api]\nbind = \"127.0.0.1:80\""));
    assert!(
        fault.contains("listener.web.bind: is the address of api.bind too"),
        "{fault}"
    );
}

#[test]
fn a_listener_needs_something_to_do() {
    assert!(one(&listener("")).contains("has nothing to do"));
    assert!(one(&route("host = \"a\"")).contains("does not say what to do"));
    assert!(one(&route("service = \"a\"\nanswer = {}")).contains("more than one of"));
    assert!(
        one(&route("service = \"a\"\npath = \"/\"\npath_prefix = \"/\""))
            .contains("more than one of")
    );
}

#[test]
fn a_key_of_another_protocol_is_a_fault() {
    for (text, key) in [
        (
            "service = \"a\"\nprotocol = \"tcp\"\nmax_head = \"2KiB\"",
            "max_head",
        ),
        ("service = \"a\"\nprotocol = \"tcp\"\nudp = {}", "udp"),
        (
            "service = \"a\"\nprotocol = \"udp\"\naccept_proxy = []",
            "accept_proxy",
        ),
        ("service = \"a\"\n[listener.web.tcp]\nidle = \"5s\"", "tcp"),
    ] {
        let fault = one(&listener(text));
        let expected = format!("listener.web.{key}: has no meaning with protocol = ");
        assert!(fault.contains(&expected), "{fault}");
    }
    let fault = one(&route("service = \"a\"\nsni = \"a.example\""));
    assert!(
        fault.contains("listener.web.route[1].sni: has no meaning"),
        "{fault}"
    );
}

#[test]
fn udp_and_tcp_listeners_may_have_one_port() {
    config(
        "[listener.a]\nbind = \"127.0.0.1:53\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         [listener.b]\nbind = \"127.0.0.1:53\"\nprotocol = \"tcp\"\nservice = \"dns\"",
    );
}

#[test]
fn a_route_that_can_never_match_names_the_one_before_it() {
    let two = "service = \"a\"\npath_prefix = \"/api/\"\nhost = \"A.example\"\n[[listener.web.route]]\n\
               service = \"b\"\nhost = \"a.example.\"\npath_prefix = \"/api\"";
    assert_eq!(
        one(&route(two)),
        "a.toml:7:1: error: listener.web.route[2]: matches the same as \
         listener.web.route[1] at a.toml:3:1; only one of them can ever match: change or remove one"
    );
    let shortcut = "service = \"a\"\n[[listener.web.route]]\nservice = \"b\"";
    assert!(one(&listener(shortcut)).contains(": listener.web.service: matches the same"));
    let names = "service = \"a\"\nname = \"x\"\n[[listener.web.route]]\nname = \"x\"\npath = \"/b\"\nservice = \"b\"";
    assert!(one(&route(names)).contains("has the same name, \"x\", as"));
}

#[test]
fn texts_that_do_not_fit_their_key_are_refused() {
    for text in [
        route("service = \"a/b/c\""),
        route("service = \"\""),
        route("service = \"a\"\nhost = \"a b\""),
        route("service = \"a\"\nhost = \"*.10.0.0.1\""),
        route("service = \"a\"\nhost = \"a.*.b\""),
        route("service = \"a\"\npath = \"api\""),
        route("service = \"a\"\npath = \"/a?b\""),
        route("service = \"a\"\npath_prefix = \"/a/../b\""),
        route("service = \"a\"\nname = \"\""),
        route("redirect = { status = 200, location = \"/\" }"),
        route("redirect = { location = \"/{nope}\" }"),
        route("redirect = { location = \"/{host\" }"),
        route("redirect = { location = \"/a b\" }"),
        route("redirect = { location = \"/a\\r\\nSet-Cookie: x\" }"),
        route("answer = { status = 204, body = \"x\" }"),
        route("answer = { status = 100 }"),
        route("answer = { content_type = \"a\\nb\" }"),
        listener("service = \"a\"\ntrusted_peers = [\"10.0.0.0/33\"]"),
        listener("service = \"a\"\ntrusted_peers = [\"10.0.0.1/8\"]"),
        listener("service = \"a\"\ntrusted_peers = [\"10.0.0.0/+8\"]"),
        listener("service = \"a\"\ntrusted_peers = [\"::/129\"]"),
        listener("service = \"a\"\ntrusted_peers = [\"localhost\"]"),
        listener("service = \"a\"\nmax_head = \"2MiB\""),
        service("instance = [{ address = \"10.0.0.5\" }]"),
        service("instance = [{ address = \"10.0.0.5:0\" }]"),
        service("instance = [{ address = \"10.0.0.5:+80\" }]"),
        service("instance = [{ address = \"0.0.0.0:80\" }]"),
        service("instance = [{ address = \"fd00::5:80\" }]"),
        service("instance = [{ address = \"10.0.0.500:80\" }]"),
        service("instance = [{ address = \"a:1\", weight = 70000 }]"),
        service("instance = [{ address = \"a:1\" }, { address = \"a:1\" }]"),
        service("check = {}"),
        service("check = { tcp = false }"),
        service("check = { tcp = true, http = \"/\" }"),
        service("check = { tcp = true, method = \"GET\" }"),
        service("check = { udp = false }"),
        service("check = { tcp = true, udp = true }"),
        service("check = { protocol = \"gopher\" }"),
        service("check = { protocol = \"redis\", http = \"/\" }"),
        service("check = { protocol = \"smtp\", user = \"u\" }"),
        service("check = { protocol = \"redis\", database = \"0\" }"),
        service("check = { protocol = \"redis\", user = \"u\" }"),
        service("check = { protocol = \"mysql\", password = \"p\" }"),
        service("check = { protocol = \"mysql\", user = \"\" }"),
        service("check = { protocol = \"mysql\", user = \"a\\u0000b\" }"),
        service("check = { protocol = \"postgresql\", send = \"x\" }"),
        service("check = { http = \"/\", expect = \"x\" }"),
        listener("role = \"primary\"\nroute = [{ path = \"/\", service = \"a\" }]"),
        listener("service = \"a\"\nrole = \"leader\""),
        listener("route = [{ role = \"primary\", answer = {} }]"),
        service("check = { http = \"healthz\" }"),
        service("check = { http = \"/\", status = [] }"),
        service("check = { http = \"/\", status = [\"399-200\"] }"),
        service("check = { http = \"/\", method = \"GET /\" }"),
        service("check = { http = \"/\", headers = { Host = \"x\" } }"),
        service("check = { http = \"/\", headers = { \"a b\" = \"x\" } }"),
        service("check = { http = \"/\", headers = { a = \"x\\r\\ny: z\" } }"),
        service("check = { http = \"/\", port = 0 }"),
        service("[service.\"default/shop\"]"),
        "[guard]\nmax_loss = \"130%\"".into(),
        "[guard]\nmax_loss = \"+30%\"".into(),
        "[guard]\nwindow = \"60\"".into(),
        "[node]\nworkers = 0".into(),
        "[node]\nworkers = -1".into(),
        "[node]\nworkers = 99999999999999999999".into(),
        "[listener.\"a b\"]\nbind = \"127.0.0.1:1\"\nservice = \"a\"".into(),
    ] {
        let fault = one(&text);
        assert!(fault.starts_with("a.toml:"), "{fault}");
    }
}

#[test]
fn a_probe_longer_than_its_interval_is_a_warning() {
    let parsed = parse_one(&service("check = { tcp = true, timeout = \"3s\" }")).unwrap();
    assert_eq!(parsed.warnings.len(), 1);
    assert_eq!(parsed.warnings[0].severity, Severity::Warning);
    assert_eq!(parsed.warnings[0].key, "service.shop.check.timeout");
}

#[test]
fn a_password_is_in_no_message_about_a_change() {
    let text = |password: &str| {
        service(&format!(
            "check = {{ protocol = \"redis\", password = \"{password}\" }}"
        ))
    };
    let config = |text: &str| parse_one(text).unwrap().config;
    let changes = [
        crate::diff(&config(&text("old-one")), &config(&text("new-one"))),
        crate::diff(&config(""), &config(&text("new-one"))),
        crate::diff(&config(&text("old-one")), &config("")),
    ];
    for changes in changes {
        let said = format!("{} {changes:?}", changes[0]);
        assert!(changes.len() == 1 && !said.contains("-one"), "{said}");
    }
    assert!(!format!("{:?}", config(&text("old-one"))).contains("old-one"));
}

#[test]
fn secrets_in_fields_are_in_no_message_about_a_change() {
    let text = |n: &str| {
        format!(
            "[node]\nhash_secret = \"hidden-{n}\"\n[listener.web]\nbind = \"127.0.0.1:80\"\n[[listener.web.route]]\n\
             service = \"a\"\nfilters.request_headers.set = {{ Authorization = \"hidden-{n}\", X-Shown = \"shown-{n}\" }}\n\
             filters.request_headers.add = {{ cookie = \"hidden-{n}\", X-Api-Key = \"hidden\" }}\n\
             [service.a]\ncheck = {{ http = \"/\", headers = {{ X-Probe = \"hidden-{n}\" }} }}"
        )
    };
    let (old, new) = (text("old"), text("new"));
    let config = |text: &str| parse_one(text).unwrap().config;
    let said = |old: &str, new: &str| format!("{:?}", crate::diff(&config(old), &config(new)));
    let changed = said(&old, &new);
    assert!(
        changed.contains("hash_secret") && changed.contains("X-Probe"),
        "{changed}"
    );
    assert!(
        changed.contains("shown-old") && changed.contains("shown-new"),
        "{changed}"
    );
    for said in [changed, said("", &new), said(&old, "")] {
        assert!(
            said.contains("shown-") && !said.contains("hidden"),
            "{said}"
        );
    }
    assert_eq!(crate::diff(&config(&old), &config(&old)), []);
    // Where they are asked for, they are shown.
    assert!(config(&new).to_toml().contains("cookie\" = \"hidden-new"));
}

#[test]
fn a_fault_is_one_line_whatever_is_in_its_key() {
    let faults = parse_one("[\"a\\nb\\u001b[2J\"]\nx = 1\n").unwrap_err();
    let shown = faults.0[0].to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.contains("a\\nb\\u{1b}[2J"), "{shown}");
}

#[test]
fn routes_that_want_what_cannot_be_are_refused() {
    for (keys, why) in [
        ("path_regex = \"(\"", "is no regular expression"),
        (
            "path_regex = \"(a{100}){1000}\"",
            "is too large a regular expression",
        ),
        (
            "path = \"/\"\npath_regex = \"/\"",
            "more than one of path, path_prefix and path_regex",
        ),
        ("method = [\"get\"]", "write \"GET\""),
        ("header = [{ name = \"a b\" }]", "is no name of one"),
        (
            "header = [{ name = \"a\", value = \"b\", regex = \"c\" }]",
            "more than one of value, regex and present",
        ),
        (
            "query = [{ name = \"a\", value = \"b\", present = false }]",
            "more than one of value, regex and present",
        ),
    ] {
        let fault = one(&route(&format!("{keys}\nservice = \"a\"")));
        assert!(fault.contains(why), "{fault}");
    }
}

#[test]
fn routes_that_differ_in_what_they_want_are_no_twins() {
    let two = |a: &str, b: &str| {
        let route =
            |keys: &str| format!("[[listener.web.route]]\npath = \"/\"\nservice = \"a\"\n{keys}\n");
        parse_one(&listener(&format!("{}{}", route(a), route(b)))).is_ok()
    };
    assert!(two("", "method = [\"GET\"]"));
    assert!(two(
        "header = [{ name = \"a\" }]",
        "header = [{ name = \"b\" }]"
    ));
    assert!(!two("method = [\"GET\"]", "method = [\"GET\"]"));
}

#[test]
fn filters_that_cannot_work_are_refused() {
    for (keys, why) in [
        (
            "rewrite = { prefix = \"/\", path = \"/\" }",
            "is not one of prefix, regex with to, and path",
        ),
        ("rewrite = { regex = \"/a\" }", "is not one of prefix"),
        (
            "rewrite = { regex = \"/(a)\", to = \"/$2\" }",
            "names the group $2",
        ),
        (
            "rewrite = { regex = \"/(a)\", to = \"/ b\" }",
            "is no part of a path",
        ),
        ("host = \"{nobody}\"", "{nobody}"),
        (
            "request_headers.set = { Host = \"a\" }",
            "the proxy writes itself",
        ),
        (
            "response_headers.remove = [\"content-length\"]",
            "the proxy writes itself",
        ),
        (
            "request_headers.add = { X = \"a\\nb\" }",
            "fits into no header field",
        ),
        ("alow = []", "did you mean allow?"),
        ("rate_limit = [{ rate = \"0/s\" }]", "is no rate"),
        ("rate_limit = [{ rate = \"+1/s\" }]", "is no rate"),
        ("rate_limit = [{ rate = \"1/w\" }]", "is no rate"),
        (
            "rate_limit = [{ rate = \"1/s\", key = \"header:\" }]",
            "nothing to count by",
        ),
        (
            "rate_limit = [{ rate = \"1/s\", excess = \"wait\" }]",
            "is unknown",
        ),
        ("concurrency = [{ max = 0 }]", "no request fits in"),
        ("cors = { origins = [] }", "nobody may"),
        ("compress = { codings = [] }", "nothing would be compressed"),
        ("compress = { codings = [\"deflate\"] }", "is no coding"),
        ("compress = { types = [\"*\"] }", "is no type"),
        (
            "cors = { origins = [\"*\"], credentials = true }",
            "every site of the world",
        ),
        (
            "cors = { origins = [\"https://a.example/path\"] }",
            "is no site",
        ),
        (
            "cors = { origins = [\"https://*a.example\"] }",
            "without a dot",
        ),
        (
            "error_page = [{ status = [\"200\"], body = \"\" }]",
            "is for no error",
        ),
        (
            "error_page = [{ status = [\"404\"] }]",
            "is not one of file and body",
        ),
        ("basic_auth = {}", "nobody could come in"),
        (
            "basic_auth = { users = { ann = \"secret\" } }",
            "is no password hash",
        ),
        (
            "basic_auth = { file = \"a\", realm = 'a\"b' }",
            "has a quote",
        ),
    ] {
        let text = format!("path_prefix = \"/\"\nservice = \"a\"\nfilters.{keys}");
        let fault = one(&route(&text));
        assert!(fault.contains(why), "{fault}");
    }
    let exact = one(&route(
        "path = \"/\"\nservice = \"a\"\nfilters.rewrite = { prefix = \"/\" }",
    ));
    assert!(exact.contains("has no path_prefix"), "{exact}");
}

#[test]
fn routes_have_what_their_listener_says_unless_they_say_otherwise() {
    let text = listener(
        "filters = { max_body = \"1MiB\", deny = [\"10.0.0.0/8\"], compress = {}, rate_limit = [{ rate = \"1/s\" }] }\n\
         service = \"rest\"\n\
         route = [\n\
         { path = \"/all\", service = \"a\" },\n\
         { path = \"/own\", service = \"a\", filters = { max_body = \"2MiB\", deny = [], rate_limit = [] } },\n\
         { path = \"/none\", service = \"a\", filters = { inherit = false, host = \"h\" } },\n\
         ]",
    );
    let config = parse_one(&text).unwrap().config;
    let seen: Vec<_> = config.listener["web"]
        .routes
        .iter()
        .map(|route| {
            let filters = &route.filters;
            let mib = filters.max_body.map(|size| size.0 >> 20);
            let (deny, rates) = (filters.access.deny.len(), filters.rate_limits.len());
            (mib, deny, rates, filters.compress.is_some())
        })
        .collect();
    let all = (Some(1), 1, 1, true);
    assert_eq!(seen, [all, (Some(2), 0, 0, true), (None, 0, 0, false), all]);
    // Written out, it means the same.
    let again = parse_one(&config.to_toml()).unwrap().config;
    assert_eq!(again, config, "{}", config.to_toml());
    for (keys, why) in [
        ("rewrite = { path = \"/\" }", "goes by a route's path"),
        ("inherit = false", "is for a route to say"),
        ("max_bodi = 1", "did you mean max_body?"),
    ] {
        let fault = one(&listener(&format!("service = \"a\"\nfilters.{keys}")));
        assert!(fault.contains(why), "{fault}");
    }
    let fault = one(&listener(
        "service = \"a\"\nprotocol = \"tcp\"\nfilters.max_body = \"1MiB\"",
    ));
    assert!(fault.contains("has no meaning with protocol"), "{fault}");
}

#[test]
fn redirects_go_somewhere() {
    for (keys, why) in [
        ("", "does not say where to"),
        (
            "location = \"/\", host = \"a\"",
            "a location beside its parts",
        ),
        ("host = \"a b\"", "has a space"),
        ("status = 200, path = \"/\"", "is no redirect"),
        ("path = \"{x}\"", "{x}"),
    ] {
        let fault = one(&route(&format!("redirect = {{ {keys} }}")));
        assert!(fault.contains(why), "{fault}");
    }
}

#[test]
fn persistence_that_contradicts_itself_is_refused() {
    for (keys, why) in [
        ("by = \"url\"", "is not"),
        ("max_keys = 100", "nothing is remembered"),
        ("by = \"source_ip\"\ncookie = \"a\"", "there is none"),
        ("cookie = \"a b\"", "is no token"),
        ("domain = \"a;b\"", "is no domain"),
        ("path = \"/a;b\"", "semicolon"),
        (
            "same_site = \"none\"\nsecure = false",
            "secure cookies only",
        ),
    ] {
        let fault = one(&format!("[service.a.persistence]\n{keys}"));
        assert!(fault.contains(why), "{fault}");
    }
}

#[test]
fn what_is_wrong_with_a_cluster_is_said_at_once() {
    let found = faults(
        "[cluster]\nbind = \"10.0.0.1:7071\"\ntoken = \"short\"\npeers = { a = \"10.0.0.1\", b = \"b:7071\" }\n",
    );
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    for part in [
        "is too short",
        "has an entry of another form",
        "is not a loopback address",
    ] {
        assert!(
            texts.iter().any(|text| text.contains(part)),
            "{part}: {texts:?}"
        );
    }
    let found = faults(
        "[cluster]\nbind = \"127.0.0.1:7071\"\ntoken = \"0123456789abcdef\"\npeers = { a = \"a:1\" }\ncert = \"a.pem\"\n",
    );
    assert!(
        found[0].to_string().contains("lacks the others"),
        "{}",
        found[0]
    );
    let cluster = "[cluster]\ntoken = \"0123456789abcdef\"\nbind = \"127.0.0.1:7071\"\n";
    for (more, why) in [
        ("", "names nobody"),
        ("join = [\"a\"]", "is of another form"),
        (
            "peers = { a = \"a:1\" }\nadvertise = \"a\"",
            "is of another form",
        ),
        (
            "peers = { a = \"a:1\" }\nadvertise_api = \"http://a\"",
            "is of another form",
        ),
        ("peers = { a = \"a:1\" }\nweight = 10001", "10000"),
        (
            "peers = { a = \"a:1\" }\n[node]\nname = \"b\"",
            "is not in [cluster] peers (a)",
        ),
    ] {
        let found = faults(&format!("{cluster}{more}"));
        assert!(found[0].to_string().contains(why), "{why}: {}", found[0]);
    }
    let unreachable = "[cluster]\ntoken = \"0123456789abcdef\"\nbind = \"0.0.0.0:7071\"\njoin = [\"a:1\"]\n\
                       cert = \"c\"\nkey = \"k\"\nca = \"a\"\n";
    let found = faults(unreachable);
    assert!(
        found[0]
            .to_string()
            .contains("is no address to be reached at")
    );
}

#[test]
fn splits_fallbacks_and_mirrors_that_make_no_sense_are_refused() {
    let shares = "services = [{ service = \"a\", weight = 9 }, { service = \"b\" }]";
    for (keys, said) in [
        (
            format!("{shares}\nservice = \"c\""),
            "more than one of service, services",
        ),
        (
            "services = [{ service = \"a\", weight = 0 }]".into(),
            "none has a weight above 0",
        ),
        (
            "services = [{ service = \"a\" }, { service = \"default/a\" }]".into(),
            "twice among its services",
        ),
        (
            "service = \"a\"\nsticky = \"cookie\"".into(),
            "is sticky, but has no services",
        ),
        (
            format!("{shares}\nsticky = \"cookies\""),
            "\"cookies\" is not \"cookie\", \"source_ip\"",
        ),
        (
            format!("{shares}\nfallback = \"b\""),
            "is the service that it is to stand in for",
        ),
        (
            "service = \"a\"\nfallback = \"b\"\nfallback_on = [\"always\"]".into(),
            "use one of unavailable, circuit_open, overloaded",
        ),
        (
            "answer = {}\nfallback = \"b\"".into(),
            "is there, but no service",
        ),
        (
            "service = \"a\"\nmirror = { service = \"a\" }".into(),
            "which would get each request twice",
        ),
    ] {
        let fault = one(&route(&keys));
        assert!(fault.contains(said), "{keys}: {fault}");
    }
    let tcp = "[listener.db]\nbind = \"127.0.0.1:1\"\nprotocol = \"tcp\"\nroute = [{ services = [{ service = \"a\" }] }]";
    assert!(one(tcp).contains("has no meaning with protocol = \"tcp\""));
}
