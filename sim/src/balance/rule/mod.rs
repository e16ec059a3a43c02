//! The rules by which a balancer chooses: ours, as it runs in production, and those of others, written anew from
//! their descriptions.

mod adaptive;
mod c3;
mod counting;
mod estimate;
mod guarded;
mod kind;
mod least;
mod oracle;
mod ours;
mod peak;
mod prequal;
mod turns;

pub use balance::Outcome;
pub use estimate::Estimator;
pub use guarded::Guarded;
pub use kind::{C3, Kind, Prequal};
pub use oracle::Sees;
pub use ours::Ours;
pub(crate) use ours::{endpoint, table};
pub use peak::Whose;

use super::server::Server;

/// One who may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number among the servers.
    pub server: usize,
    /// The weight that balancers are told.
    pub weight: u16,
    /// When it came, in nanoseconds.
    pub since: u64,
}

/// What an answer says of the server, for rules that have servers report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Requests that it has, from everybody.
    pub in_flight: u32,
    /// What it expects a request to take now, in nanoseconds, by Prequal's estimate.
    pub estimate: f32,
    /// What this request took it, in nanoseconds.
    pub served_in: f32,
    /// The processor time that this request needed, in nanoseconds.
    pub worked: f32,
    /// The part of its allocation that it used in the last second.
    pub utilisation: f32,
    /// Requests that it finished in the last second.
    pub rate: f32,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// What came of it.
    pub outcome: Outcome,
    /// From the pick to the answer, in nanoseconds.
    pub latency: u64,
    /// What the server said of itself; nothing if it did not answer.
    pub report: Option<Report>,
}

/// The truth, which only oracles look at, and pollers from time to time.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The servers.
    pub servers: &'a [Server],
    /// What each has in flight, what is on its way included.
    pub sent: &'a [u32],
}

/// One balancer's rule. Times are nanoseconds, servers are numbers, and a job's number is its own until it is done.
pub trait Rule {
    /// Who may be chosen from now on.
    fn members(&mut self, members: &[Member], now: u64);

    /// Chooses a server for a job.
    fn pick(&mut self, job: u32, sight: &Sight<'_>, now: u64) -> Option<usize>;

    /// A job that was picked for has ended: once for each pick.
    fn done(&mut self, job: u32, server: usize, ending: &Ending, now: u64);

    /// How often it wants to be woken, in nanoseconds.
    fn interval(&self) -> Option<u64> {
        None
    }

    /// It is time.
    fn wake(&mut self, _sight: &Sight<'_>, _now: u64) {}

    /// Whom to ask for a report, after a pick.
    fn probes(&mut self, _to: &mut Vec<usize>) {}

    /// The answer to a probe.
    fn probed(&mut self, _server: usize, _report: &Report, _now: u64) {}

    /// Whether servers are to say when they have nothing to do.
    fn wants_idle(&self) -> bool {
        false
    }

    /// A server says that it has nothing to do.
    fn idle(&mut self, _server: usize) {}

    /// What is wrong with its books, if it keeps any and something is.
    fn fault(&self, _in_flight: usize) -> Option<String> {
        None
    }
}
