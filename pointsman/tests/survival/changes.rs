//! Changes of the configuration of every kind, again and again, while requests come all the time and long connections stay open.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http_types::Request;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::harness::{Connection, Home, Load, Node, Origin, PATIENCE, free_address};

/// How often everything is changed.
const ROUNDS: usize = 1_000;

/// How often each kind is changed by itself.
const ALONE: usize = 10;

/// Long connections of each kind.
const TUNNELS: usize = 8;

#[test]
fn a_thousand_changes_of_everything_at_once_break_no_connection_and_fail_no_request() {
    let mut stage = Stage::new();
    for round in 1..=ROUNDS {
        stage.change(&[round; KINDS.len()]);
    }
    stage.ends();
}

#[test]
fn changes_of_each_kind_by_itself_break_no_connection_and_fail_no_request() {
    let mut stage = Stage::new();
    let mut counts = [0; KINDS.len()];
    for round in 0..ALONE * KINDS.len() {
        let kind = round % KINDS.len();
        counts[kind] += 1;
        stage.about = KINDS[kind].0;
        stage.change(&counts);
    }
    stage.ends();
}

/// A part of the configuration: what it is called, and its variants, each other than the one before. `LONG` stands for the port of an
/// instance that says back what it hears, `A`, `B` and `C` for those of three instances of HTTP, `DIR` for the node's home.
type Kind = (&'static str, &'static [&'static str]);

const KINDS: &[Kind] = &[
    ("no change at all", &["\n", "# nothing\n"]),
    (
        "listeners come, move and go",
        &[
            "",
            "[listener.more]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n",
            "[listener.more]\nbind = \"127.0.0.2:0\"\nservice = \"shop\"\n[listener.dns2]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"packets\"\n",
            "[listener.more]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"long\"\n",
        ],
    ),
    (
        "services come and go",
        &[
            "",
            "[[service.another.instance]]\naddress = \"127.0.0.1:B\"\n",
            "[[service.another.instance]]\naddress = \"127.0.0.1:C\"\n[[service.third.instance]]\naddress = \"127.0.0.1:B\"\n",
        ],
    ),
    (
        "routes of other hosts",
        &[
            "",
            "[[listener.web.route]]\nhost = \"other.example\"\nservice = \"canary\"\n",
            "[[listener.web.route]]\nhost = \"*.example\"\npath_regex = \"/[a-z]+\"\nredirect = { scheme = \"https\" }\n\
             [[listener.web.route]]\npath = \"/fixed\"\nmethod = [\"GET\"]\nanswer = { body = \"fixed\" }\n",
        ],
    ),
    (
        "the route of the load: conditions, splits, mirrors, fallbacks, deadlines",
        &[
            "[[listener.web.route]]\npath = \"/\"\nservice = \"shop\"\n",
            "[[listener.web.route]]\npath_prefix = \"/\"\nsource = [\"127.0.0.0/8\"]\nservices = [{ service = \"shop\", weight = 1 }, { service = \"canary\", weight = 1 }]\nsticky = \"cookie\"\n",
            "[[listener.web.route]]\npath_regex = \"/\"\nservice = \"shop\"\nfallback = \"canary\"\ntimeout = \"60s\"\n",
            "[[listener.web.route]]\npath = \"/\"\nheader = [{ name = \"Host\" }]\nservice = \"canary\"\npriority = \"high\"\nmirror = { service = \"shop\", share = \"10%\" }\n",
        ],
    ),
    (
        "filters of a route",
        &[
            "[[listener.web.route]]\npath = \"/filtered\"\nservice = \"shop\"\n",
            "[[listener.web.route]]\npath = \"/filtered\"\nservice = \"shop\"\nfilters = { compress = { min_size = \"1B\" }, max_body = \"1MiB\" }\n",
            "[[listener.web.route]]\npath = \"/filtered\"\nservice = \"shop\"\nfilters = { rewrite = { path = \"/x\" }, bandwidth = { response = \"1GiB\" }, concurrency = [{ max = 1000 }], cors = { origins = [\"*\"] } }\n",
            "[[listener.web.route]]\npath = \"/filtered\"\nservice = \"shop\"\nfilters = { rate_limit = [{ rate = \"1000000/s\", burst = 100000 }], error_page = [{ status = [\"502\"], body = \"sorry\" }], allow = [\"127.0.0.0/8\"] }\n",
        ],
    ),
    (
        "filters of a listener",
        &[
            "",
            "[listener.web.filters]\nresponse_headers = { set = { X-All = \"1\" } }\n",
            "[listener.web.filters]\nrequest_headers = { set = { X-All = \"{client}\" } }\nmax_body = \"1GiB\"\n",
        ],
    ),
    (
        "limits in time",
        &[
            "",
            "[listener.web.timeouts]\nrequest_head = \"30s\"\nidle = \"60s\"\ntunnel = \"2h\"\n",
            "[listener.web.timeouts]\nstall = \"40s\"\ntunnel_lifetime = \"1d\"\nmin_rate = \"1B\"\n",
        ],
    ),
    (
        "deadlines",
        &[
            "",
            "[listener.web.deadline]\ntimeout = \"50s\"\nheader = \"X-Left\"\n",
        ],
    ),
    (
        "limits of HTTP/2",
        &[
            "",
            "[listener.web.http2]\nmax_concurrent_streams = 64\nstream_window = \"64KiB\"\n",
            "[listener.web.http2]\nconnection_window = \"2MiB\"\n",
        ],
    ),
    (
        "how instances are chosen",
        &[
            "policy = \"round_robin\"\n",
            "policy = \"least_conn\"\nslow_start = \"1s\"\n",
            "policy = \"peak_ewma\"\nsubset = 2\n",
            "policy = \"maglev\"\nhash_on = \"source_ip\"\n",
            "policy = \"consistent_hash\"\nhash_on = \"header:host\"\npanic_below = \"10%\"\n",
        ],
    ),
    (
        "how instances are connected to",
        &[
            "",
            "connect_timeout = \"5s\"\nkeep_alive = \"1s\"\n",
            "keep_alive = \"0ms\"\npeer_timeout = \"30s\"\n",
            "connect_from = [\"127.0.0.1\"]\nresponse_timeout = \"30s\"\n",
        ],
    ),
    (
        "retries",
        &[
            "",
            "retries = 5\nretry_on = [\"connect\", \"reset\", \"503\"]\n",
            "retry_budget = \"50%\"\nretry_backoff = \"1ms\"\n",
        ],
    ),
    (
        "ejection",
        &[
            "",
            "[service.shop.ejection]\nfailures = 50\n",
            "[service.shop.ejection]\nerrors = 0\ntime = \"2s\"\n",
        ],
    ),
    (
        "limits of a service",
        &[
            "",
            "[service.shop.limits]\nmax_requests = 1000\n",
            "[service.shop.limits]\nmax_requests = 500\nmax_waiting = 900\nwait = \"10s\"\n",
        ],
    ),
    (
        "circuit breakers",
        &[
            "",
            "[service.shop.circuit_breaker]\n",
            "[service.shop.circuit_breaker]\nerror_rate = \"90%\"\n",
        ],
    ),
    (
        "hedging",
        &[
            "",
            "[service.canary.hedge]\n",
            "[service.canary.hedge]\ndelay = \"500ms\"\n",
        ],
    ),
    (
        "persistence",
        &[
            "",
            "[service.canary.persistence]\n",
            "[service.canary.persistence]\nby = \"source_ip\"\n",
        ],
    ),
    (
        "checks",
        &[
            "",
            "[service.shop.check]\ntcp = true\n",
            "[service.shop.check]\nhttp = \"/\"\ninterval = \"1s\"\n",
        ],
    ),
    (
        "weights",
        &[
            "[[service.shop.instance]]\naddress = \"127.0.0.1:A\"\nweight = 1\n[[service.shop.instance]]\naddress = \"127.0.0.1:B\"\nweight = 9\n",
            "[[service.shop.instance]]\naddress = \"127.0.0.1:A\"\nweight = 5\n[[service.shop.instance]]\naddress = \"127.0.0.1:B\"\nweight = 0\n",
            "[[service.shop.instance]]\naddress = \"127.0.0.1:B\"\ntier = 1\n[[service.shop.instance]]\naddress = \"127.0.0.1:A\"\n[[service.shop.instance]]\naddress = \"127.0.0.1:C\"\n",
        ],
    ),
    (
        "TLS of a listener: certificates and policy",
        &[
            "[listener.secure.tls]\ncertificates = [{ cert = \"DIR/a.pem\", key = \"DIR/a.key\" }, { name = \"given\" }]\n",
            "[listener.secure.tls]\ncertificates = [{ name = \"given\" }]\nmin_version = \"1.3\"\n",
            "[listener.secure.tls]\ncertificates = [{ cert = \"DIR/b.pem\", key = \"DIR/b.key\" }]\nclient_auth = \"optional\"\nclient_ca = \"DIR/a.pem\"\n",
        ],
    ),
    (
        "TLS of a TCP listener",
        &[
            "[listener.unwrapped.tls]\ncertificates = [{ cert = \"DIR/a.pem\", key = \"DIR/a.key\" }]\n",
            "[listener.unwrapped.tls]\ncertificates = [{ cert = \"DIR/b.pem\", key = \"DIR/b.key\" }]\nalpn = [\"x\"]\n",
        ],
    ),
    (
        "TLS towards instances",
        &[
            "[service.behind.tls]\nca = \"DIR/both.pem\"\nserver_name = \"a.example\"\n",
            "[service.behind.tls]\nca = \"DIR/both.pem\"\nserver_name = \"b.example\"\nchecks = false\n",
        ],
    ),
    (
        "limits of TCP connections",
        &[
            "",
            "[listener.db.tcp]\nidle = \"2h\"\nmax_connections = 5000\n",
            "[listener.db.tcp]\nlifetime = \"1d\"\nhello = \"3s\"\n",
        ],
    ),
    (
        "limits of UDP sessions",
        &[
            "",
            "[listener.dns.udp]\nidle = \"50s\"\n",
            "[listener.dns.udp]\nmax_sessions = 5000\nrate_per_source = 1000000\n",
        ],
    ),
    (
        "how a service of long connections is chosen and spread",
        &[
            "[service.long]\npolicy = \"least_conn\"\n",
            "[service.long]\npolicy = \"round_robin\"\n",
            "[service.long]\npolicy = \"random\"\npeer_timeout = \"50s\"\n",
        ],
    ),
    ("the node", &["", "[guard]\nmax_loss = \"70%\"\n"]),
];

/// Where a text of a kind belongs: TOML wants a table's keys together.
const WITHIN_SHOP: [&str; 3] = [
    "how instances are chosen",
    "how instances are connected to",
    "retries",
];

/// A node, those who use it, and what they hold open.
struct Stage {
    home: Home,
    node: Node,
    web: Origin3,
    secure: SocketAddr,
    /// Says back what it hears.
    long: SocketAddr,
    packets: SocketAddr,
    about: &'static str,
    rounds: usize,
    load: Load,
    handshakes: Handshakes,
    runtime: tokio::runtime::Runtime,
    many: SendRequest<Bytes>,
    kept: Vec<Connection>,
    secured: Vec<Secured>,
    tunnels: Vec<Box<dyn Tunnel>>,
    identities: [(String, String); 2],
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

struct Origin3([Origin; 3]);

/// Somebody who has a connection for a long time, and speaks now and then.
trait Tunnel: Read + Write {}
impl<T: Read + Write> Tunnel for T {}

/// Clients that come by TLS, each with a handshake of its own.
struct Handshakes {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Stage {
    fn new() -> Self {
        let web = Origin3([(); 3].map(|()| Origin::named("hello")));
        let (long, packets) = (echo(), echo_packets());
        let home = Home::new("");
        let identities = ["a", "b"].map(|name| {
            let made = rcgen::generate_simple_self_signed(["a.example".into(), "b.example".into()]);
            let made = made.expect("a certificate");
            let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            let path = home.path().join(name);
            std::fs::write(path.with_extension("pem"), &cert).expect("a file");
            std::fs::write(path.with_extension("key"), &key).expect("a file");
            (cert, key)
        });
        let both = [&*identities[0].0, &*identities[1].0].concat();
        std::fs::write(home.path().join("both.pem"), both).expect("a file");
        let secure = free_address();
        let ports = Ports {
            web: &web,
            secure,
            long,
            packets,
        };
        home.configure(&config(&home, &ports, &[0; KINDS.len()]));
        let node = home.start();
        give(&node, &identities[0]);
        node.until_eligible("/", 2);
        let clients = trusting(&home);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let many = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(node.web())
                .await
                .expect("a connection");
            let (sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        let mut tunnels: Vec<Box<dyn Tunnel>> = vec![Box::new(packets_to(node.listener("dns")))];
        for _ in 0..TUNNELS {
            tunnels.push(Box::new(plain(node.listener("db"))));
            tunnels.push(Box::new(upgraded(node.web())));
            tunnels.push(Box::new(secured(node.listener("unwrapped"), &clients)));
        }
        Self {
            load: Load::start(node.web(), 3, "/"),
            handshakes: Handshakes::start(secure, &clients),
            kept: (0..TUNNELS).map(|_| Connection::open(node.web())).collect(),
            secured: (0..TUNNELS).map(|_| secured(secure, &clients)).collect(),
            home,
            node,
            web,
            secure,
            long,
            packets,
            about: "everything",
            rounds: 0,
            runtime,
            many,
            tunnels,
            identities,
        }
    }

    /// Takes over the variants with these numbers, and looks whether everything goes on.
    fn change(&mut self, counts: &[usize]) {
        self.rounds += 1;
        // What is given through the API changes, too, and so do the instances that register there.
        if self.rounds.is_multiple_of(2) {
            give(&self.node, &self.identities[self.rounds / 2 % 2]);
        } else {
            let body = json!({ "address": "127.0.0.1", "port": self.web.0[2].port(), "persistent": true, "weight": self.rounds % 7 });
            self.node.register("canary", "c", &body);
        }
        let ports = Ports {
            web: &self.web,
            secure: self.secure,
            long: self.long,
            packets: self.packets,
        };
        let said = self.node.reload(&config(&self.home, &ports, counts));
        let taken = said.contains("in effect") || said.contains("is unchanged");
        assert!(taken, "{}, round {}: {said}", self.about, self.rounds);
        // Everything that is open is used after every change, in turn.
        let turn = self.rounds;
        let what = format!("{}, round {turn}", self.about);
        let place = turn % self.tunnels.len();
        says_back(&mut *self.tunnels[place], turn)
            .unwrap_or_else(|e| panic!("{what}: tunnel {place}: {e}"));
        let kept = &mut self.kept[turn % TUNNELS];
        for path in ["/", "/filtered", "/behind"] {
            let answer = kept
                .try_get("localhost", path)
                .unwrap_or_else(|e| panic!("{what}: {path}: {e}"));
            assert_eq!(answer.status, 200, "{what}: {path}: {}", answer.head);
        }
        let secured = &mut self.secured[turn % TUNNELS];
        asks(secured).unwrap_or_else(|e| panic!("{what}: by TLS: {e}"));
        let many = self.many.clone();
        let status = self.runtime.block_on(async move {
            let request = Request::get("http://shop.example/")
                .body(())
                .expect("a request");
            let (answer, _) = many.ready().await?.send_request(request, true)?;
            Ok::<_, h2::Error>(answer.await?.status().as_u16())
        });
        assert_eq!(status.expect("an answer"), 200, "{what}: by HTTP/2");
    }

    /// Everything that was opened at the beginning is open still, and nobody was let down.
    fn ends(mut self) {
        for (place, tunnel) in self.tunnels.iter_mut().enumerate() {
            says_back(&mut **tunnel, place).unwrap_or_else(|e| panic!("tunnel {place}: {e}"));
        }
        self.load.further(50);
        let tally = self.load.finish();
        tally.assert_whole();
        self.handshakes.over.store(true, Relaxed);
        for thread in self.handshakes.threads {
            thread
                .join()
                .expect("every handshake and request went well");
        }
        println!(
            "{} changes, {} requests, {} handshakes",
            self.rounds,
            tally.total(),
            self.handshakes.done.load(Relaxed)
        );
        assert!(self.handshakes.done.load(Relaxed) > 20);
    }
}

struct Ports<'a> {
    web: &'a Origin3,
    secure: SocketAddr,
    long: SocketAddr,
    packets: SocketAddr,
}

/// The configuration with these variants.
fn config(home: &Home, ports: &Ports<'_>, counts: &[usize]) -> String {
    let (mut shop, mut rest) = (String::new(), String::new());
    for ((kind, variants), count) in KINDS.iter().zip(counts) {
        let variant = variants[count % variants.len()];
        match WITHIN_SHOP.contains(kind) {
            true => shop += variant,
            false => rest += variant,
        }
    }
    let [a, b, c] = [0, 1, 2].map(|n| ports.web.0[n].port().to_string());
    let long = ports.long.port();
    let rest = rest
        .replace("127.0.0.1:A\"", &format!("127.0.0.1:{a}\""))
        .replace("127.0.0.1:B\"", &format!("127.0.0.1:{b}\""))
        .replace("127.0.0.1:C\"", &format!("127.0.0.1:{c}\""))
        .replace("DIR", &home.path().display().to_string());
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
         [listener.secure]\nbind = \"{secure}\"\nprotocol = \"https\"\nservice = \"shop\"\n\
         [listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"long\"\n\
         [listener.unwrapped]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"long\"\n\
         [listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"packets\"\n\
         [service.shop]\n{shop}\n\
         [[listener.web.route]]\npath = \"/chat\"\nservice = \"long\"\n\
         [[listener.web.route]]\npath = \"/behind\"\nservice = \"behind\"\n\
         {rest}\n\
         [[service.long.instance]]\naddress = \"127.0.0.1:{long}\"\n\
         [[service.packets.instance]]\naddress = \"{packets}\"\n\
         [[service.canary.instance]]\naddress = \"127.0.0.1:{b}\"\n\
         [[service.behind.instance]]\naddress = \"{secure}\"\n",
        secure = ports.secure,
        packets = ports.packets,
    )
}

fn give(node: &Node, (cert, key): &(String, String)) {
    let body = json!({ "certificate": cert, "key": key });
    let answer = node.call("PUT", "/v1/certificates/given", &body);
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}

/// Says back what it hears; to a request, that it speaks something else from now on.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let (mut from, mut to) = (&stream, &stream);
                let mut first = [0; 4096];
                let Ok(n) = from.read(&mut first) else { return };
                let sent = match first.starts_with(b"GET ") {
                    true => to.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
                    false => to.write_all(&first[..n]),
                };
                // The end of a connection is the end of it.
                let _ = sent.and_then(|()| io::copy(&mut from, &mut to));
            });
        }
    });
    address
}

fn echo_packets() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&packet[..n], from);
        }
    });
    address
}

/// Words of one length each, so that a stream and packets are the same.
fn says_back(tunnel: &mut dyn Tunnel, turn: usize) -> io::Result<()> {
    let word = format!("{turn:08}");
    tunnel.write_all(word.as_bytes())?;
    tunnel.flush()?;
    let mut heard = [0; 8];
    tunnel.read_exact(&mut heard)?;
    match heard == word.as_bytes() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{word} came back as {heard:?}"))),
    }
}

fn plain(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

fn upgraded(to: SocketAddr) -> TcpStream {
    let stream = plain(to);
    let mut client = Connection {
        stream,
        ahead: Vec::new(),
    };
    client.send(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.answer().status, 101);
    client.stream
}

struct Datagrams(UdpSocket);

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

impl Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn packets_to(listener: SocketAddr) -> Datagrams {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(listener).expect("an address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    Datagrams(socket)
}

/// A client that trusts both certificates.
fn trusting(home: &Home) -> Arc<ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(home.path().join("both.pem")).expect("a file");
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots
            .add(certificate.expect("a certificate"))
            .expect("an authority");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn secured(to: SocketAddr, config: &Arc<ClientConfig>) -> Secured {
    let name = ServerName::try_from("a.example").expect("a name");
    let client = ClientConnection::new(config.clone(), name).expect("a client");
    StreamOwned::new(client, plain(to))
}

/// A request on a connection that stays.
fn asks(client: &mut Secured) -> io::Result<()> {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut part = [0; 1024];
        match client.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&answer))),
    }
}

impl Handshakes {
    fn start(to: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let (over, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let client = || {
            let (over, done, config) = (over.clone(), done.clone(), config.clone());
            std::thread::spawn(move || {
                while !over.load(Relaxed) {
                    asks(&mut secured(to, &config)).expect("a handshake and an answer");
                    done.fetch_add(1, Relaxed);
                    // Changes are to be had on a machine that has something else to do, too.
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let threads = (0..2).map(|_| client()).collect();
        Self {
            over,
            done,
            threads,
        }
    }
}
