//! gRPC: protobuf messages to validated engine requests, engine events back to protobuf.
//!
//! The rule of the room: a message is checked once, here or by [`Request::new`](crate::engine::Request::new),
//! and nothing below checks it again; whatever goes wrong meets its status code in one table.
//!
//! Deliberately absent: decisions about tokens, order or memory. Dropping a call drops its
//! [`Generation`](crate::engine::Generation), and that is all that cancellation needs.

mod admin;
mod chat;
mod connection;
mod deadline;
mod generation;
mod intake;
mod models;
pub mod pb;
mod reading;
mod server;
mod state;
mod status;
mod tokens;
mod translate;
mod validate;

pub use server::{Control, MAX_MESSAGE_BYTES, Services, serve, services};
