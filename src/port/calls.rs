//! The calls of one connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use tower_service::Service;

use super::kept::Kept;
use super::seats::Seat;

/// Stands among the extensions of a request: who asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Stands among the extensions of an answer that is no reason to keep its connection when others need the room.
#[derive(Clone, Copy, Debug)]
pub struct Unimportant;

/// A service as the peer of one connection uses it.
#[derive(Clone, Debug)]
pub(super) struct Calls<S> {
    service: S,
    seat: Seat,
    peer: SocketAddr,
}

impl<S> Calls<S> {
    pub(super) fn new(service: S, seat: Seat, peer: SocketAddr) -> Self {
        Self { service, seat, peer }
    }
}

impl<S, B> Service<Request<B>> for Calls<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(Peer(self.peer));
        let call = self.seat.call();
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if answer.extensions().get::<Unimportant>().is_some() {
                return Ok(answer);
            }
            Ok(answer.map(|body| Body::new(Kept::new(body, call))))
        })
    }
}
