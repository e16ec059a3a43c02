use std::collections::VecDeque;

use slab::Slab;

use super::frame::MAX_PAYLOAD;

/// A stream, as whoever serves it knows it; good until it is given back with
/// [`Connection::release`](super::Connection::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub(super) u32);

impl Key {
    /// A small number that no other stream of its connection has at the same time.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What there was to be read of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing for now.
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// Nothing more comes: the message is whole.
    End,
    /// Nothing more comes, and what came may not be all.
    Reset,
}

/// Why there is no whole answer on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server has not looked at the request (RFC 9113 §8.7): it may be sent again, whatever it is.
    Refused,
    /// What the server sent is no answer.
    Malformed,
    /// It was broken off, or the connection was.
    Reset,
}

/// One request and its answer.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What has arrived and was not taken, from `at` on.
    pub(super) received: Vec<u8>,
    pub(super) at: usize,
    /// How many bytes of that are heads of answers, which no window counts. They come before all others.
    pub(super) heads: usize,
    /// Whether the head of what is received is here: of a request always, of an answer when it is the final one.
    pub(super) headed: bool,
    /// An answer to it has no body, whatever its fields say of one.
    pub(super) bodiless: bool,
    /// What the peer may still send.
    pub(super) window: i64,
    /// What was taken, and not given back to the window.
    pub(super) taken: u32,
    /// The payloads of its header blocks' frames: its head's, and its trailers'.
    pub(super) head_bytes: u32,
    /// What is left of the announced length.
    pub(super) length: Option<u64>,
    /// The peer has sent everything.
    pub(super) ended: bool,
    pub(super) trailers: Option<Vec<u8>>,
    /// What we may still send.
    pub(super) room: i64,
    /// We have sent everything.
    pub(super) finished: bool,
    /// How many bytes somebody waits to send; 0 if nobody waits.
    pub(super) wanted: usize,
    /// It was broken off, by whomever.
    pub(super) reset: bool,
    /// Why, where it matters.
    pub(super) lost: Lost,
}

impl Stream {
    /// One that has just begun.
    pub(super) fn new(id: u32, window: i64, room: i64) -> Self {
        Self {
            id,
            received: Vec::new(),
            at: 0,
            heads: 0,
            headed: true,
            bodiless: false,
            window,
            taken: 0,
            head_bytes: 0,
            length: None,
            ended: false,
            trailers: None,
            room,
            finished: false,
            wanted: 0,
            reset: false,
            lost: Lost::Reset,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.ended && self.finished
    }

    /// Bytes that have arrived and were not taken.
    pub(super) fn unread(&self) -> usize {
        self.received.len() - self.at
    }

    /// Those of them that windows count.
    pub(super) fn unread_data(&self) -> usize {
        self.unread() - self.heads
    }
}

/// Buffers that bodies were received in, for others of the same connection: those of large answers come and go by the
/// thousand a second, and each grows in steps.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    /// Kept of each connection that has streams: as many as are emptied in one turn of its task or two.
    const MOST: usize = 4;
    /// Smaller ones are not worth keeping, and larger ones are too much to keep.
    const SIZES: std::ops::RangeInclusive<usize> = MAX_PAYLOAD..=8 * MAX_PAYLOAD;

    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < Self::MOST && Self::SIZES.contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    /// Puts `data` behind what a stream has received, in a larger buffer if that has no room for it and there is one.
    pub(super) fn add(&mut self, stream: &mut Stream, data: &[u8]) {
        let room = stream.received.capacity() - stream.received.len();
        if room < data.len()
            && let Some(mut larger) = self.0.pop()
        {
            larger.extend_from_slice(&stream.received[stream.at..]);
            stream.at = 0;
            self.put(std::mem::replace(&mut stream.received, larger));
        }
        stream.received.extend_from_slice(data);
    }
}

/// How a stream ended that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides had said everything, or the peer broke it off.
    Known,
    /// We broke it off, and what the peer sent before it heard of that may still come.
    Ours,
}

/// All streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Whatever somebody serves.
    served: Slab<Stream>,
    /// Those of them that frames may be for, by their numbers, which only grow.
    open: Vec<(u32, Key)>,
    /// Those that ended lately, the last one at the end.
    closed: VecDeque<(u32, Ending)>,
}

/// Ended streams that are remembered: as many as a client may have believed open when it sent what arrives now.
const REMEMBERED: usize = 64;

impl Streams {
    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let key = Key(self.served.insert(stream) as u32);
        self.open.push((id, key));
        key
    }

    /// The open stream of that number.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        let at = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.open[at].1)
    }

    #[inline]
    pub(super) fn get(&mut self, key: Key) -> &mut Stream {
        &mut self.served[key.index()]
    }

    #[inline]
    pub(super) fn look(&self, key: Key) -> &Stream {
        &self.served[key.index()]
    }

    /// No more frames are for that stream.
    pub(super) fn close(&mut self, id: u32, ending: Ending) {
        if let Ok(at) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(at);
        }
        self.remember(id, ending);
    }

    pub(super) fn remember(&mut self, id: u32, ending: Ending) {
        if self.closed.len() == REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back((id, ending));
    }

    /// How a stream ended, if that is not long ago.
    pub(super) fn ending(&self, id: u32) -> Option<Ending> {
        let known = self.closed.iter().rev().find(|(closed, _)| *closed == id);
        known.map(|(_, ending)| *ending)
    }

    pub(super) fn remove(&mut self, key: Key) -> Stream {
        self.served.remove(key.index())
    }

    /// Those that frames may be for.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// How many are served.
    pub(super) fn len(&self) -> usize {
        self.served.len()
    }

    /// The keys of those that frames may be for.
    pub(super) fn open(&self) -> impl Iterator<Item = Key> {
        self.open.iter().map(|(_, key)| *key)
    }

    /// Everything ends; `malformed` if what the peer sent is to blame.
    pub(super) fn reset_all(&mut self, client: bool, malformed: bool) {
        self.open.clear();
        for (_, stream) in &mut self.served {
            if client && stream.ended {
                // The answer is here, and nothing else counts.
                (stream.finished, stream.wanted) = (true, 0);
            } else if !stream.is_whole() && !stream.reset {
                stream.reset = true;
                if malformed {
                    stream.lost = Lost::Malformed;
                }
            }
        }
    }

    /// Nothing is served: nothing is kept but what a client may still refer to.
    pub(super) fn rest(&mut self) {
        self.served = Slab::new();
        self.open = Vec::new();
        self.closed.shrink_to_fit();
    }
}
