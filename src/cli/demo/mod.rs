//! `pled demo`: the whole job in one command. A daemon on a free loopback port or one that runs already, a conversation
//! with it over gRPC, a simulated house that carries out the calls.
//!
//! Deliberately absent: anything that a client of a running daemon could not do.

mod house;

use std::io::Write;

use anyhow::Context;
use log::LevelFilter;
use serde::Deserialize;
use serde_json::Value;
use tonic::transport::Channel;

use self::house::House;
use super::client::{Refused, endpoint, message};
use super::settings::settle;
use super::terminal::tame;
use crate::config::ModelFlags;
use crate::daemon;
use crate::rpc::pb;
use crate::rpc::pb::chat_stream_response::Event;
use crate::rpc::pb::generation_service_client::GenerationServiceClient;
use crate::rpc::pb::model_service_client::ModelServiceClient;

/// What is said where the command line says nothing.
const TOUR: &[&str] = &[
    "turn on the kitchen light and set the bedroom to 19 degrees",
    "is the front door locked",
    "lock the front door",
    "dim the reading lamp to 30 percent",
    "no, i meant the ceiling light",
    "set a pasta timer for ten minutes",
    "how warm is it in the bedroom",
    "how far away is the sun",
    "thank you",
];

/// The tools, as `models/home-mini/tools.py` writes them.
const TOOLS: &str = include_str!("tools.json");

/// Answers to one sentence: calls, what is said of their results, and room for a model that calls again.
const MAX_ROUNDS: usize = 4;
/// Longest answer, tokens.
const MAX_TOKENS: u32 = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to say to the house [default: a short tour]
    prompt: Option<String>,
    /// A daemon that runs already, as in http://raspberrypi:50051, in place of one that is started for this
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    server: Option<String>,
    #[command(flatten)]
    model: ModelFlags,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let settings = settle(args.model.fragment(), None, LevelFilter::Warn)?;
    let sentences: Vec<&str> = args.prompt.as_deref().map_or(TOUR.to_vec(), |prompt| vec![prompt]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?;
    let result = match &args.server {
        Some(url) => runtime.block_on(async { talk(url, connect(url).await?, &sentences, out).await }),
        None => {
            let talk =
                async |address, channel| talk(&format!("http://{address}"), channel, &sentences, out).await;
            runtime.block_on(daemon::serve_while(settings, talk))
        }
    };
    runtime.shutdown_background();
    result
}

async fn connect(url: &str) -> anyhow::Result<Channel> {
    endpoint(url)?.connect().await.with_context(|| format!("nobody answers at {url}"))
}

async fn talk(url: &str, channel: Channel, sentences: &[&str], out: &mut impl Write) -> anyhow::Result<()> {
    let models = ModelServiceClient::new(channel.clone()).list_models(pb::ListModelsRequest {}).await;
    for model in models.map_err(Refused::from)?.into_inner().models {
        let millions = model.n_params as f64 / 1e6;
        writeln!(out, "{}, {millions:.1} million parameters, serves gRPC on {url}", tame(&model.id))?;
    }
    let mut conversation = Conversation::new(GenerationServiceClient::new(channel))?;
    for sentence in sentences {
        writeln!(out, "\n> {}", tame(sentence))?;
        conversation.say(sentence, out).await?;
    }
    Ok(())
}

struct Conversation {
    client: GenerationServiceClient<Channel>,
    tools: Vec<pb::ChatTool>,
    messages: Vec<pb::ChatMessage>,
    house: House,
}

/// A declaration of `tools.json`.
#[derive(Deserialize)]
struct Declaration {
    name: String,
    description: String,
    parameters: Value,
}

/// What one sentence cost.
#[derive(Default)]
struct Cost {
    n_requests: usize,
    usage: pb::Usage,
    timings: pb::Timings,
}

impl Conversation {
    fn new(client: GenerationServiceClient<Channel>) -> anyhow::Result<Conversation> {
        let declared: Vec<Declaration> = serde_json::from_str(TOOLS)?;
        let tools = declared.into_iter().map(|d| pb::ChatTool {
            name: d.name,
            description: d.description,
            parameters_json_schema: d.parameters.to_string(),
        });
        let house = House::new();
        let system = message(pb::ChatRole::System, house.describe());
        Ok(Conversation { client, tools: tools.collect(), messages: vec![system], house })
    }

    /// Says a sentence, carries out what the model calls, and lets it speak of the results.
    async fn say(&mut self, sentence: &str, out: &mut impl Write) -> anyhow::Result<()> {
        self.messages.push(message(pb::ChatRole::User, sentence.to_owned()));
        let mut cost = Cost::default();
        for _ in 0..MAX_ROUNDS {
            let answer = self.answer(&mut cost, out).await?;
            let calls = answer.tool_calls.clone();
            self.messages.push(answer);
            if calls.is_empty() {
                break;
            }
            for call in calls {
                let arguments = serde_json::from_str(&call.arguments_json)?;
                let outcome = self.house.call(&call.name, &arguments);
                for change in outcome.changes {
                    writeln!(out, "  home  {}", tame(&change))?;
                }
                let result = message(pb::ChatRole::Tool, outcome.result.to_string());
                self.messages.push(pb::ChatMessage { tool_call_id: call.id, ..result });
            }
        }
        let Cost { n_requests, usage, timings } = cost;
        writeln!(
            out,
            "  [{} tokens read ({} known from before) in {:.1} ms, {} written in {:.1} ms, {n_requests} {}]",
            usage.prompt_tokens,
            usage.cached_tokens,
            timings.prefill_ms,
            usage.completion_tokens,
            timings.decode_ms,
            if n_requests == 1 { "request" } else { "requests" }
        )?;
        Ok(())
    }

    /// Streams one answer; prints text as it comes, and calls.
    async fn answer(&mut self, cost: &mut Cost, out: &mut impl Write) -> anyhow::Result<pb::ChatMessage> {
        let request = pb::ChatRequest {
            messages: self.messages.clone(),
            tools: self.tools.clone(),
            stopping: Some(pb::StoppingCriteria { max_tokens: Some(MAX_TOKENS), ..Default::default() }),
            ..Default::default()
        };
        let mut events = self.client.chat_stream(request).await.map_err(Refused::from)?.into_inner();
        let (mut text, mut tool_calls) = (String::new(), Vec::new());
        while let Some(response) = events.message().await.map_err(Refused::from)? {
            match response.event {
                Some(Event::Delta(delta)) => {
                    if text.is_empty() {
                        write!(out, "  ")?;
                    }
                    write!(out, "{}", tame(&delta.text))?;
                    text.push_str(&delta.text);
                }
                Some(Event::ToolCall(call)) => {
                    writeln!(out, "  call  {} {}", tame(&call.name), tame(&call.arguments_json))?;
                    tool_calls.push(call);
                }
                Some(Event::Done(done)) => cost.add(done),
                Some(Event::Started(_) | Event::Prefill(_)) | None => {}
            }
            out.flush()?;
        }
        if !text.is_empty() {
            writeln!(out)?;
        }
        Ok(pb::ChatMessage { tool_calls, ..message(pb::ChatRole::Assistant, text) })
    }
}

impl Cost {
    fn add(&mut self, done: pb::ChatDone) {
        let (usage, timings) = (done.usage.unwrap_or_default(), done.timings.unwrap_or_default());
        self.n_requests += 1;
        self.usage.prompt_tokens += usage.prompt_tokens;
        self.usage.cached_tokens += usage.cached_tokens;
        self.usage.completion_tokens += usage.completion_tokens;
        self.timings.prefill_ms += timings.prefill_ms;
        self.timings.decode_ms += timings.decode_ms;
    }
}
