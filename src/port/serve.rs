//! Connections to calls of a service.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_service::Service;

use super::connection::{Bounds, Connections};

const BOUNDS: Bounds = Bounds {
    max_connections: 128,
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

/// Serves connections of `listener` until `shutdown`, then until the calls under way have ended. A peer
/// that stays connected and reads nothing can delay that end: the caller bounds it.
pub async fn serve<S>(listener: TcpListener, service: S, shutdown: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let connections = Connections::new(listener, BOUNDS);
    let protocols = protocols(HEADERS);
    let under_way = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            connection = connections.accept() => connection,
            () = &mut shutdown => break,
        };
        let calls = TowerToHyperService::new(service.clone());
        let served = protocols.serve_connection(TokioIo::new(connection), calls).into_owned();
        let served = under_way.watch(served);
        tokio::spawn(async move {
            if let Err(e) = served.await {
                log::debug!("a connection ended: {e}");
            }
        });
    }
    // Who connects from now on is refused and does not wait.
    drop(connections);
    under_way.shutdown().await;
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
    use tokio::net::TcpStream;

    use super::*;

    /// A connection whose calls are answered with their path.
    async fn peer(headers: Duration) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let peer = TcpStream::connect(addr).await.unwrap();
        let connection = Connections::new(listener, BOUNDS).accept().await;
        tokio::spawn(async move {
            let path = hyper::service::service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Body::from(request.uri().path().to_owned())))
            });
            let _ = protocols(headers).serve_connection(TokioIo::new(connection), path).await;
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
