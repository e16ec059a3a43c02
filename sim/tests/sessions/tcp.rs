//! Connections that are passed on whatever they mean, on networks that cut and delay as they like.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::{Closed, SourceLimits, TcpLimits};
use proxy::rt::Memory;
use sim::peer::Gone;

use crate::stage::{Actor, Stage};

const LIMITS: TcpLimits = TcpLimits {
    idle: Duration::from_secs(20),
    lifetime: Duration::ZERO,
    drain: Duration::from_secs(2),
    hello: Duration::from_secs(1),
    sources: SourceLimits { open: 0, rate: 0 },
    max_connections: 0,
};

fn stage(instances: usize, seed: u64, limits: TcpLimits) -> Stage {
    let conditions = Memory {
        seed,
        window: 700,
        segment: 300,
        delay: Duration::from_millis(3),
    };
    Stage::of_tcp(instances, conditions, limits)
}

fn closed(stage: &Stage, why: Closed) -> u64 {
    stage.stream_stats.total(|s| &s.closed[why as usize])
}

#[test]
fn everything_arrives_once_and_in_order_and_each_end_by_itself() {
    for seed in 0..60 {
        let stage = stage(1, seed, LIMITS);
        let text: String = (0..4_000).map(|n| format!("{n},")).collect();
        let (sent, expected) = (text.clone(), text.clone());
        stage.instance(0, async move |mut actor: Actor| {
            let (heard, gone) = actor.hear_all().await;
            assert!(heard == expected && gone == Some(Gone::Ended));
            // It has ended its side, and still hears ours.
            actor.say(heard.clone()).await;
            actor.say(heard).await;
            actor.0.end();
        });
        let heard = stage.play(async move |mut client: Actor| {
            client.say(sent).await;
            client.0.end();
            client.hear_all().await
        });
        assert!(heard == (text.repeat(2), Some(Gone::Ended)), "seed {seed}");
        assert_eq!(closed(&stage, Closed::Done), 1, "seed {seed}");
        let record = &stage.simulated.connections()[0];
        assert_eq!(record.received as usize, text.len());
        assert_eq!(record.sent as usize, 2 * text.len());
        assert_eq!(stage.stats[0].in_flight(), 0);
    }
}

#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    for seed in 0..60 {
        let stage = stage(1, seed, LIMITS);
        let heard = Rc::new(Cell::new(None));
        let noted = heard.clone();
        stage.instance(0, async move |mut actor: Actor| {
            actor.say("half of an ans").await;
            noted.set(actor.hear_all().await.1);
        });
        stage.play(async |mut client: Actor| {
            client.say("question").await;
            client.wait(20).await;
            client.0.abort();
        });
        assert_eq!(heard.get(), Some(Gone::Broken), "seed {seed}");
        assert_eq!(closed(&stage, Closed::ClientReset), 1, "seed {seed}");
    }
}

#[test]
fn a_receiver_that_takes_nothing_stops_the_sender() {
    let limits = TcpLimits {
        idle: Duration::from_secs(1),
        ..LIMITS
    };
    let stage = stage(1, 1, limits);
    let sent = Rc::new(Cell::new(0));
    let noted = sent.clone();
    stage.instance(0, async move |mut actor: Actor| {
        actor.0.say(vec![b'x'; 1_000_000]);
        actor.wait(500).await;
        noted.set(actor.0.sent);
        actor.hear_all().await;
    });
    stage.play(async |mut client: Actor| {
        client.0.gulps.bytes = 0;
        client.wait(2_500).await;
    });
    // Two windows of the network's, and what we read at a time.
    assert!(sent.get() < 2 * 700 + 33_000, "{}", sent.get());
    assert_eq!(closed(&stage, Closed::Idle), 1);
}

#[test]
fn a_removed_instance_has_its_connections_until_they_are_drained() {
    for seed in 0..20 {
        let stage = Rc::new(stage(1, seed, LIMITS));
        stage.instance(0, async |mut actor: Actor| {
            loop {
                if actor.take().is_empty() {
                    actor.wait(5).await;
                }
                if actor.0.gone.is_some() {
                    return;
                }
                actor.say("tick").await;
            }
        });
        let simulated = stage.simulated.clone();
        let emptied = stage.table(true, &[]);
        let (began, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (since, until) = (began.clone(), ended.clone());
        stage.play(async move |mut client: Actor| {
            client.hear("tick").await;
            since.set(client.0.now().as_millis());
            simulated.publish(emptied);
            client.hear_all().await;
            until.set(client.0.now().as_millis());
        });
        let lasted = ended.get() - began.get();
        assert!((2_000..2_200).contains(&lasted), "seed {seed}: {lasted} ms");
        assert_eq!(closed(&stage, Closed::Drained), 1, "seed {seed}");
    }
}

#[test]
fn an_instance_that_comes_back_in_time_keeps_its_connections() {
    let stage = Rc::new(stage(1, 3, LIMITS));
    stage.instance(0, async |mut actor: Actor| {
        actor.hear("?").await;
        actor.say("!").await;
        actor.hear_all().await;
    });
    let simulated = stage.simulated.clone();
    let (gone, back) = (stage.table(true, &[]), stage.table(true, &stage.stats));
    let heard = stage.play(async move |mut client: Actor| {
        client.wait(10).await;
        simulated.publish(gone);
        client.wait(1_000).await;
        simulated.publish(back);
        client.wait(3_000).await;
        client.say("?").await;
        client.hear("!").await
    });
    assert_eq!(heard, "!");
    assert_eq!(closed(&stage, Closed::Drained), 0);
}

#[test]
fn an_instance_that_refuses_is_passed_over_and_lives_end() {
    let limits = TcpLimits {
        lifetime: Duration::from_secs(1),
        ..LIMITS
    };
    let stage = stage(2, 9, limits);
    // The first in turn has nobody listening.
    stage.instance(1, async |mut actor: Actor| {
        actor.say("hello").await;
        actor.hear_all().await;
    });
    let (heard, gone) = stage.play(async |mut client: Actor| client.hear_all().await);
    assert_eq!((&*heard, gone), ("hello", Some(Gone::Broken)));
    assert_eq!(closed(&stage, Closed::Lifetime), 1);
    assert_eq!(stage.simulated.connections()[0].attempts, 2);
    let failures: Vec<_> = stage.stats.iter().map(|s: &Arc<_>| s.failures()).collect();
    assert_eq!(failures, [1, 0]);
}
