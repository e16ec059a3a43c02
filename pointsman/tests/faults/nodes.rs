//! The nodes, each at a machine of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use serde_json::Value;

use crate::caller::Caller;
use crate::ground::{Ground, Place, address, kept};
use crate::harness::{Home, Node};

/// How long a cluster may take until it is well again, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(90);

/// A node as clients see it.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) api: SocketAddr,
    pub(crate) web: SocketAddr,
    pub(crate) zookeeper: SocketAddr,
    /// Whether clients reach it, and it runs.
    open: AtomicBool,
    /// How often that has ended.
    generation: AtomicU64,
}

/// All nodes.
pub(crate) struct Nodes {
    pub(crate) ground: Ground,
    pub(crate) sites: Vec<Arc<Site>>,
    homes: Vec<Home>,
    running: Vec<Option<Node>>,
    logs: PathBuf,
}

impl Site {
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(SeqCst)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    pub(crate) fn name(&self) -> String {
        name(self.place)
    }

    /// The last command that it has applied.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.cluster()?["revision"].as_u64()
    }

    /// One of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let answer = Caller::default().call(self, "GET", "/metrics", "").ok()?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse::<f64>().ok().map(|value| value as u64)
    }

    /// What it says about the cluster.
    fn cluster(&self) -> Option<Value> {
        let answer = Caller::default()
            .call(self, "GET", "/v1/cluster", "")
            .ok()?;
        serde_json::from_slice(&answer.body)
            .ok()
            .filter(|_| answer.status == 200)
    }
}

fn name(place: Place) -> String {
    format!("n{place}")
}

fn site(place: Place) -> Site {
    let at = |port: u16| {
        format!("{}:{port}", address(place))
            .parse()
            .expect("an address")
    };
    Site {
        place,
        api: at(7070),
        web: at(8080),
        zookeeper: at(2181),
        open: AtomicBool::new(false),
        generation: AtomicU64::new(0),
    }
}

fn config(place: Place, count: usize, files: &Path) -> String {
    let mut peers = String::new();
    for peer in 1..=count {
        let _ = write!(peers, "{} = \"{}:7071\", ", name(peer), address(peer));
    }
    let (at, files) = (address(place), files.display());
    format!(
        r#"
        [node]
        name = "{name}"
        drain_timeout = "2s"
        [cluster]
        bind = "{at}:7071"
        token = "a secret of the test"
        peers = {{ {peers} }}
        cert = "{files}/node.pem"
        key = "{files}/node.key"
        ca = "{files}/ca.pem"
        [front.zookeeper]
        bind = "{at}:2181"
        min_session_timeout = "1s"
        [registry]
        # The least there may be: logs are to be compacted while a node is away.
        snapshot_bytes = "1MiB"
        [guard]
        # It would hide what is looked for, leases that end too early.
        max_loss = "100%"
        max_loss_global = "100%"
        [log.access]
        format = "off"
        [listener.web]
        bind = "{at}:8080"
        service = "web"
        [service.web.check]
        http = "/"
        interval = "1s"
        timeout = "1s"
        fall = 3
        "#,
        name = name(place)
    )
}

impl Nodes {
    /// Starts so many, which become a cluster.
    pub(crate) fn start_all(count: usize, seed: u64) -> Result<Self, String> {
        let ground = Ground::lay(count)?;
        let authority = Authority::new();
        let mut nodes = Self {
            ground,
            sites: (1..=count).map(|place| Arc::new(site(place))).collect(),
            homes: Vec::new(),
            running: Vec::new(),
            logs: kept(seed),
        };
        for site in &nodes.sites {
            let home = Home::new("");
            let disk = home.path().join("disk");
            nodes.ground.disk(&disk)?;
            authority.sign(&address(site.place), home.path());
            home.configure(&config(site.place, count, home.path()));
            let home = home.data_at(disk.join("data"));
            nodes.homes.push(home.env("TEST_API", site.api.to_string()));
            nodes.running.push(None);
        }
        for place in 1..=count {
            nodes.start(place);
        }
        nodes.until_well()?;
        Ok(nodes)
    }

    pub(crate) fn count(&self) -> usize {
        self.sites.len()
    }

    pub(crate) fn site(&self, place: Place) -> &Arc<Site> {
        &self.sites[place - 1]
    }

    pub(crate) fn data(&self, place: Place) -> &Path {
        self.homes[place - 1].data()
    }

    /// Clients do not reach it any more, or will not: what they have asked it is nobody's fault.
    pub(crate) fn close(&self, place: Place) {
        let site = self.site(place);
        site.open.store(false, SeqCst);
        site.generation.fetch_add(1, SeqCst);
    }

    /// Clients reach it, and it has to serve them.
    pub(crate) fn open(&self, place: Place) {
        self.site(place).open.store(true, SeqCst);
    }

    pub(crate) fn start(&mut self, place: Place) {
        let home = &self.homes[place - 1];
        let node = self.ground.at(place, || home.start());
        self.running[place - 1] = Some(node);
        self.open(place);
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self, place: Place) {
        self.close(place);
        let node = self.running[place - 1].take().expect("it runs");
        let said = node.kill().said;
        self.log(place, &said);
    }

    /// Tells it to end.
    pub(crate) fn stop(&mut self, place: Place) {
        self.close(place);
        let node = self.running[place - 1].take().expect("it runs");
        let ended = node.stop();
        self.log(place, &ended.said);
    }

    pub(crate) fn signal(&self, place: Place, signal: Signal) {
        let node = self.running[place - 1].as_ref().expect("it runs");
        node.signal(signal);
    }

    fn log(&self, place: Place, said: &str) {
        let path = self.logs.join(format!("{}.log", name(place)));
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        // Whoever cannot write it down sees it in the report.
        let _ = file.and_then(|mut file| file.write_all(said.as_bytes()));
    }

    /// Who leads, by the word of all nodes that clients reach.
    pub(crate) fn leader(&self) -> Option<Place> {
        let open = self.sites.iter().filter(|site| site.is_open());
        let mut said = open.map(|site| site.cluster()?["leader"].as_str().map(str::to_owned));
        let first = said.next()??;
        let same = said.all(|leader| leader.as_deref() == Some(&first));
        let place = first.strip_prefix('n')?.parse().ok()?;
        same.then_some(place)
    }

    /// Waits until all nodes follow the same leader, and have what it has.
    pub(crate) fn until_well(&self) -> Result<Place, String> {
        let began = Instant::now();
        loop {
            let why = match self.leader() {
                None => "no leader that all agree on".into(),
                Some(leader) => match self.ill() {
                    None => return Ok(leader),
                    Some(why) => why,
                },
            };
            if began.elapsed() > RECOVERY {
                return Err(format!(
                    "the cluster is not well {RECOVERY:?} after everything was mended: {why}"
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is still wrong.
    fn ill(&self) -> Option<String> {
        self.sites.iter().find_map(|site| {
            let name = site.name();
            let Some(status) = site.cluster() else {
                return Some(format!("{name} does not answer"));
            };
            let old = status["age_ms"].as_u64().is_none_or(|age| age > 1_000);
            if old || !status["fault"].is_null() || !status["trouble"].is_null() {
                return Some(format!("{name} says {status}"));
            }
            None
        })
    }

    /// Ends all of them, and keeps what they have said.
    pub(crate) fn finish(&mut self) {
        for place in 1..=self.count() {
            if self.running[place - 1].is_some() {
                // One that was frozen does not hear that it is to end.
                self.signal(place, Signal::CONT);
                self.kill(place);
            }
        }
    }

    /// Copies all data to where logs are kept.
    pub(crate) fn keep_data(&self) {
        for place in 1..=self.count() {
            let mut copy = std::process::Command::new("cp");
            let to = self.logs.join(format!("{}-data", name(place)));
            // What cannot be kept is missed, and the verdict stands.
            let _ = copy.arg("-r").arg(self.data(place)).arg(to).status();
        }
    }
}

/// Signs the nodes' certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn sign(&self, name: &str, into: &Path) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        for (file, text) in [
            ("node.pem", cert.pem()),
            ("node.key", key.serialize_pem()),
            ("ca.pem", self.pem.clone()),
        ] {
            std::fs::write(into.join(file), text).expect("a file");
        }
    }
}
