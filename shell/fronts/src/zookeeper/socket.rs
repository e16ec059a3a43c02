use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zookeeper::Key;

use super::shard::Local;
use super::subject::subject;
use super::tls::Tls;

/// How long a connection that is to be closed may take to read the last that is sent to it.
const LINGER: Duration = Duration::from_secs(5);

/// A connection's way out, which its own task and whoever attends to events share.
pub(super) struct Socket {
    pub(super) key: Key,
    writing: OwnedWriteHalf,
    /// What is between the connection's bytes and the protocol's, if anything is.
    tls: Option<RefCell<Tls>>,
    kicked: Cell<bool>,
    full: Cell<bool>,
    blocked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection's task is woken for.
enum Woken {
    /// So many bytes are in the scratch buffer; none is the end.
    Read(usize),
    /// The client is gone.
    Broken,
    /// Somebody else wants it to look at how it stands.
    Kicked,
    /// There is room to send.
    Writable,
}

impl Socket {
    pub(super) fn new(key: Key, writing: OwnedWriteHalf, tls: Option<Tls>) -> Self {
        Self {
            key,
            writing,
            tls: tls.map(RefCell::new),
            kicked: Cell::new(false),
            full: Cell::new(false),
            blocked: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Makes the connection's task look at how it stands.
    pub(super) fn kick(&self) {
        self.kicked.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.set(full);
    }

    pub(super) fn was_full(&self) -> bool {
        self.full.get()
    }

    /// Whether the kernel had no room for all there was to send, and has not had any since.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.set(blocked);
    }

    /// Writes what the kernel takes; returns the rest. What cannot be sent at all is dropped: reading will find out.
    pub(super) fn write(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Some(tls) = &self.tls {
            return match tls.borrow_mut().write(bytes, &self.writing) {
                Ok((taken, true)) => Some(bytes[taken..].to_vec()),
                Ok((_, false)) | Err(_) => None,
            };
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match self.writing.try_write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Some(bytes[sent..].to_vec());
                }
                Err(_) => return None,
            }
        }
        None
    }
}

/// Serves a connection until its end.
pub(super) async fn serve(local: Rc<Local>, socket: Rc<Socket>, mut reading: OwnedReadHalf) {
    let key = socket.key;
    loop {
        let take = match next(&local, &socket, &mut reading).await {
            Woken::Read(0) | Woken::Broken => break,
            Woken::Read(length) => {
                let scratch = local.scratch.borrow();
                local.process(key, Some(&scratch[..length]))
            }
            Woken::Kicked | Woken::Writable => {
                socket.set_blocked(false);
                let resumable = local.shard.clients().is_resumable(key);
                match resumable {
                    true => local.process(key, None),
                    false => local.shard.clients().take(key),
                }
            }
        };
        local.send(&socket, &take);
        local.room().await;
        if take.close {
            finish(&local, &socket).await;
            break;
        }
        // What waited for room in the output may go on at once.
        let again = !socket.blocked.get() && local.shard.clients().is_resumable(key);
        if again {
            socket.kick();
        }
    }
    local.close(key);
}

/// Waits for something to do.
async fn next(local: &Local, socket: &Socket, reading: &mut OwnedReadHalf) -> Woken {
    poll_fn(|cx| {
        if socket.kicked.take() {
            return Poll::Ready(Woken::Kicked);
        }
        {
            let mut waker = socket.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        if socket.blocked.get() && socket.writing.as_ref().poll_write_ready(cx).is_ready() {
            return Poll::Ready(Woken::Writable);
        }
        if socket.full.get() {
            // Its client must wait; that it is gone is found out when something is sent to it, or by its session's end.
            return Poll::Pending;
        }
        let mut scratch = local.scratch.borrow_mut();
        if let Some(tls) = &socket.tls {
            return poll_tls(local, socket, tls, reading, cx, &mut scratch);
        }
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(&mut *reading).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Woken::Read(buffer.filled().len())),
            Poll::Ready(Err(_)) => Poll::Ready(Woken::Broken),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn poll_tls(
    local: &Local,
    socket: &Socket,
    tls: &RefCell<Tls>,
    reading: &mut OwnedReadHalf,
    cx: &mut Context<'_>,
    plain: &mut [u8],
) -> Poll<Woken> {
    let mut tls = tls.borrow_mut();
    let mut records = local.records.borrow_mut();
    let halves = (reading, &socket.writing);
    let read = tls.poll_read(cx, halves, &mut records, plain);
    // Before anything is made of what the client has sent along with the end of its handshake.
    if let Some(id) = tls.certificate().and_then(subject) {
        local.shard.clients().identify(socket.key, "x509", &id);
    }
    match read {
        Poll::Ready(Ok(length)) => Poll::Ready(Woken::Read(length)),
        Poll::Ready(Err(_)) => Poll::Ready(Woken::Broken),
        Poll::Pending => Poll::Pending,
    }
}

/// Sends the last of what there is, if the client reads it.
async fn finish(local: &Local, socket: &Socket) {
    let last = async {
        while socket.blocked.get() && socket.writing.writable().await.is_ok() {
            let take = local.shard.clients().take(socket.key);
            local.send(socket, &take);
        }
    };
    let _ = tokio::time::timeout(LINGER, last).await;
    if let Some(tls) = &socket.tls {
        tls.borrow_mut().end(&socket.writing);
    }
}
