//! What most rules keep: who is there, and what they have sent to whom.

use super::Member;

/// Members, and requests in flight by server.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting {
    pub(super) members: Vec<Member>,
    in_flight: Vec<u32>,
}

impl Counting {
    pub(super) fn members(&mut self, members: &[Member]) {
        self.members = members.to_vec();
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        if self.in_flight.len() < most {
            self.in_flight.resize(most, 0);
        }
    }

    pub(super) fn of(&self, server: usize) -> u32 {
        self.in_flight[server]
    }

    pub(super) fn begin(&mut self, server: usize) {
        self.in_flight[server] += 1;
    }

    pub(super) fn end(&mut self, server: usize) {
        self.in_flight[server] -= 1;
    }

    /// Whether a has less in flight per weight than b.
    pub(super) fn less(&self, a: &Member, b: &Member) -> bool {
        u64::from(self.of(a.server)) * u64::from(b.weight)
            < u64::from(self.of(b.server)) * u64::from(a.weight)
    }
}
