use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;

use model::{Moment, Timestamp};
use registry::{Committed, Registry};
use wire::zookeeper::{Fields, Frame, frame};

use super::*;

mod several;
mod spread;

/// A registry and the clients of one thread, driven as the shell drives them.
struct Scene {
    registry: Registry,
    clients: Clients,
    submitted: VecDeque<(Key, registry::Command, Ticket)>,
    drawn: Cell<u64>,
    node: Option<u64>,
    in_touch: bool,
    now: Moment,
    sendings: RefCell<Sendings>,
}

/// An answer or event as a client sees it: number, transaction, error, and the body.
#[derive(Debug, PartialEq)]
struct Heard {
    xid: i32,
    zxid: i64,
    error: i32,
    body: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            registry: Registry::default(),
            clients: Clients::new(limits, 3),
            submitted: VecDeque::new(),
            drawn: Cell::new(7),
            node: None,
            in_touch: true,
            now: Moment::ZERO,
            sendings: RefCell::default(),
        }
    }

    fn accept(&mut self) -> Key {
        let peer: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        self.clients.accept(peer, self.now)
    }

    fn receive(&mut self, key: Key, bytes: &[u8]) {
        let (drawn, sendings) = (&self.drawn, &self.sendings);
        let now = self.now;
        let draw = || {
            drawn.set(drawn.get() + 1);
            drawn.get().wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let world = World {
            registry: &self.registry,
            now,
            wall: Timestamp(1_000),
            draw: &draw,
            pulse: &|_| None,
            node: self.node,
            passes_on: &|session, timeout, node| {
                sendings.borrow_mut().passes_on(session, timeout, node, now)
            },
            in_touch: self.in_touch,
        };
        match bytes {
            [] => self.clients.resume(key, &world),
            bytes => self.clients.receive(key, bytes, &world),
        }
        self.submitted
            .extend(std::iter::from_fn(|| self.clients.poll_command()));
    }

    /// The log takes one command.
    fn commit(&mut self) -> bool {
        let Some((key, command, ticket)) = self.submitted.pop_front() else {
            return false;
        };
        let revision = self.registry.revision().next();
        let applied = self.registry.apply(revision, &command);
        self.clients.changed(&applied.tree);
        if let registry::Command::Tree(registry::tree::TreeCommand::Close { session }) = command {
            self.clients.session_closed(session);
        }
        let committed = Committed {
            revision,
            reply: applied.reply,
        };
        self.clients
            .committed(key, &ticket, &self.registry, Some(&committed));
        true
    }

    fn settle(&mut self) {
        loop {
            while self.commit() {}
            let listed = self.clients.take_listed(usize::MAX);
            let again: Vec<Key> = listed
                .into_iter()
                .filter(|key| self.clients.is_resumable(*key))
                .collect();
            if again.is_empty() {
                return;
            }
            for key in again {
                self.receive(key, &[]);
            }
        }
    }

    /// What was sent to a client since the last call.
    fn heard(&mut self, key: Key) -> Vec<Heard> {
        let bytes = self.clients.take(key).output;
        let (mut at, mut all) = (0, Vec::new());
        while let Frame::Whole(body, length) = frame(&bytes[at..]) {
            let mut fields = Fields::new(body);
            all.push(Heard {
                xid: fields.int().unwrap(),
                zxid: fields.long().unwrap(),
                error: fields.int().unwrap(),
                body: body[16..].to_vec(),
            });
            at += length;
        }
        assert_eq!(at, bytes.len());
        all
    }

    /// A client with a session; its id and password.
    fn client(&mut self) -> (Key, i64, [u8; 16]) {
        let key = self.accept();
        self.receive(key, &connect(0, [0; 16], 0));
        self.settle();
        let (id, password) = self.welcomed(key).unwrap();
        (key, id, password)
    }

    fn welcomed(&mut self, key: Key) -> Option<(i64, [u8; 16])> {
        let bytes = self.clients.take(key).output;
        let mut fields = Fields::new(bytes.get(8..)?);
        let (timeout, id) = (fields.int().ok()?, fields.long().ok()?);
        let password = fields.buffer().ok()??.try_into().ok()?;
        (timeout > 0).then_some((id, password))
    }

    fn ask(&mut self, key: Key, bytes: &[u8]) -> Vec<Heard> {
        self.receive(key, bytes);
        self.settle();
        self.heard(key)
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

fn connect(session: i64, password: [u8; 16], last: i64) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&last.to_be_bytes());
    body.extend_from_slice(&10_000_i32.to_be_bytes());
    body.extend_from_slice(&session.to_be_bytes());
    body.extend_from_slice(&16_i32.to_be_bytes());
    body.extend_from_slice(&password);
    framed(&body)
}

fn request(xid: i32, op: i32, record: &[u8]) -> Vec<u8> {
    framed(&[&xid.to_be_bytes(), &op.to_be_bytes(), record].concat())
}

fn text(text: &str) -> Vec<u8> {
    framed(text.as_bytes())
}

fn create(xid: i32, path: &str) -> Vec<u8> {
    let acl = [&1_i32.to_be_bytes()[..], &31_i32.to_be_bytes()].concat();
    let open = [acl, text("world"), text("anyone")].concat();
    let record = [text(path), text("x"), open, vec![0; 4]].concat();
    request(xid, 1, &record)
}

fn set(xid: i32, path: &str, value: &str) -> Vec<u8> {
    let any = (-1_i32).to_be_bytes().to_vec();
    request(xid, 5, &[text(path), text(value), any].concat())
}

fn get(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, 4, &[text(path), vec![watch.into()]].concat())
}

fn event(kind: i32, path: &str) -> Vec<u8> {
    [
        kind.to_be_bytes().to_vec(),
        3_i32.to_be_bytes().to_vec(),
        text(path),
    ]
    .concat()
}

#[test]
fn reads_wait_for_the_writes_before_them_and_show_them() {
    let mut scene = Scene::new();
    let (key, ..) = scene.client();
    let pipeline = [create(1, "/a"), set(2, "/a", "new"), get(3, "/a", false)].concat();
    scene.receive(key, &pipeline);
    assert_eq!(scene.submitted.len(), 2);
    assert_eq!(scene.heard(key), []);
    scene.settle();
    let heard = scene.heard(key);
    assert_eq!(heard.iter().map(|h| h.xid).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(heard.iter().all(|h| h.error == 0));
    assert_eq!(heard[2].body[..7], *b"\0\0\0\x03new");
}

#[test]
fn an_event_comes_before_any_answer_that_shows_the_change_and_after_the_answer_that_set_the_watch()
{
    let mut scene = Scene::new();
    let (watcher, ..) = scene.client();
    let (writer, ..) = scene.client();
    scene.ask(writer, &create(1, "/a"));
    scene.receive(watcher, &get(1, "/a", true));
    scene.receive(writer, &set(2, "/a", "new"));
    scene.settle();
    scene.receive(watcher, &get(2, "/a", false));
    let heard = scene.heard(watcher);
    assert_eq!(heard.iter().map(|h| h.xid).collect::<Vec<_>>(), [1, -1, 2]);
    assert_eq!(heard[1].body, event(3, "/a"));
    assert_eq!(heard[1].zxid, scene.registry.tree().zxid().0);
    // Once.
    scene.ask(writer, &set(3, "/a", "newer"));
    assert_eq!(scene.heard(watcher), []);
}

#[test]
fn who_wrote_is_listed_before_those_who_watch_and_these_a_few_at_a_time() {
    let mut scene = Scene::new();
    let (maker, ..) = scene.client();
    scene.ask(maker, &create(1, "/a"));
    let watchers: Vec<Key> = (0..5).map(|_| scene.client().0).collect();
    for watcher in &watchers {
        scene.ask(*watcher, &get(1, "/a", true));
    }
    // Who watches and writes has an answer, too.
    let (writer, ..) = scene.client();
    scene.ask(writer, &get(2, "/a", true));
    scene.receive(writer, &set(3, "/a", "x"));
    while scene.commit() {}
    assert_eq!(
        scene.clients.take_listed(2),
        [writer, watchers[0], watchers[1]]
    );
    assert!(scene.clients.has_listed());
    assert_eq!(scene.heard(writer).len(), 2);
    assert_eq!(
        scene.clients.take_listed(9),
        [watchers[2], watchers[3], watchers[4], writer]
    );
    assert!(!scene.clients.has_listed());
}

#[test]
fn a_deleted_node_is_told_once_to_who_watches_data_and_children() {
    let mut scene = Scene::new();
    let (key, ..) = scene.client();
    scene.ask(key, &create(1, "/a"));
    let children = request(3, 8, &[text("/a"), vec![1]].concat());
    scene.ask(key, &[get(2, "/a", true), children].concat());
    let delete = request(4, 2, &[text("/a"), vec![255; 4]].concat());
    let heard = scene.ask(key, &delete);
    assert_eq!(heard.iter().map(|h| h.xid).collect::<Vec<_>>(), [-1, 4]);
    assert_eq!(heard[0].body, event(2, "/a"));
    assert_eq!(scene.clients.watch_counts(), WatchCounts::default());
}

#[test]
fn a_recursive_watch_hears_of_everything_below_but_not_of_children_as_such() {
    let mut scene = Scene::new();
    let (watcher, ..) = scene.client();
    let (writer, ..) = scene.client();
    let add = request(1, 106, &[text("/"), 1_i32.to_be_bytes().to_vec()].concat());
    scene.ask(watcher, &add);
    scene.ask(
        writer,
        &[create(1, "/a"), create(2, "/a/b"), set(3, "/a", "y")].concat(),
    );
    let heard: Vec<Vec<u8>> = scene.heard(watcher).into_iter().map(|h| h.body).collect();
    assert_eq!(heard, [event(1, "/a"), event(1, "/a/b"), event(3, "/a")]);
}

#[test]
fn whoever_comes_back_with_the_password_has_the_session_and_the_former_connection_ends() {
    let mut scene = Scene::new();
    let (old, id, password) = scene.client();
    let wrong = scene.accept();
    scene.receive(wrong, &connect(id, [9; 16], 0));
    let refused = scene.clients.take(wrong);
    assert!(refused.close);
    assert_eq!(refused.output[8..20], [0; 12]);
    let new = scene.accept();
    scene.receive(new, &connect(id, password, 0));
    assert_eq!(scene.welcomed(new), Some((id, password)));
    assert_eq!(scene.clients.standing(old), Standing::Ending);
    assert_eq!(scene.clients.poll_taken().map(|s| s.0), Some(id));
    // The old one's end must not take the session's new connection with it.
    scene.clients.disconnected(old);
    assert_eq!(scene.ask(new, &request(-2, 11, &[])).len(), 1);
}

#[test]
fn a_client_that_has_seen_more_than_there_is_here_is_sent_away() {
    let mut scene = Scene::new();
    let key = scene.accept();
    scene.receive(key, &connect(0, [0; 16], 1));
    let take = scene.clients.take(key);
    assert!(take.close && take.output.is_empty());
}

#[test]
fn a_closed_session_is_answered_and_then_over() {
    let mut scene = Scene::new();
    let (key, id, password) = scene.client();
    scene.receive(key, &request(5, -11, &[]));
    assert!(!scene.clients.take(key).close);
    scene.settle();
    let take = scene.clients.take(key);
    assert!(take.close);
    assert_eq!(take.output.len(), 20);
    let again = scene.accept();
    scene.receive(again, &connect(id, password, 0));
    assert_eq!(scene.welcomed(again), None);
}

#[test]
fn whoever_may_not_read_a_node_does_not_hear_of_it() {
    let mut scene = Scene::new();
    let (watcher, ..) = scene.client();
    let (writer, ..) = scene.client();
    let auth = [vec![0; 4], text("digest"), text("bob:pw")].concat();
    assert_eq!(scene.ask(writer, &request(-4, 100, &auth))[0].error, 0);
    let mine = [1_i32.to_be_bytes(), 31_i32.to_be_bytes()].concat();
    let acl = [mine, text("auth"), text("")].concat();
    let secret = [text("/secret"), text("x"), acl, vec![0; 4]].concat();
    let exists = request(1, 3, &[text("/secret"), vec![1]].concat());
    assert_eq!(scene.ask(watcher, &exists)[0].error, -101);
    assert_eq!(scene.ask(writer, &request(1, 1, &secret))[0].error, 0);
    assert_eq!(scene.heard(watcher), []);
    assert_eq!(scene.ask(watcher, &get(2, "/secret", false))[0].error, -102);
    assert_eq!(scene.ask(writer, &get(2, "/secret", false))[0].error, 0);
}

#[test]
fn watches_set_again_hear_what_they_missed() {
    let mut scene = Scene::new();
    let (writer, ..) = scene.client();
    scene.ask(writer, &[create(1, "/same"), create(2, "/set")].concat());
    let since = scene.registry.tree().zxid().0;
    scene.ask(writer, &[set(3, "/set", "y"), create(4, "/new")].concat());
    let (key, ..) = scene.client();
    let list = |paths: &[&str]| {
        let all: Vec<u8> = paths.iter().flat_map(|p| text(p)).collect();
        [(paths.len() as i32).to_be_bytes().to_vec(), all].concat()
    };
    let record = [
        since.to_be_bytes().to_vec(),
        list(&["/same", "/set", "/gone"]),
        list(&["/new", "/never"]),
        list(&["/same"]),
    ];
    let heard = scene.ask(key, &request(-8, 101, &record.concat()));
    let bodies: Vec<Vec<u8>> = heard[..3].iter().map(|h| h.body.clone()).collect();
    assert_eq!(
        bodies,
        [event(3, "/set"), event(2, "/gone"), event(1, "/new")]
    );
    assert_eq!((heard.len(), heard[3].xid), (4, -8));
    // One for the two kinds on /same, one for /never.
    assert_eq!(scene.clients.watch_counts().watches, 2);
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_its_session_stays() {
    let mut scene = Scene::with(Limits {
        backlog: 1_000,
        ..Limits::default()
    });
    let (lazy, id, _) = scene.client();
    let (writer, ..) = scene.client();
    let add = request(1, 106, &[text("/"), 1_i32.to_be_bytes().to_vec()].concat());
    scene.ask(lazy, &add);
    for number in 0..100 {
        scene.ask(writer, &create(number, &format!("/{number}")));
    }
    let take = scene.clients.take(lazy);
    assert!(take.close && take.output.len() <= 1_000);
    assert_eq!(scene.clients.counters().dropped, 1);
    let session = registry::tree::SessionId(id);
    assert!(scene.registry.tree().session(session).is_some());
}

#[test]
fn what_was_not_committed_ends_the_connection() {
    let mut scene = Scene::new();
    let (key, ..) = scene.client();
    scene.receive(key, &create(1, "/a"));
    let (key, _, ticket) = scene.submitted.pop_front().unwrap();
    scene.clients.committed(key, &ticket, &scene.registry, None);
    assert!(scene.clients.take(key).close);
}

#[test]
fn garbage_ends_connections_and_nothing_else() {
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    };
    let mut scene = Scene::new();
    for round in 0..2_000 {
        let key = if round % 2 == 0 {
            scene.accept()
        } else {
            scene.client().0
        };
        for _ in 0..next() % 4 {
            let body: Vec<u8> = (0..next()).map(|_| next()).collect();
            // Half of it in frames of the right length, with an operation that there is.
            let bytes = match next() % 2 {
                0 => body,
                _ => request(1, i32::from(next() % 24), &body),
            };
            scene.receive(key, &bytes);
            scene.settle();
        }
        let take = scene.clients.take(key);
        assert!(take.output.len() < 1 << 16);
        scene.clients.disconnected(key);
    }
    assert_eq!(scene.clients.len(), 0);
    assert_eq!(scene.clients.watch_counts(), WatchCounts::default());
}

#[test]
fn whoever_has_no_session_may_not_make_us_keep_much() {
    let mut scene = Scene::new();
    let key = scene.accept();
    scene.receive(key, &[&900_000_i32.to_be_bytes()[..], &[0; 2_000]].concat());
    assert!(scene.clients.take(key).close);
}
