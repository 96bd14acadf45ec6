//! Who is let in, and what the others hear, in every dialect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pled::access::Keys;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::engine::EngineOptions;
use pled::rpc::pb;
use serde_json::json;
use tokio::sync::oneshot;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::{Server, drain, first_token, request};
use super::support::fixture;
use super::web::{Answer, events, get, raw};

const KITCHEN: &str = "Yq3vTtM0lA5cXW1zJrKd8w";
const KIOSK: &str = "u8T1sQw7Zb2NfKp0LxV4eg";
const GRAFANA: &str = "p5Rj9HcD3yGmB6oSaEiUtA";

/// A file of the three tokens.
fn token_file() -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let text = format!("kitchen {KITCHEN}\nkiosk {KIOSK} at_a_time=1\ngrafana {GRAFANA} figures_only\n");
    std::fs::write(&file, text).unwrap();
    file
}

async fn kept(f: &Fixture) -> Server {
    Server::kept_by(Arc::new(Keys::load(&token_file()).unwrap()), f.engine.clone()).await
}

async fn call(addr: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: pled\r\n{authorization}Content-Length: {length}\r\n");
    raw(addr, format!("{head}\r\n{body}").as_bytes()).await
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 3}"#;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_known_token_nothing_but_health_answers() {
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = kept(&f).await;
    for token in ["", "0000000000000000000000", &KITCHEN[..20], "kitchen"] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(call(server.addr, "GET", path, token, "").await.status, 200, "{path}");
        }
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/metrics"),
            ("GET", "/healthz/"),
            ("GET", "/%68ealthz"),
            ("GET", "/v1/models"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/completions"),
            ("POST", "/nowhere"),
            ("OPTIONS", "/v1/models"),
        ] {
            let answer = call(server.addr, method, path, token, CHAT).await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let error = answer.json().await["error"].clone();
            assert_eq!(
                (&error["code"], &error["type"]),
                (&json!("invalid_api_key"), &json!("invalid_request_error")),
                "{error}"
            );
            assert!(error["message"].is_string() && !error.to_string().contains("Yq3v"), "{error}");
        }
        for (method, path) in [("GET", "/api/tags"), ("POST", "/api/chat"), ("POST", "/api/generate")] {
            let answer = call(server.addr, method, path, token, CHAT).await;
            assert_eq!(answer.status, 401, "{path}");
            let json = answer.json().await;
            assert!(json["error"].as_str().is_some_and(|words| words.contains("token")), "{json}");
        }
    }
    // gRPC, with none and with a wrong one.
    let mut health = HealthClient::new(server.channel().await);
    let checked = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::Serving);
    let mut client = server.generation().await;
    let wrong = with_token(request(&[BOS, 320], 1), "0000000000000000000000");
    assert_eq!(client.generate(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    let none = client.generate_stream(request(&[BOS, 320], 1)).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    assert!(none.message().contains("Authorization"), "{none:?}");
    let mut models = server.models().await;
    let none = models.list_models(pb::ListModelsRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    let mut admin = server.admin().await;
    let none = admin.get_stats(pb::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    assert_eq!(f.engine.stats().accepted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_every_dialect() {
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = kept(&f).await;
    for (method, path) in [("GET", "/"), ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/api/tags")] {
        assert_eq!(call(server.addr, method, path, KITCHEN, "").await.status, 200, "{path}");
    }
    let answer = call(server.addr, "POST", "/v1/chat/completions", KITCHEN, CHAT).await;
    events(&answer.text().await);
    let answer = call(server.addr, "POST", "/api/chat", KITCHEN, CHAT).await;
    assert_eq!(answer.status, 200);
    answer.text().await;
    let mut client = server.generation().await;
    let asked = with_token(request(&[BOS, 320], 3), KITCHEN);
    let ids = client.generate(asked).await.unwrap().into_inner().token_ids;
    assert_eq!(ids, answer_of(3));
    let asked = with_token(request(&[BOS, 320], 3), KITCHEN);
    let mut stream = client.generate_stream(asked).await.unwrap().into_inner();
    assert_eq!(drain(&mut stream).await.unwrap().0, answer_of(3));
}

fn answer_of(n: usize) -> Vec<u32> {
    super::scripted::answer(&[BOS, 320], n)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_figures_reads_them_and_nothing_else() {
    let server = kept(&start(Script::default(), OPTIONS)).await;
    assert_eq!(call(server.addr, "GET", "/metrics", GRAFANA, "").await.status, 200);
    let chat = call(server.addr, "POST", "/v1/chat/completions", GRAFANA, CHAT).await;
    assert_eq!((chat.status, chat.json().await["error"]["code"].clone()), (403, json!("permission_denied")));
    let tags = call(server.addr, "GET", "/api/tags", GRAFANA, "").await;
    assert_eq!((tags.status, tags.json().await["error"].is_string()), (403, true));
    let mut admin = server.admin().await;
    admin.get_stats(with_token(pb::GetStatsRequest {}, GRAFANA)).await.unwrap();
    let refused = server.generation().await.generate(with_token(request(&[BOS, 320], 1), GRAFANA)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_as_many_calls_at_a_time_as_its_line_says() {
    let script = Script { step_time: std::time::Duration::from_millis(5), ..Script::default() };
    let f = start(script, EngineOptions { n_ctx: 4000, ..OPTIONS });
    let server = kept(&f).await;
    let mut client = server.generation().await;
    let mut running = client.generate_stream(with_token(request(&[BOS, 320], 3000), KIOSK)).await.unwrap();
    first_token(running.get_mut()).await;
    let refused = client.generate(with_token(request(&[BOS, 320], 1), KIOSK)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let refused = call(server.addr, "POST", "/v1/chat/completions", KIOSK, CHAT).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json().await["error"]["code"], "rate_limit_exceeded");
    let refused = call(server.addr, "POST", "/api/chat", KIOSK, CHAT).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    // What costs nothing does not count, and others have their own.
    assert_eq!(call(server.addr, "GET", "/v1/models", KIOSK, "").await.status, 200);
    client.generate(with_token(request(&[BOS, 320], 1), KITCHEN)).await.unwrap();
    // Who leaves in the middle has his call back.
    drop(running);
    let again = async {
        while call(server.addr, "POST", "/v1/chat/completions", KIOSK, CHAT).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the call is free again");
    f.await_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_asks_too_often_hears_when_to_come_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("kitchen {KITCHEN} requests_per_minute=2")).unwrap();
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = Server::kept_by(Arc::new(Keys::load(file.path()).unwrap()), f.engine.clone()).await;
    for _ in 0..2 {
        assert_eq!(call(server.addr, "POST", "/api/chat", KITCHEN, CHAT).await.status, 200);
    }
    let refused = call(server.addr, "POST", "/v1/chat/completions", KITCHEN, CHAT).await;
    let after: u64 = refused.header("retry-after").expect("when to come again").parse().unwrap();
    assert!(refused.status == 429 && (1..=30).contains(&after), "{} {after}", refused.status);
    let refused = server.generation().await.generate(with_token(request(&[BOS, 320], 1), KITCHEN)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs() <= 30);
    assert_eq!(call(server.addr, "POST", "/api/chat", "a token of nobody", CHAT).await.status, 401);
    // Figures are free.
    let page = call(server.addr, "GET", "/metrics", KITCHEN, "").await.text().await;
    for (why, n) in [("rate_limited", 2), ("unauthenticated", 1), ("invalid", 0)] {
        let line = format!("pled_requests_total{{outcome=\"refused_{why}\"}} {n}");
        assert!(page.lines().any(|l| l == line), "no {line} in {page}");
    }
}

/// The daemon on two addresses, with the built-in rule of which one is open.
#[tokio::test(flavor = "multi_thread")]
async fn programs_on_this_machine_are_let_in_without_a_token_if_wanted() {
    let file = token_file();
    for open in [false, true] {
        let mut fragment = Fragment::default();
        let model: PathBuf = fixture("gemma4-ple/model-q4_0.gguf");
        for (field, values) in [
            (Field::Model, vec![model.to_str().unwrap().to_owned()]),
            (Field::Listen, vec!["127.0.0.1:0".to_owned(), "0.0.0.0:0".to_owned()]),
            (Field::TokenFile, vec![file.to_str().unwrap().to_owned()]),
            (Field::AllowUnauthenticatedLoopback, vec![open.to_string()]),
            (Field::Mdns, vec!["false".to_owned()]),
            (Field::Threads, vec!["1".to_owned()]),
        ] {
            fragment.set(field, Origin::Flag(field), values);
        }
        let settings = Settings::resolve(fragment).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, addresses) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stop = async { stopped.await.unwrap_or_default() };
            daemon::run(&settings, stop, |all| bound.send(all.to_vec()).unwrap()).await
        });
        let addresses = addresses.await.unwrap();
        // By whichever address one comes: it is the daemon's that counts.
        let lan = SocketAddr::from(([127, 0, 0, 1], addresses[1].port()));
        assert_eq!(get(lan, "/metrics").await.status, 401);
        assert_eq!(get(lan, "/healthz").await.status, 200);
        assert_eq!(get(addresses[0], "/metrics").await.status, if open { 200 } else { 401 });
        assert_eq!(call(lan, "GET", "/metrics", KITCHEN, "").await.status, 200);
        drop(stop);
        tokio::time::timeout(PATIENCE, serving).await.expect("the daemon ends").unwrap().unwrap();
    }
}

/// Whoever brings no token is refused by his head alone: the rest may never come.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_request_without_a_token_is_refused_at_once() {
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = kept(&f).await;
    let half = "POST /v1/completions HTTP/1.1\r\nHost: pled\r\nContent-Length: 4000000\r\n\r\n{";
    let mut peers = Vec::new();
    for _ in 0..100 {
        let answer = raw(server.addr, half.as_bytes()).await;
        assert_eq!(answer.status, 401);
        peers.push(answer);
    }
    let answer = call(server.addr, "POST", "/v1/chat/completions", KITCHEN, CHAT).await;
    events(&answer.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_vanishes_in_the_middle_frees_the_slot_within_one_token() {
    for over_grpc in [false, true] {
        let gate = Gate::closed();
        let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, OPTIONS);
        let server = kept(&f).await;
        gate.allow(3);
        let asked = json!({ "prompt": "ab", "stream": true, "temperature": 0 }).to_string();
        if over_grpc {
            let mut client = server.generation().await;
            let asked = with_token(request(&[BOS, 320], 50), KIOSK);
            let mut running = client.generate_stream(asked).await.unwrap().into_inner();
            first_token(&mut running).await;
            gate.await_step();
        } else {
            let mut running = call(server.addr, "POST", "/v1/completions", KIOSK, &asked).await;
            running.piece().await.expect("some text");
            gate.await_step();
        }
        // It is gone, in the middle of a step. When its token has its call back, the server knows.
        let knows = async {
            while call(server.addr, "POST", "/v1/completions", KIOSK, "nonsense").await.status == 429 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, knows).await.expect("the server notices");
        let n_steps = f.log.lock().unwrap().len();
        gate.allow(1);
        f.await_nothing_left();
        assert_eq!(f.log.lock().unwrap().len(), n_steps + 1, "over gRPC: {over_grpc}");
        assert_eq!(f.engine.stats().cancelled, 1);
    }
}

/// What a token's holder names is not there for another, who may have a session of the same name.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_those_of_the_token_that_made_them() {
    const HALL: &str = "mG4tZs9KqB2vXr7LwD0yNe";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("kitchen {KITCHEN}\nhall {HALL}")).unwrap();
    let f = start(Script::default(), EngineOptions { kept_contexts: 1, n_ctx: 256, ..OPTIONS });
    let server = Server::kept_by(Arc::new(Keys::load(file.path()).unwrap()), f.engine.clone()).await;
    let (mut client, mut sessions) = (server.generation().await, server.sessions().await);
    let name = "sessions/talk".to_owned();
    let create = || pb::CreateSessionRequest { session_id: "talk".to_owned(), ..Default::default() };
    let ask = || pb::GenerateRequest { session: "sessions/talk".to_owned(), ..request(&[BOS, 320], 3) };
    let get = || pb::GetSessionRequest { name: name.clone() };
    let delete = || pb::DeleteSessionRequest { name: name.clone() };
    sessions.create_session(with_token(create(), KITCHEN)).await.unwrap();

    let tokens = pb::PromptTokens { ids: vec![BOS, 320] };
    let prompt = Some(pb::prewarm_session_request::Prompt::Tokens(tokens));
    let prewarm = pb::PrewarmSessionRequest { name: name.clone(), prompt };
    let part = pb::ChatPart { part: Some(pb::chat_part::Part::Text("x".to_owned())) };
    let role = pb::ChatRole::User.into();
    let message = pb::ChatMessage { role, parts: vec![part], ..Default::default() };
    let chat = pb::ChatRequest { messages: vec![message], session: name.clone(), ..Default::default() };
    for refused in [
        client.generate(with_token(ask(), HALL)).await.map(drop).unwrap_err(),
        client.generate_stream(with_token(ask(), HALL)).await.map(drop).unwrap_err(),
        client.chat(with_token(chat, HALL)).await.map(drop).unwrap_err(),
        sessions.get_session(with_token(get(), HALL)).await.map(drop).unwrap_err(),
        sessions.prewarm_session(with_token(prewarm, HALL)).await.map(drop).unwrap_err(),
        sessions.delete_session(with_token(delete(), HALL)).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    }
    let list = with_token(pb::ListSessionsRequest {}, HALL);
    assert!(sessions.list_sessions(list).await.unwrap().into_inner().sessions.is_empty());

    // A session of the same name is another one.
    sessions.create_session(with_token(create(), HALL)).await.unwrap();
    client.generate(with_token(ask(), HALL)).await.unwrap();
    let body = json!({ "prompt": [BOS, 320], "max_tokens": 2, "user": "anna" }).to_string();
    for token in [KITCHEN, HALL, HALL] {
        let answer = call(server.addr, "POST", "/v1/completions", token, &body).await;
        assert_eq!(answer.status, 200);
        answer.json().await;
    }
    let of = |owner| {
        let all = f.engine.sessions().list(owner);
        all.into_iter().map(|session| (session.key.id, session.n_requests)).collect::<Vec<_>>()
    };
    assert_eq!(of("kitchen"), [("talk".to_owned(), 0), ("user-anna".to_owned(), 1)]);
    assert_eq!(of("hall"), [("talk".to_owned(), 1), ("user-anna".to_owned(), 2)]);
    sessions.delete_session(with_token(delete(), HALL)).await.unwrap();
    let left = sessions.get_session(with_token(get(), KITCHEN)).await.unwrap().into_inner().session;
    assert_eq!(left.unwrap().name, name);
}
