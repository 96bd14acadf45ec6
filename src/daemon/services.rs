//! All dialects behind one port.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use super::guard::Guard;
use crate::access::Keys;
use crate::engine::EngineHandle;
use crate::http;
use crate::port::Intake;
use crate::rpc::{self, KeepDeadlines};
use crate::serving::State;

/// All services, for any number of listeners: what they bound they bound together.
#[derive(Clone, Debug)]
pub struct Services(Guard<KeepDeadlines<Intake<Dialects>>>);

/// A call is gRPC's if its content type says so.
#[derive(Clone, Debug)]
struct Dialects {
    grpc: rpc::Calls,
    http: Router,
}

/// What the services are told from outside.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<State>,
    health: rpc::Health,
}

/// The services, and their control. Until [`Control::ready`] whatever needs the model is refused as not there yet.
pub async fn services() -> (Services, Control) {
    let state = Arc::new(State::new());
    let (grpc, health) = rpc::services(Arc::clone(&state)).await;
    let dialects = Dialects { grpc, http: http::calls(Arc::clone(&state)) };
    (
        Services(Guard::open(KeepDeadlines(Intake::new(dialects)), Arc::clone(&state))),
        Control { state, health },
    )
}

impl Services {
    /// The same services for those alone who have one of these tokens.
    #[must_use]
    pub fn kept_by(self, keys: Arc<Keys>) -> Self {
        Self(self.0.kept_by(keys))
    }
}

impl Control {
    /// The weights are resident: lets requests in.
    pub async fn ready(&self, engine: EngineHandle) {
        self.state.set(engine);
        self.health.set(true).await;
    }

    /// The engine is about to be drained: tells those who ask about health.
    pub async fn draining(&self) {
        self.state.set_draining();
        self.health.set(false).await;
    }
}

impl Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.0.call(request)
    }
}

impl Service<Request<Body>> for Dialects {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routers are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match rpc::is_grpc(request.headers()) {
            true => self.grpc.call(request),
            false => self.http.call(request),
        }
    }
}
