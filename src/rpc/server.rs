//! The services of gRPC, and what they bound.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::codegen::{Service, StdError};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::pb::admin_service_server::{self, AdminServiceServer};
use super::pb::generation_service_server::{self, GenerationServiceServer};
use super::pb::model_service_server::{self, ModelServiceServer};
use super::pb::session_service_server::{self, SessionServiceServer};
use super::pb::tokenizer_service_server::{self, TokenizerServiceServer};
use super::{admin, generation, models, pb, sessions, tokens};
use crate::port::{Late, MAX_MESSAGE_BYTES};
use crate::serving::State;

/// The largest message to services that are asked short questions. Unit: bytes.
const MAX_QUESTION_BYTES: usize = 16 << 10;

/// All calls of gRPC.
#[derive(Clone, Debug)]
pub struct Calls(Router);

/// What those hear who ask about health.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

/// The services over `state`, and their health, which is NOT_SERVING. As long as the state has no model every
/// method but health and reflection answers UNAVAILABLE.
pub async fn services(state: Arc<State>) -> (Calls, Health) {
    let (health, health_service) = tonic_health::server::health_reporter();
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const COMPILED: &str = "the descriptors were compiled together with the services";
    let generation = generation::Service { state: Arc::clone(&state) };
    let tokens = tokens::Service::new(Arc::clone(&state));
    let models = models::Service { state: Arc::clone(&state) };
    let sessions = sessions::Service { state: Arc::clone(&state) };
    let admin = admin::Service { state };
    let routes = Routes::new(health_service)
        .add_service(described().build_v1().expect(COMPILED))
        // Python's client of reflection knows no other.
        .add_service(described().build_v1alpha().expect(COMPILED))
        .add_service(GenerationServiceServer::new(generation).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(TokenizerServiceServer::new(tokens).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(SessionServiceServer::new(sessions).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(ModelServiceServer::new(models).max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(MAX_QUESTION_BYTES));
    let health = Health(health);
    health.set(false).await;
    (Calls(routes.prepare().into_axum_router()), health)
}

impl Health {
    /// Tells whether requests are taken in.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        let services = [
            // The server as a whole.
            "",
            generation_service_server::SERVICE_NAME,
            tokenizer_service_server::SERVICE_NAME,
            model_service_server::SERVICE_NAME,
            session_service_server::SERVICE_NAME,
            admin_service_server::SERVICE_NAME,
        ];
        for service in services {
            self.0.set_service_status(service, status).await;
        }
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request.map(|body| Body::new(body.map_err(in_words_of_grpc))))
    }
}

/// Why the rest of a message does not come.
fn in_words_of_grpc(e: axum::Error) -> StdError {
    match e.into_inner().downcast::<Late>() {
        Ok(late) => Status::deadline_exceeded(late.to_string()).into(),
        Err(other) => other,
    }
}
