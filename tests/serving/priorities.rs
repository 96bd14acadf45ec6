//! Interactive requests before those of the background: in the queue, in the slots, in turns, and over the wire.

use pled::engine::{Draft, EngineOptions, Priority, SessionKey, SubmitError};
use pled::rpc::pb;
use pled::rpc::pb::prewarm_session_request::Prompt;
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::reuse::KEEPING;
use super::scripted::*;
use super::server::*;
use super::web::{Answer, raw};

fn background(prompt: &[u32], max_tokens: usize) -> Draft {
    Draft { priority: Priority::Background, ..draft(prompt, max_tokens) }
}

fn gated(options: EngineOptions) -> (std::sync::Arc<Gate>, Fixture) {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    (gate, f)
}

/// Lets `n` steps through, and waits until they are made.
fn make_steps(gate: &Gate, n: usize) {
    gate.allow(n);
    gate.await_step();
}

/// `n` tokens that begin with `first` and no other prompt's.
fn prompt_from(first: u32, n: usize) -> Vec<u32> {
    [first].into_iter().chain((0..n as u32 - 1).map(|i| 3 + i)).collect()
}

#[test]
fn interactive_requests_leave_the_queue_first() {
    let (gate, f) = gated(EngineOptions { max_sessions: 1, queue_depth: 4, ..OPTIONS });
    // Told apart by the lengths of their prompts. With one slot there is nothing to reserve.
    let running = f.submit(background(&[BOS], 1));
    gate.await_step();
    let waiting = [
        f.submit(background(&[BOS; 2], 1)),
        f.submit(background(&[BOS; 3], 1)),
        f.submit(draft(&[BOS; 4], 1)),
        f.submit(draft(&[BOS, 320], 1)),
    ];
    assert_eq!(waiting.each_ref().map(|g| g.queue_position()), [1, 2, 1, 2]);
    gate.open();
    for generation in [running].into_iter().chain(waiting) {
        hear_all(generation);
    }
    assert_eq!(*f.log.lock().unwrap(), [[1], [4], [2], [2], [3]]);
    f.await_nothing_left();
}

#[test]
fn the_background_leaves_the_last_free_slot_and_its_place_in_the_queue() {
    let (gate, f) = gated(OPTIONS);
    let long = [BOS; 40];
    let ahead: Vec<_> = (0..4).map(|_| f.submit(background(&long, 4))).collect();
    assert_eq!(ahead.iter().map(|g| g.queue_position()).collect::<Vec<_>>(), [0, 0, 1, 2]);
    let refused = f.engine.submit(f.request(background(&long, 4)));
    assert!(matches!(refused, Err(SubmitError::QueueFull { .. })), "{refused:?}");
    make_steps(&gate, 1);
    assert_eq!((f.engine.stats().active_sequences, f.engine.stats().queue_length), (2, 2));
    let interactive = f.submit(draft(&[BOS, 320], 1));
    assert_eq!(interactive.queue_position(), 0);
    // The step under way, and its own.
    make_steps(&gate, 2);
    assert_eq!(f.engine.stats().finished, 1);
    assert_eq!(hear_all(interactive).token_ids, answer(&[BOS, 320], 1));
    gate.open();
    for generation in ahead {
        assert_eq!(hear_all(generation).token_ids, answer(&long, 4));
    }
    f.await_nothing_left();
}

#[test]
fn the_last_slot_stays_free_beside_interactive_ones_too() {
    let (gate, f) = gated(OPTIONS);
    let running = [f.submit(draft(&[BOS, 320], 4)), f.submit(draft(&[BOS, 330], 20))];
    let behind = f.submit(background(&[BOS, 340], 4));
    make_steps(&gate, 2);
    assert_eq!((f.engine.stats().active_sequences, f.engine.stats().queue_length), (2, 1));
    gate.open();
    assert_eq!(hear_all(behind).token_ids, answer(&[BOS, 340], 4));
    for generation in running {
        hear_all(generation);
    }
}

/// Steps and not seconds: how large the chunks are depends on how long steps took.
#[test]
fn a_long_prompt_of_the_background_is_in_every_eighth_step_of_an_answer() {
    let (gate, f) = gated(EngineOptions { event_room: 64, ..KEEPING });
    let speaking = f.submit(draft(&[BOS, 320], 50));
    make_steps(&gate, 1);
    let long = f.submit(background(&prompt_from(300, 240), 1));
    // The step under way, and its other 48 tokens.
    make_steps(&gate, 1 + 48);
    assert_eq!(f.engine.stats().finished, 1, "an answer moves in every step");
    assert_eq!(f.log.lock().unwrap().iter().filter(|step| step.len() == 2).count(), 48 / 8);
    assert_eq!(hear_all(speaking).token_ids, answer(&[BOS, 320], 50));
    gate.open();
    assert_eq!(hear_all(long).token_ids.len(), 1);
    f.await_nothing_left();
}

/// While an answer is under way and nothing is known of the time of a decode step, a chunk has one token.
#[test]
fn an_interactive_prompt_is_not_cut_for_answers_of_the_background() {
    use Priority::{Background, Interactive};
    for (of_answer, of_prompt, is_whole) in
        [(Background, Interactive, true), (Interactive, Interactive, false), (Background, Background, false)]
    {
        let f = start(Script::default(), EngineOptions { event_room: 1, prefill_chunk: 8, ..KEEPING });
        // Nobody reads it, so that it gives its first token and never makes a decode step.
        let _answering = f.submit(Draft { priority: of_answer, ..draft(&[BOS, 320], 9) });
        await_that("the first token", || f.engine.stats().completion_tokens == 1);
        hear_all(f.submit(Draft { priority: of_prompt, ..draft(&prompt_from(300, 48), 1) }));
        let log = f.log.lock().unwrap();
        let bounds = if is_whole { 8..=8 } else { 1..=1 };
        assert!(
            log[1..].iter().all(|step| bounds.contains(&step[0])),
            "{of_prompt:?} beside {of_answer:?}: {log:?}"
        );
    }
}

/// 20 chunks that one of the background shares with an interactive request, beside a long interactive prompt.
#[test]
fn what_an_interactive_request_waits_for_is_computed_as_if_it_were_interactive() {
    let (gate, f) = gated(KEEPING);
    let shared = prompt_from(300, 80);
    let of_background = [&shared[..], &prompt_from(301, 160)].concat();
    let of_interactive = [&shared[..], &[320, 330]].concat();
    let lent = f.submit(background(&of_background, 1));
    gate.await_step();
    let beside = f.submit(draft(&prompt_from(302, 200), 1));
    let waiting = f.submit(draft(&of_interactive, 1));
    // 20 chunks in turns with as many of the other, and its own.
    make_steps(&gate, 44);
    assert_eq!(f.engine.stats().finished, 1, "the shared part was computed at the background's pace");
    let heard = hear_all(waiting);
    assert_eq!((heard.done().usage.cached_tokens, heard.token_ids), (80, answer(&of_interactive, 1)));
    // With the waiting the loan ends: the 28 chunks that are left of the other come before the 40.
    make_steps(&gate, 36);
    assert_eq!(f.engine.stats().finished, 2, "who was waited for once stays interactive");
    gate.open();
    assert_eq!(hear_all(beside).token_ids.len(), 1);
    assert_eq!(hear_all(lent).token_ids, answer(&of_background, 1));
    f.await_nothing_left();
}

/// An engine with room for one request of the background and one more, and the first is there.
fn with_background() -> (Fixture, pled::engine::Generation) {
    let f =
        start(Script::default(), EngineOptions { max_sessions: 2, queue_depth: 0, n_ctx: 2000, ..KEEPING });
    // Nobody reads it, so that it stays.
    let held = f.submit(background(&[BOS, 320], 200));
    (f, held)
}

fn saying<T>(message: T, priority: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(priority) = priority {
        request.metadata_mut().insert("x-pled-priority", priority.parse().unwrap());
    }
    request
}

async fn to_the_end<T>(stream: Result<tonic::Response<Streaming<T>>, Status>) -> Result<(), Status> {
    let mut stream = stream?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Every method that generates, called with this metadata.
async fn calls(server: &Server, priority: Option<&str>) -> Vec<Result<(), Status>> {
    let (mut client, mut sessions) = (server.generation().await, server.sessions().await);
    let text = || saying(request(&[BOS, 330], 2), priority);
    let said = pb::ChatPart { part: Some(pb::chat_part::Part::Text("light!".to_owned())) };
    let message =
        pb::ChatMessage { role: pb::ChatRole::User.into(), parts: vec![said], ..Default::default() };
    let stopping = Some(pb::StoppingCriteria { max_tokens: Some(2), ..Default::default() });
    let chat = || {
        let messages = vec![message.clone()];
        saying(pb::ChatRequest { messages, stopping: stopping.clone(), ..Default::default() }, priority)
    };
    let prompt = Some(Prompt::Tokens(pb::PromptTokens { ids: vec![BOS, 340] }));
    let prewarm = pb::PrewarmSessionRequest { name: "sessions/hall".to_owned(), prompt };
    vec![
        client.generate(text()).await.map(drop),
        to_the_end(client.generate_stream(text()).await).await,
        client.chat(chat()).await.map(drop),
        to_the_end(client.chat_stream(chat()).await).await,
        sessions.prewarm_session(saying(prewarm, priority)).await.map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_grpc_says_the_priority() {
    let (f, _held) = with_background();
    f.engine.open_session(&SessionKey::unowned("hall")).unwrap();
    let server = Server::over(f.engine.clone()).await;
    for priority in [None, Some("interactive")] {
        for (i, answered) in calls(&server, priority).await.into_iter().enumerate() {
            assert!(answered.is_ok(), "method {i}, {priority:?}: {answered:?}");
        }
    }
    for (i, refused) in calls(&server, Some("background")).await.into_iter().enumerate() {
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted, "method {i}");
    }
    for bad in ["urgent", "", "Background", "interactive, background"] {
        for (i, refused) in calls(&server, Some(bad)).await.into_iter().enumerate() {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "method {i}: {status:?}");
            let violation = &status.get_details_bad_request().unwrap().field_violations[0];
            assert_eq!(violation.field, "x-pled-priority");
            assert!(violation.description.contains(&format!("{bad:?}")), "{violation:?}");
        }
    }
}

const ROUTES: [&str; 4] = ["/v1/completions", "/v1/chat/completions", "/api/generate", "/api/chat"];

async fn post(server: &Server, path: &str, priority: Option<&str>) -> Answer {
    let mut body = json!({ "model": "scripted", "stream": false, "options": { "num_predict": 2 } });
    match path.contains("chat") {
        true => body["messages"] = json!([{ "role": "user", "content": "light!" }]),
        false => body["prompt"] = json!("light!"),
    }
    if path.starts_with("/v1") {
        body["max_tokens"] = json!(2);
    }
    let header = priority.map(|said| format!("X-Pled-Priority: {said}\r\n")).unwrap_or_default();
    let request = super::web::request(path, &body.to_string());
    raw(server.addr, request.replacen("Host:", &format!("{header}Host:"), 1).as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_http_says_the_priority() {
    let (f, _held) = with_background();
    let server = Server::over(f.engine.clone()).await;
    for path in ROUTES {
        for (priority, status) in [(None, 200), (Some("interactive"), 200), (Some("background"), 429)] {
            let answered = post(&server, path, priority).await;
            assert_eq!(answered.status, status, "{path} {priority:?}");
            answered.text().await;
        }
        for bad in ["urgent", "", "Background", "ü", &"x".repeat(1000)] {
            let refused = post(&server, path, Some(bad)).await;
            assert_eq!(refused.status, 400, "{path} {bad}");
            let body: Value = refused.json().await;
            let message = match path.starts_with("/v1") {
                true => {
                    assert_eq!(body["error"]["param"], "x-pled-priority");
                    &body["error"]["message"]
                }
                false => &body["error"],
            };
            let shown: String = bad.chars().take(100).collect();
            let expected = format!("x-pled-priority: is {shown:?}; interactive and background are possible");
            assert_eq!(message, &expected);
        }
    }
    // What generates nothing does not ask.
    assert_eq!(post(&server, "/api/show", Some("urgent")).await.status, 200);
}
