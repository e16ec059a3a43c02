//! `config check` finds in the files that a configuration names what would keep a node from starting with them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::harness::{Home, pointsman};
use crate::tls::Authority;

/// A home with good files (`good.pem`, `good.key`, `ca.pem`) and others that are good for nothing.
fn home() -> Home {
    let home = Home::new("");
    let authority = Authority::new();
    let good = authority.sign(&["a.example"]);
    good.write(&home, "good");
    let other = authority.sign(&["b.example"]);
    other.write(&home, "other");
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("ca.pem", &authority.pem);
    write("garbage", "none of what is looked for");
    let sealed = other.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    write("sealed.key", &sealed);
    write("first.pem", &of_version_1(&good.cert));
    std::fs::create_dir(home.path().join("directory")).unwrap();
    home
}

/// A certificate, PEM, that says that it is of version 1. Its signature does not fit any more, which nobody looks at here.
fn of_version_1(pem: &str) -> String {
    let mut der = CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec();
    // `[0] { INTEGER 2 }`, the first field of what is signed (RFC 5280, section 4.1).
    let version = der.windows(5).position(|w| w == [0xa0, 3, 2, 1, 2]);
    der[version.unwrap() + 4] = 0;
    let text = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A listener with this beside its protocol.
fn listener(tls: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n{tls}\n\
         [[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n"
    )
}

fn certificates(rest: &str) -> String {
    listener(&format!("tls = {{ certificates = [{rest}] }}"))
}

fn route(filters: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[[listener.web.route]]\n{filters}\nanswer = {{ body = \"hello\" }}\n"
    )
}

fn checked(home: &Home, configuration: &str, flag: &str) -> (bool, String) {
    let at = home.path().display().to_string();
    home.configure(&configuration.replace("DIR", &at));
    let words = ["config", "check", flag];
    home.run(&words[..if flag.is_empty() { 2 } else { 3 }])
}

/// Whether the check of it finds a fault of this key on this line that says this, and nothing without files; and whether a node
/// says the same.
fn finds(home: &Home, configuration: &str, (key, line): (&str, usize), said: &str) {
    let (valid, found) = checked(home, configuration, "");
    let place = format!("pointsman.toml:{line}:");
    let faults: Vec<_> = found.lines().filter(|l| l.contains("error: ")).collect();
    assert!(!valid && faults.len() == 1, "{configuration}{found}");
    for part in [&*place, &*format!("error: {key}: "), said] {
        assert!(faults[0].contains(part), "{part} in {found}");
    }
    let refusal = home.refusal();
    assert!(
        refusal.contains(key) && refusal.contains(said),
        "{said} in {refusal}"
    );
    let (valid, found) = checked(home, configuration, "--no-files");
    assert!(valid, "{found}");
}

#[test]
fn certificates_that_a_listener_could_not_use_are_found() {
    let home = home();
    for (cert, key, said) in [
        ("none.pem", "good.key", "none.pem cannot be read"),
        ("good.pem", "none.key", "none.key cannot be read"),
        ("garbage", "good.key", "garbage has no certificate in it"),
        ("good.pem", "garbage", "garbage has no private key in it"),
        ("good.pem", "other.key", "is not the key of the certificate"),
        ("good.pem", "sealed.key", "not encrypted"),
        ("first.pem", "good.key", "it is of X.509 version 1"),
        ("directory", "good.key", "directory is no file"),
    ] {
        let one = certificates(&format!("{{ cert = \"DIR/{cert}\", key = \"DIR/{key}\" }}"));
        finds(&home, &one, ("listener.web.tls.certificates[1]", 4), said);
    }
    let ocsp = "{ cert = \"DIR/good.pem\", key = \"DIR/good.key\", ocsp = \"DIR/garbage\" }";
    let key = "listener.web.tls.certificates[1].ocsp";
    finds(&home, &certificates(ocsp), (key, 4), "no OCSP answer");
    let clients = "[listener.web.tls]\ncertificates = [{ cert = \"DIR/good.pem\", key = \"DIR/good.key\" }]\n\
                   client_auth = \"required\"\nclient_ca = \"DIR/garbage\"";
    let key = "listener.web.tls.client_ca";
    finds(&home, &listener(clients), (key, 7), "no certificate in it");
}

#[test]
fn files_of_services_filters_traces_and_the_cluster_are_looked_at() {
    let home = home();
    let service = "[service.shop.tls]\nca = \"DIR/none.pem\"\n";
    finds(
        &home,
        service,
        ("service.shop.tls.ca", 2),
        "none.pem cannot be read",
    );
    let service = "[service.\"prod/shop\".tls]\ncert = \"DIR/good.pem\"\nkey = \"DIR/other.key\"\n";
    let key = "service.\"prod/shop\".tls.cert";
    finds(
        &home,
        service,
        (key, 2),
        "is not the key of the certificate",
    );
    let users = route("filters.basic_auth.file = \"DIR/none\"");
    let key = "listener.web.route[1].filters.basic_auth.file";
    finds(&home, &users, (key, 4), "No such file");
    let page = route("filters.error_page = [{ status = [\"404\"], file = \"DIR/none\" }]");
    let key = "listener.web.route[1].filters.error_page[1].file";
    finds(&home, &page, (key, 4), "No such file");
    // What a listener hands down to several routes is one fault.
    let handed = route("")
        + "[[listener.web.route]]\npath_prefix = \"/b\"\nanswer = { body = \"\" }\n[listener.web.filters]\nbasic_auth = { file = \"DIR/none\" }\n";
    let key = "listener.web.filters.basic_auth.file";
    finds(&home, &handed, (key, 10), "No such file");
    let traces = "[telemetry.traces]\nendpoint = \"https://127.0.0.1:1\"\nca = \"DIR/garbage\"\n";
    finds(
        &home,
        traces,
        ("telemetry.traces.ca", 3),
        "no certificate in it",
    );
    let cluster = "[node]\nname = \"a\"\n[cluster]\nbind = \"127.0.0.1:0\"\ntoken = \"a secret of the test\"\n\
                   peers = { a = \"127.0.0.1:7071\" }\ncert = \"DIR/good.pem\"\nkey = \"DIR/good.key\"\nca = \"DIR/garbage\"\n";
    finds(&home, cluster, ("cluster.ca", 9), "no certificate in it");
}

#[test]
fn all_faults_of_files_are_told_at_once_and_as_json() {
    let home = home();
    let two = "{ cert = \"DIR/none.pem\", key = \"DIR/good.key\" }, { cert = \"DIR/garbage\", key = \"DIR/good.key\" }";
    let both = certificates(two) + "[service.shop.tls]\nca = \"DIR/garbage\"\n";
    let (valid, found) = checked(&home, &both, "--json");
    assert!(!valid);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let faults = found["faults"].as_array().expect("a list");
    let keys: Vec<_> = faults
        .iter()
        .map(|f| (f["key"].as_str().unwrap(), f["line"].as_u64().unwrap()))
        .collect();
    let listed = [
        "listener.web.tls.certificates[1]",
        "listener.web.tls.certificates[2]",
        "service.shop.tls.ca",
    ];
    assert_eq!(keys, [(listed[0], 4), (listed[1], 4), (listed[2], 8)]);
    assert_eq!(found["valid"], false);
}

#[test]
fn a_check_of_good_files_passes_and_leaves_nothing_behind() {
    let home = home();
    let good =
        certificates("{ cert = \"DIR/good.pem\", key = \"DIR/good.key\" }, { name = \"given\" }");
    let good = good + "[service.shop.tls]\nca = \"DIR/ca.pem\"\n";
    let names = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    // What the test itself writes is there from now on.
    checked(&home, &good, "--no-files");
    let before = names(home.path());
    let (valid, found) = checked(&home, &good, "");
    assert!(valid, "{found}");
    assert_eq!(names(home.path()), before);
}

#[test]
fn a_check_of_nothing_is_none() {
    let output = pointsman(["config", "check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no file to check"), "{said}");
}
