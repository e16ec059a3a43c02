//! A connection that gives up on a peer that does not read.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// As long as output may wait before its progress is looked at.
const WINDOW: Duration = Duration::from_secs(30);
/// As many bytes must have gone out in that time: about a kilobyte a second, less than any network in use.
/// A peer that takes a byte now and then, to keep its answer in our memory, does not reach it.
const PROGRESS: u64 = 32 << 10;

/// A stream whose writes fail with [`ErrorKind::TimedOut`] once the peer reads too slowly. Costs nothing while it
/// keeps up: the timer exists only while output waits.
#[derive(Debug)]
pub(crate) struct Stall<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes written since the timer was set.
    moved: u64,
}

impl<S> Stall<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: None,
            moved: 0,
        }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = result {
            self.moved += *result.as_ref().unwrap_or(&0) as u64;
            return Poll::Ready(result);
        }
        let timer = self.waiting.get_or_insert_with(|| {
            self.moved = 0;
            Box::pin(sleep(WINDOW))
        });
        while timer.as_mut().poll(cx).is_ready() {
            if self.moved < PROGRESS {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            self.moved = 0;
            timer.as_mut().reset(Instant::now() + WINDOW);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // Asked for once everything is written: nothing waits any more.
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_is_given_up() {
        let (ours, _theirs) = duplex(64);
        let mut stream = Stall::new(ours);
        let result = stream.write_all(&[0; 1_000]).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_trickles_is_given_up() {
        let (ours, mut theirs) = duplex(64);
        tokio::spawn(async move {
            let mut byte = [0];
            while theirs.read_exact(&mut byte).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut stream = Stall::new(ours);
        let result = stream.write_all(&[0; 1_000]).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_keeps_reading_gets_everything() {
        let (ours, mut theirs) = duplex(64 << 10);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 4 << 10];
            let mut total = 0;
            while let Ok(n @ 1..) = theirs.read(&mut buffer).await {
                total += n;
                sleep(Duration::from_secs(2)).await;
            }
            total
        });
        let mut stream = Stall::new(ours);
        stream.write_all(&vec![0; 1 << 20]).await.unwrap();
        drop(stream);
        assert_eq!(reader.await.unwrap(), 1 << 20);
    }
}
