//! The other threads' side of the engine: requests in, events out.

use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll, ready};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{TryAcquireError, mpsc, watch};

use super::backend::Backend;
use super::event::{Event, Failure};
use super::info::{BackendInfo, ModelInfo};
use super::life::Life;
use super::options::EngineOptions;
use super::persist::{restore_sessions, warm_rows};
use super::request::{Limits, Request};
use super::sessions::{Session, SessionDraft, SessionError, SessionKey, Sessions};
use super::shared::Shared;
use super::stats::Stats;
use super::worker::{Job, Worker};
use crate::model::OutOfMemory;
use crate::prefix_store::PrefixStore;
use crate::sampling::constraint::Grammars;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatFormat;

/// Gives requests to the engine. When the last handle is dropped the engine finishes what it has and
/// ends.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    thread: Thread,
    ended: watch::Receiver<Option<Ended>>,
    tokenizer: Arc<Tokenizer>,
    chat: Option<Arc<ChatFormat>>,
    grammars: Arc<Grammars>,
    model: ModelInfo,
    backend: BackendInfo,
    options: EngineOptions,
    limits: Limits,
}

/// How the engine's thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was drained, or no handle was left.
    Drained,
    /// It panicked, with this message. The process should end: the state is lost.
    Panicked(String),
}

/// Why a request was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many requests as may wait do so.
    #[error("the queue is full; retry in {:.0} s", retry_after.as_secs_f64())]
    QueueFull {
        /// About when a place will be free.
        retry_after: Duration,
    },
    /// The request names a session that there is not.
    #[error("there is no session \"{0}\"")]
    UnknownSession(String),
    /// The engine takes no more requests because it is to end.
    #[error("the server is shutting down")]
    Draining,
    /// The engine's thread is gone.
    #[error("the engine has ended")]
    Ended,
}

/// Why an engine was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not even one sequence has room.
    #[error("no room for a sequence of the whole context: {0}; lower n_ctx")]
    OutOfMemory(#[from] OutOfMemory),
    /// The system gives no thread.
    #[error("no thread for the engine: {0}")]
    Thread(#[from] std::io::Error),
}

/// Whether the engine moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Grows with every step that the engine makes.
    pub beats: u64,
    /// There is nothing to do, so `beats` stands still.
    pub idle: bool,
}

/// The engine: what computes, and what goes with it.
#[derive(Debug)]
pub struct Engine<B> {
    /// The model.
    pub backend: B,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How it wants conversations, if it was trained on any.
    pub chat: Option<Arc<ChatFormat>>,
    /// Its description.
    pub model: ModelInfo,
    /// Bounds.
    pub options: EngineOptions,
    /// Where prefixes outlast the process, if anywhere. Its blocks are of [`BLOCK_TOKENS`](super::BLOCK_TOKENS) tokens.
    pub store: Option<PrefixStore>,
}

impl<B: Backend> Engine<B> {
    /// Starts the engine's thread.
    ///
    /// Errors: the system gives no thread, or not the memory of one sequence.
    pub fn start(self) -> Result<EngineHandle, StartError> {
        let Self { mut backend, tokenizer, chat, model, options, store } = self;
        let EngineOptions { n_ctx, max_sessions, prefill_chunk, .. } = options;
        assert!(n_ctx > 0 && max_sessions > 0 && prefill_chunk > 0, "bounds of at least 1: {options:?}");
        let limits = Limits { n_ctx, n_vocab: backend.n_vocab() };
        let info = backend.info();
        // Reserved memory costs nothing before it is written, so a whole sequence may be laid out and measured.
        let largest = backend.new_seq(n_ctx)?;
        let kv_bytes_bound = backend.kv_bytes(&largest) * options.n_contexts() as u64;
        drop(largest);
        let shared = Arc::new(Shared::new(&options, kv_bytes_bound));
        if let Some(store) = &store {
            restore_sessions(store, &shared.sessions);
            warm_rows(store, &mut backend);
            shared.with_stats(|s| s.store = Some(store.stats()));
        }
        // Never full: places bound what can be on its way.
        let (jobs, jobs_receiver) = sync_channel(shared.n_places());
        let (ended_sender, ended) = watch::channel(None);
        let (of_thread, tokenizer_of_thread) = (Arc::clone(&shared), Arc::clone(&tokenizer));
        let run = move || {
            let shared = Arc::clone(&of_thread);
            let work =
                || Worker::new(backend, tokenizer_of_thread, options, shared, jobs_receiver, store).run();
            // The worker is gone after this, with all it held: nothing broken can be seen.
            let how = match panic::catch_unwind(AssertUnwindSafe(work)) {
                Ok(()) => Ended::Drained,
                Err(payload) => Ended::Panicked(panic_message(&*payload)),
            };
            of_thread.close();
            ended_sender.send_replace(Some(how));
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(run)?.thread().clone();
        let grammars = Arc::new(Grammars::new(Arc::clone(&tokenizer) as _));
        let inner = Inner {
            shared,
            jobs,
            thread,
            ended,
            tokenizer,
            chat,
            grammars,
            model,
            backend: info,
            options,
            limits,
        };
        Ok(EngineHandle { inner: Arc::new(inner) })
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

impl EngineHandle {
    /// Takes a request in, or refuses it at once.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        let Inner { shared, jobs, thread, .. } = &*self.inner;
        if let Some(key) = request.session()
            && !shared.sessions.admit(&key)
        {
            return Err(SubmitError::UnknownSession(key.id));
        }
        let place = match shared.take_place(request.priority()) {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits) => {
                shared.with_stats(|s| s.refused_queue_full += 1);
                return Err(SubmitError::QueueFull { retry_after: shared.retry_after() });
            }
            Err(TryAcquireError::Closed) if self.how_ended().is_some() => return Err(SubmitError::Ended),
            Err(TryAcquireError::Closed) => {
                shared.with_stats(|s| s.refused_draining += 1);
                return Err(SubmitError::Draining);
            }
        };
        let queue_position = shared.queue_position(request.priority());
        let (life, events) = Life::new(&request, place, self.inner.options.event_room);
        shared.with_stats(|s| s.accepted += 1);
        jobs.try_send(Job { request, life }).map_err(|_| SubmitError::Ended)?;
        thread.unpark();
        Ok(Generation { events, engine: thread.clone(), queue_position, ended: false })
    }

    /// Counters of now.
    pub fn stats(&self) -> Stats {
        let mut stats = self.inner.shared.with_stats(|s| s.clone());
        // The engine may be in the middle of a step; who waits since then is known here.
        stats.queue_length = self.inner.shared.in_flight().saturating_sub(stats.active_sequences);
        stats
    }

    /// Sessions of now; requests name them.
    pub fn sessions(&self) -> &Sessions {
        &self.inner.shared.sessions
    }

    /// Makes a session.
    ///
    /// # Errors
    /// If the draft is wrong, there is such a session, or there are too many.
    pub fn create_session(&self, draft: SessionDraft) -> Result<Session, SessionError> {
        let made = self.inner.shared.sessions.create(draft);
        self.inner.thread.unpark();
        made
    }

    /// Makes the session unless it exists.
    ///
    /// # Errors
    /// If the id is none, or there are too many sessions.
    pub fn open_session(&self, key: &SessionKey) -> Result<(), SessionError> {
        let opened = self.inner.shared.sessions.open(key);
        self.inner.thread.unpark();
        opened
    }

    /// Gives a session up, with what is pinned for it. False if there is none.
    pub fn delete_session(&self, key: &SessionKey) -> bool {
        let is_gone = self.inner.shared.sessions.delete(key);
        self.inner.thread.unpark();
        is_gone
    }

    /// What requests are measured against.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// The loaded model.
    pub fn model(&self) -> &ModelInfo {
        &self.inner.model
    }

    /// How it is computed.
    pub fn backend(&self) -> &BackendInfo {
        &self.inner.backend
    }

    /// The bounds that the engine was started with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// How the model wants conversations; `None` if its vocabulary has no marks for turns.
    pub fn chat(&self) -> Option<&Arc<ChatFormat>> {
        self.inner.chat.as_ref()
    }

    /// What compiles grammars for the model's vocabulary.
    pub fn grammars(&self) -> &Arc<Grammars> {
        &self.inner.grammars
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.inner.tokenizer
    }

    /// Whether the engine moves; for a watchdog.
    pub fn heartbeat(&self) -> Heartbeat {
        let Shared { beats, idle, .. } = &*self.inner.shared;
        Heartbeat { beats: beats.load(Ordering::Relaxed), idle: idle.load(Ordering::Relaxed) }
    }

    /// Takes no more requests in and waits until the engine has ended: when all that it has is finished,
    /// or at `deadline`, when what has begun ends with [`FinishReason::Cancelled`] and what has not fails
    /// with [`Failure::Draining`]. Only the first call's deadline counts.
    ///
    /// [`FinishReason::Cancelled`]: super::FinishReason::Cancelled
    pub async fn drain(&self, deadline: Instant) -> Ended {
        let _ = self.inner.shared.drain.set(deadline);
        self.inner.shared.close();
        self.inner.thread.unpark();
        self.ended().await
    }

    /// Waits until the engine's thread has ended.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.inner.ended.clone();
        let how = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
        how.unwrap_or_else(|| Ended::Panicked("the engine's thread vanished".to_owned()))
    }

    /// How the engine's thread ended, if it has.
    pub fn how_ended(&self) -> Option<Ended> {
        self.inner.ended.borrow().clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        self.thread.unpark();
    }
}

/// A request that was taken in: a stream of events. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    engine: Thread,
    queue_position: usize,
    ended: bool,
}

impl Generation {
    /// Place in the queue when the request was taken in: 0 begins at once, 1 is the next to begin. Interactive requests
    /// that come later pass by those of the background.
    pub fn queue_position(&self) -> usize {
        self.queue_position
    }

    /// The next event; `None` after [`Event::Done`] or [`Event::Failed`], of which there is always one.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for threads without a runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.took(event))
    }

    /// [`next`](Self::next) for streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(cx));
        Poll::Ready(Some(self.took(event)))
    }

    fn took(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Failed(Failure::EngineEnded));
        self.ended = matches!(event, Event::Done(_) | Event::Failed(_));
        // There is room again: the sequence may have been parked for want of it.
        self.engine.unpark();
        event
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        self.engine.unpark();
    }
}
