//! What a connection writes in one turn, gathered into few large writes.
//!
//! h2 hands a payload of a kilobyte or more to a write of its own, and tokio lets a connection run as
//! soon as the first of its calls has something for it. A change that goes to a thousand streams
//! would be a thousand writes, or two thousand. So the connection goes behind whatever is already
//! awake, its calls among it; then it writes into a buffer; and that goes out when it has done.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much is gathered before it is written: more gains nothing.
const ROOM: usize = 64 << 10;

/// An empty buffer of more is given back, since most connections are idle.
const KEPT: usize = 4 << 10;

/// A transport whose writes wait until the connection has done with its turn: see [`driven`].
#[derive(Debug)]
pub(super) struct Gathering<T>(Arc<Mutex<Outbox<T>>>);

#[derive(Debug)]
struct Outbox<T> {
    transport: T,
    waiting: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    /// What went wrong after a turn; the connection hears of it in the next.
    broken: Option<io::Error>,
}

impl<T> Gathering<T> {
    pub fn over(transport: T) -> Self {
        let outbox = Outbox { transport, waiting: Vec::new(), written: 0, broken: None };
        Self(Arc::new(Mutex::new(outbox)))
    }

    /// The same transport, for [`driven`].
    pub fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives a connection over `transport`, turn by turn.
pub(super) async fn driven<C, T>(mut connection: Pin<&mut C>, transport: &Gathering<T>) -> C::Output
where
    C: Future,
    T: AsyncWrite + Unpin,
{
    let mut has_waited = false;
    poll_fn(|cx| {
        has_waited = !has_waited;
        if has_waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = connection.as_mut().poll(cx);
        let mut outbox = transport.outbox();
        if let Poll::Ready(Err(error)) = outbox.poll_send(cx) {
            outbox.broken = Some(error);
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

impl<T: AsyncWrite + Unpin> Outbox<T> {
    fn take(&mut self, bytes: &[u8]) {
        // From little to all at once: not by doubling.
        if self.waiting.len() + bytes.len() > self.waiting.capacity().max(KEPT) {
            self.waiting.reserve_exact(ROOM - self.waiting.len());
        }
        self.waiting.extend_from_slice(bytes);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.transport).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.written += more,
            }
        }
        self.written = 0;
        self.waiting.clear();
        if self.waiting.capacity() > KEPT {
            self.waiting = Vec::new();
        }
        Pin::new(&mut self.transport).poll_flush(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathering<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outbox().transport).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathering<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outbox = self.outbox();
        if outbox.waiting.len() + bytes.len() > ROOM {
            ready!(outbox.poll_send(cx))?;
        }
        let bytes = &bytes[..bytes.len().min(ROOM)];
        outbox.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What there is goes out after the turn.
        let broken = mem::take(&mut self.outbox().broken);
        Poll::Ready(broken.map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox();
        ready!(outbox.poll_send(cx))?;
        Pin::new(&mut outbox.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, pin::pin};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Keeps what is written, write by write, and fails as it is told.
    #[derive(Default)]
    struct Paper {
        writes: Vec<Vec<u8>>,
        failures: VecDeque<io::ErrorKind>,
    }

    impl AsyncWrite for Paper {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if let Some(failure) = self.failures.pop_front() {
                return Poll::Ready(Err(failure.into()));
            }
            self.writes.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn lengths(paper: &Gathering<Paper>) -> Vec<usize> {
        paper.outbox().transport.writes.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_goes_out_as_one_write() {
        let mut paper = Gathering::over(Paper::default());
        let handle = paper.handle();
        let connection = pin!(async {
            for part in [&b"one "[..], b"two ", &[b'x'; 10_000]] {
                paper.write_all(part).await.unwrap();
                paper.flush().await.unwrap();
                assert_eq!(lengths(&paper), [0; 0]);
            }
            tokio::task::yield_now().await;
            assert_eq!(lengths(&paper), [10_008]);
            paper.write_all(b"three").await.unwrap();
        });
        driven(connection, &handle).await;
        assert_eq!(lengths(&handle), [10_008, 5]);
        assert!(handle.outbox().transport.writes[0].starts_with(b"one two xx"));
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_goes_out_in_order_before_the_turn_is_over() {
        let mut paper = Gathering::over(Paper::default());
        let handle = paper.handle();
        let bytes: Vec<u8> = (0..5 * ROOM / 2).map(|number| (number % 251) as u8).collect();
        let connection = pin!(async {
            for part in bytes.chunks(10_000) {
                paper.write_all(part).await.unwrap();
            }
            paper.shutdown().await.unwrap();
            assert_eq!(paper.outbox().transport.writes.concat(), bytes);
        });
        driven(connection, &handle).await;
        assert!(lengths(&handle).iter().all(|length| *length <= ROOM));
    }

    #[tokio::test]
    async fn a_write_that_fails_after_the_turn_is_told_in_the_next() {
        let failures = VecDeque::from([io::ErrorKind::BrokenPipe]);
        let mut paper = Gathering::over(Paper { failures, ..Paper::default() });
        let handle = paper.handle();
        let connection = pin!(async {
            paper.write_all(b"lost").await.unwrap();
            tokio::task::yield_now().await;
            paper.flush().await
        });
        let failed = driven(connection, &handle).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::BrokenPipe);
    }
}
