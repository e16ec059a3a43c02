//! Clients that are sent to other nodes.

use std::time::Duration;

use super::*;

impl Scene {
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Sends so many clients away; returns whom.
    fn send_away(&mut self, most: usize) -> Vec<Key> {
        let candidates = self.clients.candidates(self.now).map(|c| ((), c)).collect();
        let chosen = self
            .sendings
            .borrow_mut()
            .choose(candidates, most, self.now);
        for ((), key) in &chosen {
            self.clients.end(*key);
        }
        chosen.into_iter().map(|((), key)| key).collect()
    }

    /// The client connects again with its session.
    fn again(&mut self, (id, password): (i64, [u8; 16])) -> Key {
        let key = self.accept();
        self.receive(key, &connect(id, password, 0));
        self.settle();
        key
    }
}

#[test]
fn only_clients_at_rest_are_sent_away_and_their_sessions_stay() {
    let mut scene = Scene::new();
    let (busy, _, _) = scene.client();
    let (asking, _, _) = scene.client();
    let (idle, id, password) = scene.client();
    let new = scene.accept();
    assert_eq!(scene.clients.sessions(), 3);
    scene.pass(60);
    let (late, _, _) = scene.client();
    // One waits for the log, one has just asked, one has not said who it is, one has just come.
    scene.receive(busy, &create(1, "/a"));
    scene.ask(asking, &get(1, "/", false));
    // A ping is no question.
    scene.ask(idle, &request(-2, 11, &[]));
    assert_eq!(scene.send_away(9), [idle]);
    assert!(scene.clients.take(idle).close);
    for key in [busy, asking, new, late] {
        assert_eq!(scene.clients.standing(key), Standing::Open);
    }
    scene.clients.disconnected(idle);
    let again = scene.again((id, password));
    assert_eq!(scene.welcomed(again), Some((id, password)));
}

#[test]
fn a_client_that_comes_straight_back_is_not_sent_away_again() {
    let mut scene = Scene::new();
    let (first, id, password) = scene.client();
    scene.pass(60);
    assert_eq!(scene.send_away(1), [first]);
    scene.clients.disconnected(first);
    let second = scene.again((id, password));
    scene.welcomed(second);
    scene.pass(60);
    assert_eq!(scene.send_away(1), []);
    // One that loses its connection otherwise is as any other.
    let (other, id, password) = scene.client();
    scene.clients.disconnected(other);
    let other = scene.again((id, password));
    scene.welcomed(other);
    scene.pass(60);
    assert_eq!(scene.send_away(2), [other]);
}

#[test]
fn a_session_from_elsewhere_is_passed_on_once_and_stays_where_it_was_until_it_is_taken() {
    let mut scene = Scene::new();
    let (key, id, password) = scene.client();
    scene.clients.disconnected(key);
    // Sessions of this registry are of node 0.
    scene.node = Some(7);
    scene.sendings.borrow_mut().pass_on_from(vec![0]);
    let first = scene.again((id, password));
    assert!(scene.submitted.is_empty());
    let Take { output, close, .. } = scene.clients.take(first);
    assert!(output.is_empty() && close);
    scene.clients.disconnected(first);
    let second = scene.accept();
    scene.receive(second, &connect(id, password, 0));
    assert_eq!(scene.submitted.len(), 1);
    assert_eq!(scene.clients.standing(second), Standing::Open);
}
