//! The services behind one port, and the bounds of what a peer may do there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::connection::{Bounds, Connections};
use super::deadline::KeepDeadlines;
use super::intake::Intake;
use super::pb::admin_service_server::{self, AdminServiceServer};
use super::pb::generation_service_server::{self, GenerationServiceServer};
use super::pb::model_service_server::{self, ModelServiceServer};
use super::pb::tokenizer_service_server::{self, TokenizerServiceServer};
use super::state::State;
use super::{admin, generation, models, pb, tokens};
use crate::engine::EngineHandle;

/// The largest message that is read. Unit: bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The same for services that are asked short questions.
const MAX_QUESTION_BYTES: usize = 16 << 10;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 128;
/// A connection on which nothing comes at all is closed after this.
const GREETING: Duration = Duration::from_secs(10);
/// Calls at a time on one connection.
const MAX_STREAMS: u32 = 64;
/// Bytes that a call may send before somebody looks at them. All calls of a connection may: those that
/// wait for a place must not keep the bytes of others from coming.
const MAX_UNREAD_BYTES: u32 = 16 << 10;
/// Headers of a call. Unit: bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// A connection on which nothing comes is asked for a sign of life after this,
const PING_EVERY: Duration = Duration::from_secs(20);
/// and given up if it gives none for this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// All services, for any number of listeners: what they bound they bound together.
#[derive(Clone, Debug)]
pub struct Services(KeepDeadlines<Intake<Routes>>);

/// What the services are told from outside.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<State>,
    health: HealthReporter,
}

/// The services, and their control. Until [`Control::ready`] every method but health and reflection
/// answers UNAVAILABLE.
pub async fn services() -> (Services, Control) {
    let state = Arc::new(State::new());
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled together with the services");
    let generation = generation::Service { state: Arc::clone(&state) };
    let tokens = tokens::Service { state: Arc::clone(&state) };
    let models = models::Service { state: Arc::clone(&state) };
    let admin = admin::Service { state: Arc::clone(&state) };
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(GenerationServiceServer::new(generation).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(TokenizerServiceServer::new(tokens).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(ModelServiceServer::new(models).max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(MAX_QUESTION_BYTES));
    let control = Control { state, health };
    control.set_health(ServingStatus::NotServing).await;
    (Services(KeepDeadlines(Intake::new(routes.prepare()))), control)
}

impl Control {
    /// The weights are resident: lets requests in.
    pub async fn ready(&self, engine: EngineHandle) {
        self.state.set(engine);
        self.set_health(ServingStatus::Serving).await;
    }

    /// The engine is about to be drained: tells those who ask about health.
    pub async fn draining(&self) {
        self.set_health(ServingStatus::NotServing).await;
    }

    async fn set_health(&self, status: ServingStatus) {
        let services = [
            // The server as a whole.
            "",
            generation_service_server::SERVICE_NAME,
            tokenizer_service_server::SERVICE_NAME,
            model_service_server::SERVICE_NAME,
            admin_service_server::SERVICE_NAME,
        ];
        for service in services {
            self.health.set_service_status(service, status).await;
        }
    }
}

/// Serves connections of `listener` until `shutdown`, then until the calls under way have ended. A peer
/// that stays connected and reads nothing can delay that end: the caller bounds it.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let bounds = Bounds { max_connections: MAX_CONNECTIONS, greeting: GREETING };
    let incoming = Connections::new(listener, bounds);
    tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(MAX_UNREAD_BYTES)
        .initial_connection_window_size(MAX_STREAMS * MAX_UNREAD_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .serve_with_incoming_shutdown(services.0, incoming, shutdown)
        .await
}
