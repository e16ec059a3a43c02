//! What is simulated: servers, work, load, and what happens to them.

use super::draw::Draw;
use super::server::{Build, State};

/// How long jobs take. All have the mean that the scenario says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Always the same.
    Constant,
    /// Exponential.
    Exponential,
    /// Normal with deviation = mean, cut off at 0, as in Prequal's testbed.
    Normal,
    /// Most are short; the part `long` of them takes `times` as long.
    Bimodal {
        /// The part of long ones.
        long: f64,
        /// How much longer they take.
        times: f64,
    },
    /// Pareto with this exponent, cut off at a thousand times the mean.
    Pareto(f64),
}

/// The mean of a normal distribution with deviation 1 and mean 1 whose negative part counts as 0.
const NORMAL_MEAN: f64 = 1.083_315_470_588_768_3;

impl Work {
    /// One job's, with mean 1.
    pub fn draw(&self, draw: &mut Draw) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Exponential => draw.exponential(),
            Self::Normal => (1.0 + draw.normal()).max(0.0) / NORMAL_MEAN,
            Self::Bimodal { long, times } => {
                let short = 1.0 / (1.0 - long + long * times);
                if draw.uniform() < long {
                    short * times
                } else {
                    short
                }
            }
            Self::Pareto(alpha) => draw.pareto(alpha).min(1_000.0),
        }
    }
}

/// What takes from servers, or gives to them, behind balancers' backs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antagonists {
    /// Mean time between changes at a server, in seconds.
    pub every: f64,
    /// What is left of a server, as multiples of its allocation.
    pub from: f64,
    /// See `from`.
    pub to: f64,
}

/// Stops of the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pauses {
    /// Mean time between two of a server, in seconds.
    pub every: f64,
    /// How long one takes, in seconds.
    pub length: f64,
}

/// What all servers ask before they answer, as a database: how long it takes depends on what they do together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Database {
    /// What it is.
    pub build: Build,
    /// The part of each job's work that is done there.
    pub part: f64,
}

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// Balancers are told that a server is gone. It finishes what it has.
    Leaves(usize),
    /// A server comes (back), cold: it takes so many seconds to its full capacity.
    Comes(usize, f64),
    /// A server begins to behave so.
    Becomes(usize, State),
}

/// A part of a run that is looked at by itself: requests that arrive in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// What to call it.
    pub name: String,
    /// In seconds.
    pub from: f64,
    /// In seconds.
    pub to: f64,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// A short name.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// The servers; those from `present` on come later.
    pub servers: Vec<Build>,
    /// How many of them are there from the beginning.
    pub present: usize,
    /// How long jobs take.
    pub work: Work,
    /// Their mean, in seconds of work.
    pub mean: f64,
    /// From which second on, what load: work arriving in a second, as a part of what servers that are present from the
    /// beginning are allotted.
    pub load: Vec<(f64, f64)>,
    /// What is looked at.
    pub windows: Vec<Window>,
    /// Balancers, each with state of its own; requests come to any of them.
    pub balancers: usize,
    /// If any.
    pub antagonists: Option<Antagonists>,
    /// If any.
    pub pauses: Option<Pauses>,
    /// If any.
    pub database: Option<Database>,
    /// In the order of their times, in seconds.
    pub happenings: Vec<(f64, Happening)>,
    /// After so many seconds a request is given up.
    pub deadline: f64,
    /// From a balancer to a server, in seconds; and back the same.
    pub wire: f64,
    /// Our `slow_start`, in seconds. Others have none, or none that their rule sees.
    pub slow_start: f64,
    /// Whether others have Envoy's outlier detection. Ours is always there.
    pub guarded: bool,
}

impl Scenario {
    /// Equal servers that share their processor, nothing happening, and one window after a warm-up.
    pub fn new(name: &str, about: &str, servers: Vec<Build>, load: f64, seconds: f64) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            present: servers.len(),
            servers,
            work: Work::Exponential,
            mean: 0.01,
            load: vec![(0.0, load)],
            windows: vec![Window {
                name: String::new(),
                from: 5.0,
                to: 5.0 + seconds,
            }],
            balancers: 4,
            antagonists: None,
            pauses: None,
            database: None,
            happenings: Vec::new(),
            deadline: 5.0,
            wire: 0.000_25,
            slow_start: 0.0,
            guarded: false,
        }
    }

    /// When it is over, in seconds.
    pub fn end(&self) -> f64 {
        self.windows.iter().fold(0.0, |end, w| w.to.max(end))
    }

    /// Requests a second at load 1.
    pub fn rate(&self) -> f64 {
        self.servers[..self.present]
            .iter()
            .map(|s| s.speed)
            .sum::<f64>()
            / self.mean
    }
}
