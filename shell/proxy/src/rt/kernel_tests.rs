//! The epoll driver on loopback sockets: the edges that are easy to lose.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::*;

/// Runs `script` on a worker of its own; it gets a connection: our end, and the peer's.
fn with_pair(script: impl AsyncFnOnce(Sock, TcpStream) + 'static) {
    with_reactor(async move |reactor| {
        let (sock, peer) = pair(&reactor);
        reactor.set_timeout(Duration::from_secs(10));
        script(sock, peer).await;
    });
}

pub(super) fn with_reactor(script: impl AsyncFnOnce(Rc<Reactor>) + 'static) {
    let executor = Executor::new(Reactor::on_kernel().unwrap());
    let handle = executor.handle();
    executor.handle().spawn(async move {
        script(handle.reactor().clone()).await;
        handle.stop();
    });
    executor.run().unwrap();
}

pub(super) fn pair(reactor: &Rc<Reactor>) -> (Sock, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    let sock = Sock::from_accepted(reactor, OwnedFd::from(ours));
    // Taken for readable until proven otherwise.
    assert_eq!(sock.try_recv(&mut [0; 8]).unwrap(), None);
    (sock, peer)
}

fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
}

async fn recv(sock: &Sock) -> std::io::Result<usize> {
    loop {
        if let Some(n) = sock.try_recv(&mut [0; 64])? {
            return Ok(n);
        }
        sock.readable().await.expect("an event, not the deadline");
    }
}

#[test]
fn an_end_that_comes_with_the_data_is_read_after_it() {
    with_pair(async |sock, mut peer| {
        peer.write_all(b"abc").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(recv(&sock).await.unwrap(), 3);
        assert_eq!(recv(&sock).await.unwrap(), 0);
        assert_eq!(sock.received(), 3);
    });
}

#[test]
fn an_end_that_comes_between_the_event_and_a_short_read_is_not_lost() {
    with_pair(async |sock, mut peer| {
        peer.write_all(b"abc").unwrap();
        sock.readable().await.unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(recv(&sock).await.unwrap(), 3);
        assert_eq!(recv(&sock).await.unwrap(), 0);
    });
}

#[test]
fn data_that_comes_after_a_short_read_makes_an_edge() {
    with_pair(async |sock, mut peer| {
        for _ in 0..100 {
            peer.write_all(b"abc").unwrap();
            assert_eq!(recv(&sock).await.unwrap(), 3);
            assert!(!sock.is_readable(), "a short read means drained");
        }
    });
}

#[test]
fn a_full_read_is_followed_by_another() {
    with_pair(async |sock, mut peer| {
        peer.write_all(&[7; 128]).unwrap();
        assert_eq!(recv(&sock).await.unwrap(), 64);
        assert_eq!(recv(&sock).await.unwrap(), 64);
        assert_eq!(sock.try_recv(&mut [0; 64]).unwrap(), None);
    });
}

#[test]
fn a_reset_is_an_error_and_hangs_up() {
    with_pair(async |sock, peer| {
        reset(peer);
        assert!(recv(&sock).await.is_err());
        assert!(sock.is_hung_up());
    });
}

#[test]
fn a_reset_that_the_sender_heard_of_is_no_end_for_the_reader() {
    with_pair(async |sock, mut peer| {
        peer.write_all(b"half an ans").unwrap();
        reset(peer);
        sock.readable().await.unwrap();
        assert!(
            sock.try_send(b"x").is_err(),
            "the kernel tells of a reset once"
        );
        let mut outcome = recv(&sock).await;
        if outcome.as_ref().is_ok_and(|&n| n > 0) {
            outcome = recv(&sock).await;
        }
        assert!(
            outcome.is_err(),
            "cut short, and taken for whole: {outcome:?}"
        );
    });
}

#[test]
fn an_end_in_order_stays_one_when_a_later_send_breaks_the_connection() {
    with_pair(async |sock, mut peer| {
        peer.write_all(b"whole").unwrap();
        drop(peer);
        sock.readable().await.unwrap();
        // The first is answered with a reset, the second fails.
        let _ = sock.try_send(b"x");
        let _ = sock.try_send(b"x");
        assert_eq!(recv(&sock).await.unwrap(), 5);
        assert_eq!(recv(&sock).await.unwrap(), 0);
    });
}

#[test]
fn a_half_closed_peer_still_reads() {
    with_pair(async |sock, mut peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(recv(&sock).await.unwrap(), 0);
        assert!(!sock.is_hung_up());
        assert_eq!(sock.try_send(b"answer").unwrap(), 6);
        sock.shutdown_write();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "answer");
    });
}

#[test]
fn a_slow_reader_is_waited_for_and_gets_everything() {
    with_pair(async |sock, mut peer| {
        let bytes = vec![7; 8 << 20];
        let mut sent = sock.try_send(&bytes).unwrap();
        assert!(
            sent < bytes.len(),
            "the kernel takes 8 MiB at once; send more"
        );
        assert_eq!(sock.try_send(&bytes).unwrap(), 0, "not writable until told");
        let reader = std::thread::spawn(move || {
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).map(|_| heard.len())
        });
        while sent < bytes.len() {
            sock.writable().await.unwrap();
            sent += sock.try_send(&bytes[sent..]).unwrap();
        }
        sock.shutdown_write();
        assert_eq!(reader.join().unwrap().unwrap(), bytes.len());
        assert_eq!(sock.sent(), bytes.len() as u64);
    });
}

#[test]
fn descriptors_used_again_at_once_hear_nothing_of_their_predecessors() {
    with_reactor(async |reactor| {
        for _ in 0..200 {
            let (former, mut former_peer) = pair(&reactor);
            former_peer.write_all(b"for the former").unwrap();
            drop(former);
            let (present, mut present_peer) = pair(&reactor);
            yield_now(&reactor).await;
            assert!(!present.is_readable(), "an event of the former socket");
            assert!(!present.is_hung_up());
            reactor.set_timeout(Duration::from_secs(10));
            present_peer.write_all(b"now").unwrap();
            assert_eq!(recv(&present).await.unwrap(), 3);
        }
    });
}

#[test]
fn nobody_listening_is_an_error() {
    with_reactor(async |reactor| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        reactor.set_timeout(Duration::from_secs(10));
        let outcome = Sock::connect(&reactor, address).await;
        let kind = outcome.err().unwrap().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn waiting_ends_with_the_deadline() {
    with_pair(async |sock, peer| {
        sock.reactor().set_timeout(Duration::from_millis(20));
        assert_eq!(sock.readable().await, Err(TimedOut));
        drop(peer);
    });
}

#[test]
fn a_peer_that_leaves_is_noticed_by_a_task_that_goes_on_waiting_for_something_else() {
    with_pair(async |sock, peer| {
        sock.reactor().set_timeout(Duration::from_secs(10));
        let mut peer = Some(peer);
        let mut polls = 0;
        poll_fn(|_| {
            polls += 1;
            if sock.is_hung_up() {
                return Poll::Ready(());
            }
            assert!(!sock.reactor().timed_out(), "nobody told");
            // Gone before the kernel was asked to watch.
            if let Some(peer) = peer.take() {
                reset(peer);
            }
            sock.wake_current_if_it_lasts();
            Poll::Pending
        })
        .await;
        assert!(polls <= 4, "woken {polls} times");
    });
}

#[test]
fn what_came_before_anybody_watched_is_seen() {
    with_pair(async |sock, mut peer| {
        assert!(!sock.has_more());
        peer.write_all(b"more").unwrap();
        assert!(sock.has_more());
        assert_eq!(recv(&sock).await.unwrap(), 4);
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(!sock.has_more(), "an end in order is not more");
    });
}

#[test]
fn last_bytes_arrive_with_the_end() {
    with_pair(async |sock, mut peer| {
        let answer = [b'a'; 1000];
        assert_eq!(sock.try_send_last(&answer).unwrap(), 1000);
        drop(sock);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, answer);
    });
}
