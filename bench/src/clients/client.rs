//! One client: its connection, and what it waits for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::{Ask, Heard, Outcome, Wire};

/// How many connections come from one address: of some 28,000 ports that it has towards one server, most.
const OF_AN_ADDRESS: usize = 20_000;

pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// Changes heard of so far.
    pub(super) events: u64,
    wire: Box<dyn Wire>,
    input: Vec<u8>,
    out: Vec<u8>,
    /// When the requests were sent that are not answered yet.
    sent: VecDeque<Instant>,
}

impl Client {
    /// Connects and says what is said first, without waiting for an answer.
    pub(super) fn open(
        target: SocketAddr,
        number: usize,
        wire: Box<dyn Wire>,
    ) -> anyhow::Result<Self> {
        let stream = dial(target, number)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut client = Self {
            stream,
            events: 0,
            wire,
            input: Vec::new(),
            out: Vec::new(),
            sent: VecDeque::new(),
        };
        let answers = client.wire.greet(&mut client.out);
        client.sent.extend((0..answers).map(|_| Instant::now()));
        client.send()?;
        Ok(client)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether the server has not closed the connection.
    pub(super) fn is_open(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(read) => read > 0,
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Waits for nothing any more.
    pub(super) fn forget(&mut self) {
        self.sent.clear();
    }

    pub(super) fn ask(&mut self, asks: &[Ask]) -> anyhow::Result<()> {
        for ask in asks {
            self.wire.ask(*ask, &mut self.out);
            self.sent.push_back(Instant::now());
        }
        self.send()
    }

    pub(super) fn ping(&mut self) -> anyhow::Result<()> {
        self.wire.ping(&mut self.out);
        self.send()
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let mut out = &self.out[..];
        while !out.is_empty() {
            match (&self.stream).write(out) {
                Ok(n) => out = &out[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(e) => return Err(e.into()),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Takes what has come.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        outcome: &mut Outcome,
    ) -> anyhow::Result<Heard> {
        let read = match (&self.stream).read(scratch) {
            Ok(0) => anyhow::bail!("the server has closed a connection"),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Heard::default()),
            Err(e) => return Err(e.into()),
        };
        self.input.extend_from_slice(&scratch[..read]);
        let heard = self.wire.take(&mut self.input, &mut self.out)?;
        let now = Instant::now();
        for sent in self.sent.drain(..heard.answers.min(self.sent.len())) {
            let waited = now.duration_since(sent).as_nanos() as u64;
            outcome.latency.saturating_record(waited);
        }
        outcome.answered += heard.answers as u64;
        outcome.failed += heard.failed as u64;
        self.events += heard.events as u64;
        self.send()?;
        Ok(heard)
    }
}

/// Connects from the address on loopback that the client of this number has.
fn dial(target: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let place = number / OF_AN_ADDRESS;
    if place == 0 {
        return Ok(TcpStream::connect(target)?);
    }
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + place as u32);
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    connect(&socket, &target)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_from_another_address_before_ports_of_one_are_used_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let numbers = [0, OF_AN_ADDRESS - 1, OF_AN_ADDRESS, 3 * OF_AN_ADDRESS];
        let sources = numbers.map(|number| {
            let stream = dial(target, number).unwrap();
            stream.local_addr().unwrap().ip().to_string()
        });
        assert_eq!(
            sources,
            ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.4"]
        );
    }
}
