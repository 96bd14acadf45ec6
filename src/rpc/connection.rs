//! Connections: a bounded number of them, each of which has to speak soon.
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
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Rest after a failed accept: its cause, mostly too few descriptors, does not pass at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How many connections, and how patient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_connections: usize,
    /// Time until the first byte of a connection.
    pub(super) greeting: Duration,
}

/// The connections of a listener. One too many is closed at once.
pub(super) struct Connections {
    listener: Arc<TcpListener>,
    free: Arc<Semaphore>,
    greeting: Duration,
    next: Pin<Box<dyn Future<Output = Connection> + Send>>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        let listener = Arc::new(listener);
        let free = Arc::new(Semaphore::new(bounds.max_connections));
        let next = Box::pin(accept(Arc::clone(&listener), Arc::clone(&free), bounds.greeting));
        Self { listener, free, greeting: bounds.greeting, next }
    }
}

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let connection = ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(accept(Arc::clone(&self.listener), Arc::clone(&self.free), self.greeting));
        Poll::Ready(Some(Ok(connection)))
    }
}

async fn accept(listener: Arc<TcpListener>, free: Arc<Semaphore>, greeting: Duration) -> Connection {
    // Who connects again and again is not to fill the log: only the first failure in a row is told.
    let mut told = false;
    let mut tell = |what: String| {
        if !std::mem::replace(&mut told, true) {
            log::warn!("{what}");
        }
    };
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tell(format!("a connection could not be accepted: {e}"));
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&free).try_acquire_owned() else {
            tell(format!("too many connections: that of {peer} is closed"));
            continue;
        };
        // Tokens are small messages that somebody waits for. An error here shows itself at the first read.
        let _ = stream.set_nodelay(true);
        return Connection { stream, _place: place, greeting: Some(Box::pin(sleep(greeting))) };
    }
}

/// A connection with its place among the bounded number.
pub(super) struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    /// Until the first byte has come.
    greeting: Option<Pin<Box<Sleep>>>,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.greeting = None;
            return Poll::Ready(read);
        }
        if let Some(greeting) = &mut self.greeting {
            ready!(greeting.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing")));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
    use tokio_stream::StreamExt;

    use super::*;

    async fn connections(bounds: Bounds) -> (std::net::SocketAddr, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), Connections::new(listener, bounds))
    }

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_comes_back() {
        let bounds = Bounds { max_connections: 1, greeting: Duration::from_secs(60) };
        let (addr, mut connections) = connections(bounds).await;
        let _first = TcpStream::connect(addr).await.unwrap();
        let held = connections.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(addr).await.unwrap();
        let closed = tokio::select! {
            n = second.read_u8() => n.is_err(),
            _ = connections.next() => false,
        };
        assert!(closed, "the second connection was let in");
        drop(held);
        let mut third = TcpStream::connect(addr).await.unwrap();
        let mut accepted = connections.next().await.unwrap().unwrap();
        third.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_pauses_later_do_not() {
        let bounds = Bounds { max_connections: 2, greeting: Duration::from_millis(300) };
        let (addr, mut connections) = connections(bounds).await;
        let mut talker = TcpStream::connect(addr).await.unwrap();
        let mut accepted = connections.next().await.unwrap().unwrap();
        talker.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
        let _silent = TcpStream::connect(addr).await.unwrap();
        let mut silence = connections.next().await.unwrap().unwrap();
        assert_eq!(silence.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // The first has been silent for as long by now, after its first byte.
        talker.write_all(b"y").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'y');
    }
}
