//! The real program, as a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Answer, Directory, get, request, until};

/// The program under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_pointsman")
}

/// Runs a command of the program to its end.
pub(crate) fn pointsman<const N: usize>(args: [&str; N]) -> Output {
    Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .env_remove("POINTSMAN_API")
        .output()
        .expect("the program starts")
}

/// What outlives a node: its configuration and its data.
pub(crate) struct Home {
    directory: Arc<Directory>,
    data: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    descriptors: Option<u32>,
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    pub(crate) api: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    said: Said,
    logged: Said,
    readers: Vec<JoinHandle<()>>,
    config: PathBuf,
    _home: Arc<Directory>,
}

/// How a node ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) logged: String,
}

/// What a process writes, as it comes.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<String>>);

impl Home {
    /// A home with this configuration; where the API and the data are is added.
    pub(crate) fn new(config: &str) -> Self {
        let directory = Arc::new(Directory::new());
        let data = directory.path().join("data");
        let home = Self {
            directory,
            data,
            args: Vec::new(),
            env: Vec::new(),
            descriptors: None,
        };
        home.configure(config);
        home
    }

    /// Keeps the data elsewhere.
    pub(crate) fn data_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = path.into();
        self
    }

    /// Starts nodes with another argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts nodes with another variable in their environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts nodes that may have so many descriptors, at the most.
    pub(crate) fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes another configuration, as an editor does: the new file takes the old one's place at once.
    pub(crate) fn configure(&self, config: &str) {
        configure(&self.path().join("pointsman.toml"), config);
    }

    /// Starts a node and waits until it serves.
    pub(crate) fn start(&self) -> Node {
        match self.try_start() {
            Ok(node) => node,
            Err(ended) => panic!("it does not start: {}\n{}", ended.status, ended.said),
        }
    }

    /// Starts a node that is to refuse; returns what it said.
    pub(crate) fn refusal(&self) -> String {
        match self.try_start() {
            Ok(_) => panic!("it starts"),
            Err(ended) => {
                assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
                ended.said
            }
        }
    }

    /// Starts a node and waits until it serves, or has ended.
    pub(crate) fn try_start(&self) -> Result<Node, Ended> {
        let mut command = self.command(&["serve"]);
        command.args(&self.args);
        let config = self.path().join("pointsman.toml");
        Node::start(command, config, self.directory.clone())
    }

    /// A variable of its nodes' environment.
    pub(crate) fn environment(&self, name: &str) -> String {
        let found = self.env.iter().find(|(n, _)| *n == *name);
        let (_, value) = found.expect("a variable");
        value.to_string_lossy().into_owned()
    }

    /// Runs a command of the program with this home's configuration to its end; returns whether it went well, and what it
    /// said.
    pub(crate) fn run(&self, args: &[&str]) -> (bool, String) {
        let output = self.command(args).stdin(Stdio::null()).output();
        let output = output.expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }

    fn command(&self, args: &[&str]) -> Command {
        let data = self.data.display().to_string();
        let base =
            format!("[node]\ndata_dir = {data:?}\n[api]\nbind = \"${{TEST_API:-127.0.0.1:0}}\"\n");
        let base = self.directory.write("base.toml", base);
        let config = self.path().join("pointsman.toml");
        let mut command = match self.descriptors {
            None => Command::new(binary()),
            Some(most) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, binary()]);
                shell
            }
        };
        command.args(args).arg("-c").arg(base).arg("-c").arg(config);
        command.envs(self.env.iter().cloned());
        command
    }
}

/// A configuration replaced in one step.
fn configure(path: &Path, config: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, config).expect("a configuration");
    std::fs::rename(&new, path).expect("a configuration");
}

impl Node {
    fn start(mut command: Command, config: PathBuf, home: Arc<Directory>) -> Result<Self, Ended> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (said, logged) = (Said::default(), Said::default());
        let readers = vec![
            said.follow(child.stderr.take().expect("a pipe")),
            logged.follow(child.stdout.take().expect("a pipe")),
        ];
        let mut node = Self {
            child,
            api: ([127, 0, 0, 1], 0).into(),
            listeners: BTreeMap::new(),
            said,
            logged,
            readers,
            config,
            _home: home,
        };
        let ended = until("a node that serves, or has ended", || {
            // Looked at first: what it said before it ended is all there afterwards.
            let ended = node.child.try_wait().expect("its state").is_some();
            (ended || node.hear_addresses()).then_some(ended)
        });
        match ended {
            true => Err(node.ended()),
            false => Ok(node),
        }
    }

    /// Reads where it is bound; whether it has said all of that.
    fn hear_addresses(&mut self) -> bool {
        let said = self.said.text();
        let mut whole = false;
        for line in said.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match *words {
                ["api", url] => {
                    let address = url.strip_prefix("http://").and_then(|a| a.parse().ok());
                    self.api = address.expect("the API's address");
                }
                ["listener", name, "on", address] => {
                    let address = address.parse().expect("an address");
                    self.listeners.insert(name.into(), address);
                }
                [front @ ("zookeeper" | "zookeeper-tls"), address] => {
                    let address = address.parse().expect("an address");
                    self.listeners.insert(front.into(), address);
                }
                ["pointsman:", "serving"] => whole = true,
                _ => {}
            }
        }
        whole
    }

    /// Where a listener was bound at the start.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.listeners[name]
    }

    /// Where the only listener was bound at the start.
    pub(crate) fn web(&self) -> SocketAddr {
        self.listener("web")
    }

    /// Where ZooKeeper's clients are served.
    pub(crate) fn zookeeper(&self) -> SocketAddr {
        self.listener("zookeeper")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// What it has written on standard output: the access log.
    pub(crate) fn logged(&self) -> &Said {
        &self.logged
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Gives it another configuration, and returns what it says about that.
    pub(crate) fn reload(&self, config: &str) -> String {
        configure(&self.config, config);
        let before = self.said.len();
        self.signal(Signal::HUP);
        self.said_about_configuration(before)
    }

    /// What it says about a configuration after its first `before` bytes.
    pub(crate) fn said_about_configuration(&self, before: usize) -> String {
        until("a word about the configuration", || {
            let text = self.said.text()[before..].to_owned();
            ["configuration stays", "is unchanged", "is in effect"]
                .iter()
                .any(|end| text.contains(end))
                .then_some(text)
        })
    }

    /// A call of the API.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        request(
            self.api,
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ),
        )
    }

    /// Registers an instance.
    pub(crate) fn register(&self, service: &str, id: &str, body: &Value) {
        let path = format!("/v1/services/{service}/instances/{id}");
        let answer = self.call("PUT", &path, body);
        assert!(
            [200, 201].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.text()
        );
    }

    /// What the API has at `path`.
    pub(crate) fn read(&self, path: &str) -> Value {
        let answer = get(self.api, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The instance's health; `None` if there is no such instance.
    pub(crate) fn health(&self, service: &str, id: &str) -> Option<String> {
        let path = format!("/v1/services/{service}/instances/{id}");
        let answer = get(self.api, &path);
        (answer.status == 200).then(|| answer.json()["health"].as_str().expect("one").to_owned())
    }

    /// Waits until the instance's health is `health`.
    pub(crate) fn until_health(&self, service: &str, id: &str, health: &str) {
        until(&format!("{id} being {health}"), || {
            (self.health(service, id)? == health).then_some(())
        });
    }

    /// A metric by its name with its labels; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = get(self.api, "/metrics");
        let line = text.text().lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(' ')?;
            value.parse().ok()
        });
        line.unwrap_or(0.0)
    }

    /// Waits until the data plane may send requests to so many instances of the service behind `host` and `path`.
    pub(crate) fn until_eligible(&self, path: &str, count: usize) {
        let ask = |scheme| self.read(&format!("/v1/explain?url={scheme}://{}{path}", self.web()));
        until("so many eligible instances", || {
            // Its listener may speak TLS.
            let mut answers = ["http", "https"].into_iter().map(ask);
            let answer = answers.find(|answer| answer["listener"].is_string())?;
            let instances = answer["service"]["instances"].as_array()?;
            let eligible = instances.iter().filter(|i| i["eligible"] == true).count();
            (eligible == count).then_some(())
        });
    }

    /// Waits until the data plane may send work to so many instances behind a listener of TCP or UDP.
    pub(crate) fn until_instances(&self, listener: &str, count: usize) {
        let url = format!("/v1/explain?url={}", self.listener(listener));
        until("so many eligible instances", || {
            let answer = self.read(&url);
            let instances = answer["service"]["instances"].as_array()?;
            let eligible = instances.iter().filter(|i| i["eligible"] == true).count();
            (eligible == count).then_some(())
        });
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("its state");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("its memory") << 10
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("it runs");
        self.ended()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.finish()
    }

    /// Waits until it has ended.
    pub(crate) fn finish(mut self) -> Ended {
        until("its end", || self.child.try_wait().expect("its state"));
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().expect("its end");
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ended {
            status,
            said: self.said.text(),
            logged: self.logged.text(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the node said:\n{}", self.said.text());
        }
    }
}

impl Said {
    pub(crate) fn follow(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let text = self.0.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                text.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for a line with these words in it.
    pub(crate) fn until_line(&self, words: &str) -> String {
        until(words, || {
            let text = self.text();
            text.lines().find(|l| l.contains(words)).map(str::to_owned)
        })
    }
}
