//! Connections: a bounded number of them, each of which has to speak soon and to read what it is told.
//!
//! Without the bound a few hundred silent peers would use up the process's descriptors, and accepting
//! would then fail over and over.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::seats::{Seat, Seats};

/// Rest after a failed accept: its cause, mostly too few descriptors, does not pass at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// What a greeting has at least: the fixed first bytes of HTTP/2. A request of HTTP/1.1 is longer.
const GREETING_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// A peer whose machine lost its power or its network says nothing any more: the system asks after silence of this,
const ALIVE_IDLE: Duration = Duration::from_secs(30);
/// then so often,
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// and gives it up after so many questions, or when what it was told stays unconfirmed for as long.
const ALIVE_TIMES: u32 = 3;

/// The connections of a listener.
pub(super) struct Connections {
    listener: TcpListener,
    seats: Arc<Seats>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, max: usize) -> Self {
        Self { listener, seats: Seats::new(max) }
    }

    /// The next connection for which there is room. It ends when its seat is lost.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr, Seat) {
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
            let Some(seat) = self.seats.take() else {
                tell(format!("too many connections with calls under way: that of {peer} is closed"));
                continue;
            };
            // Tokens are small messages that somebody waits for. An error here shows itself at the first read.
            let _ = stream.set_nodelay(true);
            let _ = watch_over(&stream);
            return (stream, peer, seat);
        }
    }
}

/// Lets the system notice that a peer is gone without a word.
fn watch_over(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, ALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, ALIVE_TIMES)?;
    let given_up = ALIVE_IDLE + ALIVE_EVERY * ALIVE_TIMES;
    sockopt::set_tcp_user_timeout(stream, given_up.as_millis() as u32)
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Time until a connection has said enough to be answered.
    pub(super) greeting: Duration,
    /// Time that a peer may leave what it is told unread.
    pub(super) stall: Duration,
}

/// A stream whose peer has to speak and to read in time.
pub(super) struct Patient<S> {
    stream: S,
    /// Until the greeting has come, or is answered.
    greeting: Timer,
    /// Bytes of the greeting so far.
    n_read: usize,
    stall: Duration,
    /// While the peer leaves unread what it was told: since a write waits, and since a flush does.
    unwritten: Timer,
    unflushed: Timer,
}

/// Runs while something is waited for.
type Timer = Option<Pin<Box<Sleep>>>;

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        let greeting = Some(Box::pin(sleep(patience.greeting)));
        Self { stream, greeting, n_read: 0, stall: patience.stall, unwritten: None, unflushed: None }
    }

    /// What became of a write: with it the greeting, if it was not complete, is answered.
    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.greeting = None;
        }
        in_time(&mut self.unwritten, self.stall, cx, outcome)
    }
}

/// What became of a write or a flush: one that waits too long fails.
fn in_time<T>(
    timer: &mut Timer,
    limit: Duration,
    cx: &mut Context<'_>,
    outcome: Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if outcome.is_ready() {
        *timer = None;
        return outcome;
    }
    ready!(timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
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
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        let stall = self.stall;
        in_time(&mut self.unflushed, stall, cx, outcome)
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
    const PATIENCE: Patience = Patience { greeting: LONG, stall: LONG };

    async fn connections(max: usize) -> (SocketAddr, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), Connections::new(listener, max))
    }

    /// A peer's end of a connection, and ours.
    async fn pair(patience: Patience) -> (TcpStream, Patient<TcpStream>) {
        let (addr, connections) = connections(2).await;
        let peer = TcpStream::connect(addr).await.unwrap();
        let (stream, _, _) = connections.accept().await;
        (peer, Patient::new(stream, patience))
    }

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_an_idle_one_or_is_closed() {
        let (addr, connections) = connections(1).await;
        let _first = TcpStream::connect(addr).await.unwrap();
        let (_stream, _, idle) = connections.accept().await;
        let second = TcpStream::connect(addr).await.unwrap();
        let (_stream, peer, busy) = connections.accept().await;
        assert_eq!(peer, second.local_addr().unwrap());
        idle.lost().await;
        let call = busy.call();
        let mut third = TcpStream::connect(addr).await.unwrap();
        let closed = tokio::select! {
            n = third.read_u8() => n.is_err(),
            _ = connections.accept() => false,
        };
        assert!(closed, "the third connection was let in");
        drop(call);
        let fourth = TcpStream::connect(addr).await.unwrap();
        let (_stream, peer, _seat) = connections.accept().await;
        assert_eq!(peer, fourth.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_peer_without_power_is_asked_for() {
        let (_peer, ours) = pair(PATIENCE).await;
        assert!(sockopt::socket_keepalive(&ours.stream).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&ours.stream).unwrap(), 60_000);
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_pauses_later_do_not() {
        let (mut talker, mut accepted) = pair(Patience { greeting: SHORT, ..PATIENCE }).await;
        talker.write_all(&[b'x'; GREETING_BYTES]).await.unwrap();
        accepted.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        // Neither nothing nor the beginning of a greeting is enough.
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let (mut silent, mut silence) = pair(Patience { greeting: SHORT, ..PATIENCE }).await;
            silent.write_all(said).await.unwrap();
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
        let (_deaf, mut accepted) = pair(Patience { stall: SHORT, ..PATIENCE }).await;
        // More than the system's buffers of both ends hold.
        let told = accepted.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::TimedOut);
    }
}
