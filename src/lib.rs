//! pled serves text generation to the devices of a local network from a Raspberry Pi.
//!
//! Dense layers of a Gemma model live in RAM; its per-layer embedding table (PLE) stays on the SD
//! card or NVMe and is read one row per token. The rooms, lowest first; a room uses only lower ones:
//!
//! | level | room | what lives there |
//! |---|---|---|
//! | 0 | [`quant`] | block formats, scalar dequantise |
//! | 1 | [`simd`] | ISA tokens, intrinsics |
//! | 2 | [`ops`], [`gguf`], [`storage`], [`board`], [`fetch`] | kernels over shapes; the file directory; reading files; what the system tells; downloads |
//! | 3 | [`ple`], [`model`], [`tokenizer`], [`sampling`], [`prefix_store`] | row store; forward pass; text and ids; choice of a token; prefixes on disk |
//! | 3 | [`access`] | who may call, and how much of what; encryption |
//! | 4 | [`engine`] | sequences, prefix cache, sessions, scheduler, the one worker thread |
//! | 4 | [`port`] | connections, and what peers may do on them |
//! | 5 | [`serving`] | prompts and conversations to generations, for all dialects |
//! | 6 | [`rpc`], [`http`] | gRPC; the dialects of OpenAI and Ollama, probes, metrics |
//! | 7 | [`config`], [`systemd`] | settings; journal, readiness, watchdog |
//! | 8 | [`daemon`] | wiring, signals, drain |
//! | 9 | [`cli`] | commands |
//!
//! `tests/architecture.rs` holds this order.
#![deny(unsafe_code)]

pub mod access;
pub mod board;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod fetch;
pub mod gguf;
pub mod http;
pub mod model;
pub mod ops;
pub mod ple;
pub mod port;
pub mod prefix_store;
pub mod quant;
pub mod rpc;
pub mod sampling;
pub mod serving;
pub mod simd;
pub mod storage;
pub mod systemd;
pub mod tokenizer;
