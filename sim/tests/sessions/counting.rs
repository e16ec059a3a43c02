//! Access records.

use crate::retries::{GET, OK};
use crate::stage::{Actor, Stage};

#[test]
fn records_tell_each_requests_own_bytes() {
    let stage = Stage::new(1);
    stage.instance(0, async |mut actor: Actor| {
        loop {
            actor.hear("\r\n\r\n").await;
            actor.say(OK).await;
        }
    });
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let heard = stage.play(async move |mut client: Actor| {
        client.say(format!("{GET}{post}")).await;
        [client.hear("ok").await, client.hear("ok").await]
    });
    let records = stage.simulated.records();
    let received: Vec<_> = records.iter().map(|r| r.received).collect();
    assert_eq!(received, [GET.len() as u64, post.len() as u64]);
    let sent: Vec<_> = records.iter().map(|r| r.sent).collect();
    assert_eq!(sent, heard.map(|answer| answer.len() as u64));
}

#[test]
fn what_was_refused_has_a_record_too() {
    for (bytes, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTT", 408),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz",
            400,
        ),
    ] {
        let stage = Stage::new(0);
        let heard = stage.play(async move |mut client: Actor| {
            client.say(bytes).await;
            client.hear_all().await.0
        });
        let records = stage.simulated.records();
        let told: Vec<_> = records
            .iter()
            .map(|r| (r.status, r.received, r.sent))
            .collect();
        assert_eq!(
            told,
            [(status, bytes.len() as u64, heard.len() as u64)],
            "{bytes:?}"
        );
    }
}
