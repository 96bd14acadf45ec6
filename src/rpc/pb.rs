//! The messages and services of package `pled.v1`, generated from `proto/`.
#![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]

tonic::include_proto!("pled.v1");

/// Descriptors of every message and service above, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pled_descriptors.bin"));
