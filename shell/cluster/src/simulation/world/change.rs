//! A change of who votes whose leader ends in the middle of it.

use registry::replication::Change;

use super::{Node, RECOVERY, World};
use crate::node::lock;

impl World {
    /// Has a voter removed, and the leader killed once another node knows of the first of the two steps. Returns whether the
    /// change was finished by whoever led next; none if it was over before anybody saw it half made.
    pub(in crate::simulation) fn interrupted_change(mut self) -> Option<bool> {
        // Of three, the other two could agree on nothing with the leader gone: one of them is to be removed.
        if self.nodes.len() < 5 {
            return None;
        }
        for n in 0..self.nodes.len() {
            self.start(n);
        }
        self.begin();
        // Long enough for a step of the change to be seen from outside.
        self.net.set_slowest(std::time::Duration::from_millis(20));
        let name = self.node(0)?.leader()?;
        let leader: usize = name.strip_prefix('n')?.parse().ok()?;
        let last = self.nodes.len() - 1;
        let removed = if leader == last { last - 1 } else { last };
        let running = self.nodes[leader].running.as_ref()?;
        let node = running.node.clone();
        let change = Change::Remove {
            name: format!("n{removed}").into(),
            force: false,
        };
        let asked = running
            .runtime
            .spawn(async move { node.change_cluster(change).await });
        while !self.others(leader).any(is_half_made) {
            if asked.is_finished() {
                return None;
            }
            self.step(false);
        }
        self.end(leader, false);
        let end = self.now + RECOVERY;
        let settled =
            |node: &Node| node.leader().is_some_and(|now| now != name) && !is_half_made(node);
        // Whoever was removed is not told.
        while !self.others(leader).take(2).all(settled) {
            let seed = self.seed;
            assert!(self.now < end, "seed {seed}: the change stays half made");
            self.step(false);
        }
        let members = lock(&self.others(leader).next()?.shared().known)
            .membership
            .clone();
        Some(members.named(&format!("n{removed}")).is_none())
    }

    fn others(&self, than: usize) -> impl Iterator<Item = &Node> {
        let others = (0..self.nodes.len()).filter(move |n| *n != than);
        others.filter_map(|n| self.node(n))
    }
}

/// Whether a node knows of two sets of voters, one of which is to replace the other.
fn is_half_made(node: &Node) -> bool {
    lock(&node.shared().known).membership.voters.len() > 1
}
