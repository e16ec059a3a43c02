//! Ten thousand clients that send a byte a second.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Home, Load, Origin, get, until};
use crate::skip;

const SLOW: usize = 10_000;
/// So many of them have sent a head, and drip the body. Each holds a connection to the origin too.
const WITH_BODY: usize = 500;
/// Memory that a node with so many clients may take. Measured were 17 MB.
const BOUND: u64 = 300 << 20;

const CONFIG: &str = r#"
    [log.access]
    format = "off"
    [listener.web]
    bind = "127.0.0.1:0"
    service = "shop"
    # Five hundred connections at once are more than some servers take: that must cost the others nothing.
    [[listener.web.route]]
    path_prefix = "/slow"
    service = "slow"
    [listener.web.timeouts]
    request_head = "6s"
    stall = "4s"
    min_rate = "100B"
"#;

#[test]
fn ten_thousand_slow_clients_delay_nobody_and_are_cut_off() {
    if !may_open(SLOW as u64 + 2_000) {
        return skip(
            "ten thousand slow clients",
            "a process may not open so many files",
        );
    }
    let node = Home::new(CONFIG).start();
    let (origin, slow_origin) = (Origin::named("a"), Origin::named("slow"));
    for (service, origin) in [("shop", &origin), ("slow", &slow_origin)] {
        let port = origin.port();
        let body = serde_json::json!({ "address": "127.0.0.1", "port": port, "persistent": true });
        node.register(service, "a", &body);
    }
    node.until_eligible("/", 1);
    let alone = node.memory();
    let load = Load::start(node.web(), 4, "/");
    let mut slow: Vec<_> = (0..SLOW)
        .map(|n| Slow::open(node.web(), n < WITH_BODY))
        .collect();
    let mut most = 0;
    let began = Instant::now();
    let mut open = SLOW;
    while open > 0 {
        let round = Instant::now();
        open = slow
            .iter_mut()
            .filter_map(|s| s.drip().then_some(()))
            .count();
        most = most.max(node.memory());
        load.round();
        assert!(
            began.elapsed() < Duration::from_secs(40),
            "{open} are still there"
        );
        // A byte a second.
        std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    println!(
        "memory: {} KiB alone, {} KiB at most; all gone after {:?}",
        alone >> 10,
        most >> 10,
        began.elapsed()
    );
    assert!(most < BOUND, "{most} bytes");
    let told = slow.iter().filter(|s| s.told).count();
    assert!(told > SLOW / 2, "{told} were told why");
    let answered = load.finish();
    answered.assert_whole();
    println!("{} answers for the four others meanwhile", answered.total());
    until("all connections closed", || {
        let open = ["0", "1"]
            .map(|w| node.metric(&format!("pointsman_worker_connections{{worker=\"{w}\"}}")));
        (open[0] + open[1] == 0.0).then_some(())
    });
    assert_eq!(get(node.web(), "/").status, 200);
}

struct Slow {
    stream: Option<TcpStream>,
    /// Whether it got an answer that said why.
    told: bool,
}

impl Slow {
    fn open(address: SocketAddr, with_body: bool) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let head: &[u8] = match with_body {
            true => b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
            false => b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        };
        stream.write_all(head).expect("room for a few bytes");
        stream.set_nonblocking(true).expect("a socket");
        Self {
            stream: Some(stream),
            told: false,
        }
    }

    /// Sends a byte; whether the connection is still there.
    fn drip(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let mut buffer = [0; 512];
        let gone = match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(n) => {
                self.told |= buffer[..n].starts_with(b"HTTP/1.1 408");
                false
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(_) => true,
        };
        if gone || stream.write_all(b"x").is_err() {
            self.stream = None;
        }
        self.stream.is_some()
    }
}

/// Raises the number of files that this process and its children may open, if that is needed and possible.
pub(crate) fn may_open(count: u64) -> bool {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|n| n >= count) {
        return true;
    }
    let maximum = now.maximum.map(|m| m.max(count));
    let wanted = Rlimit {
        current: Some(count),
        maximum,
    };
    setrlimit(Resource::Nofile, wanted).is_ok()
}
