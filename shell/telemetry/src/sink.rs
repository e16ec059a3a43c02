//! What lines are written to, and what becomes of those that cannot be.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use model::Counter;

/// Something that takes whole lines, or loses and counts them.
pub(crate) struct Sink<W> {
    pub(crate) to: W,
    /// The last write ended within a line.
    torn: bool,
    failing: bool,
    lost: Arc<Counter>,
}

impl<W: Write> Sink<W> {
    pub(crate) fn new(to: W, lost: Arc<Counter>) -> Self {
        Self {
            to,
            torn: false,
            failing: false,
            lost,
        }
    }

    /// Goes on with another that has nothing in it yet.
    pub(crate) fn begin(&mut self, to: W) {
        self.to = to;
        self.torn = false;
    }

    /// Writes lines, each with its end. What cannot be written now is lost: whoever waited for a full disk would fill the memory.
    pub(crate) fn write(&mut self, lines: &[u8]) {
        match self.try_write(lines) {
            Ok(()) => self.failing = false,
            // Once, not once a batch: a full disk would fill the error log too.
            Err(fault) if !self.failing => {
                self.failing = true;
                eprintln!(
                    "pointsman: the access log cannot be written: {fault}; records are lost until it can"
                );
            }
            Err(_) => {}
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            let (written, ended) = write_some(&mut self.to, b"\n");
            self.torn = written == 0;
            if let Err(fault) = ended {
                self.lost.add(ends(lines));
                return Err(fault);
            }
        }
        let (written, ended) = write_some(&mut self.to, lines);
        let (done, rest) = lines.split_at(written);
        if !rest.is_empty() {
            self.torn = done.last().is_some_and(|last| *last != b'\n');
            // A line of which no more than its end is missing gets that with the next.
            self.lost.add(ends(&rest[1..]));
        }
        ended.and_then(|()| self.to.flush())
    }
}

fn ends(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// As `write_all`, which does not say how far it got.
fn write_some(to: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(fault) => return (written, Err(fault)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        holds: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match bytes.len().min(self.room) {
                0 => Err(ErrorKind::StorageFull.into()),
                n => {
                    self.room -= n;
                    self.holds.extend(&bytes[..n]);
                    Ok(n)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes lines to disks that have so much room when they come; returns what is on the disk, and how many were lost.
    fn written(writes: &[(usize, &str)]) -> (String, u64) {
        let disk = Disk {
            holds: Vec::new(),
            room: 0,
        };
        let lost = Arc::new(Counter::default());
        let mut sink = Sink::new(disk, lost.clone());
        for (room, lines) in writes {
            sink.to.room = *room;
            sink.write(lines.as_bytes());
        }
        (String::from_utf8(sink.to.holds).unwrap(), lost.value())
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let none = (String::new(), 5);
        assert_eq!(
            written(&[(0, "one\ntwo\n"), (0, "three\nfour\nfive\n")]),
            none
        );
        let whole = ("one\nthree\n".into(), 1);
        assert_eq!(written(&[(4, "one\ntwo\n"), (99, "three\n")]), whole);
    }

    #[test]
    fn the_line_after_a_torn_one_is_a_line_of_its_own() {
        let torn = ("one\ntw\nfour\n".into(), 2);
        assert_eq!(written(&[(6, "one\ntwo\nthree\n"), (99, "four\n")]), torn);
        // Nor does the end of it fit at once; or nothing but that.
        let late = ("one\ntw\nfive\n".into(), 3);
        let writes = [
            (6, "one\ntwo\n"),
            (0, "three\n"),
            (1, "four\n"),
            (99, "five\n"),
        ];
        assert_eq!(written(&writes), late);
        // Only its end was missing: it is not lost.
        let ended = ("one\ntwo\n".into(), 0);
        assert_eq!(written(&[(3, "one\n"), (99, "two\n")]), ended);
    }
}
