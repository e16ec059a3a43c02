//! Names and passwords.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Ask, BOTH, Speaks, all, before, mirror, refused};
use crate::harness::{Connection, Directory, Home, Origin, until};

/// `ann` with `secret`, in bcrypt of cost 10; `bob` with `hunter2`, in argon2id; `cid` with `password`, in SHA-1 and `dan`
/// with `password` in MD5.
const USERS: &str = "ann:$2b$10$4ONWoHG4WhEXOEhaJI0Dgu3mD2si0MHrdofTW7yWKRCkYc1bcgXqe\n\
    bob:$argon2id$v=19$m=1024,t=2,p=1$VfW1EMaXoj7kC/31J/NAWA$rQpcIE/z9s6XdnuE/nvfEFvgIP0vxSdzjwYxIrOHKwY\n\
    cid:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\
    dan:$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1\n";

fn base64(text: &str) -> String {
    let mut encoder = Command::new("base64")
        .arg("-w0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64 starts");
    encoder
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    String::from_utf8(encoder.wait_with_output().unwrap().stdout).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(&format!("{user}:{password}")))
}

#[test]
fn users_come_in_with_their_passwords_and_nobody_else() {
    let directory = Directory::new();
    let file = directory.write("users", USERS);
    let origin = mirror();
    let node = before(
        &origin,
        &format!(
            "filters.basic_auth = {{ file = {file:?}, realm = \"shop\" }}\n\
             filters.request_headers = {{ set = {{ X-User = \"{{user}}\" }}, remove = [\"Authorization\"] }}"
        ),
    );
    for speaks in BOTH {
        let ask = |authorization: &str| {
            let fields = [("authorization", authorization)];
            Ask::get("/").with(&fields).of(&node, speaks)
        };
        for (user, password) in [
            ("ann", "secret"),
            ("bob", "hunter2"),
            ("cid", "password"),
            ("dan", "password"),
        ] {
            // The second time it is known.
            for _ in 0..2 {
                let answer = ask(&basic(user, password));
                assert_eq!(answer.status, 200, "{user} {speaks:?}");
                assert!(
                    answer.text().contains(&format!("X-User: {user}\r\n")),
                    "{user}"
                );
                assert!(
                    !answer.text().to_lowercase().contains("authorization"),
                    "{user}"
                );
            }
        }
        for wrong in [
            &*basic("ann", "Secret"),
            &basic("ann", ""),
            &basic("nobody", "secret"),
            &basic("", ""),
            "Basic",
            "Basic !",
            "Bearer abc",
        ] {
            let answer = ask(wrong);
            assert_eq!(answer.status, 401, "{wrong}");
            let challenge = "Basic realm=\"shop\", charset=\"UTF-8\"";
            assert_eq!(all(&answer, "www-authenticate"), [challenge]);
        }
        assert_eq!(Ask::get("/").of(&node, speaks).status, 401);
    }
    assert_eq!(refused(&node, "password"), 16.0);
    node.logged().until_line("\"ended\":\"password\"");
    assert!(
        origin
            .heard()
            .iter()
            .all(|heard| heard.header("x-user").is_some())
    );
}

#[test]
fn a_changed_file_holds_at_once_and_an_unusable_one_changes_nothing() {
    let directory = Directory::new();
    let file = directory.write("users", USERS);
    let origin = mirror();
    let node = before(
        &origin,
        &format!("filters.basic_auth = {{ file = {file:?} }}"),
    );
    let status = |user: &str| {
        let authorization = basic(user, "password");
        let fields = [("authorization", &*authorization)];
        Ask::get("/").with(&fields).of(&node, Speaks::Http11).status
    };
    assert_eq!((status("cid"), status("eve")), (200, 401));
    directory.write("users", "cid:plain text\n");
    node.said().until_line("stays in use");
    assert_eq!((status("cid"), status("eve")), (200, 401));
    directory.write("users", "eve:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n");
    until("eve may come in", || (status("eve") == 200).then_some(()));
    assert_eq!(status("cid"), 401);
    // A configuration whose file is not there is refused as a whole.
    let said = node.reload(&super::config(
        &origin,
        "filters.basic_auth = { file = \"/nowhere/users\" }",
    ));
    assert!(
        said.contains("/nowhere/users") && said.contains("stays"),
        "{said}"
    );
    assert_eq!(status("eve"), 200);
    let refusal = Home::new(&super::config(
        &origin,
        "filters.basic_auth = { file = \"/nowhere/users\" }",
    ))
    .refusal();
    assert!(refusal.contains("/nowhere/users"), "{refusal}");
}

#[test]
fn passwords_that_take_long_hold_nobody_else_up() {
    // A second or so for each.
    let slow = USERS.replace("$2b$10$", "$2b$14$");
    let directory = Directory::new();
    let file = directory.write("users", slow);
    let origin = Origin::named("shop");
    let node = before(
        &origin,
        &format!(
            "filters.basic_auth = {{ file = {file:?} }}\n\
             [[listener.web.route]]\npath = \"/open\"\nanswer = {{ body = \"open\" }}"
        ),
    );
    let guess = basic("ann", "guess");
    let mut guessing: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Connection::open(node.web());
            client.send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {guess}\r\n\r\n"
            ));
            client
        })
        .collect();
    // Those for whom there is no room are told so.
    until("somebody was told to come again", || {
        (refused(&node, "busy") >= 100.0).then_some(())
    });
    // And those who need no password do not notice.
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(Ask::get("/open").of(&node, Speaks::Http11).text(), "open");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let told = guessing.iter_mut().filter_map(|client| {
        // Whoever is in the queue waits for half a minute; the others have their answer.
        let soon = Some(Duration::from_millis(50));
        client.stream.set_read_timeout(soon).unwrap();
        client.try_answer().ok()
    });
    let busy: Vec<_> = told.filter(|answer| answer.status == 503).collect();
    assert!(busy.len() > 50, "{}", busy.len());
    assert!(
        busy.iter()
            .all(|answer| answer.header("retry-after") == Some("1"))
    );
}
