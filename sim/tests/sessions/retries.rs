//! Which attempts are made again, and whose fault a failure is.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use sim::peer::Gone;

use crate::stage::{Actor, Stage};

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_small_answer_that_ends_early_costs_a_second_attempt() {
    let stage = Stage::new(2);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor
            .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            .await;
    });
    stage.instance(1, async |actor: Actor| actor.answer_all(OK).await);
    let heard = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear("ok").await
    });
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    assert_eq!(stage.stats[0].failures(), 1);
}

#[test]
fn a_put_whose_body_was_partly_passed_on_is_not_sent_again() {
    let stage = Stage::new(2);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("12345").await;
    });
    let second = Rc::new(Cell::new(0));
    let seen = second.clone();
    stage.instance(1, async move |mut actor: Actor| {
        seen.set(seen.get() + 1);
        actor.hear_all().await;
    });
    let heard = stage.play(async |mut client: Actor| {
        client
            .say("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
            .await;
        client.wait(10).await;
        client.say("12345").await;
        client.wait(10).await;
        client.say("67890").await;
        client.hear_all().await.0
    });
    assert!(heard.starts_with("HTTP/1.1 502"), "{heard}");
    assert_eq!(
        second.get(),
        0,
        "the second instance got a request without its body"
    );
}

#[test]
fn a_put_is_sent_again_while_all_of_its_body_is_still_to_come() {
    let stage = Stage::new(2);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
    });
    stage.instance(1, async |mut actor: Actor| {
        actor.hear("1234567890").await;
        actor.say(OK).await;
        actor.wait(100).await;
    });
    let heard = stage.play(async |mut client: Actor| {
        client
            .say("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
            .await;
        client.wait(50).await;
        client.say("1234567890").await;
        client.hear("ok").await
    });
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_instance() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear_all().await;
    });
    stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.wait(20).await;
        client.0.abort();
    });
    assert_eq!(
        (stage.stats[0].requests(), stage.stats[0].failures()),
        (1, 0)
    );
    assert_eq!(stage.route_stats.total(|r| &r.aborted), 1);
}

fn closes_at_second_request(stage: &Stage) {
    let connections = Cell::new(0);
    stage.instance(0, async move |mut actor: Actor| {
        connections.set(connections.get() + 1);
        let first = connections.get() == 1;
        actor.hear("\r\n\r\n").await;
        actor.say(OK).await;
        actor.hear("\r\n\r\n").await;
        if !first {
            actor.say(OK).await;
        }
    });
}

#[test]
fn a_connection_that_was_closed_unused_is_no_failure_and_costs_no_attempt() {
    let stage = Stage::new(1);
    closes_at_second_request(&stage);
    let heard = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear("ok").await;
        client.say(GET).await;
        client.hear("ok").await
    });
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    assert_eq!(stage.stats[0].failures(), 0);
}

#[test]
fn a_post_on_a_connection_that_is_closed_is_not_sent_again() {
    let stage = Stage::new(1);
    closes_at_second_request(&stage);
    let heard = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear("ok").await;
        client
            .say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .await;
        client.hear("\n").await
    });
    assert!(heard.starts_with("HTTP/1.1 502"), "{heard}");
}

#[test]
fn an_answer_cut_short_counts_as_a_failure_of_the_instance() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor
            .say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
            .await;
    });
    let (heard, gone) = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear_all().await
    });
    assert_eq!(
        gone,
        Some(Gone::Broken),
        "a cut answer must not end in order: {heard}"
    );
    assert_eq!(stage.stats[0].failures(), 1);
}

#[test]
fn a_connection_to_an_instance_that_was_replaced_is_not_used_again() {
    let stage = Rc::new(Stage::new(1));
    let connections = Rc::new(Cell::new(0));
    let count = connections.clone();
    stage.instance(0, async move |actor: Actor| {
        count.set(count.get() + 1);
        actor.answer_all(OK).await;
    });
    let world = stage.clone();
    stage.play(async move |mut client: Actor| {
        client.say(GET).await;
        client.hear("ok").await;
        // Another instance was registered under the same address.
        world
            .simulated
            .publish(world.table(true, &[Arc::default()]));
        client.say(GET).await;
        client.hear("ok").await;
    });
    assert_eq!(connections.get(), 2);
}

#[test]
fn heads_over_the_limit_and_endless_hints_are_refused() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100_000);
    for bad in [huge, hints] {
        let stage = Stage::new(2);
        stage.instance(0, async move |mut actor: Actor| {
            actor.hear("\r\n\r\n").await;
            actor.say(bad.clone()).await;
            actor.hear_all().await;
        });
        stage.instance(1, async |actor: Actor| actor.answer_all(OK).await);
        let heard = stage.play(async |mut client: Actor| {
            client.say(GET).await;
            client.hear("ok").await
        });
        assert!(
            heard.len() < 10_000 && heard.ends_with("ok"),
            "{} bytes",
            heard.len()
        );
    }
}

#[test]
fn a_connection_with_stray_bytes_on_it_serves_nobody_else() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for at_once in [true, false] {
        let stage = Stage::new(1);
        let connections = Rc::new(Cell::new(0));
        let count = connections.clone();
        stage.instance(0, async move |mut actor: Actor| {
            count.set(count.get() + 1);
            actor.hear("\r\n\r\n").await;
            if at_once {
                actor.say(format!("{OK}{stray}")).await;
            } else {
                actor.say(OK).await;
                actor.wait(10).await;
                actor.say(stray).await;
            }
            actor.hear_all().await;
        });
        let heard = stage.play(async |mut client: Actor| {
            client.say(GET).await;
            client.hear("ok").await;
            client.wait(50).await;
            client.say(GET).await;
            client.hear("ok").await
        });
        assert!(!heard.contains("evil"), "{heard}");
        assert_eq!(connections.get(), 2);
    }
}
