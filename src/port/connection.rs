//! Connections: a bounded number of them, each of which has to speak soon and to read what it is told.
//!
//! Without the bound a few hundred silent peers would use up the process's descriptors, and accepting
//! would then fail over and over.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Rest after a failed accept: its cause, mostly too few descriptors, does not pass at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// What a greeting has at least: the fixed first bytes of HTTP/2. A request of HTTP/1.1 is longer.
const GREETING_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// How many connections, and how patient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_connections: usize,
    /// Time until a connection has said enough to be answered.
    pub(super) greeting: Duration,
    /// Time that a peer may leave what it is told unread.
    pub(super) stall: Duration,
}

/// The connections of a listener. One too many is closed at once.
pub(super) struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
    bounds: Bounds,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(bounds.max_connections)), bounds }
    }

    /// The next connection that has a place.
    pub(super) async fn accept(&self) -> Connection {
        // Who connects again and again is not to fill the log: only the first failure in a row is told.
        let mut told = false;
        let mut tell = |what: String| {
            if !std::mem::replace(&mut told, true) {
                log::warn!("{what}");
            }
        };
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tell(format!("a connection could not be accepted: {e}"));
                    sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
                tell(format!("too many connections: that of {peer} is closed"));
                continue;
            };
            // Tokens are small messages that somebody waits for. An error here shows itself at the first read.
            let _ = stream.set_nodelay(true);
            let greeting = Some(Box::pin(sleep(self.bounds.greeting)));
            let stall = self.bounds.stall;
            return Connection { stream, _place: place, greeting, n_read: 0, stall, stalled: None };
        }
    }
}

/// A connection with its place among the bounded number.
pub(super) struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    /// Until the greeting has come, or is answered.
    greeting: Option<Pin<Box<Sleep>>>,
    /// Bytes of the greeting so far.
    n_read: usize,
    stall: Duration,
    /// While the peer leaves unread what it was told.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// What became of a write: one that waits too long fails.
    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.greeting = None;
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(read) = read {
            self.n_read = self.n_read.saturating_add(buf.filled().len() - n_before);
            if self.n_read >= GREETING_BYTES {
                self.greeting = None;
            }
            return Poll::Ready(read);
        }
        if let Some(greeting) = &mut self.greeting {
            ready!(greeting.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer said too little")));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);
    const BOUNDS: Bounds = Bounds { max_connections: 2, greeting: LONG, stall: LONG };

    async fn connections(bounds: Bounds) -> (std::net::SocketAddr, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), Connections::new(listener, bounds))
    }

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_comes_back() {
        let (addr, connections) = connections(Bounds { max_connections: 1, ..BOUNDS }).await;
        let _first = TcpStream::connect(addr).await.unwrap();
        let held = connections.accept().await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        let closed = tokio::select! {
            n = second.read_u8() => n.is_err(),
            _ = connections.accept() => false,
        };
        assert!(closed, "the second connection was let in");
        drop(held);
        let mut third = TcpStream::connect(addr).await.unwrap();
        let mut accepted = connections.accept().await;
        third.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_pauses_later_do_not() {
        let (addr, connections) = connections(Bounds { greeting: SHORT, ..BOUNDS }).await;
        let mut talker = TcpStream::connect(addr).await.unwrap();
        let mut accepted = connections.accept().await;
        talker.write_all(&[b'x'; GREETING_BYTES]).await.unwrap();
        accepted.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        // Neither nothing nor the beginning of a greeting is enough.
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let mut silent = TcpStream::connect(addr).await.unwrap();
            silent.write_all(said).await.unwrap();
            let mut silence = connections.accept().await;
            let mut heard = Vec::new();
            let ended = silence.read_to_end(&mut heard).await.unwrap_err();
            assert_eq!((ended.kind(), heard.as_slice()), (io::ErrorKind::TimedOut, said));
        }
        // The first has been silent for as long by now, after its greeting.
        talker.write_all(b"y").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (addr, connections) = connections(Bounds { stall: SHORT, ..BOUNDS }).await;
        let _deaf = TcpStream::connect(addr).await.unwrap();
        let mut accepted = connections.accept().await;
        // More than the system's buffers of both ends hold.
        let told = accepted.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::TimedOut);
    }
}
