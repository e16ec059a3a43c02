//! What is taken from the queue at a time, to be committed together.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::queue::{Job, Message, TAKE, batches};

/// How long it is waited for others at a time. The system makes 70 µs of it.
const PAUSE: Duration = Duration::from_micros(20);
/// How many times. A batch costs about as much for one as for all who write: on three nodes, four clients of the API took 143 µs of
/// the processor for a write instead of 192, and 16 took 57 instead of 70, and none had to wait longer for it (medians of rounds
/// by turns).
const PAUSES: usize = 3;
/// Whoever wrote longer ago may have gone.
const RECENT: Duration = Duration::from_millis(1);
/// For so many batches it is not waited again after it was in vain. Whoever writes alone seems to be two, if he is back
/// before this thread, which has answered him, has got to look.
const SKIPS: u32 = 100;

/// What has been taken from the queue.
pub(crate) struct Intake {
    messages: UnboundedReceiver<Message>,
    taken: Vec<Message>,
    writers: Writers,
}

impl Intake {
    pub(crate) fn new(messages: UnboundedReceiver<Message>) -> Self {
        Self {
            messages,
            taken: Vec::with_capacity(TAKE),
            writers: Writers::new(Instant::now()),
        }
    }

    /// Waits until there is something, the last batch being committed; false if nobody is left who could bring it.
    pub(crate) async fn wait(&mut self) -> bool {
        self.look() || self.messages.recv_many(&mut self.taken, TAKE).await > 0
    }

    /// The same on a thread that may wait.
    pub(crate) fn blocking_wait(&mut self) -> bool {
        self.look() || self.messages.blocking_recv_many(&mut self.taken, TAKE) > 0
    }

    /// Waits a moment, on this thread if it may, for others who are about to write.
    pub(crate) fn gather(&mut self, may_wait: impl FnOnce() -> bool) {
        let here = self.count();
        if !self.writers.are_missed(here, Instant::now()) || !may_wait() {
            return;
        }
        for _ in 0..PAUSES {
            // Those who write meanwhile need not wake it.
            std::thread::sleep(PAUSE);
            self.drain();
            if self.count() >= self.writers.expected {
                return;
            }
        }
        if self.count() == here {
            self.writers.stay_away();
        }
    }

    /// What is to be committed now, in batches; and whether nothing comes after that.
    pub(crate) fn take(&mut self) -> (Vec<Vec<Job>>, bool) {
        self.writers.written = self.count();
        batches(self.taken.drain(..))
    }

    /// Takes what has come by now; whether there is something.
    fn look(&mut self) -> bool {
        self.drain();
        self.writers.answered(self.count(), Instant::now());
        !self.taken.is_empty()
    }

    fn drain(&mut self) {
        while self.taken.len() < TAKE
            && let Ok(message) = self.messages.try_recv()
        {
            self.taken.push(message);
        }
    }

    fn count(&self) -> usize {
        self.taken.iter().map(Message::count).sum()
    }
}

/// Who may be about to write: those whose writes were just committed, for they are mostly back at once, and those who came
/// while that was under way.
struct Writers {
    /// How many wrote in the last batches.
    written: usize,
    expected: usize,
    answered: Instant,
    skips: u32,
}

impl Writers {
    fn new(now: Instant) -> Self {
        Self {
            written: 0,
            expected: 0,
            answered: now,
            skips: 0,
        }
    }

    /// The last batches are committed, and so many wait.
    fn answered(&mut self, waiting: usize, now: Instant) {
        self.expected = self.written + waiting;
        self.answered = now;
    }

    /// Whether it is worth a while to wait for the others, where so many are there.
    fn are_missed(&mut self, here: usize, now: Instant) -> bool {
        let missed = here < self.expected && now - self.answered <= RECENT;
        let skipped = missed && self.skips > 0;
        self.skips -= u32::from(skipped);
        missed && !skipped
    }

    /// It was in vain.
    fn stay_away(&mut self) {
        self.skips = SKIPS;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// So many wrote, and wait when these are answered.
    fn writers(written: usize, waiting: usize) -> (Writers, Instant) {
        let now = Instant::now();
        let mut writers = Writers::new(now);
        writers.written = written;
        writers.answered(waiting, now);
        (writers, now)
    }

    #[test]
    fn those_who_have_just_written_are_missed_until_they_are_back() {
        let (mut writers, now) = writers(8, 7);
        assert!(writers.are_missed(7, now));
        assert!(writers.are_missed(14, now + RECENT));
        assert!(!writers.are_missed(15, now));
    }

    #[test]
    fn nobody_is_missed_who_wrote_long_ago_and_nobody_by_one_who_writes_alone() {
        let (mut before, now) = writers(8, 0);
        assert!(!before.are_missed(1, now + 2 * RECENT));
        let (mut alone, now) = writers(1, 0);
        assert!(!alone.are_missed(1, now));
    }

    #[test]
    fn after_waiting_in_vain_nobody_is_missed_for_a_while() {
        let (mut writers, now) = writers(1, 1);
        assert!(writers.are_missed(1, now));
        writers.stay_away();
        let missed = (0..SKIPS).filter(|_| writers.are_missed(1, now)).count();
        assert_eq!(missed, 0);
        assert!(writers.are_missed(1, now));
    }

    #[test]
    fn what_comes_while_it_is_waited_is_taken_with_the_rest() {
        let (sender, messages) = unbounded_channel();
        let write = || sender.send(Message::Work(vec![Job::of_nobody(Vec::new())]));
        let mut intake = Intake::new(messages);
        for _ in 0..3 {
            write().expect("it is listened to");
        }
        assert!(intake.blocking_wait());
        let (work, _) = intake.take();
        assert_eq!(work.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
        // One comes while these are committed, and one of them is back when it is waited for.
        write().expect("it is listened to");
        assert!(intake.blocking_wait());
        assert_eq!(intake.writers.expected, 4);
        write().expect("it is listened to");
        intake.writers.answered = Instant::now() + 1_000 * RECENT;
        intake.gather(|| true);
        let (work, last) = intake.take();
        assert_eq!(work.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        assert!(!last);
        sender.send(Message::Close).expect("it is listened to");
        assert!(intake.blocking_wait() && intake.take().1);
        drop(sender);
        assert!(!intake.blocking_wait());
    }
}
