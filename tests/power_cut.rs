//! The program is killed while it writes prefixes, again and again: the next start uses nothing torn, has lost at
//! most what was in flight, and answers as if nothing had been.
//!
//! `PLED_KILLS=200 cargo test --test power_cut` kills so often.

#[path = "support/damage.rs"]
mod damage;
mod support;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use damage::{Random, from_env};
use pled::rpc::pb;
use pled::rpc::pb::admin_service_client::AdminServiceClient;
use pled::rpc::pb::generation_service_client::GenerationServiceClient;
use pled::rpc::pb::prewarm_session_request::Prompt;
use pled::rpc::pb::session_service_client::SessionServiceClient;
use support::program::pled;
use support::say;
use tonic::transport::Channel;

/// Tokens of a prompt: more than has to be saved for a prefix to be worth writing.
const PROMPT_TOKENS: usize = 300;
/// Tokens of the built-in model's vocabulary.
const N_VOCAB: usize = 2048;

struct Daemon {
    child: Child,
    channel: Channel,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// The built-in model's daemon, once it is ready.
    fn start(session_dir: Option<&Path>) -> Self {
        let mut command = pled();
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "info",
            "--n-ctx",
            "1024",
            "--threads",
            "2",
        ]);
        if let Some(folder) = session_dir {
            command.args(["--session-daily-bytes", "1TB", "--session-dir"]).arg(folder);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut address = None;
        let mut seen = Vec::new();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_ready = log.by_ref().map(Result::unwrap).any(|line| {
            if let Some((_, rest)) = line.split_once("listen=") {
                address = rest.split_whitespace().next().map(str::to_owned);
            }
            let is_ready = line.contains("ready");
            seen.push(line);
            is_ready
        });
        assert!(is_ready, "{seen:?}");
        // Nobody reads the rest, and the program must not wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("{seen:?}"));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { child, channel }
    }

    async fn store(&self) -> pb::PrefixStoreStats {
        let stats = AdminServiceClient::new(self.channel.clone()).get_stats(pb::GetStatsRequest {}).await;
        stats.unwrap().into_inner().prefix_cache.unwrap().store.unwrap()
    }

    /// The greedy answer to a prompt, and how much of the prompt was known.
    async fn ask(&self, prompt: &[u32]) -> (Vec<u32>, u32) {
        let tokens = pb::PromptTokens { ids: prompt.to_vec() };
        let stopping = pb::StoppingCriteria { max_tokens: Some(6), ignore_eos: true, ..Default::default() };
        let request = pb::GenerateRequest {
            prompt: Some(pb::generate_request::Prompt::Tokens(tokens)),
            sampling: Some(pb::SamplingParams { temperature: Some(0.0), ..Default::default() }),
            stopping: Some(stopping),
            ..Default::default()
        };
        let answer = GenerationServiceClient::new(self.channel.clone()).generate(request).await;
        let answer = answer.unwrap().into_inner();
        (answer.token_ids, answer.usage.unwrap().cached_tokens)
    }
}

/// The prompt of this number, always the same.
fn prompt(i: usize) -> Vec<u32> {
    let mut random = Random(i as u64);
    (0..PROMPT_TOKENS).map(|_| 300 + random.below(N_VOCAB - 300) as u32).collect()
}

/// Has prompts computed ahead, one after the other when the one before is written, until the program is gone. The
/// first that is not known to be written.
async fn write_until_the_end(channel: Channel, first: usize) -> usize {
    let mut sessions = SessionServiceClient::new(channel.clone());
    let id = "kitchen".to_owned();
    // It may be there since an earlier life.
    let _ = sessions.create_session(pb::CreateSessionRequest { session_id: id, ..Default::default() }).await;
    for i in first.. {
        let Some(before) = n_pieces(&channel).await else { return i };
        let ids = prompt(i);
        let prompt = Some(Prompt::Tokens(pb::PromptTokens { ids }));
        let warm = pb::PrewarmSessionRequest { name: "sessions/kitchen".to_owned(), prompt };
        if sessions.prewarm_session(warm).await.is_err() {
            return i;
        }
        loop {
            match n_pieces(&channel).await {
                None => return i,
                Some(n) if n > before => break,
                Some(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
    unreachable!("the program is killed before")
}

/// Pieces on disk; `None` if the program is gone.
async fn n_pieces(channel: &Channel) -> Option<u64> {
    let stats = AdminServiceClient::new(channel.clone()).get_stats(pb::GetStatsRequest {}).await;
    Some(stats.ok()?.into_inner().prefix_cache?.store?.pieces)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_while_it_writes_leaves_nothing_torn() {
    // Emulated processors are slow.
    let n_kills = from_env("PLED_KILLS", if cfg!(target_arch = "aarch64") { 4 } else { 20 });
    let folder = tempfile::tempdir().unwrap();
    let oracle = Daemon::start(None);
    // Kills come while some prompts are computed and written, however slow the processor is.
    let began = Instant::now();
    let mut expected = BTreeMap::from([(0, oracle.ask(&prompt(0)).await.0)]);
    let longest = Duration::from_millis(400).max(10 * began.elapsed());
    let mut random = Random(5);
    let mut written: Vec<usize> = Vec::new();
    let (mut in_flight, mut n_known, mut n_pieces, mut n_unfinished) = (0, 0, 0, 0);
    for round in 0..n_kills {
        let unfinished = std::fs::read_dir(folder.path()).unwrap();
        let unfinished =
            unfinished.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "tmp"));
        n_unfinished += unfinished.count();
        let mut daemon = Daemon::start(Some(folder.path()));
        let found = daemon.store().await;
        assert_eq!((found.damaged, found.foreign), (0, 0), "round {round}: {found:?}");
        assert!(
            found.pieces >= n_pieces,
            "round {round}: {n_pieces} pieces were written, and there are {found:?}"
        );
        let any = (!written.is_empty()).then(|| *random.pick(&written));
        for i in any.into_iter().chain([in_flight]) {
            if let Entry::Vacant(place) = expected.entry(i) {
                place.insert(oracle.ask(&prompt(i)).await.0);
            }
            let (answer, known) = daemon.ask(&prompt(i)).await;
            assert_eq!(answer, expected[&i], "round {round}, prompt {i}");
            let all = PROMPT_TOKENS - 1;
            assert!(
                i == in_flight || known as usize == all,
                "round {round}: of prompt {i} {known} tokens are left"
            );
            n_known += known;
        }
        let seen = daemon.store().await;
        assert_eq!((seen.damaged, seen.failed_writes), (0, 0), "round {round}: {seen:?}");
        let writing = tokio::spawn(write_until_the_end(daemon.channel.clone(), in_flight + 1));
        tokio::time::sleep(longest.mul_f64((random.next() % 1000) as f64 / 1000.0)).await;
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        let first = in_flight + 1;
        in_flight = writing.await.unwrap();
        written.extend(first..in_flight);
        n_pieces = n_pieces.max(seen.pieces);
    }
    let n_written = written.len();
    say(&format!(
        "{n_kills} kills: {n_written} prompts written, {n_unfinished} unfinished files, {n_known} tokens known"
    ));
    assert!(n_written > 0 && n_known > 0, "{n_written} prompts written, {n_known} tokens known");
}
