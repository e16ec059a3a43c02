//! Who waits, in which order, and for how long.

use model::{Limiting, Priority};

use super::*;
use crate::{Joined, Queue, Ticket};

const LIMITING: Limiting = Limiting {
    max: 1,
    adaptive: false,
    min: 1,
    queue: 4,
    wait: Duration::from_millis(100),
    wait_overloaded: Duration::from_millis(5),
};

#[track_caller]
fn join(queue: &mut Queue, priority: Priority, millis: u64) -> Ticket {
    match queue.join(priority, &LIMITING, at(millis)) {
        Joined::Waits(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_burst_is_served_in_order_and_those_that_matter_first() {
    let mut queue = Queue::default();
    let [a, b] = [0, 1].map(|millis| join(&mut queue, Priority::Normal, millis));
    let low = join(&mut queue, Priority::Low, 2);
    let high = join(&mut queue, Priority::High, 3);
    let served = [4; 4].map(|millis| queue.next(&LIMITING, at(millis)).unwrap());
    assert_eq!(served, [high, a, b, low]);
    assert_eq!(queue.next(&LIMITING, at(4)), None);
    assert!(queue.is_empty());
}

#[test]
fn in_a_queue_that_stands_the_newest_go_first_and_none_waits_for_long() {
    let mut queue = Queue::default();
    let [first, second] = [0, 50].map(|millis| join(&mut queue, Priority::Normal, millis));
    assert_eq!(queue.next(&LIMITING, at(60)), Some(first));
    // It has not been empty for 100 ms.
    let third = join(&mut queue, Priority::Normal, 101);
    let newest = join(&mut queue, Priority::Normal, 102);
    assert_eq!(queue.next(&LIMITING, at(103)), Some(newest));
    assert_eq!(queue.handle_timeout(at(105)), []);
    assert_eq!(queue.handle_timeout(at(106)), [third]);
    assert_eq!(queue.handle_timeout(at(150)), [second]);
    assert!(queue.is_empty());
    let burst = join(&mut queue, Priority::Low, 151);
    assert_eq!(queue.handle_timeout(at(250)), [], "it has been empty");
    assert_eq!(queue.handle_timeout(at(251)), [burst]);
}

#[test]
fn a_full_queue_takes_those_that_matter_more_in_place_of_those_that_matter_less() {
    let mut queue = Queue::default();
    let low = join(&mut queue, Priority::Low, 0);
    for _ in 0..3 {
        join(&mut queue, Priority::Normal, 0);
    }
    assert_eq!(queue.join(Priority::Low, &LIMITING, at(1)), Joined::Full);
    let joined = queue.join(Priority::High, &LIMITING, at(1));
    assert!(matches!(joined, Joined::Instead(_, evicted) if evicted == low));
    assert!(matches!(
        queue.join(Priority::High, &LIMITING, at(1)),
        Joined::Instead(..)
    ));
    assert_eq!(queue.join(Priority::Normal, &LIMITING, at(1)), Joined::Full);
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_clock_that_stepped_back_makes_no_queue_stand() {
    let mut queue = Queue::default();
    join(&mut queue, Priority::Normal, 1_000_000);
    let second = join(&mut queue, Priority::Normal, 10);
    assert!(queue.next(&LIMITING, at(20)).is_some());
    assert_eq!(queue.handle_timeout(at(109)), []);
    assert_eq!(queue.handle_timeout(at(110)), [second]);
}
