//! Redis: passwords, a replica, a failover.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Connection, Directory, Home, until};
use crate::server::{self, Server};
use crate::{two, until_critical, until_picked, until_role, until_well_without_role, why};

pub(crate) const PASSWORD: &str = "se cret\"";

/// What it answers to a command; `None` while it answers nothing.
fn ask(port: u16, command: &str) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut lines = BufReader::new(stream);
    write!(lines.get_mut(), "AUTH \"se cret\\\"\"\r\n{command}\r\n").ok()?;
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        lines.read_line(&mut line).ok()?;
    }
    Some(line.trim_end().to_owned())
}

pub(crate) fn start(program: &Path, within: &Path, port: u16, primary: Option<u16>) -> Server {
    let mut command = server::command(program);
    command.args([
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--requirepass",
        PASSWORD,
    ]);
    command.args([
        "--masterauth",
        PASSWORD,
        "--port",
        &port.to_string(),
        "--dir",
    ]);
    command.arg(server::directory(within, &format!("redis-{port}")));
    if let Some(primary) = primary {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    Server::start(command, within, port, || {
        ask(port, "PING").as_deref() == Some("+PONG")
    })
}

fn program(test: &str) -> Option<PathBuf> {
    server::programs(test, ["redis-server"]).map(|[program]| program)
}

#[test]
fn a_failover_moves_the_primary_and_back_again() {
    let Some(program) = program("a_failover_moves_the_primary_and_back_again") else {
        return;
    };
    let directory = Directory::new();
    let a = start(&program, directory.path(), server::free_port(), None);
    let mut b = start(
        &program,
        directory.path(),
        server::free_port(),
        Some(a.port),
    );
    let check = "protocol = \"redis\"\npassword = \"se cret\\\"\"";
    let node = Home::new(&two(check, a.port, b.port)).start();
    until_role(&node, "a", "primary");
    until_role(&node, "b", "replica");
    until_picked(&node, "primary", Some("a"));
    until_picked(&node, "replica", Some("b"));

    // Through the two ports: writes, reads, and a connection that stays.
    let (writes, reads) = (
        node.listener("writes").port(),
        node.listener("reads").port(),
    );
    assert_eq!(ask(writes, "SET k 1").as_deref(), Some("+OK"));
    until("the write on the replica", || {
        (ask(reads, "STRLEN k")? == ":1").then_some(())
    });
    assert!(ask(reads, "SET k 2").is_some_and(|answer| answer.starts_with("-READONLY")));
    let mut old = Connection::open(node.listener("writes"));
    old.send("AUTH \"se cret\\\"\"\r\n");
    assert_eq!(old.take(5).expect("an answer"), b"+OK\r\n");

    assert_eq!(ask(b.port, "REPLICAOF NO ONE").as_deref(), Some("+OK"));
    until_picked(&node, "primary", Some("b"));
    // A reset, for what is cut off must not look whole; not the end of our patience.
    let end = old.stream.read(&mut [0; 64]).expect_err("a reset");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    until("the port of writes on the new primary", || {
        (ask(writes, "SET k 22")? == "+OK").then_some(())
    });
    assert_eq!(ask(b.port, "STRLEN k").as_deref(), Some(":2"));
    assert!(why(&node, "writes", "a").contains("another was promoted"));
    assert_eq!(
        ask(a.port, &format!("REPLICAOF 127.0.0.1 {}", b.port)).as_deref(),
        Some("+OK")
    );
    until_picked(&node, "replica", Some("a"));

    // The new primary dies: its replica is none until somebody promotes it.
    b.stop(Signal::KILL);
    until_critical(&node, "b", "");
    until_picked(&node, "primary", None);
    assert_eq!(ask(a.port, "REPLICAOF NO ONE").as_deref(), Some("+OK"));
    until_picked(&node, "primary", Some("a"));
}

#[test]
fn a_password_that_is_wrong_is_said_and_one_that_is_not_told_is_no_fault() {
    let name = "a_password_that_is_wrong_is_said_and_one_that_is_not_told_is_no_fault";
    let Some(program) = program(name) else {
        return;
    };
    let directory = Directory::new();
    let server = start(&program, directory.path(), server::free_port(), None);
    let acl = "ACL SETUSER checker on >pencil +ping";
    assert_eq!(ask(server.port, acl).as_deref(), Some("+OK"));
    let node = Home::new("").start();
    let register = |id: &str, mut check: serde_json::Value| {
        check["protocol"] = "redis".into();
        check["interval"] = "200ms".into();
        let body = json!({ "address": "127.0.0.1", "port": server.port, "persistent": true, "check": check });
        node.register("db", id, &body);
    };
    register("told", json!({ "password": PASSWORD }));
    until_role(&node, "told", "primary");
    // It may ping, and not ask for the role.
    register(
        "limited",
        json!({ "user": "checker", "password": "pencil" }),
    );
    register("untold", json!({}));
    for id in ["limited", "untold"] {
        until_well_without_role(&node, id);
    }
    register("wrong", json!({ "password": "x" }));
    until_critical(&node, "wrong", "WRONGPASS");
}
