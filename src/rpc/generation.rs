//! GenerationService.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::chat;
use super::deadline::Deadline;
use super::pb::generation_service_server::GenerationService;
use super::pb::{self, generate_stream_response as stream};
use super::translate;
use super::validate::{self, Prompt};
use crate::engine::{Event, Generation};
use crate::port::Place;
use crate::serving::{Named, Problem, Reading, State};
use crate::tokenizer::Tokenizer;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: Arc<State>,
}

/// A request that was taken in.
struct Accepted {
    generation: Generation,
    request_id: String,
    deadline: Option<Instant>,
    tokenizer: Arc<Tokenizer>,
}

impl Service {
    async fn accept(&self, request: Request<pb::GenerateRequest>) -> Result<Accepted, Problem> {
        let deadline = request.extensions().get::<Deadline>().map(|d| d.0);
        // Until the engine has its own place for the request.
        let _place = request.extensions().get::<Place>().cloned();
        let owner = validate::owner(&request);
        let priority = validate::priority(&request)?;
        let named = request.extensions().get::<Named>().cloned().unwrap_or_default();
        let message = request.into_inner();
        named.set(&message.request_id);
        let ready = self.state.model(&message.model)?;
        let request_id = self.state.request_id(&message.request_id);
        let defaults = &ready.engine.model().default_sampling;
        let (prompt, mut promptless) = validate::generate(message, defaults, request_id.clone(), deadline)?;
        (promptless.rest.owner, promptless.rest.priority) = (owner, priority);
        let tokens = match prompt {
            Prompt::Text(text) => self.state.prompt_tokens(ready, text).await?,
            Prompt::Tokens(ids) => ids,
        };
        let request = promptless.with_prompt(&self.state, ready, tokens).await?;
        let generation = ready.engine.submit(request)?;
        Ok(Accepted { generation, request_id, deadline, tokenizer: Arc::clone(ready.engine.tokenizer()) })
    }
}

#[tonic::async_trait]
impl GenerationService for Service {
    async fn generate(
        &self,
        request: Request<pb::GenerateRequest>,
    ) -> Result<Response<pb::GenerateResponse>, Status> {
        let Accepted { mut generation, request_id, tokenizer, .. } = self.accept(request).await?;
        let mut answer = pb::GenerateResponse { request_id, ..Default::default() };
        // The deadline of the call is kept by the layer around all methods.
        while let Some(event) = generation.next().await {
            match event {
                Event::Prefill { .. } => {}
                Event::Delta(delta) => {
                    answer.text.push_str(&delta.text);
                    answer.token_ids.extend(delta.token_ids);
                    answer.logprobs.extend(delta.logprobs.iter().map(|l| translate::logprobs(l, &tokenizer)));
                }
                Event::Done(done) => {
                    answer.finish_reason = pb::FinishReason::from(done.finish_reason).into();
                    answer.matched_stop = done.matched_stop;
                    answer.usage = Some(done.usage.into());
                    answer.timings = Some(done.timings.into());
                }
                Event::Failed(failure) => return Err(Problem::from(failure).into()),
            }
        }
        Ok(Response::new(answer))
    }

    type GenerateStreamStream = Events;

    async fn generate_stream(
        &self,
        request: Request<pb::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        Ok(Response::new(Events::new(self.accept(request).await?)))
    }

    async fn chat(&self, request: Request<pb::ChatRequest>) -> Result<Response<pb::ChatResponse>, Status> {
        Ok(Response::new(chat::Accepted::new(&self.state, request).await?.whole().await?))
    }

    type ChatStreamStream = chat::Events;

    async fn chat_stream(
        &self,
        request: Request<pb::ChatRequest>,
    ) -> Result<Response<Self::ChatStreamStream>, Status> {
        Ok(Response::new(chat::Accepted::new(&self.state, request).await?.events()))
    }
}

/// The events of one generation. Dropped when the client goes away, which cancels the generation.
#[derive(Debug)]
pub(super) struct Events {
    started: Option<stream::Event>,
    reading: Reading,
    tokenizer: Arc<Tokenizer>,
}

impl Events {
    fn new(accepted: Accepted) -> Self {
        let Accepted { generation, request_id, deadline, tokenizer } = accepted;
        Self {
            started: Some(translate::started(request_id, generation.queue_position())),
            reading: Reading::new(generation, deadline),
            tokenizer,
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<stream::Event, Status>>> {
        if let Some(started) = self.started.take() {
            return Poll::Ready(Some(Ok(started)));
        }
        self.reading.poll_event(cx).map(|event| {
            event.map(|event| match event {
                Event::Prefill { done, total } => Ok(translate::prefill(done, total)),
                Event::Delta(delta) => Ok(translate::delta(delta, &self.tokenizer)),
                Event::Done(done) => Ok(translate::done(done)),
                Event::Failed(failure) => Err(Problem::from(failure).into()),
            })
        })
    }
}

impl Stream for Events {
    type Item = Result<pb::GenerateStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.poll_event(cx));
        Poll::Ready(event.map(|event| event.map(|e| pb::GenerateStreamResponse { event: Some(e) })))
    }
}
