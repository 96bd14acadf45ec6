//! gRPC: protobuf messages to validated engine requests, engine events back to protobuf.
//!
//! The rule of the room: a message is checked once, here or by [`Request::new`](crate::engine::Request::new),
//! and nothing below checks it again; whatever goes wrong meets its status code in one table, `status`.
//!
//! Deliberately absent: decisions about tokens, order or memory. Dropping a call drops its
//! [`Generation`](crate::engine::Generation), and that is all that cancellation needs.

mod admin;
mod chat;
mod codec;
mod deadline;
mod generation;
mod models;
pub mod pb;
mod server;
mod sessions;
mod status;
mod tokens;
mod translate;
mod validate;

pub use deadline::KeepDeadlines;
pub use server::{Calls, Health, services};

use axum::body::Body;
use axum::http::Response;

use crate::access::Wants;
use crate::serving::Problem;

/// What a call wants, by its path: "/package.Service/Method".
pub fn wants(path: &str) -> Wants {
    match path.split('/').nth(1).unwrap_or_default() {
        "grpc.health.v1.Health" => Wants::Health,
        "pled.v1.AdminService" => Wants::Figures,
        "pled.v1.ModelService"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => Wants::Facts,
        _ => Wants::Work,
    }
}

/// Whether the engine tells of a call that it was asked for, by the call's path.
pub fn is_told_by_engine(path: &str) -> bool {
    path.starts_with("/pled.v1.GenerationService/") || path == "/pled.v1.SessionService/PrewarmSession"
}

/// Why a call is not answered.
pub fn refused(problem: Problem) -> Response<Body> {
    tonic::Status::from(problem).into_http()
}

/// Whether a call is one of gRPC, by its content type.
pub fn is_grpc(headers: &axum::http::HeaderMap) -> bool {
    let kind = headers.get(axum::http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
