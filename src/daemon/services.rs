//! All dialects behind one port.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::engine::EngineHandle;
use crate::port::Intake;
use crate::rpc::{self, KeepDeadlines};
use crate::serving::State;

/// All services, for any number of listeners: what they bound they bound together.
#[derive(Clone, Debug)]
pub struct Services(KeepDeadlines<Intake<rpc::Calls>>);

/// What the services are told from outside.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<State>,
    health: rpc::Health,
}

/// The services, and their control. Until [`Control::ready`] whatever needs the model is refused as not there yet.
pub async fn services() -> (Services, Control) {
    let state = Arc::new(State::new());
    let (calls, health) = rpc::services(Arc::clone(&state)).await;
    (Services(KeepDeadlines(Intake::new(calls))), Control { state, health })
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
    type Future = <KeepDeadlines<Intake<rpc::Calls>> as Service<Request<Incoming>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.0.call(request)
    }
}
