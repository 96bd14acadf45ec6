//! Compiles `proto/` to Rust and to a descriptor set for reflection. protox parses in Rust: no protoc is needed.

use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message;

const FILES: [&str; 8] = [
    "pled/v1/admin.proto",
    "pled/v1/chat.proto",
    "pled/v1/completion.proto",
    "pled/v1/generation.proto",
    "pled/v1/model.proto",
    "pled/v1/sampling.proto",
    "pled/v1/session.proto",
    "pled/v1/tokenizer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("pled_descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    let codec = "crate::rpc::codec::BoundedCodec";
    // The codec tells requests from answers by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        // The maps of requests are small, and an order makes their checks answer the same every time.
        .btree_map(".")
        .codec_path(codec)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
