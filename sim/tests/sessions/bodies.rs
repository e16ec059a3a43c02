//! Bodies both ways, and what happens when one of them goes wrong.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proxy::rt::Memory;
use sim::peer::{Gone, Gulps};

use crate::retries::{GET, OK};
use crate::stage::{Actor, Stage};

fn narrow(window: usize) -> Memory {
    Memory {
        seed: 1,
        window,
        segment: window,
        delay: Duration::from_micros(10),
    }
}

#[test]
fn nothing_is_said_into_an_answer_that_has_begun() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor
            .say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
            .await;
        actor.hear_all().await;
    });
    let (heard, gone) = stage.play(async |mut client: Actor| {
        client
            .say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.hear("abc").await;
        client.say("nonsense").await;
        client.hear_all().await
    });
    assert_eq!((&*heard, gone), ("", Some(Gone::Broken)));
}

#[test]
fn an_instance_that_answers_before_it_reads_is_heard() {
    let stage = Stage::in_conditions(1, narrow(1_000));
    stage.instance(0, async |mut actor: Actor| {
        actor.0.gulps.bytes = 0;
        let body = "x".repeat(30_000);
        actor
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n{body}"
            ))
            .await;
        actor.wait(100).await;
    });
    let heard = stage.play(async |mut client: Actor| {
        let body = "y".repeat(20_000);
        client.0.say(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{body}"
        ));
        client.hear(&"x".repeat(30_000)).await
    });
    assert!(heard.starts_with("HTTP/1.1 200"), "{}", &heard[..200]);
}

#[test]
fn an_http_1_0_client_hears_no_informational_answers() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.say("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        actor.wait(10).await;
        actor.say(OK).await;
    });
    let heard = stage.play(async |mut client: Actor| {
        client.say("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        client.hear_all().await.0
    });
    assert!(
        heard.starts_with("HTTP/1.1 200") && heard.ends_with("ok"),
        "{heard}"
    );
}

#[test]
fn a_reader_above_the_least_rate_gets_an_answer_that_came_in_one_piece() {
    let conditions = Memory {
        window: 70_000,
        ..narrow(70_000)
    };
    let stage = Stage::in_conditions(1, conditions);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        let body = "x".repeat(200_000);
        actor
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{body}"
            ))
            .await;
        actor.hear_all().await;
    });
    let received = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        // 20 times the least rate.
        client.0.gulps = Gulps {
            bytes: 2_000,
            pause: Duration::from_millis(100),
        };
        client.wait(30_000).await;
        client.0.received
    });
    assert!(received > 200_000, "cut off at {received}");
}

#[test]
fn a_reader_below_the_least_rate_is_cut_off() {
    let stage = Stage::in_conditions(1, narrow(2_000));
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        let body = "x".repeat(200_000);
        actor
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{body}"
            ))
            .await;
        actor.hear_all().await;
    });
    let (received, gone) = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.0.gulps = Gulps {
            bytes: 60,
            pause: Duration::from_millis(100),
        };
        client.wait(30_000).await;
        (client.0.received, client.0.gone)
    });
    assert_eq!(gone, Some(Gone::Broken), "{received} bytes");
}

#[test]
fn trailers_of_many_short_lines_come_through() {
    let stage = Stage::new(1);
    let lines = "a:\r\n".repeat(2_000);
    let answer =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{lines}\r\n");
    stage.instance(0, async move |actor: Actor| actor.answer_all(&answer).await);
    let heard = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear("a: \r\n\r\n").await
    });
    assert_eq!(heard.matches("a: \r\n").count(), 2_000);
}

#[test]
fn a_small_answer_may_take_longer_than_its_head() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor
            .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            .await;
        for byte in "0123456789".chars() {
            actor.wait(600).await;
            actor.say(byte.to_string()).await;
        }
        actor.wait(100).await;
    });
    let heard = stage.play(async |mut client: Actor| {
        client.say(GET).await;
        client.hear("9").await
    });
    assert!(
        heard.starts_with("HTTP/1.1 200") && heard.ends_with("0123456789"),
        "{heard}"
    );
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection_and_says_so() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor
            .say("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            .await;
        actor.hear_all().await;
    });
    let (heard, gone) = stage.play(async |mut client: Actor| {
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.say(head).await;
        client.hear_all().await
    });
    assert!(
        heard.starts_with("HTTP/1.1 417") && heard.contains("Connection: close"),
        "{heard}"
    );
    assert_eq!(gone, Some(Gone::Ended));
}

#[test]
fn an_instance_that_was_not_sent_all_of_a_request_is_sent_no_other_on_that_connection() {
    let stage = Stage::new(1);
    let connections = Rc::new(Cell::new(0));
    let count = connections.clone();
    stage.instance(0, async move |actor: Actor| {
        count.set(count.get() + 1);
        actor.answer_all(OK).await;
    });
    let pooled = Rc::new(Cell::new(usize::MAX));
    let (seen, simulated) = (pooled.clone(), stage.simulated.clone());
    stage.play(async move |mut client: Actor| {
        client
            .say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            .await;
        client.hear("ok").await;
        client.wait(10).await;
        seen.set(simulated.pooled());
    });
    assert_eq!((connections.get(), pooled.get()), (1, 0));
}
