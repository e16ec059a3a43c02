//! Requests to a service that takes only so many at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use balance::{Joined, Queue, Ticket};
use model::{Admission, Limiting, Moment, Priority, ServiceTable};

use crate::rt::TaskId;
use crate::worker::Worker;

/// A request that was admitted, until it is dropped.
pub(crate) struct Admitted {
    worker: Rc<Worker>,
    service: usize,
    admission: Arc<Admission>,
}

/// One worker's queues, by the number of their service.
#[derive(Default)]
pub(crate) struct Waiters(RefCell<BTreeMap<usize, Line>>);

/// Those who wait for one service.
struct Line {
    queue: Queue,
    limiting: Limiting,
    admission: Arc<Admission>,
    waiting: BTreeMap<Ticket, Waiting>,
}

/// One of them.
#[derive(Clone)]
struct Waiting {
    task: TaskId,
    verdict: Rc<RefCell<Verdict>>,
}

enum Verdict {
    None,
    Admitted(Admitted),
    SentAway,
}

/// Waits until the service with this number has room for one more request; `None` if it has none in time, or by the deadline.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    number: usize,
    service: &ServiceTable,
    priority: Priority,
    deadline: Moment,
) -> Option<Admitted> {
    let admission = &service.admission;
    // Nobody overtakes those who wait already.
    if worker.waiters.are_none(number) && admission.enter() {
        return Some(Admitted::new(worker, number, admission));
    }
    let admitted = wait(worker, number, service, priority, deadline).await;
    if admitted.is_none() {
        admission.shed[priority as usize].add(1);
    }
    admitted
}

async fn wait(
    worker: &Rc<Worker>,
    number: usize,
    service: &ServiceTable,
    priority: Priority,
    deadline: Moment,
) -> Option<Admitted> {
    let (ticket, verdict) = join(worker, number, service, priority)?;
    worker.reactor().set_deadline(deadline);
    poll_fn(|_| match &*verdict.borrow() {
        Verdict::None if !worker.reactor().timed_out() => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
    if matches!(&*verdict.borrow(), Verdict::None) {
        worker.waiters.forget(number, ticket);
    }
    match verdict.replace(Verdict::SentAway) {
        Verdict::Admitted(admitted) => Some(admitted),
        Verdict::None | Verdict::SentAway => None,
    }
}

/// The present task takes its place in the line; `None` if there is none.
fn join(
    worker: &Rc<Worker>,
    number: usize,
    service: &ServiceTable,
    priority: Priority,
) -> Option<(Ticket, Rc<RefCell<Verdict>>)> {
    let mut lines = worker.waiters.0.borrow_mut();
    let line = lines.entry(number).or_insert_with(|| Line::new(service));
    line.limiting = service.balancing.limiting;
    let was_empty = line.queue.is_empty();
    let ticket = match line.queue.join(priority, &line.limiting, worker.now()) {
        Joined::Full => return None,
        Joined::Waits(ticket) => ticket,
        Joined::Instead(ticket, other) => {
            line.send_away(other, worker);
            ticket
        }
    };
    let verdict = Rc::new(RefCell::new(Verdict::None));
    let waiting = Waiting {
        task: worker.reactor().current(),
        verdict: verdict.clone(),
    };
    line.waiting.insert(ticket, waiting);
    if was_empty {
        worker.handle.spawn(look_again(worker.clone(), number));
    }
    Some((ticket, verdict))
}

/// Lets those in who wait, and sends them away in time, for as long as anybody does. Room may come from another worker's
/// requests, which do not know who waits here.
async fn look_again(worker: Rc<Worker>, number: usize) {
    while !worker.waiters.are_none(number) {
        worker.reactor().a_moment().await;
        worker.waiters.fill(number, &worker);
        worker.waiters.send_away(number, &worker);
    }
}

impl Admitted {
    fn new(worker: &Rc<Worker>, service: usize, admission: &Arc<Admission>) -> Self {
        Self {
            worker: worker.clone(),
            service,
            admission: admission.clone(),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.leave();
        self.worker.waiters.fill(self.service, &self.worker);
    }
}

impl Waiters {
    fn are_none(&self, number: usize) -> bool {
        let lines = self.0.borrow();
        lines.get(&number).is_none_or(|line| line.queue.is_empty())
    }

    /// Lets in as many as there is room for.
    fn fill(&self, number: usize, worker: &Rc<Worker>) {
        let mut lines = self.0.borrow_mut();
        let Some(line) = lines.get_mut(&number) else {
            return;
        };
        while !line.queue.is_empty() && line.admission.enter() {
            let next = line.queue.next(&line.limiting, worker.now());
            let Some(waiting) = next.and_then(|ticket| line.waiting.remove(&ticket)) else {
                line.admission.leave();
                continue;
            };
            let admitted = Admitted::new(worker, number, &line.admission);
            waiting.hears(Verdict::Admitted(admitted), worker);
        }
    }

    /// One waits no longer.
    fn forget(&self, number: usize, ticket: Ticket) {
        if let Some(line) = self.0.borrow_mut().get_mut(&number) {
            line.queue.leave(ticket);
            line.waiting.remove(&ticket);
        }
    }

    /// Those who waited for long enough.
    fn send_away(&self, number: usize, worker: &Worker) {
        let mut lines = self.0.borrow_mut();
        if let Some(line) = lines.get_mut(&number) {
            for ticket in line.queue.handle_timeout(worker.now()) {
                line.send_away(ticket, worker);
            }
        }
    }
}

impl Line {
    fn new(service: &ServiceTable) -> Self {
        Self {
            queue: Queue::default(),
            limiting: service.balancing.limiting,
            admission: service.admission.clone(),
            waiting: BTreeMap::new(),
        }
    }

    fn send_away(&mut self, ticket: Ticket, worker: &Worker) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            waiting.hears(Verdict::SentAway, worker);
        }
    }
}

impl Waiting {
    fn hears(self, verdict: Verdict, worker: &Worker) {
        self.verdict.replace(verdict);
        worker.reactor().wake(self.task);
    }
}
