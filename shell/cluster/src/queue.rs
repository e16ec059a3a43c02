use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use registry::replication::push_command;
use registry::{Command, Committed, FORMAT, MAX_COMMAND, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use crate::SubmitError;
use crate::log::MAX_FRAME;

/// The most bytes of commands in a batch: a frame has room for it, and for what is written with it.
pub(crate) const MAX_RECORDS: usize = MAX_FRAME - 1024;
/// Messages taken from the queue at a time.
pub(crate) const TAKE: usize = 4_096;
/// What a waiting command costs besides its bytes.
const OVERHEAD: u32 = 512;

/// The way to the writer. Bounded in bytes, for a bound in commands would either refuse small ones early
/// or take a gigabyte of large ones.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
    limit: u32,
    wait: Duration,
    /// The latest format that all nodes read.
    format: Arc<AtomicU8>,
}

/// What the writer is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// In this order.
    Work(Vec<Job>),
    /// Finish what came before, then stop.
    Close,
}

/// Commands that are committed together, in one frame of the log.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) commands: Vec<Command>,
    /// The commands as they are written.
    pub(crate) records: Vec<u8>,
    pub(crate) answer: Answer,
    /// Room in the queue, given back when the job is done. The node's own commands need none: it never
    /// has more than a few waiting.
    _room: Option<OwnedSemaphorePermit>,
}

/// What is called with a command's answer, on the thread that applied it, before anybody can read what it did: be quick.
/// `None` if it was not committed.
pub type Done = Box<dyn FnOnce(&Registry, Option<&Committed>) + Send>;

/// Who gets a job's answer.
pub(crate) enum Answer {
    Waiting(oneshot::Sender<Result<Vec<Committed>, SubmitError>>),
    Called(Done),
    Nobody,
}

impl Message {
    /// How many jobs it brings.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Work(jobs) => jobs.len(),
            Self::Close => 0,
        }
    }
}

impl Job {
    /// Commands that nobody on this node waits for.
    pub(crate) fn of_nobody(commands: Vec<Command>) -> Self {
        Self {
            commands,
            records: Vec::new(),
            answer: Answer::Nobody,
            _room: None,
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Called(_) => "Called",
            Self::Nobody => "Nobody",
        })
    }
}

/// Makes batches of what was taken from the queue, none of more bytes than fit; and says whether that was the last.
pub(crate) fn batches(taken: impl Iterator<Item = Message>) -> (Vec<Vec<Job>>, bool) {
    let (mut batches, mut bytes, mut closing) = (Vec::new(), 0, false);
    let mut jobs = Vec::with_capacity(taken.size_hint().0);
    for message in taken {
        let Message::Work(work) = message else {
            closing = true;
            continue;
        };
        for job in work {
            if bytes + job.records.len() > MAX_RECORDS {
                batches.push(std::mem::take(&mut jobs));
                bytes = 0;
            }
            bytes += job.records.len();
            jobs.push(job);
        }
    }
    if !jobs.is_empty() {
        batches.push(jobs);
    }
    (batches, closing)
}

type Answered = oneshot::Receiver<Result<Vec<Committed>, SubmitError>>;

impl Queue {
    pub(crate) fn new(limit: u32, wait: Duration) -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queue = Self {
            sender,
            room: Arc::new(Semaphore::new(limit as usize)),
            limit,
            wait,
            format: Arc::new(AtomicU8::new(FORMAT)),
        };
        (queue, receiver)
    }

    /// From here on, nothing is taken that takes a later format to be said.
    pub(crate) fn write_format(&self, format: u8) {
        self.format.store(format, Relaxed);
    }

    /// The latest format that may be written.
    pub(crate) fn format(&self) -> u8 {
        self.format.load(Relaxed)
    }

    /// Whether all nodes read these.
    pub(crate) fn admit(&self, commands: &[Command]) -> Result<(), SubmitError> {
        let written = self.format();
        match commands.iter().map(Command::format).max() {
            Some(needed) if needed > written => Err(SubmitError::TooNew { needed, written }),
            _ => Ok(()),
        }
    }

    /// Commits commands together, once there is room.
    pub(crate) async fn submit(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Committed>, SubmitError> {
        let records = self.encode(&commands)?;
        let room = self.room(self.cost(&records)).await?;
        let answered = self.send(commands, records, Some(room))?;
        answered.await.unwrap_or(Err(SubmitError::Closed))
    }

    /// Admits commands from the front of these on, as long as there is room; and says why the command that is the first now
    /// was not admitted.
    pub(crate) fn admit_some(
        &self,
        commands: &mut VecDeque<(Command, Done)>,
    ) -> (Vec<Job>, Result<(), SubmitError>) {
        let mut jobs = Vec::with_capacity(commands.len());
        while let Some((command, done)) = commands.pop_front() {
            let (records, room) = match self.admit_now(&command) {
                Ok(admitted) => admitted,
                Err(why) => {
                    commands.push_front((command, done));
                    return (jobs, Err(why));
                }
            };
            jobs.push(Job {
                commands: vec![command],
                records,
                answer: Answer::Called(done),
                _room: Some(room),
            });
        }
        (jobs, Ok(()))
    }

    /// Whether nothing that was given room is waiting, or being committed.
    pub(crate) fn is_idle(&self) -> bool {
        self.room.available_permits() == self.limit as usize
    }

    /// A command as it is written, and its room, if there is some at present.
    fn admit_now(&self, command: &Command) -> Result<(Vec<u8>, OwnedSemaphorePermit), SubmitError> {
        let records = self.encode(std::slice::from_ref(command))?;
        match Arc::clone(&self.room).try_acquire_many_owned(self.cost(&records)) {
            Ok(room) => Ok((records, room)),
            Err(TryAcquireError::NoPermits) => Err(SubmitError::Overloaded),
            Err(TryAcquireError::Closed) => Err(SubmitError::Closed),
        }
    }

    fn cost(&self, records: &[u8]) -> u32 {
        let bytes = records.len() as u32;
        bytes.saturating_add(OVERHEAD).min(self.limit)
    }

    /// Commits commands of the node's own; the caller waits for the answer, on a thread that may.
    pub(crate) fn submit_own(&self, commands: Vec<Command>) -> Result<Answered, SubmitError> {
        let records = self.encode(&commands)?;
        self.send(commands, records, None)
    }

    pub(crate) fn tell(&self, message: Message) {
        // An error says that the writer has stopped, and then there is nobody to be told.
        let _ = self.sender.send(message);
    }

    /// Refuses everything from here on that is not waiting in the queue already.
    pub(crate) fn close(&self) {
        self.room.close();
        self.tell(Message::Close);
    }

    async fn room(&self, cost: u32) -> Result<OwnedSemaphorePermit, SubmitError> {
        // Mostly there is room, and no timer is needed.
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(cost) {
            return Ok(room);
        }
        let room = Arc::clone(&self.room).acquire_many_owned(cost);
        match tokio::time::timeout(self.wait, room).await {
            Ok(room) => room.map_err(|_| SubmitError::Closed),
            Err(_) => Err(SubmitError::Overloaded),
        }
    }

    fn encode(&self, commands: &[Command]) -> Result<Vec<u8>, SubmitError> {
        self.admit(commands)?;
        encode(commands)
    }

    fn send(
        &self,
        commands: Vec<Command>,
        records: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Answered, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            commands,
            records,
            answer: Answer::Waiting(answer),
            _room: room,
        };
        self.sender
            .send(Message::Work(vec![job]))
            .map_err(|_| SubmitError::Closed)?;
        Ok(answered)
    }
}

fn encode(commands: &[Command]) -> Result<Vec<u8>, SubmitError> {
    let mut records = Vec::with_capacity(128 * commands.len());
    for command in commands {
        let size = push_command(&mut records, command);
        if size > MAX_COMMAND {
            return Err(SubmitError::TooLarge {
                size,
                limit: MAX_COMMAND,
            });
        }
        if records.len() > MAX_RECORDS {
            return Err(SubmitError::TooLarge {
                size: records.len(),
                limit: MAX_RECORDS,
            });
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use model::ServiceKey;

    use super::*;

    fn command() -> Command {
        Command::Deregister {
            key: ServiceKey::in_default("shop".parse().unwrap()),
            id: "a".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_after_a_while_and_takes_again_once_there_is_room() {
        // Room for one, and nobody who takes it away.
        let (queue, mut messages) = Queue::new(OVERHEAD, Duration::from_millis(10));
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.submit(vec![command()]).await })
        };
        let Some(Message::Work(jobs)) = messages.recv().await else {
            panic!("a command was sent")
        };
        let refused = queue.submit(vec![command()]).await;
        assert_eq!(refused.unwrap_err(), SubmitError::Overloaded);
        // The node's own commands get through.
        queue.submit_own(vec![command()]).unwrap();
        assert!(matches!(messages.recv().await, Some(Message::Work(_))));
        drop(jobs);
        assert_eq!(waiting.await.unwrap().unwrap_err(), SubmitError::Closed);
        let next = queue.submit(vec![command()]);
        let (_, taken) = tokio::join!(next, async { messages.recv().await.is_some() });
        assert!(taken);
    }

    #[test]
    fn of_several_those_are_taken_that_there_is_room_for_and_the_rest_stays_in_order() {
        let (one, mut records) = (command(), Vec::new());
        push_command(&mut records, &one);
        let cost = OVERHEAD + records.len() as u32;
        let (queue, _messages) = Queue::new(2 * cost + 1, Duration::ZERO);
        let names = ["a", "b", "c", "d"];
        let named = |id: &str| Command::Deregister {
            key: ServiceKey::in_default("shop".parse().unwrap()),
            id: id.parse().unwrap(),
        };
        let done = || -> Done { Box::new(|_, _| ()) };
        let mut asked: VecDeque<_> = names.iter().map(|id| (named(id), done())).collect();
        let (jobs, refused) = queue.admit_some(&mut asked);
        assert_eq!(refused, Err(SubmitError::Overloaded));
        assert!(!queue.is_idle());
        let taken: Vec<&Command> = jobs.iter().flat_map(|job| &job.commands).collect();
        assert_eq!(taken, [&named("a"), &named("b")]);
        let left: Vec<&Command> = asked.iter().map(|(command, _)| command).collect();
        assert_eq!(left, [&named("c"), &named("d")]);
        drop(jobs);
        assert!(queue.is_idle());
        let (jobs, admitted) = queue.admit_some(&mut asked);
        assert_eq!((jobs.len(), asked.len(), admitted), (2, 0, Ok(())));
        queue.close();
        asked.push_back((one, done()));
        assert_eq!(queue.admit_some(&mut asked).1, Err(SubmitError::Closed));
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test]
    async fn a_closed_queue_refuses_at_once() {
        let (queue, _messages) = Queue::new(OVERHEAD, Duration::from_secs(600));
        queue.close();
        let refused = queue.submit(vec![command()]).await;
        assert_eq!(refused.unwrap_err(), SubmitError::Closed);
    }
}
