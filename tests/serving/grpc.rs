//! The services over a socket: what they answer when all goes well, and peers that behave badly.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::time::Duration;

use pled::engine::EngineOptions;
use pled::rpc::pb::{self, generate_stream_response::Event};
use tonic::Code;
use tonic::codegen::{Bytes, http};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::*;

#[tokio::test(flavor = "multi_thread")]
async fn both_methods_give_the_same_answer() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let mut client = server.generation().await;
    let prompt = [BOS, 320, 330, 331, 332, 333];
    let whole = client.generate(request(&prompt, 5)).await.unwrap().into_inner();
    assert_eq!(whole.token_ids, answer(&prompt, 5));
    assert_eq!(whole.text, tokenizer().decode(&whole.token_ids));
    assert_eq!(whole.finish_reason(), pb::FinishReason::MaxTokens);
    let usage = whole.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (6, 5));
    assert!(whole.timings.unwrap().ple_rows > 0);
    assert!(!whole.request_id.is_empty() && whole.logprobs.is_empty());

    let named = pb::GenerateRequest { request_id: "kitchen-1".to_owned(), ..request(&prompt, 5) };
    let mut stream = client.generate_stream(named).await.unwrap().into_inner();
    let (mut order, mut text, mut ids) = (String::new(), String::new(), Vec::new());
    while let Some(event) = next(&mut stream).await.unwrap() {
        order.push(match &event {
            Event::Started(_) => 's',
            Event::Prefill(_) => 'p',
            Event::Delta(_) => 'd',
            Event::Done(_) => 'e',
        });
        match event {
            Event::Started(s) => assert_eq!((s.request_id.as_str(), s.queue_position), ("kitchen-1", 0)),
            Event::Prefill(p) => assert_eq!(p.total_tokens, 6),
            Event::Delta(delta) => {
                text.push_str(&delta.text);
                ids.extend(delta.token_ids);
            }
            Event::Done(done) => {
                assert_eq!(done.finish_reason(), pb::FinishReason::MaxTokens);
                assert_eq!(done.usage, Some(usage));
                assert_eq!(done.matched_stop, None);
            }
        }
    }
    assert_eq!(order, "sppddddde");
    assert_eq!((text, ids), (whole.text, whole.token_ids));
    drop((client, stream));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_prompts_get_what_the_model_puts_in_front() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let text = "hello <|turn>x";
    let mut tokens = server.tokenizer().await;
    let ask = |add_bos, parse_special| pb::TokenizeRequest {
        text: text.to_owned(),
        add_bos,
        parse_special,
        ..Default::default()
    };
    let plain = tokens.tokenize(ask(false, Some(false))).await.unwrap().into_inner();
    let parsed = tokens.tokenize(ask(true, None)).await.unwrap().into_inner();
    assert_eq!((parsed.ids[0], parsed.ids.contains(&8), plain.ids.contains(&8)), (BOS, true, false));
    assert_eq!(plain.pieces.concat(), text.as_bytes());
    let count = pb::CountTokensRequest {
        input: Some(pb::count_tokens_request::Input::Text(text.to_owned())),
        ..Default::default()
    };
    let n = tokens.count_tokens(count).await.unwrap().into_inner().n_tokens;
    assert_eq!(n as usize, parsed.ids.len());
    let ids = plain.ids.clone();
    let back = tokens.detokenize(pb::DetokenizeRequest { ids, ..Default::default() }).await.unwrap();
    assert_eq!(back.into_inner().text, text);

    let answered = server.generation().await.generate(text_request(text, 2)).await.unwrap().into_inner();
    assert_eq!(answered.usage.unwrap().prompt_tokens, n);
    assert_eq!(answered.token_ids, answer(&parsed.ids, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_sent_where_asked_for() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let asked = pb::GenerateRequest { top_logprobs: Some(3), ..request(&[BOS, 320], 2) };
    let answered = server.generation().await.generate(asked).await.unwrap().into_inner();
    assert_eq!(answered.logprobs.len(), 2);
    let first = &answered.logprobs[0];
    let chosen = first.chosen.as_ref().unwrap();
    assert_eq!((chosen.token_id, chosen.piece.as_slice()), (321, b"l".as_slice()));
    assert!(chosen.logprob < 0.0 && chosen.logprob > -0.001);
    assert_eq!((first.top.len(), &first.top[0]), (3, chosen));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_criteria_arrive() {
    let script = Script { eos_after: Some(330), ..Script::default() };
    let server = Server::over(start(script, OPTIONS).engine).await;
    let mut client = server.generation().await;
    let with = |stopping| pb::GenerateRequest { stopping: Some(stopping), ..request(&[BOS, 320], 1) };
    let stop = pb::StoppingCriteria { stop: vec!["cm".to_owned()], ..Default::default() };
    let stopped = client.generate(with(stop)).await.unwrap().into_inner();
    assert_eq!((stopped.text.as_str(), stopped.matched_stop.as_deref()), ("lu", Some("cm")));
    assert_eq!(stopped.finish_reason(), pb::FinishReason::Stop);
    let ended = client.generate(with(pb::StoppingCriteria::default())).await.unwrap().into_inner();
    assert_eq!((ended.token_ids.last(), ended.matched_stop), (Some(&EOS), None));
    let on = pb::StoppingCriteria { ignore_eos: true, max_tokens: Some(30), ..Default::default() };
    let on = client.generate(with(on)).await.unwrap().into_inner();
    assert_eq!(on.token_ids.len(), 30);
    let limit = prost_types::Duration { seconds: 0, nanos: 1 };
    let timed = pb::StoppingCriteria { time_limit: Some(limit), ..Default::default() };
    let timed = client.generate(with(timed)).await.unwrap().into_inner();
    assert_eq!(timed.finish_reason(), pb::FinishReason::TimeLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_server_describe_themselves_while_a_generation_runs() {
    let gate = Gate::closed();
    // Three seconds from the gate's opening to the end: the answer is dropped before.
    let step_time = Duration::from_millis(50);
    let f = start(Script { gate: Some(gate.clone()), step_time, ..Script::default() }, OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let mut stream = client.generate_stream(request(&[BOS, 320], 60)).await.unwrap().into_inner();
    let _ = next(&mut stream).await;
    let models = server.models().await.list_models(pb::ListModelsRequest {}).await.unwrap().into_inner();
    let one = pb::GetModelRequest { model: "scripted".to_owned() };
    let one = server.models().await.get_model(one).await.unwrap().into_inner().model.unwrap();
    assert_eq!(models.models, std::slice::from_ref(&one));
    assert_eq!((one.id.as_str(), one.n_vocab, one.n_ctx, one.n_ctx_train), ("scripted", 384, 64, 128));
    assert_eq!(one.default_sampling.unwrap().temperature, Some(0.0));
    let mut admin = server.admin().await;
    let info = admin.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.version.as_str(), info.isa.as_str()), (env!("CARGO_PKG_VERSION"), "scripted"));
    assert_eq!((info.model.as_str(), info.ple_mode.as_str()), ("scripted", "direct"));
    assert_eq!((info.threads, info.n_ctx, info.max_sessions, info.queue_depth), (1, 64, 3, 2));
    assert!(info.uptime.is_some());
    gate.await_step();
    let stats = admin.get_stats(pb::GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.active_sequences, stats.queue_length), (1, 0));
    assert_eq!(stats.kv_bytes_in_use, 61 * KV_BYTES_PER_TOKEN);
    assert_eq!(stats.kv_bytes_bound, 3 * 64 * KV_BYTES_PER_TOKEN);
    assert_eq!((stats.prompt_token_layers, stats.n_layers), (5, 7));
    assert!(stats.ple.is_some());
    drop(stream);
    gate.open();
    let stats = await_nothing_held(&server).await;
    assert_eq!(stats.requests.unwrap().cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_model() {
    let server = Server::loading().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(check("").await, ServingStatus::NotServing);
    assert_eq!(check("pled.v1.GenerationService").await, ServingStatus::NotServing);
    server.control.ready(start(Script::default(), OPTIONS).engine).await;
    assert_eq!(check("").await, ServingStatus::Serving);
    assert_eq!(check("pled.v1.GenerationService").await, ServingStatus::Serving);
    server.control.draining().await;
    assert_eq!(check("").await, ServingStatus::NotServing);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_names_every_service() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let server = Server::loading().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut ask = async |message| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut answers =
            client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let ServerReflectionResponse { message_response, .. } = answers.message().await.unwrap().unwrap();
        message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list of services")
    };
    let names: BTreeSet<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "pled.v1.AdminService",
        "pled.v1.GenerationService",
        "pled.v1.ModelService",
        "pled.v1.SessionService",
        "pled.v1.TokenizerService",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let symbol = "pled.v1.GenerationService.GenerateStream".to_owned();
    let found = ask(MessageRequest::FileContainingSymbol(symbol)).await;
    assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{found:?}");
}

/// A peer that speaks HTTP/2 and nothing above it. `window`: bytes of an answer that it takes unasked.
struct RawPeer {
    send: h2::client::SendRequest<Bytes>,
}

impl RawPeer {
    async fn connect(server: &Server, window: u32) -> Self {
        let socket = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = builder.handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self { send }
    }

    /// Begins a call of the generation service; the caller may send the rest of the message, and reads the
    /// answer.
    async fn call(
        &mut self,
        method: &str,
        timeout: Option<&str>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        self.call_service(&format!("GenerationService/{method}"), timeout).await
    }

    async fn call_service(
        &mut self,
        path: &str,
        timeout: Option<&str>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = http::Request::post(format!("http://pled/pled.v1.{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(request.body(()).unwrap(), false).unwrap()
    }
}

fn framed(message: &impl prost::Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame.into()
}

/// The status of a call: in the headers of an answer without a body, else in its trailers.
async fn status_of(answer: http::Response<h2::RecvStream>) -> Code {
    let headers = answer.headers().clone();
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        let n = chunk.unwrap().len();
        body.flow_control().release_capacity(n).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let status = trailers.get("grpc-status").or(headers.get("grpc-status")).expect("a status");
    Code::from_bytes(status.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_answered_with_their_own_code() {
    let gate = Gate::closed();
    let script = Script { gate: Some(gate.clone()), ..Script::default() };
    let f = start(script, EngineOptions { max_sessions: 1, queue_depth: 3, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let mut peer = RawPeer::connect(&server, 65_535).await;
    // Running in a step that takes longer than the deadline, and waiting behind it; a call of each kind.
    for method in ["Generate", "GenerateStream"] {
        let (running, mut body) = peer.call(method, Some("500m")).await;
        body.send_data(framed(&request(&[BOS, 320], 9)), true).unwrap();
        let (waiting, mut body) = peer.call(method, Some("500m")).await;
        body.send_data(framed(&request(&[BOS, 320], 9)), true).unwrap();
        assert_eq!(status_of(running.await.unwrap()).await, Code::DeadlineExceeded, "{method}");
        assert_eq!(status_of(waiting.await.unwrap()).await, Code::DeadlineExceeded, "{method}");
    }
    // A message that never arrives as a whole.
    let (stuck, mut body) = peer.call("Generate", Some("50m")).await;
    body.send_data(framed(&request(&[BOS, 320], 9)).slice(..4), false).unwrap();
    assert_eq!(status_of(stuck.await.unwrap()).await, Code::DeadlineExceeded);
    gate.open();
    let stats = await_nothing_held(&server).await;
    assert_eq!(stats.requests.unwrap().deadline_exceeded, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_holds_up_nobody_else() {
    let f = start(Script::default(), EngineOptions { n_ctx: 4000, max_sessions: 2, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let mut peer = RawPeer::connect(&server, 64).await;
    let (answered, mut body) = peer.call("GenerateStream", None).await;
    body.send_data(framed(&request(&[BOS, 320], 3000)), true).unwrap();
    let mut unread = answered.await.unwrap().into_body();
    let other = server.generation().await.generate(request(&[BOS, 330], 3000)).await.unwrap().into_inner();
    assert_eq!(other.token_ids.len(), 3000);
    await_that("the unread answer is parked", || f.engine.heartbeat().idle);
    let stats = f.engine.stats();
    assert_eq!(stats.active_sequences, 1);
    assert!(stats.completion_tokens < 3000 + 1000, "{stats:?}");
    // It begins to read, and gets all of it.
    let mut n_bytes = 0;
    while let Some(chunk) = unread.data().await {
        let n = chunk.unwrap().len();
        n_bytes += n;
        unread.flow_control().release_capacity(n).unwrap();
    }
    assert!(n_bytes > 3000 * 8, "{n_bytes}");
    assert_eq!(f.engine.stats().finished, 2);
    // Another stops to read and hangs up.
    let (answered, mut body) = peer.call("GenerateStream", None).await;
    body.send_data(framed(&request(&[BOS, 320], 3000)), true).unwrap();
    let unread = answered.await.unwrap();
    await_that("the unread answer is parked", || f.engine.heartbeat().idle);
    drop((unread, body, peer));
    await_nothing_held(&server).await;
    assert_eq!(f.engine.stats().cancelled, 1);
}

/// More messages than are looked at at a time, each more than a connection takes unread.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_a_place_hold_up_nobody() {
    let f = start(Script::default(), EngineOptions { n_ctx: 1 << 20, queue_depth: 100, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let channel = server.channel().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut client = pb::tokenizer_service_client::TokenizerServiceClient::new(channel.clone());
        let input = Some(pb::count_tokens_request::Input::Text("word ".repeat(20_000)));
        calls.spawn(async move {
            client.count_tokens(pb::CountTokensRequest { input, ..Default::default() }).await.unwrap()
        });
    }
    let counts = tokio::time::timeout(PATIENCE, calls.join_all()).await.expect("all are answered");
    assert_eq!(counts.len(), 60);
    // Messages that never come as a whole take places, and not all of what other peers have.
    let mut peer = RawPeer::connect(&server, 65_535).await;
    let mut begun = Vec::new();
    for _ in 0..20 {
        let (answer, mut body) = peer.call("Generate", None).await;
        body.send_data(framed(&request(&[BOS, 320], 1)).slice(..4), false).unwrap();
        begun.push((answer, body));
    }
    server.generation().await.generate(request(&[BOS, 320], 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_are_few() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let text = "a".repeat(200_000);
    let tokenize = pb::TokenizeRequest { text, ..Default::default() };
    let mut peer = RawPeer::connect(&server, 10).await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        let (answer, mut body) = peer.call_service("TokenizerService/Tokenize", None).await;
        send_all(&mut body, framed(&tokenize)).await;
        let answer = answer.await.unwrap();
        if let Some(status) = answer.headers().get("grpc-status") {
            assert_eq!(Code::from_bytes(status.as_bytes()), Code::ResourceExhausted);
            break;
        }
        unread.push(answer);
    }
    assert_eq!(unread.len(), 16);
    let mut client = server.tokenizer().await;
    let refused = client.tokenize(tokenize.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().is_some());
    // Nobody else is concerned.
    server.generation().await.generate(request(&[BOS, 320], 1)).await.unwrap();
    drop((unread, peer));
    while client.tokenize(tokenize.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends as the other side makes room.
async fn send_all(body: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        body.reserve_capacity(data.len());
        let n = poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap().min(data.len());
        let piece = data.split_to(n);
        body.send_data(piece, data.is_empty()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_bound_is_refused() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let huge = text_request(&"x".repeat(5 << 20), 1);
    let status = server.generation().await.generate(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(
        server
            .generation()
            .await
            .generate(request(&[BOS, 320], 1))
            .await
            .unwrap()
            .into_inner()
            .token_ids
            .len(),
        1
    );
}

/// Empty elements are two bytes each on the wire and fifty times that in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_unfolds_to_too_much_is_refused_before_it_does() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let mut client = server.generation().await;
    let empty =
        pb::ChatRequest { messages: vec![pb::ChatMessage::default(); 1_000_000], ..Default::default() };
    let status = client.chat(empty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("ChatRequest: has more than 65536 fields"), "{status:?}");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "ChatRequest");
    // The connection lives on.
    client.generate(request(&[BOS, 320], 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_streams_end_and_the_server_stops() {
    let f = start(Script { step_time: Duration::from_millis(2), ..Script::default() }, OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let mut stream = client.generate_stream(request(&[BOS, 320], 20)).await.unwrap().into_inner();
    first_token(&mut stream).await;
    server.control.draining().await;
    let engine = f.engine.clone();
    let drained = tokio::spawn(async move { engine.drain(std::time::Instant::now() + PATIENCE).await });
    let (_, done) = drain(&mut stream).await.unwrap();
    assert_eq!(done.finish_reason(), pb::FinishReason::MaxTokens);
    assert_eq!(drained.await.unwrap(), pled::engine::Ended::Drained);
    // The client stays connected: the server does not wait for that.
    server.stop().await;
    // Which of the two a client says depends on whether it has seen the end of the connection yet.
    let code = client.generate(request(&[BOS], 1)).await.unwrap_err().code();
    assert!(matches!(code, Code::Unavailable | Code::Cancelled), "{code:?}");
}
