//! What a wanted form costs, and what it saves: token rates of answers with and without a constraint, over gRPC.
//!
//! Two comparisons, in turns, several times, of which the medians count. The first decodes a long text freely and inside of a
//! JSON string, where nearly all tokens are possible at each step, so that a mask of the whole vocabulary is made. The second
//! has a JSON answer of twelve fields, much of which its schema says already, and decodes as many tokens freely.
//!
//! The free text is another one: decoding computes the same products whichever the token is. What does depend on it is whether
//! its row of the per-layer embedding table is in memory; a first answer, which is not measured, reads those of the form.
//!
//! ```text
//! cargo run --release --example constraint_cost -- --model FILE
//! ```

use std::io::{Write, stdout};

use anyhow::{Context, ensure};
use clap::Parser;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::rpc::pb;
use pled::rpc::pb::generate_request::{Constraint, Prompt};
use pled::rpc::pb::generation_service_client::GenerationServiceClient;
use serde_json::{Map, Value, json};
use tonic::transport::Channel;

#[derive(Parser)]
struct Arguments {
    /// Model file; without it the built-in model
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// Times that each answer is asked for
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Tokens of the long text
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: u32,
    /// Compute threads; without it all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0 && arguments.tokens > 1, "at least one round, of at least two tokens");
    let mut given = Fragment::default();
    if let Some(model) = &arguments.model {
        given.set(Field::Model, Origin::Flag(Field::Model), vec![model.clone()]);
    }
    if let Some(threads) = arguments.threads {
        given.set(Field::Threads, Origin::Flag(Field::Threads), vec![threads.to_string()]);
    }
    let settings = Settings::resolve(given)?;
    daemon::serve_while(settings, async |_, channel| measure(&arguments, channel).await).await
}

async fn measure(arguments: &Arguments, channel: Channel) -> anyhow::Result<()> {
    let mut client = GenerationServiceClient::new(channel);
    let schema = twelve_fields().to_string();
    // Once unmeasured: the form is compiled, and the prompt and what its rows need are at hand.
    let answer = decode(&mut client, Some(&schema), 400, 0).await?;
    ensure!(
        answer.finish_reason() == pb::FinishReason::Stop,
        "the answer of twelve fields did not come to its end"
    );
    let mut long = Vec::new();
    let mut twelve = Vec::new();
    for round in 0..arguments.rounds {
        let seed = round as u64;
        let free = decode(&mut client, None, arguments.tokens, seed).await?;
        let inside = decode(&mut client, Some(TEXT), arguments.tokens, seed).await?;
        long.push(per_token_ms(&inside)? / per_token_ms(&free)?);
        let formed = decode(&mut client, Some(&schema), 400, seed).await?;
        let n_tokens = formed.token_ids.len() as u32;
        let same = decode(&mut client, None, n_tokens, seed).await?;
        ensure!(same.token_ids.len() == formed.token_ids.len(), "the free text has another length");
        twelve.push(decode_ms(&same)? / decode_ms(&formed)?);
        let mut out = stdout();
        writeln!(
            out,
            "round {}: {:.1} ms a token freely, {:.1} inside of a string ({} tokens); {n_tokens} tokens of twelve fields in \
             {:.0} ms, as many freely in {:.0}",
            round + 1,
            per_token_ms(&free)?,
            per_token_ms(&inside)?,
            inside.token_ids.len(),
            decode_ms(&formed)?,
            decode_ms(&same)?,
        )?;
        if round == 0 {
            writeln!(out, "{}", formed.text)?;
        }
    }
    let mut out = stdout();
    writeln!(
        out,
        "a token inside of a string takes {:.3} times that of a free text (median)",
        median(&mut long)
    )?;
    writeln!(
        out,
        "twelve fields are {:.2} times as fast as as many free tokens (median)",
        median(&mut twelve)
    )?;
    Ok(())
}

/// One long string: its content is free.
const TEXT: &str = r#"{"type": "string", "minLength": 2000}"#;

/// Twelve fields whose names are given and whose values are few.
fn twelve_fields() -> Value {
    let names = [
        "room_name",
        "device_name",
        "device_class",
        "is_switched_on",
        "brightness_level",
        "color_mode",
        "floor_name",
        "schedule_kind",
        "is_reachable",
        "power_source",
        "firmware_state",
        "owner_name",
    ];
    let values = [
        json!({"type": "boolean"}),
        json!({"type": "integer", "minimum": 0, "maximum": 99}),
        json!({"enum": ["low", "high", "unknown"]}),
    ];
    let properties: Map<String, Value> = names
        .iter()
        .enumerate()
        .map(|(i, name)| ((*name).to_owned(), values[i % values.len()].clone()))
        .collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

type Client = GenerationServiceClient<Channel>;

async fn decode(
    client: &mut Client,
    schema: Option<&str>,
    max_tokens: u32,
    seed: u64,
) -> anyhow::Result<pb::GenerateResponse> {
    let request = pb::GenerateRequest {
        prompt: Some(Prompt::Text("Tell of the devices in this home, one after the other.".to_owned())),
        sampling: Some(pb::SamplingParams { temperature: Some(1.0), seed: Some(seed), ..Default::default() }),
        stopping: Some(pb::StoppingCriteria {
            max_tokens: Some(max_tokens),
            ignore_eos: schema.is_none(),
            ..Default::default()
        }),
        constraint: schema.map(|schema| Constraint::JsonSchema(schema.to_owned())),
        ..Default::default()
    };
    Ok(client.generate(request).await?.into_inner())
}

fn decode_ms(answer: &pb::GenerateResponse) -> anyhow::Result<f64> {
    Ok(answer.timings.as_ref().context("an answer without timings")?.decode_ms)
}

/// The first token comes with the prompt.
fn per_token_ms(answer: &pb::GenerateResponse) -> anyhow::Result<f64> {
    ensure!(answer.token_ids.len() > 1, "an answer of {} tokens has no rate", answer.token_ids.len());
    Ok(decode_ms(answer)? / (answer.token_ids.len() - 1) as f64)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
