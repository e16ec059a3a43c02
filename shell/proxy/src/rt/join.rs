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

/// Runs both to their ends.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut left, mut right) = (None, None);
    poll_fn(|context| {
        if left.is_none() {
            if let Poll::Ready(out) = a.as_mut().poll(context) {
                left = Some(out);
            }
        }
        if right.is_none() {
            if let Poll::Ready(out) = b.as_mut().poll(context) {
                right = Some(out);
            }
        }
        match (left.take(), right.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (left, right) = (a, b);
                Poll::Pending
            }
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
