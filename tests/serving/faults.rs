//! A server whose storage fails in every way there is: no crash, no wrong token, the status that the table of
//! codes says, and good answers again when the storage is well.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pled::engine::EngineOptions;
use pled::model::ModelFile;
use pled::ple::{Checksums, Mode, Options, RowStore, TableLayout, TableSource};
use pled::storage::{AlignedBytes, StorageError};
use tonic::Code;

use super::real::engine_with;
use super::scripted::OPTIONS;
use super::server::{Server, request};
use super::support::{fixture, runs};

/// Requests while the storage fails.
const N_REQUESTS: usize = 1000;
const N_CLIENTS: usize = 4;
/// PLED_STALL_MS=5000 is for a run by hand, of some minutes.
const SHORT_STALL_MS: u64 = 30;
/// Tokens of each answer.
const N_TOKENS: usize = 6;

/// Storage between the store and the file.
struct Faulty {
    file: Box<dyn TableSource>,
    faults: Arc<Faults>,
}

/// What it does, and how often it did.
#[derive(Default)]
struct Faults {
    active: AtomicBool,
    /// How long a read takes that stalls.
    stall: Duration,
    reads: AtomicU64,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    errors: AtomicUsize,
    short: AtomicUsize,
    stalls: AtomicUsize,
    wrong: AtomicUsize,
}

impl TableSource for Faulty {
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
        let faults = &*self.faults;
        let now = faults.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        faults.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let outcome = self.fail_or_read(offset, len, buffer);
        faults.in_flight.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

impl Faulty {
    /// Some places of the file fail for a while, so that trying again does not always help.
    fn fail_or_read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError> {
        let faults = &*self.faults;
        let era = faults.reads.fetch_add(1, Ordering::Relaxed) / 64;
        let draw = (offset ^ (era << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let path = || "/card/model.gguf".into();
        let count = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
        if !faults.active.load(Ordering::SeqCst) {
            return self.file.read(offset, len, buffer);
        }
        match draw {
            0..6 => {
                count(&faults.errors);
                let source = std::io::Error::from_raw_os_error(if draw < 2 { 19 } else { 5 });
                Err(StorageError::Read { path: path(), offset, len, source })
            }
            6..9 => {
                count(&faults.short);
                Err(StorageError::PastEnd { path: path(), offset, len })
            }
            9..12 => {
                count(&faults.stalls);
                std::thread::sleep(faults.stall);
                self.file.read(offset, len, buffer)
            }
            12..16 => {
                count(&faults.wrong);
                let mut bytes = self.file.read(offset, len, buffer)?.to_vec();
                bytes[len / 2] ^= 0x10;
                buffer[..len].copy_from_slice(&bytes);
                Ok(&buffer[..len])
            }
            _ => self.file.read(offset, len, buffer),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_on_failing_storage() {
    let stall = std::env::var("PLED_STALL_MS").map_or(SHORT_STALL_MS, |ms| ms.parse().expect("milliseconds"));
    let faults = Arc::new(Faults { stall: Duration::from_millis(stall), ..Faults::default() });
    let options = EngineOptions { n_ctx: 128, max_sessions: N_CLIENTS, queue_depth: N_CLIENTS, ..OPTIONS };
    let file = ModelFile::open(&fixture("gemma4-ple/model-f32.gguf")).unwrap();
    let over = Arc::clone(&faults);
    let engine = engine_with(file, options, move |part, layout: TableLayout| {
        let checksums = Checksums::compute(&part, layout).unwrap();
        // Next to no cache, so that rows are read again and again.
        let options = Options { mode: Mode::Direct, cache_bytes: 4096, read_threads: 2 };
        let over = |file| Box::new(Faulty { file, faults: over }) as Box<dyn TableSource>;
        RowStore::open_over(part, layout, options, Some(checksums), over).unwrap()
    });
    let server = Server::over(engine).await;
    let runs = Arc::new(runs(&fixture("gemma4-ple"), "f32"));
    faults.active.store(true, Ordering::SeqCst);

    let mut clients = tokio::task::JoinSet::new();
    for c in 0..N_CLIENTS {
        let (mut client, runs) = (server.generation().await, Arc::clone(&runs));
        clients.spawn(async move {
            let (mut answered, mut lost, mut gone) = (0, 0, 0);
            for i in 0..N_REQUESTS / N_CLIENTS {
                let run = &runs[(i + c) % runs.len()];
                let mut request = request(&run.prompt, N_TOKENS as u32);
                request.stopping.as_mut().unwrap().ignore_eos = true;
                match client.generate(request).await {
                    Ok(answer) => {
                        let ids = answer.into_inner().token_ids;
                        assert_eq!(ids, run.greedy[..N_TOKENS], "a wrong token");
                        answered += 1;
                    }
                    Err(status) if status.code() == Code::DataLoss => lost += 1,
                    Err(status) if status.code() == Code::Unavailable => gone += 1,
                    Err(status) => panic!("{status}"),
                }
            }
            (answered, lost, gone)
        });
    }
    let (mut answered, mut lost, mut gone) = (0, 0, 0);
    while let Some(counts) = clients.join_next().await {
        let counts = counts.unwrap();
        (answered, lost, gone) = (answered + counts.0, lost + counts.1, gone + counts.2);
    }
    assert_eq!(answered + lost + gone, N_REQUESTS);
    assert!(answered > 0 && lost > 0 && gone > 0, "{answered} answered, {lost} lost, {gone} gone");
    for counter in [&faults.errors, &faults.short, &faults.stalls, &faults.wrong] {
        assert!(counter.load(Ordering::Relaxed) > 0, "a kind of fault did not occur");
    }
    assert!(faults.most_in_flight.load(Ordering::SeqCst) <= 2, "more reads in flight than threads");

    // The storage is well again, and so is the server.
    faults.active.store(false, Ordering::SeqCst);
    let mut client = server.generation().await;
    for run in runs.iter() {
        let mut request = request(&run.prompt, run.greedy.len() as u32);
        request.stopping.as_mut().unwrap().ignore_eos = true;
        assert_eq!(client.generate(request).await.unwrap().into_inner().token_ids, run.greedy);
    }
    let stats = server.admin().await.get_stats(pled::rpc::pb::GetStatsRequest {}).await.unwrap().into_inner();
    let ple = stats.ple.unwrap();
    assert_eq!(stats.requests.unwrap().failed, (lost + gone) as u64);
    assert!(ple.retries > 0 && ple.retries < ple.failed_reads && ple.failed_reads < ple.reads, "{ple:?}");
    drop(client);
    server.stop().await;
}
