//! PostgreSQL: every way to log in, a streaming replica, a promotion, an old primary that comes back.

use std::fs::{OpenOptions, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Directory, Home, Node, pointsman, until};
use crate::server::{self, Server};
use crate::{pick, two, until_critical, until_picked, until_role, until_well_without_role, why};

pub(crate) const PASSWORD: &str = "pencil";

pub(crate) struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    basebackup: PathBuf,
    ctl: PathBuf,
    psql: PathBuf,
}

impl Programs {
    pub(crate) fn find(test: &str) -> Option<Self> {
        let names = ["initdb", "postgres", "pg_basebackup", "pg_ctl", "psql"];
        let [initdb, postgres, basebackup, ctl, psql] = server::programs(test, names)?;
        Some(Self {
            initdb,
            postgres,
            basebackup,
            ctl,
            psql,
        })
    }

    /// A new database, with `pg_hba.conf` beginning with these lines.
    pub(crate) fn init(&self, within: &Path, hba: &str) -> PathBuf {
        let data = server::directory(within, "primary");
        let password = within.join("password");
        write(&password, PASSWORD).expect("a file");
        server::run(
            server::command(&self.initdb)
                .args([
                    "--no-sync",
                    "--auth=scram-sha-256",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--no-locale",
                ])
                .arg(format!("--pwfile={}", password.display()))
                .arg("-D")
                .arg(&data),
        );
        let file = data.join("pg_hba.conf");
        let rest = std::fs::read_to_string(&file).expect("its rules");
        write(&file, format!("{hba}\n{rest}")).expect("its rules");
        let mut file = OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("its settings");
        let settings = "listen_addresses = '127.0.0.1'\nfsync = off\nshared_buffers = 1MB\nmax_connections = 20\n\
                        wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\nwal_keep_size = 64MB\n";
        file.write_all(settings.as_bytes()).expect("its settings");
        data
    }

    pub(crate) fn start(&self, data: &Path, within: &Path, port: u16) -> Server {
        let mut command = server::command(&self.postgres);
        let sockets = server::directory(within, "sockets");
        command
            .arg("-D")
            .arg(data)
            .args(["-c", &format!("port={port}")]);
        command
            .arg("-c")
            .arg(format!("unix_socket_directories={}", sockets.display()));
        Server::start(command, within, port, || {
            let mut ready = self.sql_command(port, "SELECT 1");
            ready.output().is_ok_and(|output| output.status.success())
        })
    }

    fn sql_command(&self, port: u16, sql: &str) -> std::process::Command {
        let mut command = server::command(&self.psql);
        command.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ]);
        command
            .args(["-p", &port.to_string(), "-c", sql, "postgres"])
            .env("PGPASSWORD", PASSWORD);
        command
    }

    pub(crate) fn sql(&self, port: u16, sql: &str) -> String {
        server::run(&mut self.sql_command(port, sql))
            .trim()
            .to_owned()
    }

    /// A replica that streams from the server on `port`.
    pub(crate) fn replicate(&self, within: &Path, port: u16) -> PathBuf {
        // It makes the directory itself, as private as it must be.
        let target = server::directory(within, "replicas").join("replica");
        server::run(
            server::command(&self.basebackup)
                .args([
                    "--write-recovery-conf",
                    "--no-sync",
                    "--checkpoint=fast",
                    "-X",
                    "stream",
                    "-h",
                    "127.0.0.1",
                ])
                .args(["-U", "postgres", "-p", &port.to_string(), "-D"])
                .arg(&target)
                .env("PGPASSWORD", PASSWORD),
        );
        target
    }

    /// Makes the replica with this data a primary.
    pub(crate) fn promote(&self, replica: &Path) {
        server::run(
            server::command(&self.ctl)
                .args(["promote", "--wait", "-D"])
                .arg(replica),
        );
    }
}

pub(crate) const CHECK: &str =
    "protocol = \"postgresql\"\nuser = \"checker\"\npassword = \"pencil\"";

#[test]
fn a_promotion_moves_the_primary_and_an_old_primary_that_comes_back_is_not_believed() {
    let name = "a_promotion_moves_the_primary_and_an_old_primary_that_comes_back_is_not_believed";
    let Some(programs) = Programs::find(name) else {
        return;
    };
    let directory = Directory::new();
    let within = directory.path();
    let data = programs.init(within, "");
    let mut a = programs.start(&data, within, server::free_port());
    programs.sql(a.port, "CREATE USER checker PASSWORD 'pencil'");
    let replica = programs.replicate(within, a.port);
    let b = programs.start(&replica, within, server::free_port());

    let home = Home::new(&two(CHECK, a.port, b.port));
    let node = home.start();
    until_role(&node, "a", "primary");
    until_role(&node, "b", "replica");
    until_picked(&node, "primary", Some("a"));
    until_picked(&node, "replica", Some("b"));
    assert_eq!(why(&node, "writes", "b"), "it is a replica, and no primary");
    let (writes, reads) = (
        node.listener("writes").port(),
        node.listener("reads").port(),
    );
    programs.sql(writes, "CREATE TABLE written (n int)");
    until("the table on the replica", || {
        let there = programs.sql(reads, "SELECT to_regclass('written') IS NOT NULL");
        (there == "t").then_some(())
    });

    // The old primary runs on: for a while there are two.
    programs.promote(&replica);
    let promoted = Instant::now();
    until_picked(&node, "primary", Some("b"));
    eprintln!(
        "the primary moved {:?} after pg_ctl promote had returned",
        promoted.elapsed()
    );
    assert_eq!(
        programs
            .sql(writes, "INSERT INTO written VALUES (1) RETURNING n")
            .lines()
            .next(),
        Some("1")
    );
    until_role(&node, "a", "primary");
    assert_eq!(pick(&node, "primary").as_deref(), Some("b"));
    assert!(
        why(&node, "writes", "a").contains("another was promoted"),
        "{}",
        why(&node, "writes", "a")
    );
    until_picked(&node, "replica", None);

    // Gone and back, it is still not the one; as a replica it gets reads. The registry remembers all that.
    a.stop(Signal::INT);
    until_critical(&node, "a", "");
    node.stop();
    let node = home.start();
    write(data.join("standby.signal"), "").expect("a file");
    let a = programs.start(&data, within, a.port);
    assert_eq!(programs.sql(a.port, "SELECT pg_is_in_recovery()"), "t");
    until_picked(&node, "replica", Some("a"));
    assert_eq!(pick(&node, "primary").as_deref(), Some("b"));
    rows(&node);
}

/// The command line shows the roles.
fn rows(node: &Node) {
    let shown = pointsman(["service", "show", "db", "--api", &node.url()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let row = |id: &str| {
        shown
            .lines()
            .find(|l| l.starts_with(id))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        row("a").contains(" replica ") && row("b").contains(" primary "),
        "{shown}"
    );
}

#[test]
fn every_way_to_log_in_is_spoken_and_what_is_wrong_is_said() {
    let name = "every_way_to_log_in_is_spoken_and_what_is_wrong_is_said";
    let Some(programs) = Programs::find(name) else {
        return;
    };
    let directory = Directory::new();
    let within = directory.path();
    let rules = "host all by_md5 127.0.0.1/32 md5\nhost all in_clear 127.0.0.1/32 password\n\
                 host all trusted 127.0.0.1/32 trust\nhost all nobody 127.0.0.1/32 reject";
    let data = programs.init(within, rules);
    let mut server = programs.start(&data, within, server::free_port());
    for sql in [
        "SET password_encryption = 'md5'; CREATE USER by_md5 PASSWORD 'pencil'",
        "CREATE USER by_scram PASSWORD 'pencil'; CREATE USER in_clear PASSWORD 'pencil'",
        "CREATE USER trusted; CREATE USER nobody",
        "CREATE DATABASE orders",
    ] {
        programs.sql(server.port, sql);
    }
    let node = Home::new("").start();
    let register = |id: &str, check: &str| {
        let check: serde_json::Value = serde_json::from_str(check).expect("JSON");
        let mut body =
            serde_json::json!({ "address": "127.0.0.1", "port": server.port, "persistent": true });
        body["check"] = check;
        body["check"]["protocol"] = "postgresql".into();
        body["check"]["interval"] = "200ms".into();
        node.register("db", id, &body);
    };
    for user in ["by_md5", "by_scram", "in_clear", "trusted"] {
        register(
            user,
            &format!(
                "{{ \"user\": {user:?}, \"password\": \"pencil\", \"database\": \"orders\" }}"
            ),
        );
        until_role(&node, user, "primary");
    }
    register("anonymous", "{}");
    until_well_without_role(&node, "anonymous");
    for (id, check, words) in [
        (
            "wrong",
            r#"{ "user": "by_scram", "password": "x" }"#,
            "password authentication failed",
        ),
        (
            "wrong-md5",
            r#"{ "user": "by_md5", "password": "x" }"#,
            "password authentication failed",
        ),
        (
            "none",
            r#"{ "user": "by_scram" }"#,
            "a password (none is configured)",
        ),
        (
            "elsewhere",
            r#"{ "user": "trusted", "database": "nowhere" }"#,
            "\"nowhere\" does not exist",
        ),
        (
            "rejected",
            r#"{ "user": "nobody", "password": "pencil" }"#,
            "pg_hba.conf rejects",
        ),
    ] {
        register(id, check);
        until_critical(&node, id, words);
    }
    let shown = node.read("/v1/services/db").to_string();
    assert!(!shown.contains("pencil"), "{shown}");
    server.stop(Signal::INT);
    until_critical(&node, "anonymous", "no connection");
}
