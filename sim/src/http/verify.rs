//! Property: an answer is exactly the right one, or an error that the proxy made, and nothing else.

use anyhow::{Result, bail, ensure};

use super::ask::{Answer, Ask, Body, Delimited, got};
use super::ledger::Outcome;
use super::message::{Framing, Message};
use super::saying::EAGER;

/// What a whole final answer to `ask` is; an error says what is wrong with it.
pub(super) fn verify(ask: &Ask, message: &Message) -> Result<Outcome> {
    let head = &message.head;
    let id = format!("{:016x}", ask.id);
    ensure!(
        head.find("date").is_some() || head.find("x-early").is_some(),
        "no Date"
    );
    if let Some(early) = head.find("x-early") {
        ensure!(early == id, "the early answer to {early}");
        ensure!(head.status()? == 413, "status {}", head.line);
        return Ok(Outcome::TooEarly);
    }
    if let Some(eager) = head.find("x-eager") {
        ensure!(eager == id, "the answer to {eager}");
        let whole = if ask.method == "HEAD" {
            String::new()
        } else {
            EAGER.concat()
        };
        ensure!(message.body == whole.as_bytes(), "body {:?}", message.body);
        return Ok(Outcome::Eager);
    }
    let Some(of) = head.find("x-sim") else {
        return own(ask, message);
    };
    ensure!(of == id, "the answer to {of}");
    let trailer = matches!(ask.body, Body::Chunks(_, true));
    let right = Answer::to(ask.id, got(&ask.payload(), trailer));
    ensure!(
        head.status()? == right.status,
        "status {} for {}",
        head.line,
        right.status
    );
    ensure!(
        head.find("x-got") == Some(&right.got),
        "the instance got something else than {}",
        right.got
    );
    ensure!(
        head.find("x-hop").is_none(),
        "a hop-by-hop field came through"
    );
    let empty = ask.method == "HEAD" || right.is_bodiless();
    let body: &[u8] = if empty { &[] } else { &right.body };
    ensure!(
        message.body == body,
        "{} bytes of body for {}",
        message.body.len(),
        body.len()
    );
    let declared = head.declared()?;
    match right.delimited {
        Delimited::Length if right.status != 204 => {
            ensure!(
                declared == Some(Framing::Length(right.body.len())),
                "framing {declared:?}"
            );
        }
        _ if empty || ask.old => ensure!(declared.is_none(), "framing {declared:?}"),
        _ if right.status == 204 => ensure!(declared.is_none(), "framing {declared:?}"),
        _ => ensure!(declared == Some(Framing::Chunked), "framing {declared:?}"),
    }
    let ended = message
        .trailers
        .iter()
        .any(|(n, v)| n == "x-end" && v == "1");
    let trailer = right.trailer && !empty && !ask.old;
    ensure!(
        ended == trailer && message.trailers.len() == usize::from(trailer),
        "trailers {:?}",
        message.trailers
    );
    Ok(Outcome::Right)
}

/// An answer that the proxy made.
fn own(ask: &Ask, message: &Message) -> Result<Outcome> {
    let status = message.head.status()?;
    ensure!(matches!(status, 400..=599), "an answer of nobody");
    ensure!(
        message.head.find("content-type") == Some("text/plain; charset=utf-8"),
        "an answer of nobody"
    );
    let text = String::from_utf8_lossy(&message.body);
    if ask.method != "HEAD" {
        ensure!(text.starts_with(&format!("{status}: ")), "text {text:?}");
    } else if !text.is_empty() {
        bail!("a body in an answer to HEAD");
    }
    Ok(Outcome::Refused(status))
}

/// An informational answer is the instance's own, and goes only to those who know such answers.
pub(super) fn verify_interim(ask: &Ask, message: &Message) -> Result<()> {
    ensure!(!ask.old, "an HTTP/1.0 client got {}", message.head.line);
    if message.head.status()? != 100 {
        let of = message
            .head
            .find("x-sim")
            .unwrap_or("nobody's flood")
            .to_owned();
        ensure!(message.head.find("link").is_some(), "{}", message.head.line);
        ensure!(
            of == format!("{:016x}", ask.id) || of == "nobody's flood",
            "the hint of {of}"
        );
    }
    Ok(())
}
