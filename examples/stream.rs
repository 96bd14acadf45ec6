//! Streams one completion over gRPC and prints it as it comes.
//!
//! With `--server` it is a client of a running daemon. Without, it starts one itself, on a free loopback
//! port and on `--model`, by default the tiny random model of the tests: its text means nothing, but every
//! part that serves a real model is at work, and nothing has to be downloaded.
//!
//! ```text
//! cargo run --release --example stream
//! cargo run --release --example stream -- --server http://127.0.0.1:50051 "Once upon a time"
//! ```

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::rpc::pb::generate_request::Prompt;
use pled::rpc::pb::generate_stream_response::Event;
use pled::rpc::pb::generation_service_client::GenerationServiceClient;
use pled::rpc::pb::{GenerateRequest, StoppingCriteria};
use tokio::sync::oneshot;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemma4-ple/model-q4_0.gguf");

#[derive(Parser)]
struct Arguments {
    /// Text to continue
    #[arg(default_value = "hello world")]
    prompt: String,
    /// A running server, as in http://127.0.0.1:50051; without it one is started here
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Model file for the server that is started here
    #[arg(long, value_name = "FILE", default_value = TINY_MODEL, conflicts_with = "server")]
    model: String,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Some(server) = &arguments.server else { return with_own_server(&arguments).await };
    stream(server, &arguments).await
}

/// Runs a daemon in this process for as long as one stream takes.
async fn with_own_server(arguments: &Arguments) -> anyhow::Result<()> {
    let mut given = Fragment::default();
    for (field, value) in [(Field::Model, arguments.model.as_str()), (Field::Listen, "127.0.0.1:0")] {
        given.set(field, Origin::Flag(field), vec![value.to_owned()]);
    }
    let settings = Settings::resolve(given)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, address) = oneshot::channel();
    let server = tokio::spawn(async move {
        // Whether told or dropped: the client has no more to ask.
        let stop = async { stopped.await.unwrap_or_default() };
        let tell = |addresses: &[SocketAddr]| bound.send(addresses[0]).expect("the client waits for it");
        daemon::run(&settings, stop, tell).await
    });
    let Ok(address) = address.await else { return server.await? };
    let url = format!("http://{address}");
    eprintln!("a daemon serves {} on {url}", arguments.model);
    let streamed = tokio::select! {
        streamed = stream(&url, arguments) => streamed,
        ended = server => return ended?,
    };
    drop(stop);
    streamed
}

async fn stream(url: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned())?;
    let channel = endpoint.connect().await.with_context(|| format!("nobody answers at {url}"))?;
    // The health service tells when the model is loaded.
    let whole = HealthCheckRequest { service: String::new() };
    let mut states = HealthClient::new(channel.clone()).watch(whole).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.status() == ServingStatus::Serving {
            break;
        }
    }
    let request = GenerateRequest {
        prompt: Some(Prompt::Text(arguments.prompt.clone())),
        stopping: Some(StoppingCriteria { max_tokens: Some(arguments.max_tokens), ..Default::default() }),
        ..Default::default()
    };
    let mut events = GenerationServiceClient::new(channel).generate_stream(request).await?.into_inner();
    let mut out = std::io::stdout();
    while let Some(response) = events.message().await? {
        match response.event {
            Some(Event::Delta(delta)) => {
                out.write_all(delta.text.as_bytes())?;
                out.flush()?;
            }
            Some(Event::Done(done)) => {
                writeln!(out)?;
                let (usage, timings) = (done.usage.unwrap_or_default(), done.timings.unwrap_or_default());
                eprintln!(
                    "{} tokens of prompt in {:.1} ms, {} of answer in {:.1} ms, {} rows read on the way",
                    usage.prompt_tokens,
                    timings.prefill_ms,
                    usage.completion_tokens,
                    timings.decode_ms,
                    timings.ple_rows
                );
            }
            Some(Event::Started(_) | Event::Prefill(_)) | None => {}
        }
    }
    Ok(())
}
