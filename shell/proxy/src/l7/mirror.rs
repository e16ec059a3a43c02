//! Copies of requests for a service that nobody waits for.

use http::h1;
use model::{Mirror, MirrorStats, ServiceTable};

use balance::{Context, Outcome};

use super::begin::{Begun, Forward, write_chunk};
use super::errand::{Errand, Sent};
use super::exchange::told;
use super::respond::LIMITS;
use super::session::Session;
use crate::buffers::{FRONT, READ};
use crate::rt::{Sock, TimedOut, yield_now};

/// What Envoy appends to the host of a copy.
const SHADOW: &[u8] = b"-shadow";

/// A copy of a request whose body is still coming.
pub(super) struct Copying {
    errand: Errand,
    mirror: Mirror,
    /// Bytes of the body that it may still have.
    room: usize,
}

impl Session {
    /// Copies a request, if its route wants that, and the draw does. Nothing here waits, or fails.
    pub(super) fn mirror(&self, begun: &Begun, forward: &mut Forward) {
        let aside = begun.aside.as_ref();
        let Some(mirror) = aside.and_then(|aside| aside.mirror.as_ref()) else {
            return;
        };
        if ((self.worker.draw() >> 32) * 100) >> 32 >= u64::from(mirror.share) {
            return;
        }
        let stats = mirror.stats.of(self.worker.index);
        let service = begun.snapshot.service(mirror.service);
        let head = memchr::memmem::find(&forward.message, b"\r\n\r\n").map_or(0, |end| end + 4);
        let body = forward.message.len() - head;
        let translated = begun.call.as_ref().is_some_and(|call| call.web().is_some());
        let may = !forward.upgrade
            && !translated
            // It would have to begin with a client's address.
            && service.send_proxy.is_none()
            && under_way(stats) < u64::from(mirror.most)
            && body <= mirror.max_body;
        if !may {
            stats.skipped.bump(1);
            return;
        }
        self.tell_time(forward);
        let mut message = forward.message.clone();
        if mirror.mark_host {
            mark(&mut message);
        }
        stats.begun.bump(1);
        let copying = Copying {
            errand: Errand {
                worker: self.worker.clone(),
                snapshot: begun.snapshot.clone(),
                // Which endpoint it is, is chosen when it is sent.
                to: (mirror.service, 0),
                method: begun.method,
                message,
                chunked: forward.chunked,
                phases: Default::default(),
            },
            mirror: mirror.clone(),
            room: mirror.max_body - body,
        };
        match begun.body.is_done() {
            true => copying.send(),
            false => self.copying.set(Some(Box::new(copying))),
        }
    }

    /// More of the body of the request that is being copied.
    pub(super) fn copy(&self, data: &[u8], done: bool) {
        let Some(mut copying) = self.copying.take() else {
            return;
        };
        let Some(room) = copying.room.checked_sub(data.len()) else {
            copying.skip();
            return;
        };
        copying.room = room;
        let Errand {
            message, chunked, ..
        } = &mut copying.errand;
        match chunked {
            true => write_chunk(data, message),
            false => message.extend_from_slice(data),
        }
        if !done {
            self.copying.set(Some(copying));
            return;
        }
        if *chunked {
            message.extend_from_slice(h1::LAST_CHUNK);
        }
        copying.send();
    }

    /// The request is over: a copy of which not all is here is none.
    pub(super) fn end_copy(&self) {
        if let Some(copying) = self.copying.take() {
            copying.skip();
        }
    }
}

/// Copies that are under way on a worker.
fn under_way(stats: &MirrorStats) -> u64 {
    let over = stats.answered.value() + stats.failed.value() + stats.dropped.value();
    stats.begun.value().saturating_sub(over)
}

/// Puts the mark behind the host's name, in front of its port. An address in brackets takes none.
fn mark(message: &mut Vec<u8>) {
    let Some(start) = memchr::memmem::find(message, b"\r\nHost: ").map(|at| at + 8) else {
        return;
    };
    let line = &message[start..];
    let end = memchr::memchr(b'\r', line).unwrap_or(line.len());
    let host = &line[..end];
    if host.contains(&b']') {
        return;
    }
    let at = start + memchr::memchr(b':', host).unwrap_or(end);
    message.splice(at..at, SHADOW.iter().copied());
}

impl Copying {
    fn skip(self) {
        let stats = self.mirror.stats.of(self.errand.worker.index);
        stats.dropped.bump(1);
        stats.skipped.bump(1);
    }

    /// Sends it on a task of its own.
    fn send(self) {
        let worker = self.errand.worker.clone();
        worker.handle.spawn(async move { self.carry_out().await });
    }

    async fn carry_out(mut self) {
        let (worker, snapshot) = (self.errand.worker.clone(), self.errand.snapshot.clone());
        let stats = self.mirror.stats.of(worker.index);
        let number = self.mirror.service;
        let context = Context {
            key: worker.draw(),
            ..Context::default()
        };
        let Ok(in_flight) = worker.pick(&snapshot, number, &context) else {
            stats.failed.bump(1);
            return;
        };
        let service = snapshot.service(number);
        service.stats.of(worker.index).requests.bump(1);
        self.errand.to.1 = in_flight.endpoint();
        let sent = self.errand.run().await;
        let heard = worker.now();
        let outcome = match sent {
            Ok(sent) => self.errand.drain(service, sent).await,
            Err(failed) => Err(told(&Err(failed))),
        };
        match outcome {
            Ok(_) => stats.answered.bump(1),
            Err(_) => stats.failed.bump(1),
        }
        in_flight.done(outcome.unwrap_or_else(|failure| failure), heard);
    }
}

impl Errand {
    /// Reads the answer to its end and throws it away. An error is an answer that was not whole.
    async fn drain(&self, service: &ServiceTable, sent: Sent) -> Result<Outcome, Outcome> {
        let Sent { sock, came, shared } = sent;
        let worker = &self.worker;
        // All of it has the time that its head may take: nobody knows what it would be good for.
        worker.reactor().set_timeout(service.response_timeout);
        let mut head = came;
        let (status, framing, keep_alive, len) = loop {
            let parsed = h1::parse_response(&head, &mut 0, &LIMITS, self.method);
            match parsed.map_err(|_| Outcome::Broken)? {
                Some(response) if response.is_interim() => {
                    let len = response.head_len;
                    head.drain(..len);
                }
                Some(response) => {
                    let (framing, len) = (response.framing, response.head_len);
                    break (response.status, framing, response.keep_alive, len);
                }
                None => {
                    let more = self
                        .more(&sock, |bytes| head.extend_from_slice(bytes))
                        .await?;
                    if !more {
                        return Err(Outcome::Broken);
                    }
                }
            }
        };
        let mut body = h1::BodyDecoder::new(framing);
        let mut surplus = false;
        let mut decode = |body: &mut h1::BodyDecoder, bytes: &mut [u8]| {
            let decoded = body.decode(bytes).map_err(|_| Outcome::Broken)?;
            surplus |= decoded.consumed < bytes.len();
            Ok::<_, Outcome>(())
        };
        decode(&mut body, &mut head[len..])?;
        while !body.is_done() {
            let mut outcome = Ok(());
            let more = self
                .more(&sock, |bytes| outcome = decode(&mut body, bytes))
                .await?;
            outcome?;
            if !more {
                body.end(sock.take_trailers())
                    .map_err(|_| Outcome::Broken)?;
                break;
            }
            yield_now(worker.reactor()).await;
        }
        if keep_alive && !shared && !surplus && framing != h1::Framing::UntilClose {
            let (endpoint, now) = (&service.endpoints[self.to.1], worker.now());
            worker.pool.put(endpoint, sock, now, service.keep_alive);
        }
        Ok(match status {
            500 | 502..=504 => Outcome::Error,
            _ => Outcome::Answered,
        })
    }

    /// Waits for more of an answer; false at its end.
    async fn more(&self, sock: &Sock, take: impl FnOnce(&mut [u8])) -> Result<bool, Outcome> {
        loop {
            if let Some(n) = self.try_more(sock)? {
                let mut scratch = self.worker.buffers.scratch();
                take(&mut scratch[FRONT..FRONT + n]);
                return Ok(n > 0);
            }
            let readable = sock.readable().await;
            readable.map_err(|TimedOut| Outcome::TimedOut)?;
        }
    }

    fn try_more(&self, sock: &Sock) -> Result<Option<usize>, Outcome> {
        let mut scratch = self.worker.buffers.scratch();
        let read = sock.try_recv(&mut scratch[FRONT..FRONT + READ]);
        read.map_err(|_| Outcome::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_behind_the_hosts_name() {
        for (host, marked) in [
            ("shop.example", "shop.example-shadow"),
            ("shop.example:8080", "shop.example-shadow:8080"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let text = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nA: b\r\n\r\nbody");
            let mut message = text(host).into_bytes();
            mark(&mut message);
            assert_eq!(message, text(marked).as_bytes());
        }
    }
}
