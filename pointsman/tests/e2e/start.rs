//! Starting, and refusing to.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Home, get};

/// A node's only segment of the log.
fn log_file(home: &Home) -> PathBuf {
    let entries = fs::read_dir(home.data()).expect("a data directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("log-"))
        })
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// A home whose log has three registrations.
fn with_three() -> Home {
    let home = Home::new("");
    let node = home.start();
    for id in ["a", "b", "c"] {
        node.register(
            "s",
            id,
            &json!({ "address": "127.0.0.1", "port": 1, "persistent": true }),
        );
    }
    node.stop();
    home
}

#[test]
fn without_any_configuration_nothing_listens_beyond_loopback() {
    let home = Home::new("");
    let node = home.start();
    let sockets = listening(node.pid());
    assert!(!sockets.is_empty());
    for socket in sockets {
        assert!(socket.ip().is_loopback(), "{socket}");
    }
    // What `serve` does without any file, and without another's port being in the way.
    let shown = crate::harness::pointsman(["config", "show"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("bind = \"127.0.0.1:7070\""), "{shown}");
    assert!(
        !shown.contains("0.0.0.0") && !shown.contains("[::]"),
        "{shown}"
    );
}

/// The TCP addresses a process listens at, out of /proc.
fn listening(pid: u32) -> Vec<std::net::SocketAddr> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let inodes: Vec<String> = fds
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|to| {
            Some(
                to.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let mut found = Vec::new();
    for file in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            if words[3] == "0A" && inodes.iter().any(|inode| inode == words[9]) {
                found.push(address(words[1]));
            }
        }
    }
    found
}

/// As /proc writes it: words of 32 bits in the machine's order.
fn address(text: &str) -> std::net::SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address");
    let port = u16::from_str_radix(port, 16).expect("a port");
    let words: Vec<u8> = (0..ip.len() / 8)
        .flat_map(|n| {
            let word = u32::from_str_radix(&ip[n * 8..n * 8 + 8], 16).expect("a word");
            word.to_ne_bytes()
        })
        .collect();
    match <[u8; 4]>::try_from(&*words) {
        Ok(v4) => (v4, port).into(),
        Err(_) => (<[u8; 16]>::try_from(&*words).expect("IPv6"), port).into(),
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let config = format!("[listener.web]\nbind = \"127.0.0.1:{port}\"\nservice = \"s\"\n");
    let said = Home::new(&config).refusal();
    assert!(
        said.contains("listener web") && said.contains(&format!("127.0.0.1:{port}")),
        "{said}"
    );
    assert!(said.contains("ss -lntup"), "{said}");

    let directory = crate::harness::Directory::new();
    let data = directory.path().join("data").display().to_string();
    let text = format!("[node]\ndata_dir = {data:?}\n[api]\nbind = \"127.0.0.1:{port}\"\n");
    let file = directory.write("api.toml", text).display().to_string();
    let output = crate::harness::pointsman(["serve", "-c", &file]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{port}")) && said.contains("API"),
        "{said}"
    );
    assert!(said.contains("ss -lntup"), "{said}");
}

#[test]
fn two_nodes_do_not_share_a_data_directory() {
    let home = Home::new("");
    let first = home.start();
    let said = home.refusal();
    assert!(
        said.contains(&format!("(process {})", first.pid())),
        "{said}"
    );
    assert!(said.contains(&home.data().display().to_string()), "{said}");
    assert_eq!(get(first.api, "/readyz").status, 200);
    first.kill();
    // However the first one ended, its lock went with it.
    home.start();
}

#[test]
fn a_data_directory_that_cannot_be_used_is_told() {
    let home = Home::new("");
    let file = home.path().join("file");
    fs::write(&file, "").expect("a file");
    let home = home.data_at(&file);
    let said = home.refusal();
    assert!(said.contains(&file.display().to_string()), "{said}");
    let below = file.join("below");
    let said = home.data_at(&below).refusal();
    assert!(said.contains(&below.display().to_string()), "{said}");
    // A file system where nothing can be created, even by root.
    let said = Home::new("").data_at("/proc/pointsman").refusal();
    assert!(said.contains("/proc/pointsman"), "{said}");
}

#[test]
fn a_missing_data_directory_is_made_with_those_above_it_and_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("");
    let deep = home.path().join("a/b/c");
    let home = home.data_at(&deep);
    home.start();
    let mode = fs::metadata(&deep)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let home = with_three();
    let file = log_file(&home);
    let whole = fs::read(&file).expect("the log");
    // Behind the frames there are zeros.
    let end = whole.iter().rposition(|b| *b != 0).expect("frames") + 1;
    fs::write(&file, &whole[..end - 5]).expect("the log");
    let node = home.start();
    let said = node.said().text();
    assert!(said.contains("are cut off"), "{said}");
    assert!(
        said.contains(file.file_name().and_then(|n| n.to_str()).expect("a name")),
        "{said}"
    );
    let list = node.read("/v1/services/s");
    assert_eq!(list["instances"].as_array().map(Vec::len), Some(2));
    node.register(
        "s",
        "d",
        &json!({ "address": "127.0.0.1", "port": 1, "persistent": true }),
    );
    node.kill();
    let node = home.start();
    assert!(!node.said().text().contains("cut off"));
    assert!(node.health("s", "d").is_some());
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused_with_file_and_offset() {
    let home = with_three();
    let file = log_file(&home);
    let mut bytes = fs::read(&file).expect("the log");
    bytes[60] ^= 1;
    fs::write(&file, &bytes).expect("the log");
    let said = home.refusal();
    assert!(names(&said, &file), "{said}");
    assert!(said.contains("damaged at byte 32"), "{said}");
    assert!(said.contains("pointsman cluster wipe"), "{said}");
    // It touched nothing: the same again.
    assert_eq!(fs::read(&file).expect("the log"), bytes);
    assert_eq!(home.refusal(), said);
}

#[test]
fn a_log_of_another_version_is_refused_by_its_number() {
    let home = with_three();
    let file = log_file(&home);
    let mut bytes = fs::read(&file).expect("the log");
    bytes[8..12].copy_from_slice(&99_u32.to_le_bytes());
    let sum = crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    fs::write(&file, &bytes).expect("the log");
    let said = home.refusal();
    assert!(
        said.contains("format version 99") && said.contains("version 2"),
        "{said}"
    );
    assert!(names(&said, &file), "{said}");
}

/// Whether it names the file and the directory that it is in.
fn names(said: &str, file: &std::path::Path) -> bool {
    let parts = [
        file.file_name(),
        file.parent().map(std::path::Path::as_os_str),
    ];
    parts
        .iter()
        .flatten()
        .all(|part| said.contains(&*part.to_string_lossy()))
}

/// Bit by bit, as its definition has it (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}
