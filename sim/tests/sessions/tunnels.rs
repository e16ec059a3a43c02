//! After an upgrade.

use std::cell::Cell;
use std::rc::Rc;

use crate::stage::{Actor, Stage};

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn bytes_that_come_along_with_either_head_come_through() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.say(format!("{SWITCH}hello")).await;
        actor.hear("ahead").await;
        actor.say("bye").await;
    });
    let heard = stage.play(async |mut client: Actor| {
        client.say(format!("{UPGRADE}ahead")).await;
        client.hear("bye").await
    });
    assert!(heard.ends_with("\r\n\r\nhellobye"), "{heard}");
}

#[test]
fn a_tunnel_that_breaks_on_one_side_breaks_on_the_other() {
    let stage = Stage::new(1);
    let after = Rc::new(Cell::new(None));
    let noted = after.clone();
    stage.instance(0, async move |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.say(SWITCH).await;
        actor.hear("x").await;
        let since = actor.0.now();
        let (_, gone) = actor.hear_all().await;
        noted.set(Some((gone, actor.0.now().since(since).as_millis())));
    });
    stage.play(async |mut client: Actor| {
        client.say(UPGRADE).await;
        client.hear("\r\n\r\n").await;
        client.say("x").await;
        client.wait(10).await;
        client.0.abort();
    });
    let (gone, millis) = after.get().expect("the instance has heard the end");
    assert_eq!(gone, Some(sim::peer::Gone::Broken));
    assert!(millis < 100, "{millis} ms");
    assert_eq!(stage.simulated.pooled(), 0);
}

#[test]
fn a_connection_that_carried_a_tunnel_serves_nobody_else() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.say(SWITCH).await;
        actor.hear_all().await;
        actor.wait(1).await;
    });
    stage.play(async |mut client: Actor| {
        client.say(UPGRADE).await;
        client.hear("\r\n\r\n").await;
        client.0.end();
        client.hear_all().await;
    });
    assert_eq!(stage.simulated.pooled(), 0);
}

#[test]
fn a_tunnel_outlives_its_listener() {
    let stage = Rc::new(Stage::new(1));
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("\r\n\r\n").await;
        actor.say(SWITCH).await;
        actor.hear("still there?").await;
        actor.say("yes").await;
    });
    let world = stage.clone();
    let heard = stage.play(async move |mut client: Actor| {
        client.say(UPGRADE).await;
        client.hear("\r\n\r\n").await;
        world.publish(false);
        world.simulated.unlisten(0);
        client.wait(10_000).await;
        client.say("still there?").await;
        client.hear("yes").await
    });
    assert_eq!(heard, "yes");
    let listener = &stage.listener_stats;
    assert_eq!(
        listener.total(|l| &l.accepted),
        listener.total(|l| &l.closed)
    );
}
