//! Leaders that do not hear the others, and those that hear them late.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Node, STEP, World, clients};

impl World {
    /// A leader does not hear the others any more, while they hear it. Returns how long it takes until another leads.
    pub(in crate::simulation) fn deafen_a_leader(mut self) -> Duration {
        let leader = self.begin_led();
        for other in (0..self.nodes.len()).filter(|other| *other != leader) {
            self.net.cut(other, leader);
        }
        self.write_at(leader);
        let since = self.now;
        while !self.is_followed(leader) {
            self.step(false);
        }
        self.now - since
    }

    /// The disks of all but the leader take up to so long for a write. Returns whether another has taken the lead.
    pub(in crate::simulation) fn pause_disks(mut self, longest: Duration) -> bool {
        let leader = self.begin_led();
        for (n, machine) in self.nodes.iter().enumerate() {
            if n != leader {
                machine.slow.store(longest.as_micros() as u64, Relaxed);
            }
        }
        for _ in 0..500 {
            self.write_at(leader);
            self.run_for(10 * STEP);
        }
        self.is_followed(leader)
    }

    /// All but the leader stand still for so long, again and again. Returns whether another has taken the lead.
    pub(in crate::simulation) fn pause_followers(mut self, pause: Duration) -> bool {
        let leader = self.begin_led();
        for _ in 0..40 {
            let until = self.now + pause;
            for (n, machine) in self.nodes.iter_mut().enumerate() {
                if n != leader {
                    machine.frozen = Some(until);
                }
            }
            let rest = self.random.u32(1..100);
            self.run_for(pause + STEP * rest);
        }
        self.is_followed(leader)
    }

    /// Begins; returns who leads.
    fn begin_led(&mut self) -> usize {
        for n in 0..self.nodes.len() {
            self.start(n);
        }
        self.begin();
        let leads = |n: &usize| self.node(*n).is_some_and(Node::leads);
        (0..self.nodes.len()).find(leads).expect("a leader")
    }

    fn is_followed(&self, leader: usize) -> bool {
        let mut others = (0..self.nodes.len()).filter(|n| *n != leader);
        others.any(|n| self.node(n).is_some_and(Node::leads))
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(false);
        }
    }

    fn write_at(&self, n: usize) {
        let running = self.nodes[n].running.as_ref().expect("it runs");
        let (node, number) = (running.node.clone(), running.node.number());
        let command = clients::create(number.expect("one of several"), 0);
        running
            .runtime
            .spawn(async move { node.submit(command).await });
    }
}
