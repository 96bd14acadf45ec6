//! The engine and its gRPC services, over a scripted backend and over tiny real models.

mod cancellation;
mod chat;
mod engine;
mod faults;
mod grpc;
mod home;
mod load;
mod real;
mod reuse;
mod scripted;
mod server;
mod status;
#[path = "../support/mod.rs"]
mod support;
