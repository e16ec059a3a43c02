//! What bad instances do instead of answering.

use std::time::Duration;

use super::ask::{Answer, Delimited, got_of};
use super::instance::{After, Visit};
use super::ledger::Deed;
use super::message::Message;

/// How long an instance that will not move stays.
const FOR_LONG: Duration = Duration::from_secs(30);

/// Does `misdeed` to the request `id`.
pub(super) async fn commit(
    visit: &mut Visit,
    id: u64,
    request: &Message,
    misdeed: Deed,
) -> Option<After> {
    visit.deed(id, misdeed);
    let to_head = request.head.line.starts_with("HEAD ");
    let right = || Answer::to(id, got_of(request)).write(to_head, false);
    match misdeed {
        Deed::Garbage => {
            let garbage: Vec<u8> = match visit.rng.u8(..3) {
                0 => (0..visit.rng.usize(1..600))
                    .map(|_| visit.rng.u8(..))
                    .collect(),
                1 => b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc".to_vec(),
                _ => {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc".to_vec()
                }
            };
            visit.say_all(id, garbage).await?;
            stay(visit).await
        }
        Deed::HugeHead => {
            let filler = "x".repeat(60);
            let fields: String = (0..1_000).map(|n| format!("X-{n}: {filler}\r\n")).collect();
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
            visit.say_all(id, head.into_bytes()).await?;
            stay(visit).await
        }
        Deed::Flood => loop {
            visit
                .say_all(
                    id,
                    b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n".repeat(20),
                )
                .await?;
        },
        Deed::Unasked if request.head.find("upgrade").is_none() => {
            let head = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\nhello";
            visit.say_all(id, head.into()).await?;
            stay(visit).await
        }
        Deed::Silent => stay(visit).await,
        Deed::Stalled => {
            visit.say_all(id, cut(visit, right())).await?;
            stay(visit).await
        }
        Deed::DiedWithin => {
            visit.say_all(id, cut(visit, right())).await?;
            // An answer that ends with the connection is whole when the connection ends in order.
            let by_closing = Answer::to(id, String::new()).delimited == Delimited::Close;
            Some(if by_closing {
                After::Abort
            } else {
                visit.leave()
            })
        }
        // Not HTTP: an answer to a request that was never asked cannot be told from one that was.
        Deed::Extra => visit.right_answer(id, request, b"\0\0\0\0").await,
        _ => {
            visit.deed(id, Deed::DiedBefore);
            Some(visit.leave())
        }
    }
}

async fn stay(visit: &mut Visit) -> Option<After> {
    visit.peer.linger(FOR_LONG).await;
    None
}

/// The answer without its end; at least its last byte is missing, or an end that only closing would mark.
fn cut(visit: &Visit, mut answer: Vec<u8>) -> Vec<u8> {
    let at = visit.rng.clone().usize(..answer.len());
    answer.truncate(at);
    answer
}
