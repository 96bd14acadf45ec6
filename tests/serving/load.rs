//! Many clients at once.

use std::time::{Duration, Instant};

use pled::engine::{EngineHandle, EngineOptions};
use pled::rpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::{self, Server, await_nothing_held, drain, first_token};

/// The end of the answer is known, whatever the model thinks of it.
fn request(max_tokens: u32) -> pb::GenerateRequest {
    let stopping =
        pb::StoppingCriteria { max_tokens: Some(max_tokens), ignore_eos: true, ..Default::default() };
    pb::GenerateRequest { stopping: Some(stopping), ..server::request(&[BOS, 320], 1) }
}

/// Tokens of an answer that nobody wants to the end.
const LONG: u32 = 3000;

/// How one client fared.
enum Fate {
    Refused(Status),
    Finished(Vec<u32>),
    Dropped,
}

/// 64 clients, each with a connection of its own, call at once. Every second one asks for a very long answer
/// and, if let in, hangs up after its first token.
async fn storm(server: &Server, max_tokens: u32) -> Vec<Fate> {
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(server.generation().await);
    }
    let mut tasks = JoinSet::new();
    for (i, mut client) in clients.into_iter().enumerate() {
        tasks.spawn(async move {
            let begin = Instant::now();
            let hangs_up = i % 2 == 0;
            let n = if hangs_up { LONG } else { max_tokens };
            let mut stream = match client.generate_stream(request(n)).await {
                Ok(answered) => answered.into_inner(),
                Err(status) => {
                    assert!(begin.elapsed() < PATIENCE, "refused after {:?}", begin.elapsed());
                    return Fate::Refused(status);
                }
            };
            if hangs_up {
                first_token(&mut stream).await;
                return Fate::Dropped;
            }
            let (ids, _) = drain(&mut stream).await.unwrap();
            Fate::Finished(ids)
        });
    }
    tokio::time::timeout(Duration::from_secs(60), tasks.join_all()).await.expect("nobody hangs")
}

pub(crate) async fn sixty_four_clients(engine: EngineHandle, max_tokens: u32) {
    let n_places = (engine.options().max_sessions + engine.options().queue_depth) as u64;
    let server = Server::over(engine).await;
    let fates = storm(&server, max_tokens).await;
    let mut n: (u64, u64, u64) = (0, 0, 0);
    let mut answers = Vec::new();
    for fate in fates {
        match fate {
            Fate::Refused(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
                n.0 += 1;
            }
            Fate::Dropped => n.1 += 1,
            Fate::Finished(ids) => {
                answers.push(ids);
                n.2 += 1;
            }
        }
    }
    // A place that becomes free during the storm lets another in.
    assert!(n.0 > 0 && n.1 + n.2 >= n_places, "refused, dropped, finished: {n:?}");
    assert!(answers.iter().all(|ids| *ids == answers[0] && ids.len() == max_tokens as usize));
    let stats = await_nothing_held(&server).await;
    let requests = stats.requests.unwrap();
    assert_eq!(requests.refused_queue_full, n.0);
    assert_eq!(requests.accepted, n.1 + n.2);
    assert_eq!((requests.cancelled, requests.finished), (n.1, n.2));
    // The server is as good as new.
    let again = server.generation().await.generate(request(max_tokens)).await.unwrap();
    assert_eq!(again.into_inner().token_ids.len(), max_tokens as usize);
    let mut admin = server.admin().await;
    let stats = admin.get_stats(pb::GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.kv_bytes_in_use, stats.active_sequences), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_clients_the_queue_takes_what_it_can() {
    let options = EngineOptions { n_ctx: 4096, max_sessions: 4, queue_depth: 8, ..OPTIONS };
    let script = Script { step_time: Duration::from_millis(2), ..Script::default() };
    sixty_four_clients(start(script, options).engine, 40).await;
}

/// While nobody advances the number of those let in is exact.
#[tokio::test(flavor = "multi_thread")]
async fn admission_is_exact_while_the_engine_is_in_a_step() {
    let gate = Gate::closed();
    let options = EngineOptions { max_sessions: 4, queue_depth: 8, ..OPTIONS };
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    let server = Server::over(f.engine.clone()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let mut client = server.generation().await;
        tasks.spawn(async move { client.generate_stream(request(3)).await });
    }
    let answers = tasks.join_all().await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((accepted.len(), refused.len()), (12, 52));
    gate.open();
    for stream in accepted {
        assert_eq!(drain(&mut stream.unwrap().into_inner()).await.unwrap().0, answer(&[BOS, 320], 3));
    }
    await_nothing_held(&server).await;
}
