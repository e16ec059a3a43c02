//! Real servers, a real client, and one of the servers is killed under load.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{Directory, Home, Node, free_address, until};
use crate::skip;

/// How long an instance without active checks is passed over once it failed.
const SHUN: Duration = Duration::from_secs(3);
const WORKERS: usize = 2;

/// A threaded server that keeps connections, as teams write them.
const THREADED: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Python's threaded server, HTTP/1.1.
    Threaded,
    /// `python3 -m http.server`, HTTP/1.0: a connection a request.
    Plain,
    Nginx,
}

#[test]
fn nginx_killed_under_load_with_checks() {
    kill_one(Kind::Nginx, true, 50_000, 64);
}

#[test]
fn nginx_killed_under_load_without_checks() {
    kill_one(Kind::Nginx, false, 50_000, 64);
}

#[test]
fn a_threaded_python_server_killed_under_load_with_checks() {
    kill_one(Kind::Threaded, true, 50_000, 32);
}

#[test]
fn a_threaded_python_server_killed_under_load_without_checks() {
    kill_one(Kind::Threaded, false, 50_000, 32);
}

#[test]
fn a_plain_python_server_killed_under_load_with_checks() {
    kill_one(Kind::Plain, true, 25_000, 4);
}

#[test]
fn a_plain_python_server_killed_under_load_without_checks() {
    kill_one(Kind::Plain, false, 25_000, 4);
}

fn kill_one(kind: Kind, checks: bool, requests: u64, connections: usize) {
    let needed = if kind == Kind::Nginx {
        "nginx"
    } else {
        "python3"
    };
    let missing = [needed, "wrk"].into_iter().find(|p| path_of(p).is_none());
    if let Some(missing) = missing {
        return skip(
            &format!("{kind:?} killed under load"),
            &format!("{missing} is not installed"),
        );
    }
    let directory = Directory::new();
    let mut servers: Vec<_> = (0..3)
        .map(|_| Server::start(kind, directory.path()))
        .collect();
    let node = node(&servers, checks);
    let client = Wrk::start(node.web(), connections);
    let served = || node.metric("pointsman_service_requests_total{service=\"shop\"}") as u64;
    let reach = |goal: u64| until("so many requests", || (served() >= goal).then_some(()));
    let attempts = || {
        node.metric("pointsman_instance_requests_total{service=\"shop\",instance=\"i0\"}") as u64
    };

    reach(requests / 4);
    let live = attempts();
    assert!(live > requests / 20, "{live} of {} went to it", served());
    servers[0].kill();
    match checks {
        true => node.until_health("shop", "i0", "critical"),
        false => until("it being passed over", || {
            (standing(&node) != "eligible").then_some(())
        }),
    }
    node.until_eligible("/", 2);
    let settled = settle(&attempts);
    let (before, since) = (served(), Instant::now());
    reach(before + requests / 4);
    let (more, down) = (attempts() - settled, since.elapsed());
    // Whoever is not checked can only be found well by being tried, by each worker once in a while.
    let windows = down.as_millis() / SHUN.as_millis() + 1;
    let allowed = if checks {
        0
    } else {
        windows as usize * WORKERS * 2
    };
    assert!(
        more as usize <= allowed,
        "{more} attempts on the dead one in {down:?}"
    );

    servers[0].revive(kind, directory.path());
    if checks {
        node.until_health("shop", "i0", "passing");
    }
    let revived = attempts();
    until("traffic for it again", || {
        (attempts() > revived + 100).then_some(())
    });
    reach(requests);
    let told = client.finish();
    println!(
        "{kind:?}, checks {checks}: {told:?}; attempts on the dead one: {} at first, then {more} in {down:?}",
        settled - live.min(settled)
    );
    assert!(told.requests >= requests, "{told:?}");
    assert_eq!((told.errors, told.bad), (0, 0), "{told:?}");
}

fn node(servers: &[Server], checks: bool) -> Node {
    let config = format!(
        "[node]\nworkers = {WORKERS}\n[log.access]\nformat = \"off\"\n\
         [listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
         [service.shop.ejection]\ntime = \"{0}s\"\nmax_time = \"{0}s\"\n",
        SHUN.as_secs()
    );
    let node = Home::new(&config).start();
    for (number, server) in servers.iter().enumerate() {
        let mut body =
            json!({ "address": "127.0.0.1", "port": server.address.port(), "persistent": true });
        if checks {
            body["check"] =
                json!({ "http": "/", "interval": "200ms", "timeout": "2s", "fall": 2, "rise": 1 });
        }
        node.register("shop", &format!("i{number}"), &body);
    }
    node.until_eligible("/", servers.len());
    node
}

/// Why the first instance gets work or not.
fn standing(node: &Node) -> String {
    let answer = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    let instances = answer["service"]["instances"]
        .as_array()
        .expect("a list")
        .clone();
    let first = instances
        .iter()
        .find(|i| i["id"] == "i0")
        .expect("it is registered");
    first["why"].as_str().expect("a reason").to_owned()
}

/// The count once it has stood still for a moment: what was under way has come to its end.
fn settle(count: &impl Fn() -> u64) -> u64 {
    let mut last = (count(), Instant::now());
    until("a count that stands still", || {
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(200)).then_some(now)
    })
}

/// A server in a process of its own.
struct Server {
    address: SocketAddr,
    process: Child,
}

impl Server {
    fn start(kind: Kind, directory: &Path) -> Self {
        let address = free_address();
        let process = spawn(kind, directory, address);
        Self { address, process }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("its end");
    }

    fn revive(&mut self, kind: Kind, directory: &Path) {
        self.process = spawn(kind, directory, self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts it and waits until it takes connections.
fn spawn(kind: Kind, directory: &Path, address: SocketAddr) -> Child {
    let port = address.port().to_string();
    let mut command = match kind {
        Kind::Threaded => {
            let mut command = Command::new("python3");
            command.args(["-c", THREADED, &port]);
            command
        }
        Kind::Plain => {
            let root = directory.join("root");
            fs::create_dir_all(&root).expect("a directory");
            fs::write(root.join("index.html"), "ok\n").expect("a file");
            let mut command = Command::new("python3");
            command.args([
                "-m",
                "http.server",
                &port,
                "--bind",
                "127.0.0.1",
                "--directory",
            ]);
            command.arg(root);
            command
        }
        Kind::Nginx => {
            let home = directory.join(&port);
            fs::create_dir_all(&home).expect("a directory");
            let config = format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;\n\
                 uwsgi_temp_path d; scgi_temp_path e;\n\
                 server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} }} }}\n"
            );
            let file = home.join("nginx.conf");
            fs::write(&file, config).expect("a file");
            let mut command = Command::new(path_of("nginx").expect("looked for before"));
            command.arg("-p").arg(&home).arg("-c").arg(file);
            command
        }
    };
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    until("the server", || TcpStream::connect(address).ok());
    child
}

/// wrk, which counts what went wrong.
struct Wrk(Child);

#[derive(Debug)]
struct Told {
    requests: u64,
    errors: u64,
    bad: u64,
}

impl Wrk {
    fn start(address: SocketAddr, connections: usize) -> Self {
        let connections = connections.to_string();
        let child = Command::new("wrk")
            .args([
                "-t",
                "2",
                "-c",
                &connections,
                "-d",
                "120s",
                "--timeout",
                "10s",
            ])
            .arg(format!("http://{address}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk starts");
        Self(child)
    }

    /// Ends it before its time, and reads what it has counted.
    fn finish(self) -> Told {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("it runs");
        let output: Output = self.0.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |before: &str| {
            let line = text.lines().find_map(|line| line.split_once(before))?;
            let digits: String = line.1.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().ok()
        };
        let counted = |line: &str| line.split_once(" requests in ")?.0.trim().parse().ok();
        let kinds = ["connect ", "read ", "write ", "timeout "];
        let errors = match text.contains("Socket errors:") {
            true => kinds.iter().filter_map(|kind| number(kind)).sum(),
            false => 0,
        };
        Told {
            requests: text
                .lines()
                .find_map(counted)
                .unwrap_or_else(|| panic!("{text}")),
            errors,
            bad: number("Non-2xx or 3xx responses: ").unwrap_or(0),
        }
    }
}

/// Where a program is, if it is there.
fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
