//! MariaDB: read-only servers, logging in, and being asked without a user.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Directory, Home, until};
use crate::server::{self, Server};
use crate::{two, until_critical, until_picked, until_role, until_well_without_role};

struct Programs {
    install: PathBuf,
    server: PathBuf,
    client: PathBuf,
}

impl Programs {
    fn find(test: &str) -> Option<Self> {
        let names = ["mariadb-install-db", "mariadbd", "mariadb"];
        let [install, server, client] = server::programs(test, names)?;
        Some(Self {
            install,
            server,
            client,
        })
    }

    fn start(&self, within: &Path) -> Server {
        let port = server::free_port();
        let home = server::directory(within, &format!("mariadb-{port}"));
        let data = home.join("data");
        // Two of them in one would be in each other's way.
        let temporary = format!("--tmpdir={}", server::directory(&home, "tmp").display());
        server::run(
            server::command(&self.install)
                .args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ])
                .arg(&temporary)
                .arg(format!("--datadir={}", data.display())),
        );
        let mut command = server::command(&self.server);
        command.args([
            "--no-defaults",
            &temporary,
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
        ]);
        command.args([
            "--innodb-buffer-pool-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", home.join("s").display()));
        command.arg(format!("--pid-file={}", home.join("pid").display()));
        Server::start(command, within, port, || {
            self.sql_command(port, "SELECT 1")
                .output()
                .is_ok_and(|output| output.status.success())
        })
    }

    fn sql_command(&self, port: u16, sql: &str) -> std::process::Command {
        let mut command = server::command(&self.client);
        command.args([
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--user=root",
            "--batch",
        ]);
        command.args(["--skip-column-names", &format!("--port={port}"), "-e", sql]);
        command
    }

    fn sql(&self, port: u16, sql: &str) -> String {
        server::run(&mut self.sql_command(port, sql))
    }
}

#[test]
fn the_server_that_takes_writes_is_the_primary() {
    let Some(programs) = Programs::find("the_server_that_takes_writes_is_the_primary") else {
        return;
    };
    let directory = Directory::new();
    let (a, b) = (
        programs.start(directory.path()),
        programs.start(directory.path()),
    );
    for server in [&a, &b] {
        programs.sql(server.port, "CREATE USER checker IDENTIFIED BY 'pencil'");
    }
    programs.sql(b.port, "SET GLOBAL read_only = 1");
    let check = "protocol = \"mysql\"\nuser = \"checker\"\npassword = \"pencil\"";
    let node = Home::new(&two(check, a.port, b.port)).start();
    until_role(&node, "a", "primary");
    until_role(&node, "b", "replica");
    until_picked(&node, "primary", Some("a"));
    until_picked(&node, "replica", Some("b"));
    // As failover tools do it: first the old one is closed, then the new one opened.
    programs.sql(a.port, "SET GLOBAL read_only = 1");
    until_picked(&node, "primary", None);
    programs.sql(b.port, "SET GLOBAL read_only = 0");
    until_picked(&node, "primary", Some("b"));
    until_picked(&node, "replica", Some("a"));
}

#[test]
fn a_server_is_well_if_it_answers_and_nobody_told_whom_to_be() {
    let name = "a_server_is_well_if_it_answers_and_nobody_told_whom_to_be";
    let Some(programs) = Programs::find(name) else {
        return;
    };
    let directory = Directory::new();
    let server = programs.start(directory.path());
    // Only that many failed handshakes would lock us out.
    programs.sql(
        server.port,
        "SET GLOBAL max_connect_errors = 3; DROP USER IF EXISTS ''@'localhost'",
    );
    programs.sql(
        server.port,
        "CREATE USER open; CREATE USER checker IDENTIFIED BY 'pencil'",
    );
    programs.sql(server.port, "INSTALL SONAME 'auth_ed25519'; CREATE USER curved IDENTIFIED VIA ed25519 USING PASSWORD('x')");
    let node = Home::new("").start();
    let register = |id: &str, mut check: serde_json::Value| {
        check["protocol"] = "mysql".into();
        check["interval"] = "100ms".into();
        check["timeout"] = "100ms".into();
        let body = json!({ "address": "127.0.0.1", "port": server.port, "persistent": true, "check": check });
        node.register("db", id, &body);
    };
    register("anonymous", json!({}));
    until_well_without_role(&node, "anonymous");
    register(
        "open",
        json!({ "user": "open", "database": "information_schema" }),
    );
    until_role(&node, "open", "primary");
    for (id, check, words) in [
        (
            "wrong",
            json!({ "user": "checker", "password": "x" }),
            "Access denied",
        ),
        (
            "nowhere",
            json!({ "user": "checker", "password": "pencil", "database": "nowhere" }),
            "nowhere",
        ),
        (
            "curved",
            json!({ "user": "curved", "password": "x" }),
            "client_ed25519",
        ),
    ] {
        register(id, check);
        until_critical(&node, id, words);
    }
    // By now there were more refusals than failed handshakes are forgiven.
    let probes = || programs.sql(server.port, "SHOW GLOBAL STATUS LIKE 'Connections'");
    let count = |text: String| {
        text.split_whitespace()
            .last()
            .and_then(|n| n.parse::<u64>().ok())
            .expect("a number")
    };
    let before = count(probes());
    until("sixty more connections", || {
        (count(probes()) > before + 60).then_some(())
    });
    until_well_without_role(&node, "anonymous");
    until_role(&node, "open", "primary");
}
