//! The simulation itself: one scenario, one rule, one seed, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use model::Balancing;

use super::agenda::{Agenda, Tournament};
use super::draw::Draw;
use super::measure::{Figures, Tally};
use super::rule::{Ending, Estimator, Kind, Member, Outcome, Report, Rule, Sight};
use super::scenario::{Happening, Scenario};
use super::server::{Admission, Server, State};

/// Independent streams of a seed. Those of the world do not depend on the rule.
const ARRIVALS: u64 = 1;
const IDLE: u64 = 2;
const RULES: u64 = 1_000;
const SERVERS: u64 = 1_000_000;

/// A server that fails does so within this time.
const FAILS_IN: u64 = 1_000_000;

/// What a window of reports is.
const SECOND: u64 = 1_000_000_000;

/// Steps of a server that warms up.
const WARMING: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Happens(usize),
    Antagonist(usize),
    Pause(usize),
    Resume(usize),
    Warms(usize, u32),
    Wake(usize),
    Reports,
    Fails(u32),
    WindowBegins(usize),
    WindowEnds(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Job {
    /// Told apart from those that had its number before.
    generation: u32,
    balancer: u32,
    server: u32,
    /// What the server had when it came.
    before: u32,
    arrived: u64,
    reached: u64,
    demand: f64,
    window: Option<usize>,
    /// Whether the balancer waits for it.
    awaited: bool,
    /// Whether the server took it and will never come back to it.
    lost: bool,
}

/// Things that are on a wire, and arrive in the order in which they were sent.
type Wire<T> = VecDeque<(u64, T)>;

struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    wire: u64,
    deadline: u64,
    rules: Vec<Box<dyn Rule>>,
    servers: Vec<Server>,
    draws: Vec<Draw>,
    members: Vec<Member>,
    sent: Vec<u32>,
    estimators: Vec<Option<Estimator>>,
    reported: Vec<(f64, u64, f32, f32)>,
    jobs: Vec<Job>,
    free: Vec<u32>,
    under_way: Vec<usize>,
    finishing: Tournament,
    agenda: Agenda<Event>,
    requests: Wire<u32>,
    answers: Wire<(u32, Outcome, Report)>,
    probes: Wire<(u32, u32)>,
    probed: Wire<(u32, u32, Report)>,
    idle: Wire<(u32, u32)>,
    deadlines: Wire<(u32, u32)>,
    arrivals: Draw,
    idling: Draw,
    next_arrival: u64,
    tallies: Vec<Tally>,
    asked: Vec<usize>,
    events: u64,
    faults: Vec<String>,
    checking: bool,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Run {
    /// By window.
    pub windows: Vec<Figures>,
    /// What was wrong with the rules' books, if anything.
    pub faults: Vec<String>,
    /// Events simulated.
    pub events: u64,
}

/// Runs `scenario` with `kind` from `seed`. With `checking`, the rules' books are looked into after each step.
pub fn run(scenario: &Scenario, kind: &Kind, seed: u64, checking: bool) -> Run {
    let mut world = World::new(scenario, kind, seed, checking);
    world.go();
    let windows = world.tallies.into_iter().map(Tally::figures);
    Run {
        windows: windows.collect(),
        faults: world.faults,
        events: world.events,
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, kind: &Kind, seed: u64, checking: bool) -> Self {
        let n = scenario.servers.len();
        let balancing = Balancing {
            slow_start: Duration::from_secs_f64(scenario.slow_start),
            ..Balancing::default()
        };
        let rule = |b: usize| {
            let draw = Draw::new(seed, RULES + b as u64);
            kind.build(&balancing, scenario.guarded, draw)
        };
        let mut world = Self {
            scenario,
            now: 0,
            wire: nanos(scenario.wire),
            deadline: nanos(scenario.deadline),
            rules: (0..scenario.balancers).map(rule).collect(),
            // The database behind the others.
            servers: scenario
                .servers
                .iter()
                .copied()
                .chain(scenario.database.map(|d| d.build))
                .map(Server::new)
                .collect(),
            draws: (0..n as u64)
                .map(|s| Draw::new(seed, SERVERS + s))
                .collect(),
            members: Vec::new(),
            sent: vec![0; n],
            estimators: vec![kind.estimator(); n + 1],
            reported: vec![(0.0, 0, 0.0, 0.0); n + 1],
            jobs: Vec::new(),
            free: Vec::new(),
            under_way: vec![0; scenario.balancers],
            finishing: Tournament::new(n + 1),
            agenda: Agenda::new(),
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            probes: VecDeque::new(),
            probed: VecDeque::new(),
            idle: VecDeque::new(),
            deadlines: VecDeque::new(),
            arrivals: Draw::new(seed, ARRIVALS),
            idling: Draw::new(seed, IDLE),
            next_arrival: 0,
            tallies: vec![Tally::default(); scenario.windows.len()],
            asked: Vec::new(),
            events: 0,
            faults: Vec::new(),
            checking,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let scenario = self.scenario;
        for tally in &mut self.tallies {
            tally.requests = vec![0; scenario.servers.len()];
            tally.utilisation = vec![0.0; scenario.servers.len()];
        }
        let present = (0..scenario.present).map(|server| Member {
            server,
            weight: scenario.servers[server].weight,
            since: 0,
        });
        self.members = present.collect();
        self.tell();
        for (n, (at, _)) in scenario.happenings.iter().enumerate() {
            self.agenda.add(nanos(*at), Event::Happens(n));
        }
        for (n, window) in scenario.windows.iter().enumerate() {
            self.agenda.add(nanos(window.from), Event::WindowBegins(n));
            self.agenda.add(nanos(window.to), Event::WindowEnds(n));
        }
        for server in 0..scenario.servers.len() {
            if scenario.antagonists.is_some() {
                self.agenda.add(0, Event::Antagonist(server));
            }
            if let Some(pauses) = scenario.pauses {
                let first = nanos(self.draws[server].exponential() * pauses.every);
                self.agenda.add(first, Event::Pause(server));
            }
        }
        for balancer in 0..self.rules.len() {
            if let Some(interval) = self.rules[balancer].interval() {
                // Balancers did not start together.
                let share = (balancer as u64 + 1) * interval / self.rules.len() as u64;
                self.agenda.add(share, Event::Wake(balancer));
            }
        }
        self.agenda.add(SECOND, Event::Reports);
        if self.rules[0].wants_idle() {
            (0..scenario.present).for_each(|server| self.say_idle(server));
        }
        self.schedule_arrival();
    }

    fn tell(&mut self) {
        for rule in &mut self.rules {
            rule.members(&self.members, self.now);
        }
    }

    /// The next moment of a Poisson process whose rate changes at known times.
    fn schedule_arrival(&mut self) {
        let mut left = self.arrivals.exponential();
        let mut at = self.now as f64 * 1e-9;
        let rate = self.scenario.rate();
        let load = &self.scenario.load;
        let mut piece = load.partition_point(|(from, _)| *from <= at).max(1) - 1;
        loop {
            let until = load.get(piece + 1).map_or(f64::INFINITY, |(from, _)| *from);
            let here = load[piece].1 * rate;
            if left <= (until - at) * here {
                at += left / here;
                break;
            }
            left -= (until - at) * here;
            at = until;
            piece += 1;
        }
        self.next_arrival = nanos(at).max(self.now + 1);
    }

    fn go(&mut self) {
        // What is still under way at the end gets the time to end.
        let stop = nanos(self.scenario.end());
        loop {
            let (finish, server) = self.finishing.first();
            let head = |at: Option<u64>| at.unwrap_or(u64::MAX);
            let arrival = if self.next_arrival < stop {
                self.next_arrival
            } else {
                u64::MAX
            };
            let over = arrival == u64::MAX && self.under_way.iter().all(|&n| n == 0);
            if over && self.now >= stop {
                break;
            }
            let moments = [
                finish,
                head(self.answers.front().map(|a| a.0)),
                head(self.requests.front().map(|r| r.0)),
                head(self.probes.front().map(|p| p.0)),
                head(self.probed.front().map(|p| p.0)),
                head(self.idle.front().map(|i| i.0)),
                head(self.deadlines.front().map(|d| d.0)),
                self.agenda.first(),
                arrival,
            ];
            let mut first = 0;
            for n in 1..moments.len() {
                if moments[n] < moments[first] {
                    first = n;
                }
            }
            self.now = moments[first];
            self.events += 1;
            match first {
                0 => self.finish(server),
                1 => self.answered(),
                2 => self.reach(),
                3 => self.probe(),
                4 => self.probe_answered(),
                5 => self.idle_said(),
                6 => self.give_up(),
                7 => self.happen(stop),
                _ => self.arrive(),
            }
            if self.checking {
                self.check();
            }
        }
        self.check();
    }

    fn check(&mut self) {
        for (rule, &under_way) in self.rules.iter().zip(&self.under_way) {
            if let Some(fault) = rule.fault(under_way)
                && self.faults.len() < 10
            {
                self.faults.push(format!("at {} ns: {fault}", self.now));
            }
        }
    }

    fn arrive(&mut self) {
        let balancer = self.arrivals.below(self.rules.len());
        let demand = self.scenario.work.draw(&mut self.arrivals) * self.scenario.mean;
        let seconds = self.now as f64 * 1e-9;
        let within = |w: &super::scenario::Window| w.from <= seconds && seconds < w.to;
        let window = self.scenario.windows.iter().position(within);
        self.schedule_arrival();
        let number = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(Job::default());
            (self.jobs.len() - 1) as u32
        });
        let sight = Sight {
            servers: &self.servers,
            sent: &self.sent,
        };
        let Some(server) = self.rules[balancer].pick(number, &sight, self.now) else {
            self.free.push(number);
            if let Some(window) = window {
                self.tallies[window].failed += 1;
            }
            return;
        };
        if let Some(window) = window {
            self.tallies[window].requests[server] += 1;
        }
        let job = &mut self.jobs[number as usize];
        *job = Job {
            generation: job.generation + 1,
            balancer: balancer as u32,
            server: server as u32,
            arrived: self.now,
            demand,
            window,
            awaited: true,
            ..Job::default()
        };
        self.under_way[balancer] += 1;
        self.sent[server] += 1;
        self.requests.push_back((self.now + self.wire, number));
        self.deadlines
            .push_back((self.now + self.deadline, (number, job.generation)));
        self.rules[balancer].probes(&mut self.asked);
        for server in self.asked.drain(..) {
            self.probes
                .push_back((self.now + self.wire, (balancer as u32, server as u32)));
        }
    }

    /// A request reaches its server.
    fn reach(&mut self) {
        let Some((_, number)) = self.requests.pop_front() else {
            return;
        };
        let job = &mut self.jobs[number as usize];
        let index = job.server as usize;
        let server = &mut self.servers[index];
        job.reached = self.now;
        job.before = server.in_flight() as u32;
        match server.state {
            State::Silent => job.lost = true,
            State::Failing => self.agenda.add(self.now + FAILS_IN, Event::Fails(number)),
            State::Serving | State::Paused => {
                let own = job.demand * (1.0 - self.scenario.database.map_or(0.0, |d| d.part));
                match server.arrive(number, own, self.now) {
                    Admission::Taken => self.finishing.set(index, server.next()),
                    Admission::Refused => self.answer(number, Outcome::Error, 0.0),
                }
            }
        }
    }

    /// A server is through with a job.
    fn finish(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let done = server.complete(self.now);
        self.finishing.set(index, server.next());
        let Some(number) = done else { return };
        match self.scenario.database {
            None => self.served(number),
            Some(_) if index == self.scenario.servers.len() => {
                self.servers[self.jobs[number as usize].server as usize].asking -= 1;
                self.served(number);
            }
            Some(database) => {
                server.asking += 1;
                let index = self.scenario.servers.len();
                let demand = self.jobs[number as usize].demand * database.part;
                // It takes all: `Build::sharing` has room for any number.
                self.servers[index].arrive(number, demand, self.now);
                self.finishing.set(index, self.servers[index].next());
            }
        }
    }

    /// Everything that a job needs is done, and its server answers.
    fn served(&mut self, number: u32) {
        let job = &self.jobs[number as usize];
        let index = job.server as usize;
        let server = &self.servers[index];
        let idle = server.in_flight() == 0;
        let took = (self.now - job.reached) as f32;
        let worked = (job.demand / server.build.speed * 1e9) as f32;
        if let Some(estimator) = &mut self.estimators[index] {
            estimator.finished(job.before as usize, took, self.now);
        }
        self.answer(number, Outcome::Answered, worked);
        if idle && self.rules[0].wants_idle() {
            self.say_idle(index);
        }
    }

    fn answer(&mut self, number: u32, outcome: Outcome, worked: f32) {
        let job = &self.jobs[number as usize];
        let mut report = self.report(job.server as usize, false);
        report.served_in = (self.now - job.reached) as f32;
        report.worked = worked;
        self.sent[job.server as usize] -= 1;
        self.answers
            .push_back((self.now + self.wire, (number, outcome, report)));
    }

    fn report(&self, server: usize, estimated: bool) -> Report {
        let in_flight = self.servers[server].in_flight();
        let (.., utilisation, rate) = self.reported[server];
        let estimator = self.estimators[server].as_ref().filter(|_| estimated);
        Report {
            in_flight: in_flight as u32,
            estimate: estimator.map_or(0.0, |e| e.estimate(in_flight, self.now)),
            utilisation,
            rate,
            ..Report::default()
        }
    }

    /// An answer reaches the balancer.
    fn answered(&mut self) {
        let Some((_, (number, outcome, report))) = self.answers.pop_front() else {
            return;
        };
        let job = &mut self.jobs[number as usize];
        if job.awaited {
            self.end(number, outcome, Some(report));
        }
        self.free.push(number);
    }

    /// Nobody waits for this one any longer.
    fn end(&mut self, number: u32, outcome: Outcome, report: Option<Report>) {
        let job = &mut self.jobs[number as usize];
        job.awaited = false;
        let latency = self.now - job.arrived;
        if let Some(window) = job.window {
            let tally = &mut self.tallies[window];
            match outcome {
                Outcome::Answered => tally.latencies.push(latency as f32 * 1e-6),
                Outcome::TimedOut => {
                    tally.latencies.push(latency as f32 * 1e-6);
                    tally.missed += 1;
                }
                _ => tally.failed += 1,
            }
        }
        let (balancer, server) = (job.balancer as usize, job.server as usize);
        self.under_way[balancer] -= 1;
        let ending = Ending {
            outcome,
            latency,
            report,
        };
        self.rules[balancer].done(number, server, &ending, self.now);
    }

    /// A deadline. The server does not know, and works on.
    fn give_up(&mut self) {
        let Some((_, (number, generation))) = self.deadlines.pop_front() else {
            return;
        };
        let job = &self.jobs[number as usize];
        if job.generation == generation && job.awaited {
            let (lost, server) = (job.lost, job.server as usize);
            self.end(number, Outcome::TimedOut, None);
            if lost {
                self.sent[server] -= 1;
                self.free.push(number);
            }
        }
    }

    fn probe(&mut self) {
        let Some((_, (balancer, server))) = self.probes.pop_front() else {
            return;
        };
        let state = self.servers[server as usize].state;
        if matches!(state, State::Serving | State::Failing) {
            let report = self.report(server as usize, true);
            self.probed
                .push_back((self.now + self.wire, (balancer, server, report)));
        }
    }

    fn probe_answered(&mut self) {
        if let Some((_, (balancer, server, report))) = self.probed.pop_front() {
            self.rules[balancer as usize].probed(server as usize, &report, self.now);
        }
    }

    fn say_idle(&mut self, server: usize) {
        let balancer = self.idling.below(self.rules.len());
        self.idle
            .push_back((self.now + self.wire, (balancer as u32, server as u32)));
    }

    fn idle_said(&mut self) {
        if let Some((_, (balancer, server))) = self.idle.pop_front() {
            self.rules[balancer as usize].idle(server as usize);
        }
    }

    fn happen(&mut self, stop: u64) {
        let Some(event) = self.agenda.take() else {
            return;
        };
        let now = self.now;
        match event {
            Event::Happens(n) => self.happens(self.scenario.happenings[n].1),
            Event::Antagonist(server) => {
                let Some(antagonists) = self.scenario.antagonists else {
                    return;
                };
                let draw = &mut self.draws[server];
                let factor =
                    antagonists.from + (antagonists.to - antagonists.from) * draw.uniform();
                let next = now + nanos(draw.exponential() * antagonists.every) + 1;
                self.change(server, |s| s.factor = factor);
                self.again(next, stop, event);
            }
            Event::Pause(server) => {
                let Some(pauses) = self.scenario.pauses else {
                    return;
                };
                self.change(server, |s| s.state = State::Paused);
                self.agenda
                    .add(now + nanos(pauses.length), Event::Resume(server));
                let next = self.draws[server].exponential() * pauses.every + pauses.length;
                self.again(now + nanos(next), stop, event);
            }
            Event::Resume(server) => self.change(server, |s| s.state = State::Serving),
            Event::Warms(server, step) => {
                self.change(server, |s| s.warmth = f64::from(step) / f64::from(WARMING));
            }
            Event::Wake(balancer) => {
                let sight = Sight {
                    servers: &self.servers,
                    sent: &self.sent,
                };
                self.rules[balancer].wake(&sight, now);
                let interval = self.rules[balancer].interval().unwrap_or(SECOND);
                self.again(now + interval, stop, event);
            }
            Event::Reports => {
                self.reports();
                self.again(now + SECOND, stop, event);
            }
            Event::Fails(number) => self.answer(number, Outcome::Error, 0.0),
            Event::WindowBegins(n) => self.mark(n, -1.0),
            Event::WindowEnds(n) => self.mark(n, 1.0),
        }
    }

    /// What comes again and again does so until the end.
    fn again(&mut self, at: u64, stop: u64, event: Event) {
        // Those that are under way at the end have their deadlines.
        if at < stop + self.deadline {
            self.agenda.add(at, event);
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Leaves(server) => {
                self.members.retain(|m| m.server != server);
                self.tell();
            }
            Happening::Comes(server, warming) => {
                let weight = self.scenario.servers[server].weight;
                self.members.push(Member {
                    server,
                    weight,
                    since: self.now,
                });
                self.members.sort_unstable_by_key(|m| m.server);
                if warming > 0.0 {
                    self.change(server, |s| s.warmth = 1.0 / f64::from(WARMING));
                    for step in 2..=WARMING {
                        let after = warming * f64::from(step - 1) / f64::from(WARMING);
                        self.agenda
                            .add(self.now + nanos(after), Event::Warms(server, step));
                    }
                }
                self.tell();
                if self.rules[0].wants_idle() {
                    self.say_idle(server);
                }
            }
            Happening::Becomes(server, state) => self.change(server, |s| s.state = state),
        }
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Server)) {
        let server = &mut self.servers[index];
        server.change(self.now, change);
        self.finishing.set(index, server.next());
    }

    /// Servers take stock of their last second.
    fn reports(&mut self) {
        for (server, reported) in self.servers.iter_mut().zip(&mut self.reported) {
            server.change(self.now, |_| {});
            let (work, finished, ..) = *reported;
            let used = (server.work - work) / server.build.speed;
            let rate = (server.finished - finished) as f32;
            *reported = (server.work, server.finished, used as f32, rate);
        }
    }

    fn mark(&mut self, window: usize, sign: f64) {
        let length = self.scenario.windows[window].to - self.scenario.windows[window].from;
        for (server, used) in self
            .servers
            .iter_mut()
            .zip(&mut self.tallies[window].utilisation)
        {
            server.change(self.now, |_| {});
            *used += sign * server.work / server.build.speed / length;
        }
    }
}
