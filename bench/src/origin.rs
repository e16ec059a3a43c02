//! The instance behind the proxies: as light as can be, so that the cores are busy with what is measured.
//! `GET /128` is answered with 128 bytes, `GET /1048576/65536` with a mebibyte in 16 writes, on connections that stay unless the request says otherwise.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use memchr::memmem;
use proxy::rt::{Accepted, Executor, Handle, Listener, Reactor, Sock};
use rustix::net::sockopt::set_tcp_nodelay;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long)]
    bind: SocketAddr,
}

/// The longest body that is answered with.
const MAX_BODY: usize = 16 << 20;
/// What an answer says that is the last of its connection.
const LAST: &str = "Connection: close\r\n";
/// Heads of proxied requests are a few hundred bytes.
const MAX_HEAD: usize = 16 << 10;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    Ok(serve(TcpListener::bind(options.bind)?, || {})?)
}

/// Serves on the present thread, for ever; calls `heard` at every request.
pub(crate) fn serve(listener: TcpListener, heard: impl Fn() + 'static) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    set_tcp_nodelay(&listener, true)?;
    let reactor = Reactor::on_kernel()?;
    let executor = Executor::new(reactor.clone());
    let listener = Listener::from_kernel(&reactor, listener.into())?;
    let origin = Rc::new(Origin {
        scratch: RefCell::new(vec![0; MAX_HEAD]),
        answers: RefCell::default(),
        heard: Box::new(heard),
    });
    let handle = executor.handle();
    handle.spawn(accept(handle.clone(), listener, origin));
    executor.run()
}

/// An answer, and how much of it is written at a time.
type Answer = (Rc<[u8]>, usize);

/// The size of an answer's body, and whether it is the last of its connection.
type Wanted = (usize, bool);

struct Origin {
    scratch: RefCell<Vec<u8>>,
    answers: RefCell<HashMap<Wanted, Rc<[u8]>>>,
    heard: Box<dyn Fn()>,
}

async fn accept(handle: Handle, listener: Listener, origin: Rc<Origin>) {
    loop {
        listener.acceptable_unless(|| false).await;
        match listener.try_accept() {
            Ok(Some((Accepted::Fd(fd), _))) => {
                let sock = Sock::from_accepted(handle.reactor(), fd);
                handle.spawn(converse(sock, origin.clone()));
            }
            Ok(_) => {}
            // No descriptors: they come back when somebody leaves.
            Err(_) => handle.reactor().sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn converse(sock: Sock, origin: Rc<Origin>) {
    let mut held = Vec::new();
    let mut answers = Vec::new();
    loop {
        let read = sock.try_recv(&mut origin.scratch.borrow_mut());
        match read {
            Ok(Some(0)) | Err(_) => return,
            Ok(None) => {
                if sock.readable().await.is_err() {
                    return;
                }
            }
            Ok(Some(n)) => {
                if !origin.take(n, &mut held, &mut answers) {
                    return;
                }
            }
        }
        for (answer, writes) in answers.drain(..) {
            let last = memmem::find(&answer[..answer.len().min(128)], LAST.as_bytes());
            for part in answer.chunks(writes) {
                if send(&sock, part).await.is_none() {
                    return;
                }
            }
            if last.is_some() {
                return;
            }
        }
    }
}

impl Origin {
    /// Looks for requests in what was `held` and the first `n` bytes of the scratch buffer. `false`: not to be understood.
    fn take(&self, n: usize, held: &mut Vec<u8>, answers: &mut Vec<Answer>) -> bool {
        let scratch = self.scratch.borrow();
        let read = &scratch[..n];
        let joined;
        let mut input = if held.is_empty() {
            read
        } else {
            held.extend_from_slice(read);
            joined = std::mem::take(held);
            &joined
        };
        while let Some(end) = memmem::find(input, b"\r\n\r\n") {
            let Some(answer) = self.answer(&input[..end]) else {
                return false;
            };
            answers.push(answer);
            input = &input[end + 4..];
            (self.heard)();
        }
        held.extend_from_slice(input);
        held.len() <= MAX_HEAD
    }

    fn answer(&self, head: &[u8]) -> Option<Answer> {
        let target = head.strip_prefix(b"GET /")?;
        let target = &target[..memchr::memchr(b' ', target)?];
        let target = std::str::from_utf8(target).ok()?;
        let (size, writes) = match target.split_once('/') {
            Some((size, writes)) => (size.parse().ok()?, writes.parse().ok().filter(|w| *w > 0)?),
            None => (target.parse().ok()?, usize::MAX),
        };
        let last = memmem::find(head, b"Connection: close").is_some();
        let mut answers = self.answers.borrow_mut();
        if let Some(answer) = answers.get(&(size, last)) {
            return Some((answer.clone(), writes));
        }
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n{}\r\n",
            if last { LAST } else { "" }
        );
        answer.push_str(&"x".repeat((size <= MAX_BODY).then_some(size)?));
        let answer: Rc<[u8]> = answer.into_bytes().into();
        answers.insert((size, last), answer.clone());
        Some((answer, writes))
    }
}

async fn send(sock: &Sock, mut bytes: &[u8]) -> Option<()> {
    loop {
        bytes = &bytes[sock.try_send(bytes).ok()?..];
        if bytes.is_empty() {
            return Some(());
        }
        sock.writable().await.ok()?;
    }
}
