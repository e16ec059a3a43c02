//! Which probe is due when, and what a row of outcomes amounts to. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use balance::Random;
use model::{CheckSpec, Health, Host, Incarnation, InstanceId, Moment, Role, ServiceKey};
use registry::Verdict;

/// An instance to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its service.
    pub key: ServiceKey,
    /// Its id.
    pub id: InstanceId,
    /// Which of its lives; a verdict on another is void.
    pub incarnation: Incarnation,
    /// Where it is.
    pub host: Host,
    /// The port to probe.
    pub port: u16,
    /// How.
    pub check: CheckSpec,
    /// What the registry holds of it already: a node that restarts does not start over.
    pub health: Health,
    /// The role that the registry holds.
    pub role: Option<Role>,
    /// The reason that the registry holds.
    pub reason: Option<Box<str>>,
}

/// What a probe found: well, and in which role if the check learns that; or why not.
pub type Outcome = Result<Option<Role>, String>;

/// An instance's name.
type Name = (ServiceKey, InstanceId);

/// All targets, and when each is due.
pub struct Schedule {
    targets: BTreeMap<Name, State>,
    due: BTreeSet<(Moment, Name)>,
    random: Random,
}

struct State {
    target: Target,
    /// The verdict that stands.
    health: Health,
    /// The role that was reported last.
    role: Option<Role>,
    /// The reason of that verdict.
    reason: Option<Box<str>>,
    /// Why the last probe failed.
    latest: Option<Box<str>>,
    /// When a verdict was said again last, because its reason was another.
    reworded: Option<Moment>,
    /// Outcomes in a row that speak against it.
    contrary: u16,
    /// When it is probed next; `None` while a probe is under way.
    due: Option<Moment>,
    /// It is to be probed again as soon as the probe under way is back.
    hurried: bool,
}

/// How much sooner the next probe comes while outcomes speak against the verdict that stands. A tenth of
/// the interval, so that an instance that died is known to be dead in a fraction of `fall` intervals.
const HASTE: u32 = 10;

/// But no sooner than this.
const SHORTEST: Duration = Duration::from_millis(20);

/// A verdict that stands is said again no sooner than this for the sake of its reason: verdicts are written to the log and
/// told to all who watch, and the reason is only for people.
const REWORDING: Duration = Duration::from_secs(10);

/// Within what time the first probes of new targets are spread.
const FIRST: Duration = Duration::from_millis(50);

impl Schedule {
    /// Without targets. The seed decides the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            due: BTreeSet::new(),
            random: Random::new(seed),
        }
    }

    /// Probes `target` from now on. What is known of it is kept as long as it is the same life.
    pub fn put(&mut self, target: Target, now: Moment) {
        let name = (target.key.clone(), target.id.clone());
        match self.targets.get_mut(&name) {
            Some(state) if state.target.incarnation == target.incarnation => {
                state.target = target;
            }
            _ => {
                self.forget(&name);
                let delay = self.fraction(FIRST);
                self.add(name, target, now + delay);
            }
        }
    }

    /// Probes it no more.
    pub fn remove(&mut self, key: &ServiceKey, id: &InstanceId) {
        self.forget(&(key.clone(), id.clone()));
    }

    /// Probes these and no others.
    pub fn replace(&mut self, targets: Vec<Target>, now: Moment) {
        let wanted: BTreeSet<Name> = targets
            .iter()
            .map(|t| (t.key.clone(), t.id.clone()))
            .collect();
        let gone: Vec<Name> = self
            .targets
            .keys()
            .filter(|n| !wanted.contains(n))
            .cloned()
            .collect();
        for name in gone {
            self.forget(&name);
        }
        for target in targets {
            self.put(target, now);
        }
    }

    /// What these say of themselves is the verdict that stands, whatever was found and said before: nobody may have
    /// heard it. Where probes find otherwise, that is said again.
    pub fn begin_anew(&mut self, targets: Vec<Target>, now: Moment) {
        self.replace(targets, now);
        for state in self.targets.values_mut() {
            (state.health, state.role) = (state.target.health, state.target.role);
            state.reason.clone_from(&state.target.reason);
            state.latest = None;
            state.contrary = 0;
        }
    }

    /// Somebody saw it fail: probe it now.
    pub fn hurry(&mut self, key: &ServiceKey, id: &InstanceId, now: Moment) {
        let name = (key.clone(), id.clone());
        let Some(state) = self.targets.get_mut(&name) else {
            return;
        };
        match state.due {
            Some(due) => {
                self.due.remove(&(due, name.clone()));
                state.due = Some(now);
                self.due.insert((now, name));
            }
            None => state.hurried = true,
        }
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next target that is due; it is under way until [`Schedule::handle`] gets its outcome.
    pub fn poll_due(&mut self, now: Moment) -> Option<Target> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        let state = self.targets.get_mut(&name)?;
        state.due = None;
        Some(state.target.clone())
    }

    /// Takes in a probe's outcome; returns the verdict if it changed, or its reason for good.
    pub fn handle(&mut self, probed: &Target, outcome: &Outcome, now: Moment) -> Option<Verdict> {
        let name = (probed.key.clone(), probed.id.clone());
        let state = self.targets.get_mut(&name)?;
        // A former life's probe may come back late.
        if state.target.incarnation != probed.incarnation || state.due.is_some() {
            return None;
        }
        let before = (state.health, state.role);
        state.judge(outcome);
        let (health, role) = (state.health, state.role);
        let changed = (health, role) != before;
        let said = state.explain(outcome, changed, now);
        let reason = said.then(|| state.reason.clone()).flatten();
        let urgent = std::mem::take(&mut state.hurried) || state.contrary > 0;
        let interval = state.target.check.interval;
        let wait = if urgent {
            (interval / HASTE).max(SHORTEST)
        } else {
            // ±10 %: nodes and instances that start together do not go on together.
            interval.mul_f64(0.9) + self.fraction(interval / 5)
        };
        let due = now + wait;
        self.targets.get_mut(&name)?.due = Some(due);
        self.due.insert((due, name));
        said.then(|| Verdict {
            key: probed.key.clone(),
            id: probed.id.clone(),
            incarnation: probed.incarnation,
            health,
            role,
            reason,
        })
    }

    fn add(&mut self, name: Name, target: Target, due: Moment) {
        let (health, role, reason) = (target.health, target.role, target.reason.clone());
        self.due.insert((due, name.clone()));
        let state = State {
            target,
            health,
            role,
            reason,
            latest: None,
            reworded: None,
            contrary: 0,
            due: Some(due),
            hurried: false,
        };
        self.targets.insert(name, state);
    }

    fn forget(&mut self, name: &Name) {
        let state = self.targets.remove(name);
        if let Some(due) = state.and_then(|s| s.due) {
            self.due.remove(&(due, name.clone()));
        }
    }

    /// A random part of `time`.
    fn fraction(&mut self, time: Duration) -> Duration {
        Duration::from_nanos(self.random.below(time.as_nanos() as u64 + 1))
    }
}

impl State {
    fn judge(&mut self, outcome: &Outcome) {
        let found = match outcome {
            Ok(_) => Health::Passing,
            Err(_) => Health::Critical,
        };
        let needed = match (self.health, found) {
            // Nothing is known yet: the first answer is better than none.
            (Health::Unknown, _) => 1,
            (_, Health::Passing) => self.target.check.rise,
            _ => self.target.check.fall,
        };
        if found == self.health {
            self.contrary = 0;
        } else {
            self.contrary += 1;
            if self.contrary >= needed {
                self.health = found;
                self.contrary = 0;
            }
        }
        // One answer is enough: a role is a fact, not a symptom, and a promotion must not wait for a second probe. A probe
        // that fails says nothing of the role; nor does one of an instance that is not trusted yet.
        if let (Health::Passing, Ok(role)) = (self.health, outcome) {
            self.role = *role;
        }
    }

    /// Takes in why a probe failed; returns whether the verdict is to be said: because it has `changed`, or because it stands
    /// for another reason. That has to hold for two probes, so that of two that take turns none is written each time.
    fn explain(&mut self, outcome: &Outcome, changed: bool, now: Moment) -> bool {
        let why = outcome.as_ref().err();
        let why = why.map(|why| Verdict::shorten(why).into());
        let holds = why == self.latest;
        self.latest = why;
        let other = self.latest.is_some() && self.latest != self.reason;
        let rested = self.reworded.is_none_or(|then| now >= then + REWORDING);
        let reworded = !changed && self.health == Health::Critical && other && holds && rested;
        if reworded {
            self.reworded = Some(now);
        }
        if changed || reworded {
            self.reason.clone_from(&self.latest);
        }
        changed || reworded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CheckKind;

    #[test]
    fn a_verdict_that_nobody_heard_is_said_again_after_a_new_beginning() {
        let mut schedule = Schedule::new(1);
        let mut now = Moment::ZERO;
        let mut verdicts = |schedule: &mut Schedule| {
            let mut said = Vec::new();
            for _ in 0..8 {
                now = now.max(schedule.next_deadline().unwrap());
                let due = schedule.poll_due(now).unwrap();
                said.extend(schedule.handle(&due, &Err("refused".into()), now));
            }
            said.len()
        };
        schedule.put(target(1, Health::Passing), Moment::ZERO);
        assert_eq!(verdicts(&mut schedule), 1);
        assert_eq!(verdicts(&mut schedule), 0);
        schedule.begin_anew(vec![target(1, Health::Passing)], Moment::ZERO);
        assert_eq!(verdicts(&mut schedule), 1);
        let known = Target {
            reason: Some("refused".into()),
            ..target(1, Health::Critical)
        };
        schedule.begin_anew(vec![known], Moment::ZERO);
        assert_eq!(verdicts(&mut schedule), 0);
    }

    fn target(incarnation: u64, health: Health) -> Target {
        Target {
            key: ServiceKey::in_default("s".parse().unwrap()),
            id: "a".parse().unwrap(),
            incarnation: Incarnation(incarnation),
            host: "127.0.0.1".parse().unwrap(),
            port: 80,
            check: CheckSpec {
                kind: CheckKind::Tcp,
                port: None,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 3,
            },
            health,
            role: None,
            reason: None,
        }
    }

    /// Probes `outcomes` in turn; returns the verdicts and the time the last took.
    fn play(schedule: &mut Schedule, outcomes: &[bool]) -> (Vec<Option<Health>>, Duration) {
        let start = schedule.next_deadline().unwrap();
        let mut now = start;
        let mut verdicts = Vec::new();
        for &well in outcomes {
            now = schedule.next_deadline().unwrap();
            assert!(schedule.poll_due(now).is_some());
            let outcome = if well {
                Ok(None)
            } else {
                Err("refused".to_owned())
            };
            let probed = schedule.targets.values().next().unwrap().target.clone();
            verdicts.push(schedule.handle(&probed, &outcome, now).map(|v| v.health));
        }
        (verdicts, now.since(start))
    }

    fn one(health: Health) -> Schedule {
        let mut schedule = Schedule::new(1);
        let target = target(1, health);
        schedule.put(target, Moment::ZERO);
        schedule
    }

    #[test]
    fn the_first_outcome_decides_when_nothing_is_known() {
        let (verdicts, _) = play(&mut one(Health::Unknown), &[true]);
        assert_eq!(verdicts, [Some(Health::Passing)]);
        let (verdicts, _) = play(&mut one(Health::Unknown), &[false]);
        assert_eq!(verdicts, [Some(Health::Critical)]);
    }

    #[test]
    fn rise_and_fall_count_outcomes_in_a_row() {
        let mut schedule = one(Health::Passing);
        let (verdicts, _) = play(&mut schedule, &[false, false, true, false, false, false]);
        assert_eq!(
            verdicts,
            [None, None, None, None, None, Some(Health::Critical)]
        );
        let (verdicts, _) = play(&mut schedule, &[true, false, true, true]);
        assert_eq!(verdicts, [None, None, None, Some(Health::Passing)]);
    }

    /// Probes every second from `from` on, with these reasons in turn; returns the reasons that were said, and when.
    fn reasons(schedule: &mut Schedule, from: u64, found: &[&str]) -> Vec<(u64, String)> {
        let mut said = Vec::new();
        for (second, why) in (from..).zip(found) {
            let now = Moment::from_millis(second * 1_000);
            let target = target(1, Health::Critical);
            schedule.hurry(&target.key, &target.id, now);
            let due = schedule.poll_due(now).unwrap();
            let verdict = schedule.handle(&due, &Err((*why).into()), now);
            said.extend(verdict.map(|v| (second, v.reason.unwrap().into())));
        }
        said
    }

    #[test]
    fn a_verdict_that_stands_for_another_reason_is_said_again_once_that_holds() {
        let mut schedule = one(Health::Unknown);
        let said = |second, why: &str| vec![(second, why.to_owned())];
        assert_eq!(
            reasons(&mut schedule, 1, &["refused"; 3]),
            said(1, "refused")
        );
        assert_eq!(reasons(&mut schedule, 4, &["404"; 6]), said(5, "404"));
        // The next no sooner than ten seconds after it; and then, if it still holds.
        assert_eq!(reasons(&mut schedule, 10, &["500"; 9]), said(15, "500"));
        // Two that take turns are none.
        assert_eq!(
            reasons(&mut schedule, 30, &["404", "500", "404", "503"]),
            []
        );
        // What is known already is not said again, as long as it may be.
        let long = |end| format!("{}{end}", "x".repeat(250));
        let (long, same) = (long("a"), long("b"));
        assert_eq!(
            reasons(&mut schedule, 40, &[&long, &same]),
            said(41, &long[..250])
        );
        assert_eq!(reasons(&mut schedule, 60, &[&long, &same, &same]), []);
    }

    #[test]
    fn a_new_beginning_goes_by_the_reason_that_the_registry_holds() {
        let held = |why: &str| Target {
            reason: Some(why.into()),
            ..target(1, Health::Critical)
        };
        let mut schedule = Schedule::new(1);
        schedule.put(held("refused"), Moment::ZERO);
        assert_eq!(reasons(&mut schedule, 1, &["refused"; 3]), []);
        schedule.begin_anew(vec![held("404")], Moment::from_millis(4_000));
        let said = reasons(&mut schedule, 5, &["refused"; 3]);
        assert_eq!(said, [(6, "refused".to_owned())]);
    }

    #[test]
    fn a_role_is_reported_as_soon_as_an_instance_that_is_well_has_it() {
        let mut schedule = one(Health::Critical);
        let mut probe = |outcome: Outcome| {
            let now = schedule.next_deadline().unwrap();
            let probed = schedule.poll_due(now).unwrap();
            let verdict = schedule.handle(&probed, &outcome, now);
            verdict.map(|v| (v.health, v.role, v.reason.is_some()))
        };
        let (primary, replica) = (Some(Role::Primary), Some(Role::Replica));
        // It has to rise first.
        assert_eq!(probe(Ok(replica)), None);
        assert_eq!(probe(Ok(replica)), Some((Health::Passing, replica, false)));
        assert_eq!(probe(Ok(replica)), None);
        assert_eq!(probe(Ok(primary)), Some((Health::Passing, primary, false)));
        // A failure says nothing of the role.
        assert_eq!(probe(Err("refused".into())), None);
        assert_eq!(probe(Ok(primary)), None);
        assert_eq!(probe(Ok(None)), Some((Health::Passing, None, false)));
    }

    #[test]
    fn doubt_makes_probes_come_sooner() {
        let (_, calm) = play(&mut one(Health::Passing), &[true, true, true]);
        let (_, doubt) = play(&mut one(Health::Passing), &[false, false, false]);
        assert!(calm >= Duration::from_millis(3_600) && calm <= Duration::from_millis(4_400));
        assert_eq!(doubt, Duration::from_millis(400));
    }

    #[test]
    fn a_suspect_is_probed_at_once() {
        let mut schedule = one(Health::Passing);
        play(&mut schedule, &[true]);
        let target = target(1, Health::Passing);
        let now = Moment::from_millis(100);
        assert!(schedule.poll_due(now).is_none());
        schedule.hurry(&target.key, &target.id, now);
        assert!(schedule.poll_due(now).is_some());
        // Seen to fail again while it is probed: once more, soon.
        schedule.hurry(&target.key, &target.id, now);
        schedule.handle(&target, &Ok(None), now);
        assert_eq!(
            schedule.next_deadline(),
            Some(now + Duration::from_millis(200))
        );
    }

    #[test]
    fn a_verdict_on_a_former_life_is_void() {
        let mut schedule = one(Health::Unknown);
        let now = Moment::from_millis(100);
        let old = schedule.poll_due(now).unwrap();
        let new = target(2, Health::Unknown);
        schedule.put(new, now);
        assert!(schedule.handle(&old, &Ok(None), now).is_none());
        assert_eq!(
            schedule.poll_due(now + FIRST).unwrap().incarnation,
            Incarnation(2)
        );
    }

    #[test]
    fn what_is_no_target_any_more_is_probed_no_more() {
        let mut schedule = one(Health::Passing);
        let target = target(1, Health::Passing);
        schedule.remove(&target.key, &target.id);
        assert_eq!(schedule.next_deadline(), None);
        schedule.replace(vec![target], Moment::ZERO);
        assert!(schedule.next_deadline().is_some());
        schedule.replace(vec![], Moment::ZERO);
        assert_eq!(schedule.next_deadline(), None);
    }
}
