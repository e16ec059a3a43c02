//! One server: jobs share its capacity, up to limits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Build {
    /// Its allocation: seconds of work that it does in a second when nobody disturbs it.
    pub speed: f64,
    /// The weight that balancers are told.
    pub weight: u16,
    /// The part of the capacity that one job can use: 1/c for c cores.
    pub stride: f64,
    /// Jobs served at a time; the others wait in line.
    pub concurrency: usize,
    /// Jobs that may wait. More are refused.
    pub queue: usize,
}

impl Build {
    /// Pure processor sharing.
    pub const fn sharing(speed: f64, weight: u16) -> Self {
        Self {
            speed,
            weight,
            stride: 1.0,
            concurrency: usize::MAX,
            queue: usize::MAX,
        }
    }
}

/// What a server does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Serving,
    /// The world is stopped.
    Paused,
    /// It answers everything with an error, at once.
    Failing,
    /// It takes everything and answers nothing.
    Silent,
}

/// What came of a job's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is served, or waits.
    Taken,
    /// There is no room for it.
    Refused,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it is.
    pub build: Build,
    /// What it does now.
    pub state: State,
    /// What antagonists leave of it, as a multiple of its allocation.
    pub factor: f64,
    /// What a cold start leaves of it.
    pub warmth: f64,
    /// Work that it has done, in seconds.
    pub work: f64,
    /// Jobs that it has finished.
    pub finished: u64,
    /// Work that each job present since the beginning would have had.
    attained: f64,
    at: u64,
    /// Jobs by what `attained` will be when they are through. Bits of positive numbers are ordered as they are.
    running: BinaryHeap<Reverse<(u64, u32)>>,
    waiting: VecDeque<(u32, f64)>,
    /// Jobs of it that are at the database.
    pub asking: usize,
}

impl Server {
    /// A server without anything to do.
    pub const fn new(build: Build) -> Self {
        Self {
            build,
            state: State::Serving,
            factor: 1.0,
            warmth: 1.0,
            work: 0.0,
            finished: 0,
            attained: 0.0,
            at: 0,
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            asking: 0,
        }
    }

    /// Seconds of work that it can do in a second now.
    pub fn capacity(&self) -> f64 {
        match self.state {
            State::Serving => self.build.speed * self.factor * self.warmth,
            _ => 0.0,
        }
    }

    /// Jobs that it has: served, waiting, or with the database.
    pub fn in_flight(&self) -> usize {
        self.running.len() + self.waiting.len() + self.asking
    }

    fn rate(&self) -> f64 {
        let share = 1.0 / self.running.len().max(1) as f64;
        self.capacity() * share.min(self.build.stride)
    }

    fn advance(&mut self, now: u64) {
        let seconds = (now - self.at) as f64 * 1e-9;
        let done = self.rate() * seconds;
        self.attained += done;
        self.work += done * self.running.len() as f64;
        self.at = now;
    }

    /// Changes something about it, from `now` on.
    pub fn change(&mut self, now: u64, change: impl FnOnce(&mut Self)) {
        self.advance(now);
        change(self);
    }

    /// A job comes that needs so many seconds of work.
    pub fn arrive(&mut self, job: u32, demand: f64, now: u64) -> Admission {
        self.advance(now);
        if self.running.len() < self.build.concurrency {
            self.start(job, demand);
        } else if self.waiting.len() < self.build.queue {
            self.waiting.push_back((job, demand));
        } else {
            return Admission::Refused;
        }
        Admission::Taken
    }

    fn start(&mut self, job: u32, demand: f64) {
        if self.running.is_empty() {
            // Numbers that grow without end lose digits.
            self.attained = 0.0;
        }
        self.running
            .push(Reverse(((self.attained + demand).to_bits(), job)));
    }

    /// When the next job will be through, in nanoseconds, if nothing changes until then.
    pub fn next(&self) -> u64 {
        let Some(Reverse((end, _))) = self.running.peek() else {
            return u64::MAX;
        };
        let (left, rate) = (f64::from_bits(*end) - self.attained, self.rate());
        match rate > 0.0 {
            true => self.at + (left.max(0.0) / rate * 1e9).ceil() as u64,
            false => u64::MAX,
        }
    }

    /// The job that is through at `now`.
    pub fn complete(&mut self, now: u64) -> Option<u32> {
        self.advance(now);
        let Reverse((_, job)) = self.running.pop()?;
        self.finished += 1;
        if let Some((next, demand)) = self.waiting.pop_front() {
            self.start(next, demand);
        }
        Some(job)
    }
}
