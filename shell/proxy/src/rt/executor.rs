//! Runs the tasks of one worker.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::reactor::{Reactor, TaskId};

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u32,
    /// Taken out while it is polled.
    task: Option<Task>,
}

/// Polls tasks when the reactor says so.
pub struct Executor {
    handle: Handle,
}

/// Spawns tasks on the worker's executor.
#[derive(Clone)]
pub struct Handle(Rc<Shared>);

struct Shared {
    reactor: Rc<Reactor>,
    slots: RefCell<Slab<Slot>>,
    generations: Cell<u32>,
    stopping: Cell<bool>,
}

impl Handle {
    /// Starts a task; it is polled in the loop's next round.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        let shared = &self.0;
        let generation = shared.generations.get().wrapping_add(1);
        shared.generations.set(generation);
        let index = shared.slots.borrow_mut().insert(Slot {
            generation,
            task: Some(Box::pin(task)),
        });
        let id = TaskId::new(index as u32, generation);
        shared.reactor.task_begins(id);
        shared.reactor.wake(id);
        id
    }

    /// Polls every task once more, so that those that wait notice a change of circumstances (drain).
    pub fn wake_all(&self) {
        for (index, slot) in self.0.slots.borrow().iter() {
            self.0
                .reactor
                .wake(TaskId::new(index as u32, slot.generation));
        }
    }

    /// Ends [`Executor::run`] after the present round; what still runs is dropped.
    pub fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// The reactor the tasks wait on.
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.0.reactor
    }
}

impl Executor {
    /// An executor without tasks.
    pub fn new(reactor: Rc<Reactor>) -> Self {
        Self {
            handle: Handle(Rc::new(Shared {
                reactor,
                slots: RefCell::default(),
                generations: Cell::new(0),
                stopping: Cell::new(false),
            })),
        }
    }

    /// For spawning tasks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until [`Handle::stop`], or (simulation only) until nothing can happen any more.
    ///
    /// # Errors
    /// When the kernel refuses to wait for events; nothing can be served then.
    pub fn run(&self) -> io::Result<()> {
        let shared = &self.handle.0;
        while !shared.stopping.get() {
            // Only those queued now: a task that queues itself again waits for the events of the others.
            for _ in 0..shared.reactor.queued() {
                let Some(id) = shared.reactor.next_queued() else {
                    break;
                };
                self.poll(id);
            }
            if shared.stopping.get() || !shared.reactor.turn()? && shared.reactor.queued() == 0 {
                break;
            }
        }
        // Tasks hold handles to us: taken out and dropped one by one, they may still call back.
        let left: Vec<_> = shared.slots.borrow_mut().drain().collect();
        drop(left);
        Ok(())
    }

    fn poll(&self, id: TaskId) {
        let shared = &self.handle.0;
        let taken = shared
            .slots
            .borrow_mut()
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation())
            .and_then(|slot| slot.task.take());
        let Some(mut task) = taken else {
            return;
        };
        shared.reactor.set_current(id);
        // Nothing here uses wakers: tasks wait on sockets and deadlines only.
        let mut context = Context::from_waker(Waker::noop());
        match task.as_mut().poll(&mut context) {
            Poll::Pending => {
                if let Some(slot) = shared.slots.borrow_mut().get_mut(id.index()) {
                    slot.task = Some(task);
                }
            }
            Poll::Ready(()) => {
                shared.slots.borrow_mut().remove(id.index());
                drop(task);
            }
        }
    }
}
