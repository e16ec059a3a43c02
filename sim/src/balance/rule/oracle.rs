//! Rules that see the truth: bounds for those that do not.

use super::{Ending, Member, Rule, Sight};
use crate::balance::draw::Draw;

/// What an oracle looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// The fewest requests in flight, from everybody.
    Shortest,
    /// The shortest time to finish, by what each can do right now.
    Soonest,
}

#[derive(Debug)]
pub(super) struct Oracle {
    sees: Sees,
    members: Vec<Member>,
    draw: Draw,
}

impl Oracle {
    pub(super) const fn new(sees: Sees, draw: Draw) -> Self {
        Self {
            sees,
            members: Vec::new(),
            draw,
        }
    }
}

impl Rule for Oracle {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.members = members.to_vec();
    }

    fn pick(&mut self, _job: u32, sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let n = self.members.len();
        // From anywhere, so that ties are no preference.
        let start = self.draw.below(n.max(1));
        let cost = |server: usize| {
            let q = f64::from(sight.sent[server]);
            match self.sees {
                Sees::Shortest => q,
                Sees::Soonest => {
                    let server = &sight.servers[server];
                    // Who stands still will do so for a while.
                    (q + 1.0).max(1.0 / server.build.stride) / server.capacity().max(1e-9)
                }
            }
        };
        let order = (start..n).chain(0..start).map(|i| self.members[i].server);
        order
            .map(|server| (cost(server), server))
            .reduce(|best, next| if next.0 < best.0 { next } else { best })
            .map(|(_, server)| server)
    }

    fn done(&mut self, _job: u32, _server: usize, _ending: &Ending, _now: u64) {}
}
