//! Prompts that are ready before anybody can ask: computed, or restored from disk, and kept as long as the daemon runs.
//!
//! Their files are read before the model is, so that a wrong path is told at once. What else is wrong with one takes the
//! model to know; the daemon does not start with it, since who names a prompt counts on it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use crate::config::{ConfigError, Field, Settings};
use crate::engine::{Done, Draft, EngineHandle, Event, Failure, Purpose, Request};
use crate::http;
use crate::port::MAX_MESSAGE_BYTES;
use crate::serving::{Ready, State, text_opening};
use crate::systemd::Notifier;

/// The longest that a chunk of a prompt takes, with room to spare, as the watchdog has it too.
const CHUNK_LIMIT: Duration = Duration::from_secs(180);
/// A file whose name ends so is the prompt itself; any other a request.
const TEXT: &str = "txt";

/// A file that the settings name.
pub(super) struct Prompt {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Reads the files of prompts.
pub(super) fn read(settings: &Settings) -> Result<Vec<Prompt>, ConfigError> {
    let read_one = |path: &PathBuf| match read_bounded(path) {
        Ok(bytes) => Ok(Prompt { path: path.clone(), bytes }),
        Err(e) => Err(rejected(settings, path, e)),
    };
    settings.pinned_prompts.iter().map(read_one).collect()
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_MESSAGE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > MAX_MESSAGE_BYTES {
        true => Err(io::Error::other(format!("has more than {MAX_MESSAGE_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

fn rejected(settings: &Settings, path: &Path, problem: impl ToString) -> ConfigError {
    let problem = format!("{}: {}", path.display(), problem.to_string());
    let advice =
        "give bodies of requests to /v1/chat/completions, or, as .txt, texts; for longer ones raise n_ctx";
    settings.reject(Field::PinnedPrompts, problem, advice)
}

/// Computes and pins the prompts one after the other.
pub(super) async fn pin(
    settings: &Settings,
    engine: &EngineHandle,
    prompts: Vec<Prompt>,
    notifier: Notifier,
) -> anyhow::Result<()> {
    // Of this call alone: clients find no model yet.
    let state = State::new();
    state.set(engine.clone());
    let ready = state.model("").map_err(|problem| anyhow!("{problem}"))?;
    for (i, Prompt { path, bytes }) in prompts.iter().enumerate() {
        let reject = |problem: String| rejected(settings, path, problem);
        let prompt = opening(&state, ready, path, bytes).await.map_err(reject)?;
        let (purpose, request_id) = (Purpose::Pin, format!("pinned-{i}"));
        let draft = Draft { prompt, purpose, request_id, ..Draft::default() };
        let request = Request::new(draft, engine.limits()).map_err(|e| reject(e.to_string()))?;
        let done = computed(engine, request, |done, total| {
            let status = format!("computing {}: {done} of {total} tokens", path.display());
            notifier.starting(&status, CHUNK_LIMIT);
        });
        match done.await? {
            Ok(Done { usage, .. }) => log::info!(
                path:% = path.display(), prompt_tokens = usage.prompt_tokens, cached_tokens = usage.cached_tokens;
                "prompt pinned"
            ),
            Err(failure @ Failure::Unpinnable { .. }) => return Err(reject(failure.to_string()).into()),
            Err(failure) => return Err(anyhow!("cannot compute the prompt {}: {failure}", path.display())),
        }
    }
    Ok(())
}

/// The tokens that a file's prompt begins with whoever goes on from it; what is wrong with the file.
async fn opening(state: &State, ready: &Ready, path: &Path, bytes: &[u8]) -> Result<Vec<u32>, String> {
    if path.extension().is_none_or(|extension| extension != TEXT) {
        return http::opening(state, ready, bytes).await;
    }
    let text = str::from_utf8(bytes).map_err(|e| format!("is no UTF-8 text: {e}"))?;
    // Editors end the last line.
    let text = text.strip_suffix('\n').unwrap_or(text);
    text_opening(state, ready, text).await.map_err(|problem| problem.to_string())
}

/// Waits for the end of a request; `advanced` hears how many tokens of the prompt are computed, and of how many.
async fn computed(
    engine: &EngineHandle,
    request: Request,
    advanced: impl Fn(usize, usize),
) -> anyhow::Result<Result<Done, Failure>> {
    advanced(0, request.prompt().len());
    let mut generation = engine.submit(request)?;
    loop {
        match generation.next().await {
            Some(Event::Prefill { done, total }) => advanced(done, total),
            Some(Event::Done(done)) => return Ok(Ok(done)),
            Some(Event::Failed(failure)) => return Ok(Err(failure)),
            Some(Event::Delta(_)) => {}
            None => return Ok(Err(Failure::EngineEnded)),
        }
    }
}
