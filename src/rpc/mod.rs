//! gRPC: protobuf messages to validated engine requests, engine events back to protobuf.
//!
//! Absent by intention: no decision about tokens, order or memory is made here.

pub mod pb;
