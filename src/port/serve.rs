//! Connections to calls of a service.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use super::calls::Calls;
use super::connection::{Connections, Patience, Patient};
use crate::access::Certificates;

/// Connections of a listener.
const MAX_CONNECTIONS: usize = 128;
const PATIENCE: Patience = Patience {
    greeting: Duration::from_secs(10),
    // As long as the engine waits for the reader of an answer.
    stall: Duration::from_secs(60),
};
/// Headers of a call. Over HTTP/1.1 also the bytes of a body that wait to be looked at. Unit: bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Over HTTP/1.1: time for the headers of a call, from the end of the one before. A connection that nobody
/// uses is closed after this too.
const HEADERS: Duration = Duration::from_secs(30);
/// Over HTTP/2: calls at a time on one connection.
const MAX_STREAMS: u32 = 64;
/// Over HTTP/2: bytes that a call may send before somebody looks at them. All calls of a connection may:
/// those that wait for a place must not keep the bytes of others from coming.
const MAX_UNREAD_BYTES: u32 = 16 << 10;
/// Over HTTP/2: a connection on which nothing comes is asked for a sign of life after this,
const PING_EVERY: Duration = Duration::from_secs(20);
/// and given up if it gives none for this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves connections of `listener`, encrypted if there are certificates, until `shutdown`, then until the calls
/// under way have ended. A peer that stays connected and reads nothing can delay that end: the caller bounds it.
pub async fn serve<S>(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let connections = Connections::new(listener, MAX_CONNECTIONS);
    let protocols = protocols(HEADERS);
    let under_way = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer, seat) = tokio::select! {
            connection = connections.accept() => connection,
            () = &mut shutdown => break,
        };
        let calls = Calls::new(service.clone(), seat.clone(), peer);
        let (certificates, protocols) = (certificates.clone(), protocols.clone());
        let watcher = under_way.watcher();
        let served = async move {
            match certificates {
                None => converse(stream, protocols, calls, watcher).await,
                Some(certificates) => {
                    let stream = shake_hands(stream, &certificates).await?;
                    converse(stream, protocols, calls, watcher).await
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                served = served => {
                    if let Err(e) = served {
                        log::debug!(peer:% = peer; "a connection ended: {e}");
                    }
                }
                () = seat.lost() => log::debug!(peer:% = peer; "an idle connection made room for another"),
            }
        });
    }
    // Who connects from now on is refused and does not wait.
    drop(connections);
    under_way.shutdown().await;
}

/// The encrypted stream of a peer that is let in, within the time of a greeting.
async fn shake_hands(
    stream: TcpStream,
    certificates: &Certificates,
) -> Result<TlsStream<TcpStream>, BoxError> {
    let acceptor = TlsAcceptor::from(certificates.current());
    Ok(timeout(PATIENCE.greeting, acceptor.accept(stream)).await??)
}

/// Serves the calls of a connection until its end, or until there are none when the port is closed.
async fn converse<I, S>(
    stream: I,
    protocols: auto::Builder<TokioExecutor>,
    calls: Calls<S>,
    watcher: Watcher,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let stream = TokioIo::new(Patient::new(stream, PATIENCE));
    let served = protocols.serve_connection(stream, TowerToHyperService::new(calls));
    watcher.watch(served.into_owned()).await
}

fn protocols(headers: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(MAX_UNREAD_BYTES)
        .initial_connection_window_size(MAX_STREAMS * MAX_UNREAD_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A connection whose calls are answered with their path.
    async fn peer(headers: Duration) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let peer = TcpStream::connect(addr).await.unwrap();
        let (stream, _, seat) = Connections::new(listener, 1).accept().await;
        tokio::spawn(async move {
            let path = hyper::service::service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Body::from(request.uri().path().to_owned())))
            });
            let stream = TokioIo::new(Patient::new(stream, PATIENCE));
            let _ = protocols(headers).serve_connection(stream, path).await;
            drop(seat);
        });
        peer
    }

    #[tokio::test]
    async fn unfinished_headers_and_idle_connections_are_given_up() {
        for said in [&b"GET /path HTTP/1.1\r\nHost: x\r\n"[..], b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut peer = peer(Duration::from_millis(300)).await;
            peer.write_all(said).await.unwrap();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.ends_with("/path"), said.ends_with(b"\r\n\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn endless_headers_are_refused() {
        let mut peer = peer(Duration::from_secs(60)).await;
        let mut said = b"GET /path HTTP/1.1\r\nHost: x\r\nMore: ".to_vec();
        said.resize(2 * MAX_HEADER_BYTES as usize, b'x');
        peer.write_all(&said).await.unwrap();
        let mut answer = [0; 12];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}
