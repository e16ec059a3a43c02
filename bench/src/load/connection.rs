//! One connection of the load generator.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::answers::Answers;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Not sent yet.
    pub(super) out: Vec<u8>,
    /// When the requests were due that are not answered yet.
    pub(super) under_way: VecDeque<Instant>,
    /// Of answers just read.
    pub(super) statuses: Vec<u16>,
    /// The server has said that it closes the connection; that is then waited for, so that the port in TIME_WAIT is the server's
    /// and not one of ours, of which there are only some 28,000.
    pub(super) closing: bool,
    answers: Answers,
}

impl Connection {
    pub(super) fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: Vec::new(),
            under_way: VecDeque::new(),
            statuses: Vec::new(),
            closing: false,
            answers: Answers::default(),
        })
    }

    /// Sends what there is; `false` if some of it has to wait.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        while !self.out.is_empty() {
            match (&self.stream).write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Reads once; `false` at the end of the connection.
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        match (&self.stream).read(scratch) {
            Ok(0) => Ok(false),
            Ok(n) => {
                let closing = self.answers.take(&mut scratch[..n], &mut self.statuses)?;
                self.closing |= closing;
                Ok(true)
            }
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => {
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }
}
