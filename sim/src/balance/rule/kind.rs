//! Which rules there are, with what settings.

use model::{Balancing, Policy};

use super::adaptive::{Jiq, Polling};
use super::c3::Scores;
use super::least::{Drawn, LeastConn, LeastRequest, Tree};
use super::oracle::Oracle;
use super::peak::PeakEwma;
use super::prequal::Pooled;
use super::turns::{ClientWrr, Smooth};
use super::{Estimator, Guarded, Ours, Rule};
use crate::balance::draw::Draw;

use super::oracle::Sees;
use super::peak::Whose;

/// Prequal's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prequal {
    /// Probes for each request.
    pub probes: f64,
    /// Answers removed for each request.
    pub removals: f64,
    /// The quantile of in-flight above which a server is hot.
    pub hot: f64,
    /// Latencies that servers estimate from, and their greatest age in seconds.
    pub window: usize,
    /// See `window`.
    pub age: f64,
}

/// C3's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct C3 {
    /// Of the expected queue; 3 in the paper.
    pub exponent: u32,
    /// Whether servers report processor time as their service time, or the time that a request spent in them.
    pub processor_time: bool,
    /// What one's own outstanding requests are multiplied by: in the paper, the number of clients.
    pub clients: f64,
    /// Servers that are compared, drawn at random.
    pub choices: usize,
}

/// A rule with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Ours.
    Ours(Policy),
    /// Ours, with instances that say in each answer how many requests they have.
    OursTold(Policy),
    /// nginx: smooth weighted round robin.
    SmoothWrr,
    /// nginx: least_conn.
    LeastConn,
    /// nginx: random two least_conn; HAProxy: random(2).
    RandomTwo,
    /// HAProxy: leastconn.
    Tree,
    /// Envoy: LEAST_REQUEST, with so many choices.
    LeastRequest(usize),
    /// Peak-sensitive averages with a time constant in seconds.
    PeakEwma(Whose, f64),
    /// gRPC A58: blackout and update period in seconds, penalty for errors.
    ClientWrr(f64, f64, f64),
    /// C3 by what answers carry.
    C3(C3),
    /// C3's score over Prequal's pool.
    ProbedC3(C3, Prequal),
    /// Join the idle queue.
    Jiq,
    /// Power of two by polling with an interval in seconds.
    Polling(f64),
    /// Prequal.
    Prequal(Prequal),
    /// A bound.
    Oracle(Sees),
}

impl Kind {
    /// The name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Ours(policy) => format!("pointsman {}", policy.as_str()),
            Self::OursTold(policy) => format!("pointsman {}, answers", policy.as_str()),
            Self::SmoothWrr => "nginx weighted round robin".to_owned(),
            Self::LeastConn => "nginx least_conn".to_owned(),
            Self::RandomTwo => "nginx random two".to_owned(),
            Self::Tree => "HAProxy leastconn".to_owned(),
            Self::LeastRequest(_) => "Envoy LEAST_REQUEST".to_owned(),
            Self::PeakEwma(Whose::Envoy, _) => "Envoy peak-EWMA".to_owned(),
            Self::PeakEwma(Whose::Finagle, _) => "Finagle peak-EWMA".to_owned(),
            Self::ClientWrr(..) => "gRPC client-side WRR".to_owned(),
            Self::C3(_) => "C3, answers".to_owned(),
            Self::ProbedC3(..) => "C3, probes".to_owned(),
            Self::Jiq => "JIQ".to_owned(),
            Self::Polling(_) => "YARP, polling".to_owned(),
            Self::Prequal(_) => "Prequal".to_owned(),
            Self::Oracle(Sees::Shortest) => "oracle: shortest queue".to_owned(),
            Self::Oracle(Sees::Soonest) => "oracle: soonest done".to_owned(),
        }
    }

    /// The settings, in words.
    pub fn settings(&self) -> String {
        match self {
            Self::LeastRequest(choices) => format!("{choices} choices"),
            Self::PeakEwma(_, decay) => format!("decay {decay} s"),
            Self::ClientWrr(blackout, update, penalty) => {
                format!("blackout {blackout} s, update {update} s, penalty {penalty}")
            }
            Self::C3(c) => format!("{}, {} choices", c3_words(c), c.choices),
            Self::ProbedC3(c, p) => format!("{}, {} probes", c3_words(c), p.probes),
            Self::Polling(interval) => format!("every {interval} s"),
            Self::Prequal(p) => format!(
                "{} probes, {} removed, hot above {}, median of {} within {} s",
                p.probes, p.removals, p.hot, p.window, p.age
            ),
            _ => String::new(),
        }
    }

    /// Whether it sees what no balancer can.
    pub const fn is_oracle(&self) -> bool {
        matches!(self, Self::Oracle(_))
    }

    /// Probes for each request.
    pub const fn probes(&self) -> f64 {
        match self {
            Self::Prequal(p) | Self::ProbedC3(_, p) => p.probes,
            _ => 0.0,
        }
    }

    /// What servers have to keep for it.
    pub fn estimator(&self) -> Option<Estimator> {
        match self {
            Self::Prequal(p) => Some(Estimator::new(p.window, p.age)),
            _ => None,
        }
    }

    /// One balancer with this rule. `guarded` puts outlier detection around those that have none.
    pub fn build(&self, balancing: &Balancing, guarded: bool, mut draw: Draw) -> Box<dyn Rule> {
        let seed = draw.bits();
        let rule: Box<dyn Rule> = match *self {
            Self::Ours(policy) => return Box::new(Ours::new(policy, balancing.clone(), seed)),
            Self::OursTold(policy) => {
                return Box::new(Ours::new(policy, balancing.clone(), seed).told());
            }
            Self::SmoothWrr => Box::new(Smooth::default()),
            Self::LeastConn => Box::new(LeastConn::default()),
            Self::RandomTwo => Box::new(Drawn::new(2, true, draw)),
            Self::Tree => Box::new(Tree::default()),
            Self::LeastRequest(choices) => Box::new(LeastRequest::new(choices, draw)),
            Self::PeakEwma(whose, decay) => Box::new(PeakEwma::new(whose, decay, draw)),
            Self::ClientWrr(blackout, update, penalty) => {
                Box::new(ClientWrr::new(blackout, update, penalty, draw))
            }
            Self::C3(settings) => Box::new(super::c3::C3::new(settings, draw)),
            Self::ProbedC3(c3, settings) => {
                Box::new(Pooled::new(settings, Some(Scores::new(c3)), draw))
            }
            Self::Jiq => Box::new(Jiq::new(draw)),
            Self::Polling(interval) => Box::new(Polling::new(interval, draw)),
            Self::Prequal(settings) => Box::new(Pooled::new(settings, None, draw)),
            Self::Oracle(sees) => return Box::new(Oracle::new(sees, draw)),
        };
        match guarded {
            true => Box::new(Guarded::new(rule)),
            false => rule,
        }
    }
}

fn c3_words(c: &C3) -> String {
    let service = if c.processor_time {
        "processor time"
    } else {
        "time in service"
    };
    format!("exponent {}, {service}, {} clients", c.exponent, c.clients)
}
