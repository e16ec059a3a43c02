//! Requests to a service that may be left alone for a while.

use balance::{Fate, Passage, pass, passed};
use model::{Cannot, Moment};

use super::aside::Unserved;
use super::begin::{Answer, Begun, Forward};
use super::exchange::Ended;
use super::session::{Cut, Session};
use crate::worker::Snapshot;

/// A request that was let through to such a service, until it is known what became of it. Dropped before, nobody knows.
pub(super) struct Passed {
    snapshot: Snapshot,
    service: usize,
    passage: Passage,
    fate: Fate,
    now: Moment,
}

impl Drop for Passed {
    fn drop(&mut self) {
        let service = self.snapshot.service(self.service);
        if let Some(breaking) = &service.balancing.breaking {
            let circuit = &service.admission.circuit;
            passed(circuit, breaking, self.passage, self.fate, self.now);
        }
    }
}

impl Passed {
    /// What became of it, if attempts were made.
    pub(super) fn ended(
        mut self,
        served: &Result<Ended, Box<Unserved>>,
        (before, ours, call_failed): (u8, bool, bool),
        now: Moment,
    ) {
        self.now = now;
        self.fate = match served {
            // Our own bound is the service's; whoever wants less must not open the circuit for others.
            Ok(ended) if ended.cut == Some(Cut::Expired) && ours => Fate::Failed,
            Ok(_) if call_failed => Fate::Failed,
            Ok(ended) => ended.fate(),
            Err(unserved) if unserved.attempts > before => Fate::Failed,
            Err(_) => Fate::Unknown,
        };
    }
}

impl Ended {
    fn fate(&self) -> Fate {
        match self.cut {
            Some(cut) if cut.is_by_instance() => Fate::Failed,
            // A tunnel that was ended here was open, and so were those whose clients left.
            Some(Cut::Ended { .. }) => Fate::Succeeded,
            Some(_) => Fate::Unknown,
            None if matches!(self.status, 500 | 502..=504) => Fate::Failed,
            None => Fate::Succeeded,
        }
    }
}

impl Session {
    /// Lets a request through to its service, if that is not left alone; `None` where it never is.
    pub(super) fn passes(
        &self,
        begun: &Begun,
        forward: &Forward,
        attempts: u8,
    ) -> Result<Option<Box<Passed>>, Box<Unserved>> {
        let service = begun.snapshot.service(forward.service);
        let Some(breaking) = &service.balancing.breaking else {
            return Ok(None);
        };
        let now = self.worker.now();
        match pass(&service.admission.circuit, breaking, now) {
            Ok(passage) => Ok(Some(Box::new(Passed {
                snapshot: begun.snapshot.clone(),
                service: forward.service,
                passage,
                fate: Fate::Unknown,
                now,
            }))),
            Err(after) => {
                let why = format!("the circuit of service {} is open", service.key);
                let mut answer = Answer::text(503, &why).because("circuit_open");
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                let seconds = seconds.max(1).to_string();
                answer.fields.push(("retry-after", seconds.into()));
                Err(Box::new(Unserved {
                    cannot: Cannot::Open,
                    answer,
                    attempts,
                }))
            }
        }
    }
}
