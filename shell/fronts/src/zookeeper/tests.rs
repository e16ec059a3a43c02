use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, OnceLock};

use super::*;
use crate::Reason;

/// A registry that carries out at once what it takes, and has no room the first few times.
#[derive(Default)]
struct Crowded {
    registry: Mutex<Registry>,
    refusals: Mutex<usize>,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl Store for Crowded {
    fn read(&self, read: &mut dyn FnMut(&Registry)) {
        read(&self.registry.lock().unwrap());
    }

    fn submit(&self, commands: &mut VecDeque<(Command, Done)>, _: bool) -> Result<(), Refused> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(Refused {
                reason: Reason::Overloaded,
                detail: String::new(),
            });
        }
        let mut registry = self.registry.lock().unwrap();
        for (command, done) in commands.drain(..) {
            let revision = registry.revision().next();
            let reply = registry.apply(revision, &command).reply;
            done(&registry, Some(&Committed { revision, reply }));
        }
        self.observer.get().unwrap().settled();
        Ok(())
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    fn pulse(&self, _: SessionId) -> Option<Pulse> {
        None
    }

    fn now(&self) -> Moment {
        Moment::default()
    }

    fn log_bytes(&self) -> u64 {
        0
    }

    fn node(&self) -> Option<u64> {
        None
    }

    fn in_touch(&self) -> bool {
        true
    }

    fn catch_up(&self, done: Box<dyn FnOnce(bool) + Send>) {
        done(true);
    }

    fn ensemble(&self) -> Option<Ensemble> {
        None
    }
}

fn options(threads: usize, busy: usize) -> Options {
    Options {
        limits: Limits::default(),
        threads,
        busy,
        max_connections: usize::MAX,
        handshake: Duration::from_secs(10),
        words: Vec::new(),
    }
}

/// A client that asks for a session.
fn hello(front: &Front) -> TcpStream {
    let mut client = TcpStream::connect(front.address()).unwrap();
    let mut request = vec![0; 48];
    request[3] = 44;
    // Its timeout, ten seconds, and the length of its password.
    request[16..20].copy_from_slice(&10_000_i32.to_be_bytes());
    request[28..32].copy_from_slice(&16_i32.to_be_bytes());
    client.write_all(&request).unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_no_room_for_waits_and_nobody_hears_of_it() {
    let store = Arc::new(Crowded {
        refusals: Mutex::new(5),
        ..Crowded::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = Front::start(listener, None, store.clone(), options(1, 1)).unwrap();
    // All are silent afterwards: nobody's next request sees to what waits.
    let clients: Vec<TcpStream> = (0..20).map(|_| hello(&front)).collect();
    let mut sessions = Vec::new();
    for mut client in clients {
        let timeout = Some(Duration::from_secs(20));
        client.set_read_timeout(timeout).unwrap();
        let mut answer = [0; 40];
        client.read_exact(&mut answer).unwrap();
        sessions.push(i64::from_be_bytes(answer[12..20].try_into().unwrap()));
    }
    assert_eq!(*store.refusals.lock().unwrap(), 0);
    sessions.sort_unstable();
    sessions.dedup();
    assert!(
        sessions.len() == 20 && !sessions.contains(&0),
        "{sessions:?}"
    );
}

#[test]
fn few_clients_keep_few_threads_busy_and_many_all() {
    for (threads, busy, clients, taking) in [
        (2, 1, 0, 1),
        (2, 1, MANY - 1, 1),
        (2, 1, MANY, 2),
        (4, 2, 2 * MANY - 1, 2),
        (4, 2, 2 * MANY, 4),
        (4, 4, 0, 4),
        (1, 1, 5 * MANY, 1),
        (1, 3, 0, 1),
        (0, 0, 0, 1),
    ] {
        let options = options(threads, busy);
        assert_eq!(options.taking(clients), taking, "{options:?} {clients}");
    }
}
