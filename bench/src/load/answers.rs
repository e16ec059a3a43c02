//! Tells the answers on a connection from one another.

use std::io;

use http::h1::{BodyDecoder, Limits, MethodKind, parse_response};

/// The answers on one connection, as far as they have been read.
#[derive(Default)]
pub(crate) struct Answers {
    /// The beginning of a head.
    held: Vec<u8>,
    /// The body that is being read, its status, and whether the connection ends with it.
    body: Option<(BodyDecoder, u16, bool)>,
}

impl Answers {
    /// Takes in what was read; appends the status of each answer that is now complete. Returns whether the server says that it
    /// will close the connection.
    pub(crate) fn take(&mut self, read: &mut [u8], statuses: &mut Vec<u16>) -> io::Result<bool> {
        if self.held.is_empty() {
            return self.read(read, statuses);
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(read);
        self.read(&mut joined, statuses)
    }

    fn read(&mut self, mut input: &mut [u8], statuses: &mut Vec<u16>) -> io::Result<bool> {
        let mut closing = false;
        loop {
            if self.body.is_none() {
                let Some(head_len) = self.head(input)? else {
                    self.held.extend_from_slice(input);
                    return Ok(closing);
                };
                input = &mut input[head_len..];
            }
            let Some((decoder, status, closes)) = &mut self.body else {
                return Ok(closing);
            };
            let decoded = decoder.decode(input).map_err(io::Error::other)?;
            input = &mut input[decoded.consumed..];
            if !decoded.done {
                return Ok(closing);
            }
            statuses.push(*status);
            closing |= *closes;
            self.body = None;
        }
    }

    /// Reads a head; `None` if it is not complete.
    fn head(&mut self, input: &[u8]) -> io::Result<Option<usize>> {
        if input.is_empty() {
            return Ok(None);
        }
        // Nobody answers HEAD or CONNECT here.
        let to = MethodKind::Get;
        let head =
            parse_response(input, &mut 0, &Limits::default(), to).map_err(io::Error::other)?;
        Ok(head.map(|head| {
            let decoder = BodyDecoder::new(head.framing);
            self.body = Some((decoder, head.status, !head.keep_alive));
            head.head_len
        }))
    }
}
