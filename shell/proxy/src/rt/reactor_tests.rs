use super::super::{Executor, Memory};
use super::*;

fn reactor() -> Rc<Reactor> {
    Reactor::on_network(Network::new(Memory {
        seed: 1,
        window: 1,
        segment: 1,
        delay: Duration::ZERO,
    }))
}

fn edge(token: Token) -> Ready {
    Ready {
        token,
        readable: true,
        writable: false,
        peer_closed: false,
        hung_up: false,
    }
}

#[test]
fn an_event_for_a_former_occupant_of_a_slot_reaches_nobody() {
    let reactor = reactor();
    let former = reactor.add_source(false, false);
    reactor.forget(former);
    let present = reactor.add_source(false, false);
    assert_eq!(former.index, present.index, "the slot is used again");
    reactor.set_current(TaskId::new(0, 1));
    reactor.wait_on(present);
    reactor.deliver(edge(former));
    assert!(!reactor.readable(present));
    assert_eq!(reactor.queued(), 0);
    reactor.deliver(edge(present));
    assert!(reactor.readable(present));
    assert_eq!(reactor.queued(), 1);
    reactor.forget(present);
    reactor.deliver(edge(present));
    assert_eq!(reactor.queued(), 1);
}

#[test]
fn one_edge_wakes_a_waiter_once() {
    let reactor = reactor();
    let token = reactor.add_source(false, false);
    reactor.set_current(TaskId::new(0, 1));
    reactor.wait_on(token);
    reactor.deliver(edge(token));
    reactor.deliver(edge(token));
    assert_eq!(reactor.queued(), 1);
}

#[test]
fn a_short_read_means_drained_unless_the_peer_has_closed() {
    let reactor = reactor();
    let token = reactor.add_source(true, false);
    reactor.drained(token);
    assert!(!reactor.readable(token));
    let closed = Ready {
        peer_closed: true,
        ..edge(token)
    };
    reactor.deliver(closed);
    reactor.drained(token);
    assert!(reactor.readable(token), "the end is still to be read");
}

#[test]
fn a_deadline_moved_back_and_forth_leaves_no_entries_behind() {
    let executor = Executor::new(reactor());
    let handle = executor.handle();
    let task = handle.clone();
    handle.spawn(async move {
        let reactor = task.reactor();
        // As a connection does for hours: long while idle, short while it is served.
        for _ in 0..5_000 {
            reactor.set_timeout(Duration::from_secs(3_600));
            reactor.set_timeout(Duration::from_secs(2));
            reactor.sleep(Duration::from_millis(500)).await;
        }
        // Every entry still in the wheel fires within its horizon of 17 s; one in two seconds may be left over.
        assert!(
            reactor.timers.borrow().entries() < 40,
            "{} entries",
            reactor.timers.borrow().entries()
        );
        task.stop();
    });
    executor.run().unwrap();
}
