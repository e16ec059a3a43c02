//! What others measure networks and databases with goes through, and a promotion loses what was under way and nothing else.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Directory, Home, Node, until};
use crate::postgresql::{CHECK, PASSWORD, Programs};
use crate::server::{self, Server};
use crate::{redis, two, until_picked};

/// pgbench's clients: so many transactions are under way at a time.
const CLIENTS: u64 = 4;

#[test]
fn pgbench_through_a_promotion_loses_only_what_was_under_way() {
    let name = "pgbench_through_a_promotion_loses_only_what_was_under_way";
    let (Some(programs), Some([pgbench])) =
        (Programs::find(name), server::programs(name, ["pgbench"]))
    else {
        return;
    };
    let directory = Directory::new();
    let within = directory.path();
    let data = programs.init(within, "");
    let a = programs.start(&data, within, server::free_port());
    programs.sql(a.port, "CREATE USER checker PASSWORD 'pencil'");
    programs.sql(a.port, "CREATE TABLE done (n int)");
    let replica = programs.replicate(within, a.port);
    let b = programs.start(&replica, within, server::free_port());
    // What is acknowledged is on both: or a promotion would lose of it, whoever passes it on.
    programs.sql(a.port, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    programs.sql(a.port, "SELECT pg_reload_conf()");
    let log = "[log.access]\nformat = \"json\"\n";
    let node = Home::new(&[log, &two(CHECK, a.port, b.port)].concat()).start();
    until_picked(&node, "primary", Some("a"));
    until_picked(&node, "replica", Some("b"));
    let writes = node.listener("writes").port();
    let bench = |arguments: &[&str]| {
        let mut command = server::command(&pgbench);
        command
            .args(["-h", "127.0.0.1", "-U", "postgres", "-n"])
            .args(["-p", &writes.to_string()])
            .args(arguments)
            .arg("postgres")
            .env("PGPASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    server::run(&mut bench(&["-i", "-s", "1", "-q"]));
    let said = server::run(&mut bench(&["-c", "4", "-t", "50", "-M", "prepared"]));
    assert!(processed(&said) == 200 && said.contains("failed transactions: 0 "));

    let script = within.join("script");
    std::fs::write(&script, "INSERT INTO done VALUES (1);\n").expect("a file");
    let script = script.to_str().expect("a name").to_owned();
    let clients = CLIENTS.to_string();
    let insert = ["-f", &script, "-c", &clients, "-T", "60"];
    let running = bench(&insert).spawn().expect("pgbench starts");
    let rows = |port| -> u64 {
        let count = programs.sql(port, "SELECT count(*) FROM done");
        count.parse().expect("a number")
    };
    until("a hundred rows", || (rows(b.port) >= 100).then_some(()));
    programs.promote(&replica);
    let output = running.wait_with_output().expect("pgbench ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("aborted"),
        "{said}"
    );
    until_picked(&node, "primary", Some("b"));
    let cut_off = || {
        node.logged()
            .text()
            .matches("\"ended\":\"drained\"")
            .count()
    };
    until("a line for each", || {
        (cut_off() as u64 == CLIENTS).then_some(())
    });
    let acknowledged = processed(&String::from_utf8_lossy(&output.stdout));
    let there = rows(b.port);
    assert!(
        (acknowledged..=acknowledged + CLIENTS).contains(&there),
        "{acknowledged} were acknowledged, and {there} are there: {said}"
    );

    // Whoever comes again comes to the new one.
    let again = ["-f", &script, "-c", &clients, "-t", "25"];
    assert_eq!(processed(&server::run(&mut bench(&again))), 100);
    assert_eq!(rows(b.port), there + 100);
}

/// How many transactions pgbench says it has processed.
fn processed(said: &str) -> u64 {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let number = line.and_then(|line| line.split('/').next()?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number of transactions: {said}"))
}

#[test]
fn redis_benchmark_goes_through_without_an_error() {
    let name = "redis_benchmark_goes_through_without_an_error";
    let Some([program, benchmark]) = server::programs(name, ["redis-server", "redis-benchmark"])
    else {
        return;
    };
    let directory = Directory::new();
    let redis = redis::start(&program, directory.path(), server::free_port(), None);
    let through = server::free_port();
    let _node = through_to("", through, redis.port);
    let tests = "set,get,incr,lpush,lrange_100,mset";
    for pipelined in ["1", "16"] {
        let mut command = server::command(&benchmark);
        command
            .args(["-h", "127.0.0.1", "-p", &through.to_string()])
            .args(["-a", redis::PASSWORD])
            .args(["-n", "5000", "-c", "50", "-d", "100", "--csv"])
            .args(["-t", tests, "-P", pipelined]);
        let said = server::run(&mut command);
        assert!(!said.contains("rror"), "{said}");
        // A head, a line each, and one for what LRANGE reads.
        assert_eq!(said.lines().count(), 2 + tests.split(',').count(), "{said}");
    }
}

#[test]
fn iperf3_goes_through_without_an_error_to_and_fro_and_over_udp() {
    let name = "iperf3_goes_through_without_an_error_to_and_fro_and_over_udp";
    let Some([iperf]) = server::programs(name, ["iperf3"]) else {
        return;
    };
    let directory = Directory::new();
    let mut serve = server::command(&iperf);
    let port = server::free_port();
    serve.args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()]);
    let _server = Server::start(serve, directory.path(), port, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let through = server::free_port();
    // iperf3 takes its connections for what they are in the order in which they come, and two threads may connect in another
    // one: to and fro at once, both sides then send on one connection, and neither reads.
    let _node = through_to("[node]\nworkers = 1\n", through, port);
    let all: u64 = 256 << 20;
    for way in [&["-P", "4"][..], &["-P", "4", "-R"], &["--bidir"]] {
        let ended = run_iperf(&iperf, through, &[&["-n", "256M"], way].concat());
        let (sent, received) = (bytes(&ended, "sum_sent"), bytes(&ended, "sum_received"));
        // It ends when one side has sent all, and does not count what is on its way then.
        assert!(sent.min(received) > all / 2, "{way:?}: {ended}");
    }
    let datagrams = ["-u", "-b", "20M", "-l", "1200", "-t", "1"];
    let ended = run_iperf(&iperf, through, &datagrams);
    assert!(bytes(&ended, "sum") > 1 << 20, "{ended}");
    assert_eq!(ended["sum"]["lost_packets"], 0, "{ended}");
}

/// A node that passes on to the server on `port` what comes to this one, by TCP and by UDP. Its configuration
/// begins with `node`.
fn through_to(node: &str, through: u16, port: u16) -> Node {
    let listener = |protocol: &str| {
        format!(
            "[listener.{protocol}]\nbind = \"127.0.0.1:{through}\"\nprotocol = \"{protocol}\"\nservice = \"s\"\n"
        )
    };
    let instance = format!("[[service.s.instance]]\naddress = \"127.0.0.1:{port}\"\n");
    Home::new(&[node, &listener("tcp"), &listener("udp"), &instance].concat()).start()
}

/// What iperf3 says at its end.
fn run_iperf(program: &Path, port: u16, arguments: &[&str]) -> Value {
    let mut command = server::command(program);
    command
        .args(["-c", "127.0.0.1", "--json", "-p", &port.to_string()])
        .args(arguments);
    let output = command.output().expect("iperf3 starts");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        output.status.success() && said["error"].is_null(),
        "{arguments:?}: {said}"
    );
    said["end"].clone()
}

fn bytes(ended: &Value, sum: &str) -> u64 {
    ended[sum]["bytes"].as_u64().expect("a number")
}
