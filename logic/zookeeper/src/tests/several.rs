//! Clients of several nodes with one log.

use registry::Command;
use registry::tree::{SessionId, TreeCommand};

use super::*;

/// Nodes, each with clients of its own and as much of the log as it has applied.
struct Several {
    nodes: Vec<Scene>,
    log: Vec<(usize, Key, Command, Ticket)>,
    applied: Vec<usize>,
}

impl Several {
    fn new() -> Self {
        let node = |number| Scene {
            node: Some(number),
            drawn: Cell::new(100 * number),
            ..Scene::new()
        };
        Self {
            nodes: vec![node(10), node(11)],
            log: Vec::new(),
            applied: vec![0; 2],
        }
    }

    /// What a node has been given comes into the log.
    fn propose(&mut self, node: usize) {
        let submitted = self.nodes[node].submitted.drain(..);
        let entries = submitted.map(|(key, command, ticket)| (node, key, command, ticket));
        self.log.extend(entries);
    }

    /// A node applies what is in the log.
    fn apply(&mut self, node: usize) {
        let scene = &mut self.nodes[node];
        for (from, key, command, ticket) in &self.log[self.applied[node]..] {
            let revision = scene.registry.revision().next();
            let number = 10 + *from as u64;
            let applied = scene.registry.apply_from(number, revision, command);
            match command {
                Command::Tree(TreeCommand::Move { session }) => scene.clients.displace(*session),
                Command::Tree(TreeCommand::Close { session }) => {
                    scene.clients.session_closed(*session);
                }
                _ => {}
            }
            scene.clients.changed(&applied.tree);
            let committed = Committed {
                revision,
                reply: applied.reply,
            };
            if *from == node {
                scene
                    .clients
                    .committed(*key, ticket, &scene.registry, Some(&committed));
            }
        }
        self.applied[node] = self.log.len();
    }

    /// A node has caught up, and those who waited for it go on.
    fn catch_up(&mut self, node: usize) {
        self.apply(node);
        let scene = &mut self.nodes[node];
        while let Some(key) = scene.clients.poll_behind() {
            scene.clients.caught_up(key, true);
            scene.receive(key, &[]);
        }
    }

    fn settle(&mut self) {
        for node in [0, 1, 0, 1] {
            self.catch_up(node);
            self.propose(node);
            self.apply(node);
        }
    }

    fn client(&mut self, node: usize) -> (Key, i64, [u8; 16]) {
        let key = self.nodes[node].accept();
        self.nodes[node].receive(key, &connect(0, [0; 16], 0));
        self.propose(node);
        self.apply(node);
        let (id, password) = self.nodes[node].welcomed(key).unwrap();
        (key, id, password)
    }
}

#[test]
fn a_session_moves_with_its_client_and_its_former_connection_ends() {
    let mut all = Several::new();
    let (old, id, password) = all.client(0);
    all.settle();
    let new = all.nodes[1].accept();
    all.nodes[1].receive(new, &connect(id, password, 0));
    // Not before the others can know of it.
    assert_eq!(all.nodes[1].welcomed(new), None);
    all.propose(1);
    all.apply(1);
    assert_eq!(all.nodes[1].welcomed(new), Some((id, password)));
    assert_eq!(all.nodes[0].clients.standing(old), Standing::Open);
    all.apply(0);
    assert_eq!(all.nodes[0].clients.standing(old), Standing::Ending);
    for node in &all.nodes {
        let session = node.registry.tree().session(SessionId(id)).unwrap();
        assert_eq!(session.node, 11);
    }
    // Here again, it need not move.
    let again = all.nodes[1].accept();
    all.nodes[1].receive(again, &connect(id, password, 0));
    assert_eq!(all.nodes[1].welcomed(again), Some((id, password)));
    assert_eq!(all.nodes[1].clients.standing(new), Standing::Ending);
}

#[test]
fn what_was_asked_of_the_former_node_and_comes_late_is_refused_everywhere() {
    let mut all = Several::new();
    let (old, id, password) = all.client(0);
    all.settle();
    all.nodes[0].receive(old, &create(1, "/late"));
    let new = all.nodes[1].accept();
    all.nodes[1].receive(new, &connect(id, password, 0));
    all.propose(1);
    all.propose(0);
    all.settle();
    for node in &all.nodes {
        assert!(node.registry.tree().node("/late").is_none());
    }
    all.nodes[1].welcomed(new).unwrap();
    all.nodes[1].receive(new, &create(2, "/late"));
    all.settle();
    assert_eq!(all.nodes[1].heard(new)[0].error, 0);
    assert!(all.nodes[0].registry.tree().node("/late").is_some());
}

#[test]
fn a_session_opened_a_moment_ago_is_found_where_it_is_not_known_yet() {
    let mut all = Several::new();
    let (_, id, password) = all.client(0);
    let new = all.nodes[1].accept();
    let more = [connect(id, password, 0), create(1, "/a")].concat();
    all.nodes[1].receive(new, &more);
    assert!(all.nodes[1].submitted.is_empty());
    assert_eq!(all.nodes[1].clients.standing(new), Standing::Full);
    all.settle();
    assert_eq!(all.nodes[1].welcomed(new), Some((id, password)));
    all.nodes[1].receive(new, &[]);
    all.settle();
    assert_eq!(all.nodes[1].heard(new)[0].error, 0);
}

#[test]
fn a_wrong_password_or_number_is_turned_away_once_it_is_sure() {
    let mut all = Several::new();
    let (_, id, password) = all.client(0);
    for (id, password) in [(id, [7; 16]), (id + 1, password)] {
        let key = all.nodes[1].accept();
        all.nodes[1].receive(key, &connect(id, password, 0));
        assert!(!all.nodes[1].clients.take(key).close);
        all.settle();
        let take = all.nodes[1].clients.take(key);
        assert!(take.close);
        // A session of zero, for no time.
        assert_eq!(take.output[8..20], [0; 12]);
    }
    assert_eq!(all.log.len(), 1);
}

#[test]
fn a_session_that_ended_while_it_was_on_its_way_is_over() {
    let mut all = Several::new();
    let (_, id, password) = all.client(0);
    all.settle();
    let key = all.nodes[1].accept();
    all.nodes[1].receive(key, &connect(id, password, 0));
    let session = SessionId(id);
    let close = Command::Tree(TreeCommand::Close { session });
    all.log.push((0, key, close, Ticket::Close(0)));
    all.propose(1);
    all.apply(1);
    let take = all.nodes[1].clients.take(key);
    assert!(take.close);
    assert_eq!(take.output[8..20], [0; 12]);
}

#[test]
fn what_is_read_after_a_sync_is_no_older_than_the_sync() {
    let mut all = Several::new();
    let (writer, ..) = all.client(0);
    let (reader, ..) = all.client(1);
    all.settle();
    all.nodes[0].receive(writer, &create(1, "/a"));
    all.propose(0);
    all.apply(0);
    assert_eq!(all.nodes[0].heard(writer)[0].error, 0);
    let sync = request(1, 9, &text("/a"));
    let pipeline = [sync, get(2, "/a", false), create(3, "/b")].concat();
    all.nodes[1].receive(reader, &pipeline);
    // Nor may what comes behind it overtake it.
    assert!(all.nodes[1].submitted.is_empty());
    assert_eq!(all.nodes[1].heard(reader), []);
    all.settle();
    let heard = all.nodes[1].heard(reader);
    let heard: Vec<_> = heard.iter().map(|h| (h.xid, h.error)).collect();
    assert_eq!(heard, [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_node_that_cannot_catch_up_ends_who_waits_for_it() {
    let mut all = Several::new();
    let (reader, ..) = all.client(1);
    all.nodes[1].receive(reader, &request(1, 9, &text("/")));
    let clients = &mut all.nodes[1].clients;
    let waits = clients.poll_behind().unwrap();
    clients.caught_up(waits, false);
    assert_eq!(clients.standing(reader), Standing::Ending);
}

#[test]
fn a_node_that_is_out_of_touch_serves_no_sessions() {
    let mut all = Several::new();
    let (key, id, password) = all.client(0);
    all.nodes[0].in_touch = false;
    all.nodes[0].clients.end_sessions();
    assert_eq!(all.nodes[0].clients.standing(key), Standing::Ending);
    for (id, password) in [(id, password), (0, [0; 16])] {
        let key = all.nodes[0].accept();
        all.nodes[0].receive(key, &connect(id, password, 0));
        let take = all.nodes[0].clients.take(key);
        assert!(take.close && take.output.is_empty());
    }
}

#[test]
fn whoever_wants_to_read_only_may_where_that_is_allowed_until_there_are_sessions_again() {
    let mut all = Several::new();
    let (key, ..) = all.client(0);
    all.nodes[0].receive(key, &create(1, "/a"));
    all.settle();
    all.nodes[0].in_touch = false;
    all.nodes[0].clients.limits.readers = true;
    let mut wish = connect(0, [0; 16], 0);
    wish.push(1);
    wish[3] += 1;
    let reader = all.nodes[0].accept();
    all.nodes[0].receive(reader, &wish);
    let answer = all.nodes[0].clients.take(reader).output;
    assert_eq!(answer.last(), Some(&1), "it is told so");
    let requests = [get(1, "/a", true), create(2, "/b")].concat();
    let heard = all.nodes[0].ask(reader, &requests);
    let heard: Vec<_> = heard.iter().map(|h| (h.xid, h.error)).collect();
    assert_eq!(heard, [(1, 0), (2, -119)]);
    assert!(all.nodes[0].submitted.is_empty());
    // Who wants more is not let in.
    let key = all.nodes[0].accept();
    all.nodes[0].receive(key, &connect(0, [0; 16], 0));
    assert!(all.nodes[0].clients.take(key).close);
    all.nodes[0].in_touch = true;
    all.nodes[0].clients.end_readers();
    assert_eq!(all.nodes[0].clients.standing(reader), Standing::Ending);
}
