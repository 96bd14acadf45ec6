//! Each row of the table of status codes, as a client sees it.

use std::time::{Duration, Instant};

use pled::engine::EngineOptions;
use pled::rpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::*;

async fn refused(server: &Server, request: pb::GenerateRequest) -> Status {
    let mut client = server.generation().await;
    let unary = client.generate(request.clone()).await.unwrap_err();
    // A stream is refused in the same way, before it begins.
    let stream = client.generate_stream(request).await.unwrap_err();
    assert_eq!((unary.code(), unary.message()), (stream.code(), stream.message()));
    unary
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().expect("field violations");
    details.field_violations.into_iter().map(|v| v.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_out_of_range_are_named() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let base = || request(&[BOS, 320], 1);
    let sampling = |s| pb::GenerateRequest { sampling: Some(s), ..base() };
    let stopping = |s| pb::GenerateRequest { stopping: Some(s), ..base() };
    let bias = [(384, 1.0)].into();
    let time_limit = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let cases: Vec<(&str, pb::GenerateRequest)> = vec![
        ("prompt", pb::GenerateRequest { prompt: None, ..base() }),
        ("tokens.ids", request(&[], 1)),
        ("tokens.ids[1]", request(&[BOS, 384], 1)),
        (
            "sampling.temperature",
            sampling(pb::SamplingParams { temperature: Some(-1.0), ..Default::default() }),
        ),
        ("sampling.top_p", sampling(pb::SamplingParams { top_p: Some(f32::NAN), ..Default::default() })),
        ("sampling.logit_bias", sampling(pb::SamplingParams { logit_bias: bias, ..Default::default() })),
        ("stopping.max_tokens", stopping(pb::StoppingCriteria { max_tokens: Some(0), ..Default::default() })),
        ("stopping.stop", stopping(pb::StoppingCriteria { stop: vec![String::new()], ..Default::default() })),
        ("stopping.time_limit", stopping(pb::StoppingCriteria { time_limit, ..Default::default() })),
        ("top_logprobs", pb::GenerateRequest { top_logprobs: Some(21), ..base() }),
        ("request_id", pb::GenerateRequest { request_id: "a\nb".to_owned(), ..base() }),
    ];
    for (field, request) in cases {
        let status = refused(&server, request).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert_eq!(fields(&status), [field]);
        assert!(status.message().starts_with(field), "{status:?}");
    }
    // All that is wrong is named at once.
    let sampling = Some(pb::SamplingParams { min_p: Some(2.0), ..Default::default() });
    let status = refused(&server, pb::GenerateRequest { sampling, ..request(&[], 0) }).await;
    assert_eq!(fields(&status), ["tokens.ids", "sampling.min_p", "stopping.max_tokens"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_name_their_fields_too() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let mut tokens = server.tokenizer().await;
    let ids = vec![BOS, 500];
    let status = tokens.detokenize(pb::DetokenizeRequest { ids, ..Default::default() }).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["ids[1]".to_owned()]));
    let ids = vec![0; (1 << 17) + 1];
    let status = tokens.detokenize(pb::DetokenizeRequest { ids, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["ids"]);
    let text = "x".repeat((1 << 20) + 1);
    let status = tokens.tokenize(pb::TokenizeRequest { text, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["text"]);
    let status = tokens.count_tokens(pb::CountTokensRequest::default()).await.unwrap_err();
    assert_eq!(fields(&status), ["input"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_beyond_the_context_is_refused_with_both_numbers() {
    let gate = Gate::closed();
    let options = EngineOptions { max_sessions: 1, queue_depth: 0, ..OPTIONS };
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    // Before queueing: also when the queue is full.
    let _running = f.submit(draft(&[BOS, 320], 1));
    let server = Server::over(f.engine.clone()).await;
    let exact = [request(&[BOS; 65], 1), text_request(&"0 ".repeat(32), 1)];
    for request in exact {
        let status = refused(&server, request).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PROMPT_TOO_LONG", "pled"));
        assert_eq!((info.metadata["n_prompt"].as_str(), info.metadata["n_ctx"].as_str()), ("65", "64"));
        assert!(status.message().contains("65") && status.message().contains("64"), "{status:?}");
    }
    // So long that it is not even counted.
    let status = refused(&server, text_request(&"x".repeat(1 << 20), 1)).await;
    assert!(status.message().contains("at least"), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["n_ctx"], "64");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_not_found() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let other = pb::GenerateRequest { model: "other".to_owned(), ..request(&[BOS], 1) };
    let status = refused(&server, other).await;
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "other");
    let other = pb::GetModelRequest { model: "other".to_owned() };
    assert_eq!(server.models().await.get_model(other).await.unwrap_err().code(), Code::NotFound);
    let ours = pb::GenerateRequest { model: "scripted".to_owned(), ..request(&[BOS, 320], 1) };
    server.generation().await.generate(ours).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_retry() {
    let gate = Gate::closed();
    let options = EngineOptions { max_sessions: 1, queue_depth: 1, ..OPTIONS };
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    let server = Server::over(f.engine.clone()).await;
    let _held = [f.submit(draft(&[BOS, 320], 1)), f.submit(draft(&[BOS, 320], 1))];
    let status = refused(&server, request(&[BOS], 1)).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(retry >= Duration::from_secs(1) && retry <= Duration::from_secs(60), "{retry:?}");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_for_a_sequence_is_exhaustion_for_now() {
    let gate = Gate::closed();
    let script = Script { gate: Some(gate.clone()), room: Some(1), ..Script::default() };
    let f = start(script, OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let _held = f.submit(draft(&[BOS, 320], 3));
    gate.await_step();
    let (mut client, refused) = (server.generation().await, request(&[BOS], 1));
    let refused = tokio::spawn(async move { client.generate(refused).await.unwrap_err() });
    await_that("the second request waits", || f.engine.stats().queue_length == 1);
    gate.open();
    let status = refused.await.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("bytes of memory"), "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_and_draining_are_unavailable_for_now() {
    let server = Server::loading().await;
    let status = refused(&server, request(&[BOS], 1)).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let status = server.admin().await.get_stats(pb::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let gate = Gate::closed();
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, OPTIONS);
    server.control.ready(f.engine.clone()).await;
    let mut client = server.generation().await;
    let mut running = client.generate_stream(request(&[BOS, 320], 2)).await.unwrap().into_inner();
    gate.await_step();
    let engine = f.engine.clone();
    let drained = tokio::spawn(async move { engine.drain(Instant::now() + PATIENCE).await });
    while f.engine.submit(f.request(draft(&[BOS], 1))).is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let status = refused(&server, request(&[BOS], 1)).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    gate.open();
    assert_eq!(drain(&mut running).await.unwrap().0.len(), 2);
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_fails_is_told_with_its_place() {
    for (device_gone, code) in [(false, Code::DataLoss), (true, Code::Unavailable)] {
        let script = Script { bad_rows: vec![323], device_gone, ..Script::default() };
        let server = Server::over(start(script, OPTIONS).engine).await;
        let mut client = server.generation().await;
        let mut good = client.generate_stream(request(&[BOS, 330], 10)).await.unwrap().into_inner();
        let mut bad = client.generate_stream(request(&[BOS, 320], 10)).await.unwrap().into_inner();
        let status = drain(&mut bad).await.unwrap_err();
        assert_eq!(status.code(), code);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["file"], "/models/scripted.gguf");
        assert_eq!(info.metadata["offset"], (323 * 4096).to_string());
        assert_eq!(info.metadata["errno"], if device_gone { "19" } else { "5" });
        assert_eq!(client.generate(request(&[BOS, 323], 1)).await.unwrap_err().code(), code);
        assert_eq!(drain(&mut good).await.unwrap().0, answer(&[BOS, 330], 10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_computations_are_internal_and_a_lost_engine_is_unavailable() {
    let server =
        Server::over(start(Script { nan_after: Some(322), ..Script::default() }, OPTIONS).engine).await;
    let status = server.generation().await.generate(request(&[BOS, 320], 9)).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    let server =
        Server::over(start(Script { panic_at: Some(322), ..Script::default() }, OPTIONS).engine).await;
    for _ in 0..2 {
        let status = server.generation().await.generate(request(&[BOS, 320], 9)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.get_details_retry_info().is_some());
    }
}
