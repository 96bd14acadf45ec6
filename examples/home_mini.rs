//! How often the built-in model, or another, answers home commands exactly right, over gRPC.
//!
//! Reads cases as `models/home-mini/conversations.py` and `blind.py` write them, one JSON object a line, and asks a daemon for
//! each one's answer. A case is right when the calls are those expected, in order, with equal arguments and no word
//! besides; where words are expected, when they are those and nothing is called. Requests out of reach are right when
//! they are declined. Prints the rows of the model card's table.
//!
//! ```text
//! zcat models/home-mini/heldout.jsonl.gz | cargo run --release --example home_mini
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, Write, stdout};

use anyhow::{Context, ensure};
use clap::Parser;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::rpc::pb;
use pled::rpc::pb::generation_service_client::GenerationServiceClient;
use serde::Deserialize;
use serde_json::{Map, Value};
use tonic::transport::{Channel, Endpoint};

#[derive(Parser)]
struct Arguments {
    /// A running server, as in http://127.0.0.1:50051; without it one is started here
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Model file for the server that is started here; without it the built-in model
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    model: Option<String>,
    /// Print this many of the wrong answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    show: usize,
}

#[derive(Deserialize)]
struct Case {
    category: String,
    tools: Vec<Tool>,
    messages: Vec<Message>,
    calls: Vec<Function>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    function: Declaration,
}

#[derive(Deserialize)]
struct Declaration {
    name: String,
    description: String,
    parameters: Value,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
    #[serde(default)]
    tool_calls: Vec<Call>,
    #[serde(default)]
    tool_call_id: String,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Function {
    name: String,
    arguments: Map<String, Value>,
}

/// How the names of categories end that are no single commands.
const SEVERAL: &str = "commands";
const CORRECTIONS: &str = "corrections";
const OUT_OF_REACH: &str = "out of reach";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut cases = Vec::new();
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let case: Case = serde_json::from_str(&line?).with_context(|| format!("line {}", i + 1))?;
        cases.push(case);
    }
    ensure!(!cases.is_empty(), "no cases on standard input");
    let scores = match &arguments.server {
        Some(url) => {
            let channel = Endpoint::from_shared(url.clone())?.connect().await;
            let channel = channel.with_context(|| format!("nobody answers at {url}"))?;
            score(&cases, channel, arguments.show).await?
        }
        None => {
            let mut given = Fragment::default();
            if let Some(model) = &arguments.model {
                given.set(Field::Model, Origin::Flag(Field::Model), vec![model.clone()]);
            }
            let settings = Settings::resolve(given)?;
            daemon::serve_while(settings, async |_, channel| score(&cases, channel, arguments.show).await)
                .await?
        }
    };
    report(&scores)?;
    Ok(())
}

/// Right and all.
#[derive(Clone, Copy, Default)]
struct Score {
    n_right: usize,
    n: usize,
}

/// Scores by category, and those of all cases that ask for one call.
#[derive(Default)]
struct Scores {
    categories: BTreeMap<String, Score>,
    single: Score,
    /// Of the single ones those whose tools have a prefix before Home Assistant's name.
    prefixed: Score,
}

async fn score(cases: &[Case], channel: Channel, mut n_show: usize) -> anyhow::Result<Scores> {
    let mut client = GenerationServiceClient::new(channel);
    let mut scores = Scores::default();
    for case in cases {
        let answer = client.chat(request(case)).await?.into_inner().message.unwrap_or_default();
        let right = is_right(case, &answer)?;
        if !right && n_show > 0 {
            n_show -= 1;
            let asked = case.messages.last().map_or("", |m| m.content.as_str());
            let mut out = stdout();
            writeln!(out, "{}: {asked:?}", case.category)?;
            writeln!(out, "  expected {:?} {:?}", case.calls, case.text.as_deref().unwrap_or_default())?;
            writeln!(out, "  got      {:?} {:?}", answer.tool_calls, text_of(&answer))?;
        }
        let count = |score: &mut Score| {
            score.n += 1;
            score.n_right += usize::from(right);
        };
        count(scores.categories.entry(case.category.clone()).or_default());
        let is_single =
            case.calls.len() == 1 && ![SEVERAL, CORRECTIONS].iter().any(|end| case.category.ends_with(end));
        if is_single {
            count(&mut scores.single);
            if !case.calls[0].name.starts_with("Hass") {
                count(&mut scores.prefixed);
            }
        }
    }
    Ok(scores)
}

fn is_right(case: &Case, answer: &pb::ChatMessage) -> anyhow::Result<bool> {
    let mut calls = Vec::new();
    for call in &answer.tool_calls {
        let arguments = serde_json::from_str(&call.arguments_json)?;
        calls.push(Function { name: call.name.clone(), arguments });
    }
    let text = text_of(answer);
    Ok(match &case.text {
        // Any words that decline.
        Some(_) if case.category.ends_with(OUT_OF_REACH) => calls.is_empty() && text.starts_with("Sorry"),
        expected => calls == case.calls && text == expected.as_deref().unwrap_or_default(),
    })
}

fn text_of(message: &pb::ChatMessage) -> String {
    let texts = message.parts.iter().filter_map(|part| part.part.as_ref());
    texts.map(|pb::chat_part::Part::Text(text)| text.as_str()).collect()
}

fn request(case: &Case) -> pb::ChatRequest {
    let tool = |t: &Tool| pb::ChatTool {
        name: t.function.name.clone(),
        description: t.function.description.clone(),
        parameters_json_schema: t.function.parameters.to_string(),
    };
    pb::ChatRequest {
        messages: case.messages.iter().map(message).collect(),
        tools: case.tools.iter().map(tool).collect(),
        sampling: Some(pb::SamplingParams { temperature: Some(0.0), ..Default::default() }),
        stopping: Some(pb::StoppingCriteria { max_tokens: Some(256), ..Default::default() }),
        ..Default::default()
    }
}

fn message(m: &Message) -> pb::ChatMessage {
    let role = match m.role.as_str() {
        "system" => pb::ChatRole::System,
        "user" => pb::ChatRole::User,
        "assistant" => pb::ChatRole::Assistant,
        "tool" => pb::ChatRole::Tool,
        // Refused by the server, which names the message.
        _ => pb::ChatRole::Unspecified,
    };
    let call = |c: &Call| pb::ToolCall {
        id: c.id.clone(),
        name: c.function.name.clone(),
        arguments_json: Value::Object(c.function.arguments.clone()).to_string(),
    };
    pb::ChatMessage {
        role: role.into(),
        parts: vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(m.content.clone())) }],
        tool_calls: m.tool_calls.iter().map(call).collect(),
        tool_call_id: m.tool_call_id.clone(),
    }
}

fn report(scores: &Scores) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let mut line = |name: &str, Score { n_right, n }: Score| {
        if n == 0 {
            return Ok(());
        }
        let share = 100.0 * n_right as f64 / n as f64;
        writeln!(out, "| {name:<32} | {n_right:>4} of {n:>4} | {share:>6.1} % |")
    };
    for (category, score) in &scores.categories {
        line(category, *score)?;
    }
    let Scores { single, prefixed, .. } = scores;
    line("**all single commands**", *single)?;
    let plain = Score { n_right: single.n_right - prefixed.n_right, n: single.n - prefixed.n };
    line("... tools without a prefix", plain)?;
    line("... tools with a prefix", *prefixed)
}
