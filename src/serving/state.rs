//! What all calls share: the engine, once there is one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;
use tokio::task;

use super::Problem;
use super::compiling::Compiling;
use super::refusals::{Counters, Refusals, Why};
use crate::engine::EngineHandle;
use crate::tokenizer::{Specials, Tokenizer};

/// Texts that are tokenised at a time. One long text does not hold up all others; more would take the
/// cores from the model.
const TOKENIZERS: usize = 2;

/// What all calls share.
#[derive(Debug)]
pub struct State {
    ready: OnceLock<Ready>,
    tokenizing: Arc<Semaphore>,
    pub(super) compiling: Compiling,
    refusals: Counters,
    draining: AtomicBool,
    started: Instant,
    started_at: SystemTime,
    request_ids: RequestIds,
}

/// A loaded model.
#[derive(Debug)]
pub struct Ready {
    /// The engine that computes it.
    pub engine: EngineHandle,
    /// The longest text of a token. Unit: bytes.
    longest_piece: usize,
}

/// Where the server is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// There is no model yet.
    Loading,
    /// Requests are taken in.
    Serving,
    /// Running answers may finish.
    Draining,
    /// The engine's thread is gone.
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state of a server without a model.
    pub fn new() -> Self {
        Self {
            ready: OnceLock::new(),
            tokenizing: Arc::new(Semaphore::new(TOKENIZERS)),
            compiling: Compiling::default(),
            refusals: Counters::default(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            started_at: SystemTime::now(),
            request_ids: RequestIds::new(),
        }
    }

    /// Lets requests in. Only the first engine counts.
    pub fn set(&self, engine: EngineHandle) {
        let tokenizer = engine.tokenizer();
        let lengths = (0..tokenizer.n_vocab() as u32).filter_map(|id| tokenizer.piece(id).map(<[u8]>::len));
        let longest_piece = lengths.max().unwrap_or(1).max(1);
        let _ = self.ready.set(Ready { engine, longest_piece });
    }

    /// The engine for a request that names `model`.
    pub fn model(&self, model: &str) -> Result<&Ready, Problem> {
        let ready = self.ready.get().ok_or(Problem::Loading)?;
        if model.is_empty() || model == ready.engine.model().id {
            return Ok(ready);
        }
        // Shown to people, and said by strangers.
        Err(Problem::UnknownModel(model.chars().take(100).collect::<String>().escape_debug().to_string()))
    }

    /// The engine is about to be drained.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Where the server is.
    pub fn life(&self) -> Life {
        match self.ready.get() {
            _ if self.draining.load(Ordering::Relaxed) => Life::Draining,
            None => Life::Loading,
            Some(ready) if ready.engine.how_ended().is_some() => Life::Ended,
            Some(_) => Life::Serving,
        }
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the server was started, by the system's clock.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The name of a request: the caller's, or a new one.
    pub fn request_id(&self, given: &str) -> String {
        if given.is_empty() { self.unique_name() } else { given.to_owned() }
    }

    /// A name that nothing else has, of this or an earlier process.
    pub fn unique_name(&self) -> String {
        self.request_ids.next()
    }

    /// Counts a call that is refused.
    pub fn count_refusal(&self, why: Why) {
        self.refusals.count(why);
    }

    /// Calls that were refused since the start.
    pub fn refusals(&self) -> Refusals {
        self.refusals.now()
    }

    /// Runs a computation over text outside of the threads that serve sockets, a bounded number at a time.
    pub async fn with_tokenizer<T: Send + 'static>(
        &self,
        ready: &Ready,
        f: impl FnOnce(&Tokenizer) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let one_of_few = Arc::clone(&self.tokenizing).acquire_owned().await;
        let one_of_few = one_of_few.map_err(|e| Problem::Internal(e.to_string()))?;
        let tokenizer = Arc::clone(ready.engine.tokenizer());
        // A call that is dropped meanwhile leaves its computation behind, which still counts.
        let compute = move || {
            let _one_of_few = one_of_few;
            f(&tokenizer)
        };
        let done = task::spawn_blocking(compute).await;
        done.map_err(|e| Problem::Internal(format!("the tokenizer failed: {e}")))
    }

    /// The tokens of a prompt text.
    pub async fn prompt_tokens(&self, ready: &Ready, text: String) -> Result<Vec<u32>, Problem> {
        ready.check_prompt_bytes("text", text.len())?;
        self.with_tokenizer(ready, move |tokenizer| tokenizer.encode_prompt(&text, Specials::Parse)).await
    }
}

impl Ready {
    /// Refuses what cannot fit the context however it is tokenised, before time is spent on it.
    pub fn check_prompt_bytes(&self, field: &str, n_bytes: usize) -> Result<(), Problem> {
        let n_ctx = self.engine.limits().n_ctx;
        let n_prompt = n_bytes.div_ceil(self.longest_piece);
        if n_prompt <= n_ctx {
            return Ok(());
        }
        Err(Problem::PromptTooLong { field: field.to_owned(), n_prompt, at_least: true, n_ctx })
    }
}

/// The longest name of a call that is remembered. Unit: characters.
const MAX_NAMED: usize = 100;

/// What a message says that its call is called, once it is read. Stands among the extensions of requests, for those who tell of
/// the call when it has ended.
#[derive(Clone, Debug, Default)]
pub struct Named(Arc<OnceLock<String>>);

impl Named {
    /// The call has this name, unless it is empty. Only the first one counts.
    pub fn set(&self, name: &str) {
        if !name.is_empty() {
            let _ = self.0.set(name.chars().take(MAX_NAMED).collect());
        }
    }

    /// The name, not checked.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// Names that no other request of this or an earlier process has.
#[derive(Debug)]
struct RequestIds {
    process: u64,
    n: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        // The keys of a fresh `RandomState` come from the operating system.
        Self { process: RandomState::new().build_hasher().finish(), n: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        format!("{:016x}-{}", self.process, self.n.fetch_add(1, Ordering::Relaxed))
    }
}
