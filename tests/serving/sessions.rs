//! Sessions by gRPC and by HTTP's `user`: made, named, warmed, pinned, listed, given up.

use pled::engine::{EngineOptions, MAX_SESSIONS, SessionDraft, SessionKey};
use pled::rpc::pb::prewarm_session_request::Prompt;
use pled::rpc::pb::{self, generate_stream_response::Event};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::*;
use super::web::post;

const KEEPING: EngineOptions = EngineOptions { kept_contexts: 1, n_ctx: 256, ..OPTIONS };

fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

fn of_session(prompt: &[u32], session: &str) -> pb::GenerateRequest {
    pb::GenerateRequest { session: session.to_owned(), ..request(prompt, 3) }
}

fn letters(n: u32) -> Vec<u32> {
    (0..n).map(|i| 3 + i).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_used_listed_and_given_up() {
    let server = Server::over(start(Script::default(), KEEPING).engine).await;
    let (mut client, mut sessions) = (server.generation().await, server.sessions().await);
    let create = pb::CreateSessionRequest { session_id: "kitchen".to_owned(), ..Default::default() };
    let made = sessions.create_session(create.clone()).await.unwrap().into_inner().session.unwrap();
    assert_eq!((made.name.as_str(), made.pinned, made.n_requests), ("sessions/kitchen", false, 0));
    let day = prost_types::Duration { seconds: 24 * 60 * 60, nanos: 0 };
    assert_eq!(made.ttl, Some(day));
    assert_eq!(made.expire_time.unwrap().seconds - made.last_use_time.unwrap().seconds, day.seconds);
    assert_eq!(sessions.create_session(create).await.unwrap_err().code(), Code::AlreadyExists);

    let prompt = letters(10);
    let answered = client.generate(of_session(&prompt, "sessions/kitchen")).await.unwrap().into_inner();
    assert_eq!(answered.token_ids, answer(&prompt, 3), "a session changes no answer");
    let get = pb::GetSessionRequest { name: "sessions/kitchen".to_owned() };
    let used = sessions.get_session(get.clone()).await.unwrap().into_inner().session.unwrap();
    assert_eq!((used.n_requests, used.n_tokens), (1, 13));

    let unnamed = pb::CreateSessionRequest { pinned: true, ..Default::default() };
    let unnamed = sessions.create_session(unnamed).await.unwrap().into_inner().session.unwrap();
    let all = sessions.list_sessions(pb::ListSessionsRequest {}).await.unwrap().into_inner().sessions;
    assert_eq!(all.len(), 2);
    assert!(all.contains(&used) && all.contains(&unnamed) && unnamed.pinned);

    let delete = pb::DeleteSessionRequest { name: "sessions/kitchen".to_owned() };
    sessions.delete_session(delete.clone()).await.unwrap();
    for status in [
        sessions.delete_session(delete).await.unwrap_err(),
        sessions.get_session(get).await.unwrap_err(),
        client.generate(of_session(&prompt, "sessions/kitchen")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert_eq!(status.get_details_resource_info().unwrap().resource_name, "sessions/kitchen");
    }
    drop((client, sessions));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_session_is_named() {
    let server = Server::over(start(Script::default(), KEEPING).engine).await;
    let (mut client, mut sessions) = (server.generation().await, server.sessions().await);
    for name in ["kitchen", "sessions/", "sessions/a b", "rooms/kitchen"] {
        let wrong = client.generate(of_session(&[BOS], name)).await.unwrap_err();
        assert_eq!(field(&wrong), "session", "{name}");
        let get = pb::GetSessionRequest { name: name.to_owned() };
        assert_eq!(field(&sessions.get_session(get).await.unwrap_err()), "name", "{name}");
    }
    for (session_id, seconds, wrong) in
        [("a/b", 60, "session_id"), ("a", 0, "ttl"), ("a", -1, "ttl"), ("a", i64::MAX, "ttl")]
    {
        let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
        let create = pb::CreateSessionRequest { session_id: session_id.to_owned(), ttl, pinned: false };
        assert_eq!(field(&sessions.create_session(create).await.unwrap_err()), wrong);
    }
    sessions
        .create_session(pb::CreateSessionRequest { session_id: "a".to_owned(), ..Default::default() })
        .await
        .unwrap();
    let prewarm = |prompt| pb::PrewarmSessionRequest { name: "sessions/a".to_owned(), prompt };
    assert_eq!(field(&sessions.prewarm_session(prewarm(None)).await.unwrap_err()), "prompt");
    let far = pb::PromptTokens { ids: vec![BOS, 999] };
    let wrong = sessions.prewarm_session(prewarm(Some(Prompt::Tokens(far)))).await.unwrap_err();
    assert_eq!(field(&wrong), "tokens.ids[1]");
    let message = pb::ChatMessage { role: 99, ..Default::default() };
    let chat = pb::ChatRequest { messages: vec![message], ..Default::default() };
    let wrong = sessions.prewarm_session(prewarm(Some(Prompt::Chat(chat)))).await.unwrap_err();
    assert_eq!(field(&wrong), "chat.messages[0].role");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_computed_ahead_and_no_token_chosen() {
    let f = start(Script::default(), KEEPING);
    let server = Server::over(f.engine.clone()).await;
    f.engine.open_session(&SessionKey::unowned("hall")).unwrap();
    let mut sessions = server.sessions().await;
    let prewarm =
        |prompt| pb::PrewarmSessionRequest { name: "sessions/hall".to_owned(), prompt: Some(prompt) };
    let prompt = letters(70);
    let tokens = Prompt::Tokens(pb::PromptTokens { ids: prompt.clone() });
    let warmed = sessions.prewarm_session(prewarm(tokens)).await.unwrap().into_inner();
    let usage = warmed.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens), (70, 0, 0));
    assert_eq!(warmed.session.unwrap().n_tokens, 70);
    assert_eq!(f.engine.stats().completion_tokens, 0);
    let longer = [&prompt[..], &[350]].concat();
    let answered = server.generation().await.generate(of_session(&longer, "sessions/hall")).await.unwrap();
    assert_eq!(answered.into_inner().usage.unwrap().cached_tokens, 70);

    // Instructions alone are warmed up to where the user's words begin, whatever they are.
    let say = |role: pb::ChatRole, text: &str| {
        let part = pb::ChatPart { part: Some(pb::chat_part::Part::Text(text.to_owned())) };
        pb::ChatMessage { role: role.into(), parts: vec![part], ..Default::default() }
    };
    let system = say(pb::ChatRole::System, "You are the voice of a house, and say little.");
    let chat = pb::ChatRequest { messages: vec![system.clone()], ..Default::default() };
    let warmed = sessions.prewarm_session(prewarm(Prompt::Chat(chat))).await.unwrap().into_inner();
    let n_warmed = warmed.usage.unwrap().prompt_tokens;
    let messages = vec![system, say(pb::ChatRole::User, "turn on the light")];
    let stopping = Some(pb::StoppingCriteria { max_tokens: Some(1), ..Default::default() });
    let ask =
        pb::ChatRequest { messages, stopping, session: "sessions/hall".to_owned(), ..Default::default() };
    let usage = server.generation().await.chat(ask).await.unwrap().into_inner().usage.unwrap();
    assert_eq!(usage.cached_tokens, n_warmed);
    assert!(n_warmed > 20 && usage.prompt_tokens > n_warmed, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_outlasts_what_others_compute_and_goes_with_its_session() {
    let f = start(Script::default(), KEEPING);
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let pinned = SessionDraft { id: "pinned".to_owned(), pinned: true, ..SessionDraft::default() };
    f.engine.create_session(pinned).unwrap();
    f.engine.open_session(&SessionKey::unowned("plain")).unwrap();
    let (mine, others) = (letters(80), [&[300][..], &letters(79)].concat());
    client.generate(of_session(&mine, "sessions/pinned")).await.unwrap();
    client.generate(of_session(&others, "sessions/plain")).await.unwrap();
    let mut crowd = async || {
        for first in 100..120 {
            let stranger = [&[first][..], &letters(200)].concat();
            client.generate(request(&stranger, 50)).await.unwrap();
        }
    };
    crowd().await;
    let known = async |prompt: &[u32]| {
        let answered = server.generation().await.generate(request(prompt, 1)).await.unwrap().into_inner();
        answered.usage.unwrap().cached_tokens
    };
    assert_eq!(known(&mine).await, 79);
    assert_eq!(known(&others).await, 0);
    assert!(
        f.engine.delete_session(&SessionKey::unowned("pinned"))
            && !f.engine.delete_session(&SessionKey::unowned("pinned"))
    );
    crowd().await;
    assert_eq!(known(&mine).await, 0);
}

/// A stream that names a session is one of its requests although it is not read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_answer_counts_for_its_session() {
    let f = start(Script::default(), KEEPING);
    let server = Server::over(f.engine.clone()).await;
    f.engine.open_session(&SessionKey::unowned("hall")).unwrap();
    let asked = pb::GenerateRequest { session: "sessions/hall".to_owned(), ..request(&letters(40), 200) };
    let mut stream = server.generation().await.generate_stream(asked).await.unwrap().into_inner();
    while !matches!(next(&mut stream).await.unwrap(), Some(Event::Delta(_))) {}
    drop(stream);
    await_that("the session has what was computed", || {
        f.engine
            .sessions()
            .get(&SessionKey::unowned("hall"))
            .is_some_and(|s| s.n_requests == 1 && s.n_tokens > 40)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_http_has_a_session() {
    let f = start(Script::default(), KEEPING);
    let server = Server::over(f.engine.clone()).await;
    let ask = |user: &str| json!({ "prompt": [2, 320, 321], "max_tokens": 2, "user": user });
    for user in ["anna", "Bö b", "anna", ""] {
        let answered = post(server.addr, "/v1/completions", &ask(user)).await;
        assert_eq!(answered.status, 200);
        answered.json().await;
    }
    let all: Vec<_> = f.engine.sessions().list("").into_iter().map(|s| (s.key.id, s.n_requests)).collect();
    assert_eq!(all, [("user-B~c3~b6~20b".to_owned(), 1), ("user-anna".to_owned(), 2)]);
    let refused = post(server.addr, "/v1/completions", &ask(&"x".repeat(200))).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json().await["error"]["param"], "user");
    // Where there is no room for a session it is done without.
    for i in 0..MAX_SESSIONS {
        let draft = SessionDraft { id: format!("{i}"), ..SessionDraft::default() };
        assert!(f.engine.create_session(draft).is_ok() || i >= MAX_SESSIONS - 2);
    }
    assert_eq!(post(server.addr, "/v1/completions", &ask("berta")).await.status, 200);
    assert!(f.engine.sessions().get(&SessionKey::unowned("user-berta")).is_none());
}
