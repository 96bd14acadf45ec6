//! A server whose storage gives nothing for as long as the test likes: who needs it waits, and nobody else does.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pled::engine::{EngineHandle, EngineOptions};
use pled::model::ModelFile;
use pled::ple::{Mode, Options, RowStore, TableSource};
use pled::rpc::pb;
use pled::storage::{AlignedBytes, StorageError};
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::real::engine_with;
use super::scripted::{OPTIONS, PATIENCE};
use super::server::{Server, await_nothing_held, request};
use super::support::{Run, fixture, runs};
use super::web::get;

const N_READERS: usize = 2;
/// Ids of which no row is known when the device stalls.
const UNKNOWN: [u32; 3] = [11, 12, 13];

/// A device that stands still while it is told to.
#[derive(Default)]
struct Device {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stands_still: bool,
    in_flight: usize,
    most_in_flight: usize,
}

impl Device {
    fn stop(&self) {
        self.state.lock().unwrap().stands_still = true;
    }

    fn go_on(&self) {
        self.state.lock().unwrap().stands_still = false;
        self.changed.notify_all();
    }

    /// Waits until so many reads stand at the device.
    fn await_reads(&self, n: usize) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |s| s.in_flight < n).unwrap();
        assert!(!waited.1.timed_out(), "no {n} reads came to the device");
    }

    fn serve(&self) {
        let mut state = self.state.lock().unwrap();
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |s| s.stands_still).unwrap();
        state.in_flight -= 1;
    }
}

struct Stalling {
    file: Box<dyn TableSource>,
    device: Arc<Device>,
}

impl TableSource for Stalling {
    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError> {
        self.file.span(offset, len)
    }

    fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError> {
        self.file.buffer(len)
    }

    fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError> {
        self.device.serve();
        self.file.read(offset, len, buffer)
    }
}

/// An engine with room for every row in its cache, and the device that they come from.
fn engine(options: EngineOptions) -> (EngineHandle, Arc<Device>) {
    let device = Arc::new(Device::default());
    let of_store = Arc::clone(&device);
    let file = ModelFile::open(&fixture("gemma4-ple/model-f32.gguf")).unwrap();
    let engine = engine_with(file, options, |part, layout| {
        let options = Options { mode: Mode::Direct, cache_bytes: 1 << 20, read_threads: N_READERS };
        let over = |file| Box::new(Stalling { file, device: of_store }) as Box<dyn TableSource>;
        RowStore::open_over(part, layout, options, None, over).unwrap()
    });
    (engine, device)
}

/// An answer under way.
type Answer = tokio::task::JoinHandle<Result<pb::GenerateResponse, tonic::Status>>;

async fn ask(server: &Server, request: pb::GenerateRequest) -> Answer {
    let mut client = server.generation().await;
    tokio::spawn(async move { Ok(client.generate(request).await?.into_inner()) })
}

async fn hear(answer: Answer) -> pb::GenerateResponse {
    timeout(PATIENCE, answer).await.expect("an answer").unwrap().unwrap()
}

/// The whole of a reference answer, or its first tokens.
fn of_run(run: &Run, n: usize) -> pb::GenerateRequest {
    let mut request = request(&run.prompt, n as u32);
    request.stopping.as_mut().unwrap().ignore_eos = true;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_device_stops_those_who_need_it_and_nobody_else() {
    let (engine, device) = engine(EngineOptions { n_ctx: 128, ..OPTIONS });
    let server = Server::over(engine).await;
    let runs = runs(&fixture("gemma4-ple"), "f32");
    let [needs_more, has_all] = &runs[..] else { panic!("two runs") };
    // Of one answer all rows are known, of the other those of its prompt.
    hear(ask(&server, of_run(has_all, has_all.greedy.len())).await).await;
    hear(ask(&server, of_run(needs_more, 1)).await).await;

    device.stop();
    let stalled = ask(&server, of_run(needs_more, needs_more.greedy.len())).await;
    device.await_reads(1);
    for _ in 0..2 {
        let answer = hear(ask(&server, of_run(has_all, has_all.greedy.len())).await).await;
        assert_eq!(answer.token_ids, has_all.greedy);
    }

    let abandoned = ask(&server, request(&UNKNOWN, 4)).await;
    device.await_reads(N_READERS);
    // Whoever asks how the server is gets an answer.
    let mut health = HealthClient::new(server.channel().await);
    let checked = timeout(PATIENCE, health.check(HealthCheckRequest::default())).await.expect("an answer");
    assert_eq!(checked.unwrap().into_inner().status(), ServingStatus::Serving);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.addr, path).await.status, 200, "{path}");
    }
    await_stats(&server, "both hold their places", |s| s.active_sequences == 2).await;

    abandoned.abort();
    let gone =
        |s: &pb::GetStatsResponse| s.requests.as_ref().unwrap().cancelled == 1 && s.active_sequences == 1;
    await_stats(&server, "the abandoned one is gone", gone).await;
    let mut limited = request(&UNKNOWN, 4);
    limited.stopping.as_mut().unwrap().time_limit =
        Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let limited = hear(ask(&server, limited).await).await;
    assert_eq!(limited.finish_reason(), pb::FinishReason::TimeLimit);
    assert!(!stalled.is_finished());

    device.go_on();
    let answer = hear(stalled).await;
    assert_eq!(answer.token_ids, needs_more.greedy);
    assert!(answer.timings.unwrap().ple_wait_ms > 0.0);
    let stats = await_nothing_held(&server).await;
    assert_eq!((stats.requests.unwrap().failed, stats.ple.unwrap().failed_reads), (0, 0));
    assert_eq!(device.state.lock().unwrap().most_in_flight, N_READERS);
    drop(health);
    server.stop().await;
}

/// Who begins as a stalled one does would wait for what that one computes, and so for the device.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_stalled_one_to_compute_what_both_begin_with() {
    let options = EngineOptions { n_ctx: 128, prefill_chunk: 128, kept_contexts: 1, ..OPTIONS };
    let (engine, device) = engine(options);
    let server = Server::over(engine).await;
    let run = &runs(&fixture("gemma4-ple"), "f32")[1];
    // Another order of all but the last, so that rows are known and nothing is computed already.
    let (last, others) = run.prompt.split_last().unwrap();
    let same_rows: Vec<u32> = others.iter().rev().chain([last]).copied().collect();
    hear(ask(&server, request(&same_rows, 1)).await).await;

    device.stop();
    let longer: Vec<u32> = run.prompt.iter().copied().chain(UNKNOWN).collect();
    let stalled = ask(&server, request(&longer, 2)).await;
    device.await_reads(1);
    let answer = hear(ask(&server, of_run(run, 1)).await).await;
    assert_eq!(answer.token_ids, run.greedy[..1]);
    assert!(!stalled.is_finished());
    device.go_on();
    let late = hear(stalled).await.token_ids;
    let again = hear(ask(&server, request(&longer, 2)).await).await.token_ids;
    assert_eq!((late.len(), &late), (2, &again));
    server.stop().await;
}

async fn stats(server: &Server) -> pb::GetStatsResponse {
    let mut admin = server.admin().await;
    let stats = timeout(PATIENCE, admin.get_stats(pb::GetStatsRequest {})).await.expect("an answer");
    stats.unwrap().into_inner()
}

async fn await_stats(server: &Server, what: &str, are: impl Fn(&pb::GetStatsResponse) -> bool) {
    for _ in 0..PATIENCE.as_millis() / 5 {
        if are(&stats(server).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never true: {what}: {:?}", stats(server).await);
}
