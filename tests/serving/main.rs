//! The engine and its services, gRPC and HTTP, over a scripted backend and over tiny real models.

mod access;
mod announced;
mod cancellation;
mod chat;
mod constraint;
mod engine;
mod faults;
mod grpc;
mod home;
mod load;
mod ollama;
mod openai;
mod peers;
mod persist;
mod pinned;
mod priorities;
mod real;
mod reuse;
mod scripted;
mod server;
mod sessions;
mod stalls;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod talks;
mod terminal;
mod tls;
mod warm;
mod web;
mod week;
