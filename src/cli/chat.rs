//! `pled chat`: a conversation with a running daemon, in a terminal.
//!
//! ctrl-C ends the answer and not the program: the daemon stops computing, and what was said so far stays in the
//! conversation. Where lines come from a pipe each is a turn, only answers are printed, and the first failure ends
//! the program.
//!
//! Deliberately absent: tools (who would carry out the calls?), and files with what was said.

use std::future;
use std::io::{IsTerminal, Lines, Read, StdinLock, Write, stdin};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::client::{Refused, endpoint, message};
use super::complain;
use super::exit::UsageError;
use super::terminal::tame;
use crate::rpc::pb;
use crate::rpc::pb::chat_stream_response::Event;
use crate::rpc::pb::generation_service_client::GenerationServiceClient;
use crate::rpc::pb::model_service_client::ModelServiceClient;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest file of a token that is read. Unit: bytes.
const MAX_TOKEN_BYTES: u64 = 4096;
const HELP: &str = "/new begins a new conversation, /quit or ctrl-D leaves, ctrl-C stops an answer";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", env = "PLED_SERVER")]
    server: String,
    /// File with the token that the daemon wants, and nothing else
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Let the model think before it answers, where it can
    #[arg(long)]
    thinking: bool,
    /// Longest answer, tokens [default: up to the end of the context]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let endpoint = endpoint(&args.server)?.connect_timeout(PATIENCE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the thread that talks to the daemon")?;
    let mut input = Input::new()?;
    let bearer = Bearer(args.token_file.as_deref().map(token).transpose()?);
    let channel = runtime.block_on(async { endpoint.connect_lazy() });
    let channel = InterceptedService::new(channel, bearer);
    let models =
        runtime.block_on(ModelServiceClient::new(channel.clone()).list_models(pb::ListModelsRequest {}));
    let models = models.map_err(|status| match status.code() {
        Code::Unauthenticated => anyhow!("{}: {} (--token-file sends it)", args.server, status.message()),
        _ => anyhow!("no daemon answers at {}: {} (pled serve starts one)", args.server, status.message()),
    })?;
    if input.is_terminal() {
        for model in models.into_inner().models {
            writeln!(out, "{} at {}. {HELP}.", tame(&model.id), args.server)?;
        }
    }
    let mut conversation = Conversation::new(args, GenerationServiceClient::new(channel));
    loop {
        out.flush()?;
        let Some(line) = input.next()? else { break };
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => break,
            "/new" => conversation.begin(),
            "/help" => writeln!(out, "{HELP}")?,
            command if command.starts_with('/') && input.is_terminal() => {
                writeln!(out, "{} is no command; {HELP}", tame(command))?;
            }
            said => match conversation.turn(&runtime, said, input.is_terminal(), out) {
                Err(error) if input.is_terminal() && error.is::<Refused>() => complain(&format!("{error:#}")),
                done => done?,
            },
        }
    }
    Ok(())
}

/// The header that brings the token in the file at `path`.
fn token(path: &Path) -> anyhow::Result<MetadataValue<Ascii>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut text = String::new();
    file.take(MAX_TOKEN_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let token = text.trim();
    let value = (!token.is_empty() && !token.contains(char::is_whitespace))
        .then(|| format!("Bearer {token}").parse().ok())
        .flatten();
    let mut value: MetadataValue<Ascii> = value
        .ok_or_else(|| UsageError(format!(
            "{}: has to hold one token and nothing else, so not the name that stands before it in the daemon's file",
            path.display()
        )))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends the token, if there is one, with every call.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Client = GenerationServiceClient<InterceptedService<Channel, Bearer>>;

/// Where sentences come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe(Lines<StdinLock<'static>>),
}

impl Input {
    fn new() -> anyhow::Result<Input> {
        if stdin().is_terminal() {
            return Ok(Input::Terminal(Box::new(DefaultEditor::new().context("cannot use the terminal")?)));
        }
        Ok(Input::Pipe(stdin().lines()))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next line; None at the end.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let editor = match self {
            Input::Terminal(editor) => editor,
            Input::Pipe(lines) => return lines.next().transpose().context("cannot read the standard input"),
        };
        match editor.readline("> ") {
            Ok(line) => {
                editor.add_history_entry(&line)?;
                Ok(Some(line))
            }
            // ctrl-C while writing: the line is dropped.
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(ReadlineError::Eof) => Ok(None),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

struct Conversation<'a> {
    args: &'a Args,
    client: Client,
    messages: Vec<pb::ChatMessage>,
}

impl<'a> Conversation<'a> {
    fn new(args: &'a Args, client: Client) -> Conversation<'a> {
        let mut made = Conversation { args, client, messages: Vec::new() };
        made.begin();
        made
    }

    /// Forgets what was said, but not the instructions.
    fn begin(&mut self) {
        self.messages.clear();
        self.messages
            .extend(self.args.system.as_ref().map(|text| message(pb::ChatRole::System, text.as_str())));
    }

    /// Says something and prints the answer. A turn that brings nothing leaves the conversation as it was.
    fn turn(
        &mut self,
        runtime: &Runtime,
        said: &str,
        is_interruptible: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        self.messages.push(message(pb::ChatRole::User, said));
        let mut answer = String::new();
        let done = runtime.block_on(self.answer(&mut answer, is_interruptible, out));
        match answer.is_empty() {
            true => self.messages.truncate(self.messages.len() - 1),
            false => {
                self.messages.push(message(pb::ChatRole::Assistant, answer.as_str()));
                writeln!(out)?;
            }
        }
        if let Some(remark) = done? {
            writeln!(out, "[{remark}]")?;
        }
        Ok(())
    }

    /// Streams an answer into `answer` and to `out`. Why it is not whole, if it is not.
    async fn answer(
        &mut self,
        answer: &mut String,
        is_interruptible: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<Option<&'static str>> {
        let request = pb::ChatRequest {
            messages: self.messages.clone(),
            thinking: self.args.thinking,
            stopping: Some(pb::StoppingCriteria { max_tokens: self.args.max_tokens, ..Default::default() }),
            ..Default::default()
        };
        let interrupted = async {
            match is_interruptible {
                true => tokio::signal::ctrl_c().await,
                false => future::pending().await,
            }
        };
        tokio::pin!(interrupted);
        let mut events = tokio::select! {
            stream = self.client.chat_stream(request) => stream.map_err(Refused::from)?.into_inner(),
            heard = &mut interrupted => return heard.map(|()| Some("stopped")).context("cannot hear ctrl-C"),
        };
        let mut is_thinking = false;
        loop {
            let response = tokio::select! {
                response = events.message() => response.map_err(Refused::from)?,
                // The stream is dropped with this function, and with it the daemon's work.
                heard = &mut interrupted => return heard.map(|()| Some("stopped")).context("cannot hear ctrl-C"),
            };
            match response.and_then(|response| response.event) {
                Some(Event::Delta(delta)) => {
                    let thinks = delta.channel() == pb::ChatChannel::Thinking;
                    if thinks != is_thinking {
                        write!(out, "{}", if thinks { "(thinking) " } else { "\n" })?;
                        is_thinking = thinks;
                    }
                    write!(out, "{}", tame(&delta.text))?;
                    if !thinks {
                        answer.push_str(&delta.text);
                    }
                    out.flush()?;
                }
                Some(Event::Done(done)) => return Ok(remark(done.finish_reason())),
                Some(Event::Started(_) | Event::Prefill(_) | Event::ToolCall(_)) => {}
                None => return Err(Refused("the answer ended before its end".to_owned()).into()),
            }
        }
    }
}

/// What there is to say of an end.
fn remark(reason: pb::FinishReason) -> Option<&'static str> {
    match reason {
        pb::FinishReason::MaxTokens => Some("cut: --max-tokens is reached"),
        pb::FinishReason::ContextFull => Some("cut: the context is full; /new begins a new conversation"),
        pb::FinishReason::TimeLimit => Some("cut: the daemon's time limit is reached"),
        pb::FinishReason::Cancelled => Some("cut: the daemon stops"),
        pb::FinishReason::Stop | pb::FinishReason::ToolCalls | pb::FinishReason::Unspecified => None,
    }
}
