//! SessionService.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::chat::{self, Said};
use super::deadline::Deadline;
use super::pb::prewarm_session_request::Prompt;
use super::pb::session_service_server::SessionService;
use super::validate::{owner, priority, session_id, violation};
use super::{pb, translate};
use crate::engine::{Draft, Event, Purpose, Session, SessionDraft, SessionKey};
use crate::port::Place;
use crate::serving::{self, Problem, Promptless, Ready, State};

#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: Arc<State>,
}

impl Service {
    fn session(&self, key: &SessionKey) -> Result<(&Ready, pb::Session), Problem> {
        let ready = self.state.model("")?;
        let session = ready.engine.sessions().get(key);
        let session = session.ok_or_else(|| Problem::UnknownSession(key.id.clone()))?;
        Ok((ready, session.into()))
    }

    /// What conversations that begin as this one does have in common.
    async fn opening(&self, ready: &Ready, message: pb::ChatRequest) -> Result<Vec<u32>, Problem> {
        let Said { messages, tools, thinking, calls } = chat::said(message)?;
        serving::conversation_opening(&self.state, ready, messages, tools, thinking, calls).await
    }
}

#[tonic::async_trait]
impl SessionService for Service {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let ready = self.state.model("")?;
        let owner = owner(&request);
        let pb::CreateSessionRequest { session_id, ttl, pinned } = request.into_inner();
        let negative = |e| Problem::field("ttl", format!("is no positive duration: {e}"));
        let ttl = ttl.map(Duration::try_from).transpose().map_err(negative)?;
        let id = if session_id.is_empty() { self.state.unique_name() } else { session_id };
        let made =
            ready.engine.create_session(SessionDraft { owner, id, ttl, pinned }).map_err(Problem::from)?;
        Ok(Response::new(pb::CreateSessionResponse { session: Some(made.into()) }))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let owner = owner(&request);
        let id = session_id(&request.into_inner().name, "name")?;
        let (_, session) = self.session(&SessionKey { owner, id })?;
        Ok(Response::new(pb::GetSessionResponse { session: Some(session) }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let ready = self.state.model("")?;
        let sessions =
            ready.engine.sessions().list(&owner(&request)).into_iter().map(pb::Session::from).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions }))
    }

    async fn delete_session(
        &self,
        request: Request<pb::DeleteSessionRequest>,
    ) -> Result<Response<pb::DeleteSessionResponse>, Status> {
        let ready = self.state.model("")?;
        let owner = owner(&request);
        let id = session_id(&request.into_inner().name, "name")?;
        let key = SessionKey { owner, id };
        match ready.engine.delete_session(&key) {
            true => Ok(Response::new(pb::DeleteSessionResponse {})),
            false => Err(Problem::UnknownSession(key.id).into()),
        }
    }

    async fn prewarm_session(
        &self,
        request: Request<pb::PrewarmSessionRequest>,
    ) -> Result<Response<pb::PrewarmSessionResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().map(|d| d.0);
        // Until the engine has its own place for the request.
        let _place = request.extensions().get::<Place>().cloned();
        let owner = owner(&request);
        let priority = priority(&request)?;
        let pb::PrewarmSessionRequest { name, prompt } = request.into_inner();
        let key = SessionKey { owner, id: session_id(&name, "name")? };
        let (ready, _) = self.session(&key)?;
        let (field, tokens) = match prompt {
            None => {
                let missing = violation("prompt", "is missing: text, tokens or chat must be set");
                return Err(Problem::Fields(vec![missing]).into());
            }
            Some(Prompt::Text(text)) => ("text", self.state.prompt_tokens(ready, text).await?),
            Some(Prompt::Tokens(tokens)) => ("tokens.ids", tokens.ids),
            Some(Prompt::Chat(message)) => {
                let opening = self.opening(ready, message).await;
                let of_chat = |problem: Problem| problem.with_fields(|field| format!("chat.{field}"));
                ("chat.messages", opening.map_err(of_chat)?)
            }
        };
        let rest = Draft {
            session: key.id.clone(),
            owner: Arc::clone(&key.owner),
            purpose: Purpose::Prewarm,
            priority,
            request_id: self.state.unique_name(),
            deadline,
            ..Draft::default()
        };
        let request = Promptless { field, rest, form: None }.with_prompt(&self.state, ready, tokens).await?;
        let mut generation = ready.engine.submit(request).map_err(Problem::from)?;
        // The deadline of the call is kept by the layer around all methods.
        while let Some(event) = generation.next().await {
            match event {
                Event::Done(done) => {
                    return Ok(Response::new(pb::PrewarmSessionResponse {
                        session: Some(self.session(&key)?.1),
                        usage: Some(done.usage.into()),
                        timings: Some(done.timings.into()),
                    }));
                }
                Event::Failed(failure) => return Err(Problem::from(failure).into()),
                _ => {}
            }
        }
        Err(Problem::EngineEnded.into())
    }
}

impl From<Session> for pb::Session {
    fn from(session: Session) -> Self {
        Self {
            name: format!("sessions/{}", session.key.id),
            create_time: Some(session.created.into()),
            last_use_time: Some(session.last_used.into()),
            expire_time: Some((session.last_used + session.ttl).into()),
            ttl: prost_types::Duration::try_from(session.ttl).ok(),
            pinned: session.pinned,
            n_requests: session.n_requests,
            n_tokens: translate::count(session.n_tokens),
        }
    }
}
