//! Two things at once within one task (a wake polls both), and letting other tasks run.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::Reactor;

/// Which of two ended first.
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// Runs both until one ends; the other is dropped, and so cancelled.
pub async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| {
        if let Poll::Ready(out) = a.as_mut().poll(context) {
            return Poll::Ready(Either::Left(out));
        }
        b.as_mut().poll(context).map(Either::Right)
    })
    .await
}

/// Runs both until both have succeeded or one has failed; the other is then dropped, and so cancelled.
///
/// # Errors
/// The first one's.
pub async fn try_join<E>(
    a: impl Future<Output = Result<(), E>>,
    b: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (false, false);
    poll_fn(|context| {
        if !a_done {
            if let Poll::Ready(outcome) = a.as_mut().poll(context) {
                outcome?;
                a_done = true;
            }
        }
        if !b_done {
            if let Poll::Ready(outcome) = b.as_mut().poll(context) {
                outcome?;
                b_done = true;
            }
        }
        match a_done && b_done {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

/// Lets the other tasks run, and comes back after them.
pub async fn yield_now(reactor: &Reactor) {
    let mut yielded = false;
    poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        reactor.wake_current();
        Poll::Pending
    })
    .await;
}
