//! The executor and deadlines, in virtual time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::Moment;

use super::*;

const SLOT: u64 = 34;

fn executor() -> (Executor, Network) {
    let network = Network::new(Memory {
        seed: 1,
        window: 1 << 16,
        segment: 1 << 16,
        delay: Duration::ZERO,
    });
    (Executor::new(Reactor::on_network(network.clone())), network)
}

/// When a task that waits for nothing but its deadline wakes, after `set` has set it.
fn wakes_at(set: impl AsyncFnOnce(&Reactor) + 'static) -> u64 {
    let (executor, _) = executor();
    let woken = Rc::new(RefCell::new(None));
    let (handle, to) = (executor.handle(), woken.clone());
    executor.handle().spawn(async move {
        let reactor = handle.reactor();
        let address = SocketAddr::from(([1, 1, 1, 1], 1));
        reactor.network().unwrap().silence(address);
        set(reactor).await;
        let outcome = Sock::connect(reactor, address).await;
        assert_eq!(outcome.err().unwrap().kind(), std::io::ErrorKind::TimedOut);
        *to.borrow_mut() = Some(reactor.now().as_millis());
    });
    executor.run().unwrap();
    woken.borrow_mut().take().unwrap()
}

#[track_caller]
fn assert_within_two_slots(at: u64, due: u64) {
    assert!((due..=due + 2 * SLOT).contains(&at), "{at} ms, not {due}");
}

#[test]
fn a_deadline_holds_within_two_slots() {
    for due in [1, 33, 34, 1_000, 16_900, 17_200, 60_000, 3_600_000] {
        let at = wakes_at(async move |r| r.set_deadline(Moment::from_millis(due)));
        assert_within_two_slots(at, due);
    }
}

#[test]
fn a_shortened_deadline_holds() {
    let at = wakes_at(async |r| {
        r.set_timeout(Duration::from_secs(30));
        r.set_timeout(Duration::from_secs(1));
    });
    assert_within_two_slots(at, 1_000);
}

#[test]
fn a_lengthened_deadline_does_not_fire_at_its_former_time() {
    let at = wakes_at(async |r| {
        r.set_timeout(Duration::from_secs(1));
        r.set_timeout(Duration::from_secs(30));
    });
    assert_within_two_slots(at, 30_000);
}

#[test]
fn a_deadline_shortened_after_it_was_lengthened_holds() {
    let at = wakes_at(async |r| {
        r.set_timeout(Duration::from_secs(2));
        r.set_timeout(Duration::from_secs(40));
        r.sleep(Duration::from_secs(3)).await;
        r.set_timeout(Duration::from_secs(40));
        r.set_timeout(Duration::from_secs(5));
    });
    assert_within_two_slots(at, 8_000);
}

#[test]
fn a_deadline_in_the_past_holds_at_once() {
    assert_eq!(wakes_at(async |r| r.set_deadline(Moment::ZERO)), 0);
}

#[test]
fn a_task_in_a_slot_used_again_does_not_hear_of_its_predecessors_deadline() {
    let (executor, _) = executor();
    let (handle, polls) = (executor.handle(), Rc::new(RefCell::new(0)));
    let count = polls.clone();
    executor.handle().spawn(async move {
        let first = handle.clone();
        handle.spawn(async move { first.reactor().set_timeout(Duration::from_millis(100)) });
        handle.reactor().sleep(Duration::from_millis(50)).await;
        handle.spawn(std::future::poll_fn(move |_| {
            *count.borrow_mut() += 1;
            std::task::Poll::Pending
        }));
        handle.reactor().sleep(Duration::from_secs(1)).await;
    });
    executor.run().unwrap();
    assert_eq!(*polls.borrow(), 1);
}

#[test]
fn a_task_that_yields_goes_on_after_the_others() {
    let (executor, _) = executor();
    let order = Rc::new(RefCell::new(Vec::new()));
    for name in ["a", "b", "c"] {
        let (handle, order) = (executor.handle(), order.clone());
        executor.handle().spawn(async move {
            for _ in 0..3 {
                order.borrow_mut().push(name);
                yield_now(handle.reactor()).await;
            }
        });
    }
    executor.run().unwrap();
    assert_eq!(order.borrow().concat(), "abcabcabc");
}

#[test]
fn a_task_that_always_yields_does_not_keep_deadlines_from_firing() {
    let (executor, network) = executor();
    let handle = executor.handle();
    executor.handle().spawn(async move {
        let reactor = handle.reactor();
        let sleep = reactor.sleep(Duration::from_millis(1));
        let _ = race(sleep, std::future::pending::<()>()).await;
        handle.stop();
    });
    let handle = executor.handle();
    let address = SocketAddr::from(([1, 1, 1, 1], 1));
    executor.handle().spawn(async move {
        loop {
            // Virtual time passes only when something happens: each refusal is an event.
            let _ = Sock::connect(handle.reactor(), address).await;
            yield_now(handle.reactor()).await;
            let now = handle.reactor().now();
            handle.reactor().sleep(Duration::from_nanos(1)).await;
            assert!(handle.reactor().now() > now);
        }
    });
    executor.run().unwrap();
    assert!(network.now() < Moment::from_millis(100));
}

#[test]
fn dropping_a_future_closes_its_sockets() {
    let (executor, network) = executor();
    let handle = executor.handle();
    let address = SocketAddr::from(([1, 1, 1, 1], 1));
    network.silence(address);
    let world = network.clone();
    executor.handle().spawn(async move {
        let reactor = handle.reactor();
        reactor.set_timeout(Duration::from_secs(10));
        let connect = Sock::connect(reactor, address);
        let soon = async {
            yield_now(reactor).await;
            assert_eq!(world.open_ends(), 1);
        };
        assert!(matches!(race(connect, soon).await, Either::Right(())));
        assert_eq!(world.open_ends(), 0);
    });
    executor.run().unwrap();
}

#[test]
fn stopping_drops_every_task() {
    let (executor, network) = executor();
    let address = SocketAddr::from(([1, 1, 1, 1], 1));
    network.silence(address);
    for _ in 0..3 {
        let handle = executor.handle();
        executor.handle().spawn(async move {
            let _never = Sock::connect(handle.reactor(), address).await;
        });
    }
    let handle = executor.handle();
    executor.handle().spawn(async move { handle.stop() });
    executor.run().unwrap();
    assert_eq!(network.open_ends(), 0);
}

#[test]
fn the_first_failure_of_two_cancels_the_other() {
    let (executor, _) = executor();
    let handle = executor.handle();
    executor.handle().spawn(async move {
        let reactor = handle.reactor();
        let fails = async {
            yield_now(reactor).await;
            Err("no")
        };
        assert_eq!(try_join(std::future::pending(), fails).await, Err("no"));
        assert_eq!(
            try_join(async { Ok::<_, ()>(()) }, async { Ok(()) }).await,
            Ok(())
        );
    });
    executor.run().unwrap();
}
