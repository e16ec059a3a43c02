//! Services behind the node.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Connection, free_address, until};

/// A service of one instance, on a port of its own.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    serve: Arc<Serve>,
    life: Option<Life>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What an origin does with a connection.
type Serve = dyn Fn(Connection, &Mutex<Vec<Heard>>) + Send + Sync;

/// What it answers.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: String,
    pub(crate) body: Vec<u8>,
}

struct Life {
    over: Arc<AtomicBool>,
    /// Those that are open, by number.
    streams: Arc<Mutex<BTreeMap<usize, TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Origin {
    /// Answers everything with its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(move |_| Reply::text(name))
    }

    /// Answers as it is told, on connections that stay.
    pub(crate) fn answering(reply: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Self {
        Self::raw(move |mut connection, heard| {
            while let Some(request) = read_request(&mut connection) {
                let reply = reply(&request);
                heard.lock().unwrap().push(request);
                if connection.try_send(reply.bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// Does with connections whatever it is told.
    pub(crate) fn raw(
        serve: impl Fn(Connection, &Mutex<Vec<Heard>>) + Send + Sync + 'static,
    ) -> Self {
        let mut origin = Self {
            address: free_address(),
            heard: Arc::default(),
            serve: Arc::new(serve),
            life: None,
        };
        origin.start();
        origin
    }

    /// Comes (back) to life, at the port it had.
    pub(crate) fn start(&mut self) {
        let listener = until("the origin's port", || TcpListener::bind(self.address).ok());
        self.address = listener.local_addr().expect("an address");
        let over = Arc::new(AtomicBool::new(false));
        let streams: Arc<Mutex<BTreeMap<usize, TcpStream>>> = Arc::default();
        let (serve, heard) = (self.serve.clone(), self.heard.clone());
        let (ended, open) = (over.clone(), Arc::clone(&streams));
        let thread = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if ended.load(Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Ok(copy) = stream.try_clone() else {
                    continue;
                };
                let open = open.clone();
                open.lock().unwrap().insert(number, copy);
                // An answer that is held back for the last one's acknowledgement takes 40 ms.
                stream.set_nodelay(true).expect("a socket");
                let (serve, heard) = (serve.clone(), heard.clone());
                std::thread::spawn(move || {
                    let ahead = Vec::new();
                    serve(Connection { stream, ahead }, &heard);
                    // The one that is kept to be cut off would keep it open.
                    let copy = open.lock().unwrap().remove(&number);
                    let _ = copy.map(|copy| copy.shutdown(Shutdown::Both));
                });
            }
        });
        self.life = Some(Life {
            over,
            streams,
            thread,
        });
    }

    /// Ends at once, whatever is open.
    pub(crate) fn stop(&mut self) {
        if let Some(life) = self.life.take() {
            life.over.store(true, Relaxed);
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(self.address);
            let _ = life.thread.join();
            for stream in std::mem::take(&mut *life.streams.lock().unwrap()).values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// The requests that came so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Heard {
    /// The path that was asked for.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Reply {
    pub(crate) fn text(body: &str) -> Self {
        Self {
            status: 200,
            fields: "Content-Type: text/plain\r\n".into(),
            body: body.into(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write!(
            bytes,
            "HTTP/1.1 {} X\r\n{}Content-Length: {}\r\n\r\n",
            self.status,
            self.fields,
            self.body.len()
        )
        .expect("memory");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The next request with its body, or `None` at the connection's end.
pub(crate) fn read_request(connection: &mut Connection) -> Option<Heard> {
    let mut head = connection.line().ok()? + "\r\n";
    loop {
        let line = connection.line().ok()?;
        if line.is_empty() {
            break;
        }
        head += &(line + "\r\n");
    }
    let mut heard = Heard {
        head,
        body: Vec::new(),
    };
    if heard.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&connection.line().ok()?, 16).ok()?;
            let chunk = connection.take(size).ok()?;
            connection.line().ok()?;
            if size == 0 {
                break;
            }
            heard.body.extend(chunk);
        }
    } else if let Some(length) = heard.header("content-length") {
        let length = length.parse().ok()?;
        heard.body = connection.take(length).ok()?;
    }
    Some(heard)
}
