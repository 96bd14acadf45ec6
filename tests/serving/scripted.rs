//! A backend without a model: each token says which comes next. Steps can be held and let go one by
//! one, rows can fail, and the rules of [`Backend`] are asserted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pled::engine::{
    Backend, BackendInfo, Draft, Engine, EngineHandle, EngineOptions, Event, Failure, Generation, ModelInfo,
    NotRun, Request, RowCounters, RowFault, RowStats, SeqSpan, SpanFailure, Stopping,
};
use pled::model::{LayerKind, ModelFile, OutOfMemory};
use pled::sampling::SamplingParams;
use pled::tokenizer::chat::ChatFormat;
use pled::tokenizer::{Specials, Tokenizer};

use super::support::fixture;

/// Ids of the fixtures' vocabulary that stand for one visible character each.
pub(crate) const LETTERS: std::ops::RangeInclusive<u32> = 311..=346;
pub(crate) const BOS: u32 = 2;
pub(crate) const EOS: u32 = 1;
pub(crate) const N_VOCAB: usize = 384;
/// What a sequence is said to hold for each token of its context.
pub(crate) const KV_BYTES_PER_TOKEN: u64 = 1000;
/// Positions that a token is said to look back in sliding layers.
pub(crate) const LOOKBACK: usize = 9;

/// What the backend does; the default answers at once with letters in turn.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// Time of each step.
    pub(crate) step_time: Duration,
    /// Steps wait here.
    pub(crate) gate: Option<Arc<Gate>>,
    /// After this token comes the end of generation.
    pub(crate) eos_after: Option<u32>,
    /// The answer to any prompt; the end of generation follows. Empty: letters in turn.
    pub(crate) reply: Vec<u32>,
    /// Rows of these tokens cannot be read.
    pub(crate) bad_rows: Vec<u32>,
    /// So that the whole device seems gone.
    pub(crate) device_gone: bool,
    /// Logits after this token are NaN.
    pub(crate) nan_after: Option<u32>,
    /// Running this token panics.
    pub(crate) panic_at: Option<u32>,
    /// What is kept takes as many bytes as another model's.
    pub(crate) kept_bytes: Option<KeptBytes>,
    /// There is memory for no more sequences than this at a time.
    pub(crate) room: Option<usize>,
}

/// What a model keeps of prompts.
#[derive(Clone, Copy)]
pub(crate) struct KeptBytes {
    /// Bytes of a token in full layers, and in sliding ones.
    pub(crate) full: usize,
    pub(crate) sliding: usize,
    /// Tokens that a sliding layer looks back.
    pub(crate) lookback: usize,
}

/// Lets steps through one by one.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    allowed: usize,
    waiting: usize,
}

impl Gate {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    pub(crate) fn allow(&self, n: usize) {
        self.state.lock().unwrap().allowed += n;
        self.changed.notify_all();
    }

    /// Waits until a step stands at the gate with nothing left that is allowed.
    pub(crate) fn await_step(&self) {
        let mut state = self.state.lock().unwrap();
        while state.waiting == 0 || state.allowed > 0 {
            let (next, timeout) = self.changed.wait_timeout(state, PATIENCE).unwrap();
            assert!(!timeout.timed_out(), "no step came to the gate");
            state = next;
        }
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        while !state.open && state.allowed == 0 {
            state = self.changed.wait(state).unwrap();
        }
        state.allowed = state.allowed.saturating_sub(1);
        state.waiting -= 1;
        self.changed.notify_all();
    }
}

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What was run: for each span of each step its number of tokens.
pub(crate) type Log = Arc<Mutex<Vec<Vec<usize>>>>;

pub(crate) struct Scripted {
    script: Script,
    pub(crate) log: Log,
    /// Sequences that exist.
    pub(crate) n_live: Arc<AtomicUsize>,
    logits: Vec<f32>,
}

pub(crate) struct ScriptedSeq {
    n_ctx: usize,
    n_tokens: usize,
    /// Known with the first logits.
    n_prompt: Option<usize>,
    announced: VecDeque<(Vec<u32>, bool)>,
    n_live: Arc<AtomicUsize>,
}

impl Drop for ScriptedSeq {
    fn drop(&mut self) {
        self.n_live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    pub(crate) fn new(script: Script) -> Self {
        Self { script, log: Log::default(), n_live: Arc::default(), logits: vec![0.0; N_VOCAB] }
    }

    fn fault(&self, token: u32) -> Failure {
        Failure::Rows(RowFault {
            message: format!("row {token}: no luck"),
            path: "/models/scripted.gguf".into(),
            offset: u64::from(token) * 4096,
            errno: Some(if self.script.device_gone { 19 } else { 5 }),
            device_gone: self.script.device_gone,
        })
    }
}

/// The token after `last`.
pub(crate) fn successor(last: u32) -> u32 {
    if LETTERS.contains(&(last + 1)) { last + 1 } else { *LETTERS.start() }
}

/// What follows a prompt.
pub(crate) fn answer(prompt: &[u32], n: usize) -> Vec<u32> {
    let mut last = *prompt.last().unwrap();
    std::iter::repeat_with(|| {
        last = successor(last);
        last
    })
    .take(n)
    .collect()
}

impl Backend for Scripted {
    type Seq = ScriptedSeq;
    type Kept = (Range<usize>, LayerKind);

    fn info(&self) -> BackendInfo {
        BackendInfo {
            isa: "scripted".to_owned(),
            n_threads: 1,
            ple_mode: Some("direct".to_owned()),
            n_layers: 7,
            prompt_token_layers: 5,
        }
    }

    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn new_seq(&mut self, n_ctx: usize) -> Result<ScriptedSeq, OutOfMemory> {
        if self.script.room.is_some_and(|room| self.n_live.load(Ordering::SeqCst) >= room) {
            return Err(OutOfMemory { n_bytes: n_ctx as u64 * KV_BYTES_PER_TOKEN });
        }
        self.n_live.fetch_add(1, Ordering::SeqCst);
        Ok(ScriptedSeq {
            n_ctx,
            n_tokens: 0,
            n_prompt: None,
            announced: VecDeque::new(),
            n_live: Arc::clone(&self.n_live),
        })
    }

    fn kv_bytes(&self, seq: &ScriptedSeq) -> u64 {
        seq.n_ctx as u64 * KV_BYTES_PER_TOKEN
    }

    fn lookback(&self) -> usize {
        self.script.kept_bytes.map_or(LOOKBACK, |like| like.lookback)
    }

    fn sliding_from(&self, seq: &ScriptedSeq) -> usize {
        seq.n_tokens.saturating_sub(self.lookback() + 32)
    }

    fn keep(&self, seq: &ScriptedSeq, positions: Range<usize>, kind: LayerKind) -> Option<Self::Kept> {
        assert!(positions.end <= seq.n_tokens, "{positions:?} of {} tokens", seq.n_tokens);
        Some((positions, kind))
    }

    fn kept_bytes(&self, (positions, _): &Self::Kept) -> u64 {
        positions.len() as u64 * KV_BYTES_PER_TOKEN / 2
    }

    fn bytes_of_kept(&self, (positions, kind): &Self::Kept) -> Vec<u8> {
        let mut bytes = format!("{positions:?} {kind:?}").into_bytes();
        if let Some(like) = self.script.kept_bytes {
            let of_token = if *kind == LayerKind::Full { like.full } else { like.sliding };
            bytes.resize(positions.len() * of_token, b' ');
        }
        bytes
    }

    fn kept_of_bytes(&self, positions: Range<usize>, kind: LayerKind, bytes: &[u8]) -> Option<Self::Kept> {
        let kept = (positions, kind);
        (self.bytes_of_kept(&kept) == bytes).then_some(kept)
    }

    fn resume(&mut self, seq: &mut ScriptedSeq, n_tokens: usize, kept: &[&Self::Kept]) {
        assert!(seq.n_tokens == 0 && seq.announced.is_empty(), "not a new sequence");
        let held = |kind, position| kept.iter().any(|(p, k)| *k == kind && p.contains(&position));
        assert!((0..n_tokens).all(|p| held(LayerKind::Full, p)), "{n_tokens} of {kept:?}");
        let seen = n_tokens.saturating_sub(self.lookback())..n_tokens;
        assert!(seen.into_iter().all(|p| held(LayerKind::Sliding, p)), "{n_tokens} of {kept:?}");
        seq.n_tokens = n_tokens;
    }

    fn announce(&mut self, seq: &mut ScriptedSeq, tokens: &[u32], wants_logits: bool) {
        assert!(!tokens.is_empty(), "an empty run of tokens was announced");
        seq.announced.push_back((tokens.to_vec(), wants_logits));
    }

    fn has_rows(&self, _: &ScriptedSeq) -> bool {
        true
    }

    fn wake(&mut self, _: Thread) {}

    fn forward(
        &mut self,
        spans: &mut [SeqSpan<'_, ScriptedSeq>],
        choose: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), NotRun> {
        if let Some(gate) = &self.script.gate {
            gate.pass();
        }
        std::thread::sleep(self.script.step_time);
        let mut failures = Vec::new();
        for (i, span) in spans.iter().enumerate() {
            let announced = span.seq.announced.front().map(|(tokens, wants)| (tokens.as_slice(), *wants));
            assert_eq!(announced, Some((span.tokens, span.wants_logits)), "not as announced");
            let n = span.seq.n_tokens + span.tokens.len();
            assert!(n <= span.seq.n_ctx, "{n} tokens in a context of {}", span.seq.n_ctx);
            assert!(!span.tokens.iter().any(|t| Some(*t) == self.script.panic_at), "as the script says");
            if let Some(bad) = span.tokens.iter().find(|t| self.script.bad_rows.contains(t)) {
                failures.push(SpanFailure { span: i, failure: self.fault(*bad) });
            }
        }
        if !failures.is_empty() {
            return Err(NotRun { failed: failures, late: Vec::new() });
        }
        self.log.lock().unwrap().push(spans.iter().map(|s| s.tokens.len()).collect());
        for (i, span) in spans.iter_mut().enumerate() {
            span.seq.announced.pop_front();
            span.seq.n_tokens += span.tokens.len();
            let last = *span.tokens.last().unwrap();
            if !span.wants_logits {
                continue;
            }
            self.logits.fill(if self.script.nan_after == Some(last) { f32::NAN } else { 0.0 });
            // The second best is the plain successor, so that an excluded end has a follower.
            self.logits[successor(last) as usize] = 20.0;
            if !self.script.reply.is_empty() {
                let n_prompt = *span.seq.n_prompt.get_or_insert(span.seq.n_tokens);
                let next = self.script.reply.get(span.seq.n_tokens - n_prompt).copied().unwrap_or(EOS);
                self.logits[next as usize] = 30.0;
            }
            if self.script.eos_after == Some(last) {
                self.logits[EOS as usize] = 40.0;
            }
            choose(i, &mut self.logits);
        }
        Ok(())
    }

    fn row_counters(&self, seq: &ScriptedSeq) -> RowCounters {
        RowCounters { rows: seq.n_tokens as u64, ..RowCounters::default() }
    }

    fn row_stats(&self) -> Option<RowStats> {
        Some(RowStats::default())
    }
}

/// An engine over a script, and what the backend knows of it.
pub(crate) struct Fixture {
    pub(crate) engine: EngineHandle,
    pub(crate) log: Log,
    pub(crate) n_live: Arc<AtomicUsize>,
}

pub(crate) const OPTIONS: EngineOptions = EngineOptions {
    n_ctx: 64,
    max_sessions: 3,
    kept_contexts: 0,
    worth_tokens: 256,
    queue_depth: 2,
    prefill_chunk: 4,
    event_room: 8,
    stall_limit: Duration::from_secs(60),
};

pub(crate) fn model_file(name: &str) -> ModelFile {
    ModelFile::open(&fixture(name)).unwrap()
}

pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let mut file = model_file("gemma4-ple/model-q4_0.gguf");
    Arc::new(Tokenizer::from_metadata(&mut file.gguf.metadata).unwrap())
}

pub(crate) fn chat() -> Option<Arc<ChatFormat>> {
    ChatFormat::new(None, &tokenizer()).map(Arc::new)
}

pub(crate) fn model_info() -> ModelInfo {
    ModelInfo {
        id: "scripted".to_owned(),
        name: "Scripted".to_owned(),
        architecture: "script".to_owned(),
        n_params: 3,
        n_params_per_layer_embedding: 1,
        n_ctx_train: 128,
        quantizations: Vec::new(),
        resident_bytes: 2,
        storage_bytes: 1,
        default_sampling: SamplingParams::greedy(),
    }
}

pub(crate) fn start(script: Script, options: EngineOptions) -> Fixture {
    let backend = Scripted::new(script);
    let (log, n_live) = (Arc::clone(&backend.log), Arc::clone(&backend.n_live));
    let (tokenizer, chat, model) = (tokenizer(), chat(), model_info());
    let engine = Engine { backend, tokenizer, chat, model, options, store: None }.start().unwrap();
    Fixture { engine, log, n_live }
}

/// An engine that answers with these tokens, special ones by their texts.
pub(crate) fn answering(text: &str) -> Fixture {
    let reply = tokenizer().encode(text, Specials::Parse);
    start(Script { reply, ..Script::default() }, EngineOptions { n_ctx: 2000, ..OPTIONS })
}

impl Fixture {
    pub(crate) fn submit(&self, draft: Draft) -> Generation {
        self.engine.submit(self.request(draft)).unwrap()
    }

    pub(crate) fn request(&self, draft: Draft) -> Request {
        Request::new(draft, self.engine.limits()).unwrap()
    }

    /// Waits until nothing is left of any request.
    pub(crate) fn await_nothing_left(&self) {
        await_that("nothing is left", || {
            let stats = self.engine.stats();
            stats.kv_bytes_in_use == 0 && stats.active_sequences == 0 && stats.queue_length == 0
        });
        assert_eq!(self.n_live.load(Ordering::SeqCst), 0, "a sequence outlived its request");
    }
}

pub(crate) fn await_that(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "never true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A greedy request for a number of tokens.
pub(crate) fn draft(prompt: &[u32], max_tokens: usize) -> Draft {
    Draft {
        prompt: prompt.to_vec(),
        sampling: SamplingParams::greedy(),
        stopping: Stopping { max_tokens: Some(max_tokens), ..Stopping::default() },
        ..Draft::default()
    }
}

/// Everything that a generation said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) prefills: Vec<(usize, usize)>,
    pub(crate) token_ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) done: Option<pled::engine::Done>,
    pub(crate) failure: Option<Failure>,
}

impl Heard {
    pub(crate) fn hear(&mut self, event: Event) {
        assert!(self.done.is_none() && self.failure.is_none(), "{event:?} after the end");
        match event {
            Event::Prefill { done, total } => self.prefills.push((done, total)),
            Event::Delta(delta) => {
                self.token_ids.extend(delta.token_ids);
                self.text.push_str(&delta.text);
            }
            Event::Done(done) => self.done = Some(done),
            Event::Failed(failure) => self.failure = Some(failure),
        }
    }

    pub(crate) fn done(&self) -> &pled::engine::Done {
        self.done.as_ref().unwrap_or_else(|| panic!("no end: {self:?}"))
    }
}

/// Reads a generation to its end.
pub(crate) fn hear_all(mut generation: Generation) -> Heard {
    let mut heard = Heard::default();
    while let Some(event) = generation.blocking_next() {
        heard.hear(event);
    }
    heard
}

/// Reads until so many tokens have come.
pub(crate) fn hear_tokens(generation: &mut Generation, n: usize) -> Vec<u32> {
    let mut heard = Heard::default();
    while heard.token_ids.len() < n {
        heard.hear(generation.blocking_next().expect("more tokens"));
        assert!(heard.done.is_none() && heard.failure.is_none(), "ended early: {heard:?}");
    }
    heard.token_ids
}
