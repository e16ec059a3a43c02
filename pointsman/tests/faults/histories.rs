//! What clients have asked, and what they were told.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use linear::{History, Model, Recorded, explain};

use crate::cells::{self, Cell};
use crate::registers::{self, Register};

/// Of each kind of object, so many are new in each round: a history is searched in no time as long as few calls are open.
pub(crate) const KEYS: usize = 3;

/// Longer than any client waits for an answer.
const ANSWERED: Duration = Duration::from_secs(30);

/// Objects of their own, and what was done with them.
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) registers: Vec<History<registers::Call>>,
    pub(crate) cells: Vec<History<cells::Call>>,
}

/// A round that is over.
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) registers: Vec<Vec<Recorded<registers::Call>>>,
    pub(crate) cells: Vec<Vec<Recorded<cells::Call>>>,
}

/// What all clients share.
pub(crate) struct Books {
    current: RwLock<Arc<Round>>,
    /// Numbers that are written, each once.
    value: AtomicU64,
    over: AtomicBool,
    violations: Mutex<Vec<String>>,
}

impl Round {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self {
            number,
            registers: (0..KEYS).map(|_| History::new()).collect(),
            cells: (0..KEYS).map(|_| History::new()).collect(),
        })
    }
}

impl Books {
    pub(crate) fn new() -> Self {
        Self {
            current: RwLock::new(Round::new(0)),
            value: AtomicU64::new(1),
            over: AtomicBool::new(false),
            violations: Mutex::default(),
        }
    }

    /// The round that a call belongs to; to be held until its answer is there.
    pub(crate) fn current(&self) -> Arc<Round> {
        self.current.read().expect("a round").clone()
    }

    pub(crate) fn value(&self) -> u64 {
        self.value.fetch_add(1, Relaxed)
    }

    /// Begins another round; returns the one before, once all of its calls have been answered or given up.
    pub(crate) fn turn(&self) -> Ended {
        let mut before = {
            let mut current = self.current.write().expect("a round");
            let next = Round::new(current.number + 1);
            std::mem::replace(&mut *current, next)
        };
        let began = Instant::now();
        let round = loop {
            match Arc::try_unwrap(before) {
                Ok(round) => break round,
                Err(held) => before = held,
            }
            assert!(began.elapsed() < ANSWERED, "a client waits for ever");
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended {
            number: round.number,
            registers: round.registers.into_iter().map(History::finish).collect(),
            cells: round.cells.into_iter().map(History::finish).collect(),
        }
    }

    pub(crate) fn finish(&self) {
        self.over.store(true, Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Something was seen that must not be.
    pub(crate) fn violated(&self, what: String) {
        eprintln!("  VIOLATION: {what}");
        self.violations.lock().expect("violations").push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("violations").clone()
    }
}

impl Ended {
    /// How many calls there were, and of how many nobody knows what came.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let open = |calls: &[Option<u64>]| calls.iter().filter(|ended| ended.is_none()).count();
        let registers = self
            .registers
            .iter()
            .map(|c| c.iter().map(|c| c.ended).collect());
        let cells = self
            .cells
            .iter()
            .map(|c| c.iter().map(|c| c.ended).collect());
        let all: Vec<Vec<Option<u64>>> = registers.chain(cells).collect();
        (
            all.iter().map(Vec::len).sum(),
            all.iter().map(|calls| open(calls)).sum(),
        )
    }

    /// Looks for an order that explains each object's calls.
    ///
    /// # Errors
    ///
    /// The calls that nothing explains, and those around them.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, calls) in self.registers.iter().enumerate() {
            let name = format!("register {}", registers::id(self.number, key));
            explained(&name, Register::default(), calls)?;
        }
        for (key, calls) in self.cells.iter().enumerate() {
            let name = format!("node of the tree {}", cells::path(self.number, key));
            explained(&name, Cell::default(), calls)?;
        }
        Ok(())
    }
}

fn explained<M: Model>(name: &str, start: M, calls: &[Recorded<M::Call>]) -> Result<(), String>
where
    M::Call: Debug,
{
    let Err(stuck) = explain(start, calls) else {
        return Ok(());
    };
    let first = stuck.iter().map(|call| call.begun).min().unwrap_or(0);
    let last = stuck
        .iter()
        .filter_map(|call| call.ended)
        .max()
        .unwrap_or(u64::MAX);
    // Calls before it say what was there; those with an open end may be what is missing.
    let mut around: Vec<_> = calls
        .iter()
        .filter(|call| call.ended.is_none_or(|ended| ended + 400 > first) && call.begun <= last)
        .collect();
    around.sort_by_key(|call| call.begun);
    let mut text = format!(
        "{name}: nothing explains what came of one of {stuck:#?}\nthe calls around them:\n"
    );
    for call in around {
        let ended = call.ended.map_or("?".into(), |ended| ended.to_string());
        text += &format!("  {:>8} .. {ended:>8}  {:?}\n", call.begun, call.call);
    }
    Err(text)
}
