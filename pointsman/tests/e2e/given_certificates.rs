//! Certificates that a node is given while it runs, through its API and its command line.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::harness::{Home, Node, pointsman, until};
use crate::tls::{Authority, Client, Identity, connect, trusting};

const CONFIG: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
    tls = { certificates = [{ name = \"shop\" }] }\n\
    [[listener.web.route]]\nanswer = { body = \"hello\" }\n";

fn body(identity: &Identity) -> Value {
    json!({ "certificate": identity.cert, "key": identity.key })
}

/// Whether a client that trusts this authority alone is served, by a handshake of its own.
fn serves(node: &Node, authority: &Authority) -> bool {
    let config = trusting(&[authority], None);
    let mut client = connect(node.web(), &config, "a.example");
    asked(&mut client).is_ok()
}

/// A request on a connection that stays.
fn asked(client: &mut Client) -> std::io::Result<()> {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut part = [0; 1024];
        match client.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
    Ok(())
}

#[test]
fn a_certificate_is_set_and_swapped_under_open_connections_and_is_there_after_a_restart() {
    let [old, new] = [(); 2].map(|()| Authority::new());
    let home = Home::new(CONFIG);
    let node = home.start();
    node.said().until_line("there is no certificate shop yet");
    assert!(!serves(&node, &old));
    let put = |identity: &Identity| node.call("PUT", "/v1/certificates/shop", &body(identity));
    let answer = put(&old.sign(&["a.example", "*.b.example"]));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["hosts"], json!(["a.example", "*.b.example"]));
    assert_eq!(answer.json()["used_by"], json!(["listener web"]));
    // At once: no file has to be looked at first.
    assert!(serves(&node, &old));
    let mut kept: Vec<_> = (0..20)
        .map(|_| connect(node.web(), &trusting(&[&old], None), "a.example"))
        .collect();
    kept.iter_mut().for_each(|c| asked(c).unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let (ended, counted, at) = (over.clone(), count.clone(), node.web());
    let both = trusting(&[&old, &new], None);
    // Handshakes all the while.
    let load = std::thread::spawn(move || {
        while !ended.load(Relaxed) {
            asked(&mut connect(at, &both, "a.example")).unwrap();
            counted.fetch_add(1, Relaxed);
        }
    });
    for n in 0..50 {
        let (now, before) = [(&new, &old), (&old, &new)][n % 2];
        let answer = put(&now.sign(&["a.example"]));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(serves(&node, now) && !serves(&node, before), "{n}");
    }
    let goal = count.load(Relaxed) + 10;
    until("more handshakes", || {
        (count.load(Relaxed) >= goal).then_some(())
    });
    over.store(true, Relaxed);
    load.join().unwrap();
    kept.iter_mut().for_each(|c| asked(c).unwrap());

    let file = home.data().join("certificates/shop.pem");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&home.data().join("certificates")), 0o700);
    node.stop();
    let node = home.start();
    assert!(serves(&node, &old));
}

#[test]
fn what_cannot_be_used_is_refused_and_the_old_one_stays() {
    let (authority, other) = (Authority::new(), Authority::new());
    let home = Home::new(CONFIG);
    let node = home.start();
    let good = authority.sign(&["a.example"]);
    let put = |body: &Value| node.call("PUT", "/v1/certificates/shop", body);
    assert_eq!(put(&body(&good)).status, 201);
    let stranger = other.sign(&["a.example"]);
    let mut expired = CertificateParams::new(vec!["a.example".into()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = other.signed(&expired);
    let mut early = CertificateParams::new(vec!["a.example".into()]).unwrap();
    early.not_before = rcgen::date_time_ymd(2200, 1, 1);
    let early = other.signed(&early);
    for (certificate, key, why) in [
        (&*stranger.cert, &*good.key, "must belong together"),
        ("garbage", &*good.key, "has no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &*good.key,
            "cannot be used",
        ),
        (&*stranger.cert, "garbage", "has no private key in it"),
        (&*expired.cert, &*expired.key, "has expired"),
        (&*early.cert, &*early.key, "is not good yet"),
    ] {
        let answer = put(&json!({ "certificate": certificate, "key": key }));
        assert_eq!(answer.status, 400, "{why}: {}", answer.text());
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(why) && detail.contains("Nothing was changed"),
            "{detail}"
        );
        assert!(!answer.text().contains("PRIVATE KEY"), "{}", answer.text());
        assert!(serves(&node, &authority), "{why}");
    }
    let used = node.call("DELETE", "/v1/certificates/shop", &Value::Null);
    assert_eq!(used.status, 409);
    assert!(used.text().contains("listener web"), "{}", used.text());
    // Nobody reads a key.
    for path in ["/v1/certificates", "/v1/certificates/shop", "/metrics"] {
        let answer = crate::harness::get(node.api, path);
        assert!(!answer.text().contains("PRIVATE"), "{path}");
    }
}

#[test]
fn the_command_line_sets_lists_and_removes() {
    let authority = Authority::new();
    let home = Home::new(CONFIG);
    let node = home.start();
    authority.sign(&["a.example"]).write(&home, "a");
    let file = |name: &str| home.path().join(name).display().to_string();
    let (cert, key, url) = (file("a.pem"), file("a.key"), node.url());
    let list = || {
        let output = pointsman(["certificate", "list", "--api", &url]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        list().contains("shop") && list().contains("not set yet"),
        "{}",
        list()
    );
    let set = |name: &str, key: &str| {
        let args = [
            "certificate",
            "set",
            name,
            "--certificate",
            &cert,
            "--key",
            key,
            "--api",
            &url,
        ];
        let output = pointsman(args);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (good, said) = set("shop", &key);
    assert!(good && said.contains("set, good until"), "{said}");
    assert!(serves(&node, &authority));
    let (good, said) = set("shop", &cert);
    assert!(!good && said.contains("no private key"), "{said}");
    let listed = list();
    let line = listed.lines().find(|l| l.starts_with("shop")).unwrap();
    assert!(
        line.contains("a.example") && line.contains("listener web"),
        "{listed}"
    );
    // One that nobody uses may go, and one that somebody uses may not.
    assert!(set("spare", &key).0);
    let remove = |name: &str| pointsman(["certificate", "remove", name, "--api", &url]);
    assert!(remove("spare").status.success());
    assert!(!remove("spare").status.success());
    let refused = String::from_utf8(remove("shop").stderr).unwrap();
    assert!(refused.contains("it is used by listener web"), "{refused}");
}

#[test]
fn a_good_certificate_is_not_followed_by_a_file_that_has_expired() {
    let (old, new) = (Authority::new(), Authority::new());
    let home = Home::new("");
    old.sign(&["a.example"]).write(&home, "a");
    let at = home.path().display().to_string();
    home.configure(&CONFIG.replace(
        "{ name = \"shop\" }",
        &format!("{{ cert = \"{at}/a.pem\", key = \"{at}/a.key\" }}"),
    ));
    let node = home.start();
    let mut expired = CertificateParams::new(vec!["a.example".into()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    new.signed(&expired).write(&home, "a");
    node.said().until_line("a.pem has expired");
    assert!(serves(&node, &old));
    let listed = node.read("/v1/certificates");
    assert_eq!(
        listed["certificates"][0]["used_by"],
        json!(["listener web"])
    );
    new.sign(&["a.example"]).write(&home, "a");
    until("the good one", || serves(&node, &new).then_some(()));
}
