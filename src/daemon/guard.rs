//! Lets calls in, or refuses them in their dialect before anything of them is read.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::access::{Admitted, Keys, Refused, Wants};
use crate::port::Kept;
use crate::serving::Problem;
use crate::{http, rpc};

/// A service that only those may use who have a token, if there are any.
#[derive(Clone, Debug)]
pub(super) struct Guard<S> {
    service: S,
    keys: Option<Arc<Keys>>,
}

impl<S> Guard<S> {
    /// Everybody may use the service.
    pub(super) fn open(service: S) -> Self {
        Self { service, keys: None }
    }

    /// The same for those alone who have one of these tokens.
    pub(super) fn kept_by(self, keys: Arc<Keys>) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> Service<Request<Incoming>> for Guard<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Some(keys) = &self.keys else { return Box::pin(self.service.call(request)) };
        match admit(keys, &request) {
            Err(refused) => Box::pin(ready(Ok(refusal(&request, refused)))),
            Ok(admitted) => {
                let answer = self.service.call(request);
                Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Kept::new(body, admitted)))) })
            }
        }
    }
}

fn admit<B>(keys: &Keys, request: &Request<B>) -> Result<Admitted, Refused> {
    let authorization = request.headers().get_all(AUTHORIZATION);
    keys.admit(authorization.into_iter().map(|value| value.as_bytes()), wants(request), Instant::now())
}

fn wants<B>(request: &Request<B>) -> Wants {
    let path = request.uri().path();
    match rpc::is_grpc(request.headers()) {
        true => rpc::wants(path),
        false => http::wants(request.method(), path),
    }
}

fn refusal<B>(request: &Request<B>, refused: Refused) -> Response<Body> {
    let problem = Problem::from(refused);
    match rpc::is_grpc(request.headers()) {
        true => rpc::refused(problem),
        false => http::refused(request.uri().path(), problem),
    }
}
