//! TokenizerService.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::chat;
use super::pb;
use super::pb::count_tokens_request::Input;
use super::pb::tokenizer_service_server::TokenizerService;
use super::translate;
use super::validate::{self, MAX_COUNT_BYTES, MAX_TOKENIZE_BYTES};
use crate::port::{Held, Place};
use crate::serving::{self, Problem, State};
use crate::tokenizer::{Specials, Tokenizer};

/// Answers that are made or wait for their peers to take them.
const LARGE_ANSWERS: usize = 16;

#[derive(Debug)]
pub(super) struct Service {
    state: Arc<State>,
    large_answers: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS)) }
    }

    /// A place for an answer that is large for its request.
    fn large_answer(&self) -> Result<Held, Problem> {
        let permit = Arc::clone(&self.large_answers).try_acquire_owned();
        permit.map(Held::new).map_err(|_| Problem::Busy)
    }
}

#[tonic::async_trait]
impl TokenizerService for Service {
    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        let _place = request.extensions().get::<Place>().cloned();
        let message = request.into_inner();
        let ready = self.state.model(&message.model)?;
        validate::tokenize(&message.text, MAX_TOKENIZE_BYTES)?;
        let held = self.large_answer()?;
        let specials = if message.parse_special.unwrap_or(true) { Specials::Parse } else { Specials::Plain };
        let answer = self.state.with_tokenizer(ready, move |tokenizer| {
            let ids = match message.add_bos {
                true => tokenizer.encode_prompt(&message.text, specials),
                false => tokenizer.encode(&message.text, specials),
            };
            let pieces = ids.iter().map(|&id| translate::bytes(id, tokenizer)).collect();
            pb::TokenizeResponse { ids, pieces }
        });
        Ok(until_delivered(answer.await?, held))
    }

    async fn detokenize(
        &self,
        request: Request<pb::DetokenizeRequest>,
    ) -> Result<Response<pb::DetokenizeResponse>, Status> {
        let _place = request.extensions().get::<Place>().cloned();
        let message = request.into_inner();
        let ready = self.state.model(&message.model)?;
        validate::detokenize(&message.ids, ready.engine.limits().n_vocab)?;
        let held = self.large_answer()?;
        let text = self.state.with_tokenizer(ready, move |tokenizer| tokenizer.decode(&message.ids));
        Ok(until_delivered(pb::DetokenizeResponse { text: text.await? }, held))
    }

    async fn count_tokens(
        &self,
        request: Request<pb::CountTokensRequest>,
    ) -> Result<Response<pb::CountTokensResponse>, Status> {
        let _place = request.extensions().get::<Place>().cloned();
        let message = request.into_inner();
        let ready = self.state.model(&message.model)?;
        let tokens = match message.input {
            None => {
                let missing = validate::violation("input", "is missing: text or chat must be set");
                return Err(Problem::Fields(vec![missing]).into());
            }
            Some(Input::Text(text)) => {
                validate::tokenize(&text, MAX_COUNT_BYTES)?;
                let encode = move |t: &Tokenizer| t.encode_prompt(&text, Specials::Parse);
                self.state.with_tokenizer(ready, encode).await?
            }
            Some(Input::Chat(message)) => {
                let conversation = chat::conversation(ready, message)?;
                serving::prompt(&self.state, ready, conversation).await?.0
            }
        };
        Ok(Response::new(pb::CountTokensResponse { n_tokens: translate::count(tokens.len()) }))
    }
}

/// An answer that keeps its place until its peer has taken it.
fn until_delivered<T>(message: T, held: Held) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(held);
    response
}
