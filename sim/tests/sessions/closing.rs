//! How connections to clients end.

use std::rc::Rc;

use sim::peer::Gone;

use crate::retries::{GET, OK};
use crate::stage::{Actor, Stage};

#[test]
fn an_answer_is_not_lost_to_a_reset_when_the_client_had_sent_more() {
    let stage = Stage::new(1);
    stage.instance(0, async |actor: Actor| actor.answer_all(OK).await);
    let (heard, gone) = stage.play(async |mut client: Actor| {
        let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.say(last).await;
        for _ in 0..20 {
            client.say(GET).await;
        }
        client.hear_all().await
    });
    assert!(
        heard.ends_with("ok") && heard.matches("HTTP/1.1").count() == 1,
        "{heard}"
    );
    assert_eq!(gone, Some(Gone::Ended));
}

#[test]
fn draining_answers_what_has_come_and_ends_in_order() {
    let stage = Rc::new(Stage::new(1));
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.wait(50).await;
        actor.say(OK).await;
        actor.wait(1_000).await;
    });
    let world = stage.clone();
    let (heard, gone) = stage.play(async move |mut client: Actor| {
        client.say(GET).await;
        client.wait(20).await;
        world.simulated.drain();
        client.hear_all().await
    });
    assert!(
        heard.contains("Connection: close") && heard.ends_with("ok"),
        "{heard}"
    );
    assert_eq!(gone, Some(Gone::Ended));
}

#[test]
fn an_idle_connection_ends_with_its_listener() {
    let stage = Rc::new(Stage::new(1));
    stage.instance(0, async |actor: Actor| actor.answer_all(OK).await);
    let world = stage.clone();
    let (gone, millis) = stage.play(async move |mut client: Actor| {
        client.say(GET).await;
        client.hear("ok").await;
        world.publish(false);
        world.simulated.unlisten(0);
        let since = client.0.now();
        let (_, gone) = client.hear_all().await;
        (gone, client.0.now().since(since).as_millis())
    });
    assert_eq!(gone, Some(Gone::Ended));
    assert!(millis < 100, "{millis} ms");
    let listener = &stage.listener_stats;
    assert_eq!(
        listener.total(|l| &l.accepted),
        listener.total(|l| &l.closed)
    );
}

#[test]
fn who_connects_and_says_nothing_has_as_long_as_for_a_head() {
    let stage = Stage::new(0);
    let (heard, millis) = stage.play(async |mut client: Actor| {
        let since = client.0.now();
        let (heard, _) = client.hear_all().await;
        (heard, client.0.now().since(since).as_millis())
    });
    assert_eq!(heard, "");
    assert!((2_000..2_200).contains(&millis), "{millis} ms");
}
