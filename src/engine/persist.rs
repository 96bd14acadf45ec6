//! The worker and the disk: which prefixes are worth writing, and bringing them back.
//!
//! Worth writing is what will be asked for again: what a second request begins with and does not go on with as the
//! first did, what was computed ahead, and what a session has come to once nobody talks. Of these only what saves
//! enough computing beside what is on the disk already: every write wears a card.
//!
//! Which rows of the per-layer embedding table are wanted most is written now and then, and they are read again by
//! the next process.
//!
//! Pieces are written one at a time between two steps, so that there are never copies of more than one. A prompt that
//! the disk knows more of than the memory waits, as one does that another sequence is computing, while a thread reads;
//! the others go on.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::held::Held;
use super::prefix_cache::{BLOCK_TOKENS, Kept};
use super::reuse::reusable;
use super::sessions::Sessions;
use super::worker::Worker;
use crate::model::LayerKind;
use crate::prefix_store::{NewPart, NewPiece, PartKind, PrefixStore, Restored, Wanted};

/// Blocks of a piece: few enough that a copy of their keys and values is small beside the model.
const PIECE_BLOCKS: usize = 16;
/// Prefixes that may wait to be written. What a session has come to stays due meanwhile; others, that of a session which made
/// room among them, stay in memory and come again when they are asked for.
const MAX_WORTH: usize = 16;
/// A session is written when it was left alone for so long: before, it is likely to grow.
const QUIET: Duration = Duration::from_secs(60);
/// Conversations that may wait to be forgotten on the disk.
const MAX_TO_FORGET: usize = 256;
/// After so long what is being read is not waited for: a disk that stalls costs time, and computing goes on.
const RESTORE_PATIENCE: Duration = Duration::from_secs(30);
/// The table of sessions is written no more often for their uses.
const TABLE_INTERVAL: Duration = Duration::from_secs(300);
/// And no more often where some are new or gone.
const NEW_TABLE_INTERVAL: Duration = Duration::from_secs(5);
const TABLE: &str = "sessions";
/// The list of the rows wanted most is written no more often, but for the end: it is what a power cut may cost.
const ROWS_INTERVAL: Duration = Duration::from_secs(3600);
const ROWS: &str = "rows";

/// What the worker has to do with the disk.
#[derive(Debug)]
pub(super) struct Persisting {
    pub(super) store: PrefixStore,
    /// Prefixes that are to be written, if they are not.
    worth: VecDeque<Vec<u32>>,
    /// Of the first of them, the first block of the piece that was given to the writer last.
    given: Option<usize>,
    /// A prefix of fewer tokens is not worth writing.
    worth_tokens: usize,
    /// What the writer has not been told to forget yet: tokens, and how many of them others begin with.
    to_forget: VecDeque<(Vec<u32>, usize)>,
    restoring: Option<Restoring>,
    table: WrittenTable,
    rows: WrittenRows,
}

/// What is being read.
#[derive(Debug)]
struct Restoring {
    /// The tokens of its blocks.
    tokens: Vec<u32>,
    /// What comes of it.
    receiver: Receiver<Option<Restored>>,
    since: Instant,
}

impl Restoring {
    fn is_late(&self) -> bool {
        self.since.elapsed() >= RESTORE_PATIENCE
    }
}

/// The state of the table of sessions that the disk has.
#[derive(Debug)]
struct WrittenTable {
    version: u64,
    n_changes: u64,
    /// Nothing if this process has written none.
    at: Option<Instant>,
}

impl WrittenTable {
    /// When a table of this version may be written.
    fn due(&self, version: u64) -> Option<Instant> {
        let interval = if version == self.version { TABLE_INTERVAL } else { NEW_TABLE_INTERVAL };
        self.at.map(|at| at + interval)
    }
}

/// The list of rows that the disk has.
#[derive(Debug)]
struct WrittenRows {
    /// Of the list: what has not changed is not written again.
    hash: u64,
    at: Instant,
}

impl Persisting {
    /// For the engine's thread, which is woken when something was written.
    ///
    /// `worth_tokens`: a prefix of fewer is not written.
    pub(super) fn new(store: PrefixStore, worth_tokens: usize) -> Self {
        store.wake(thread::current());
        let table = WrittenTable { version: 0, n_changes: 0, at: None };
        let rows = WrittenRows { hash: 0, at: Instant::now() };
        let (worth, to_forget) = (VecDeque::new(), VecDeque::new());
        Self { store, worth, given: None, worth_tokens, to_forget, restoring: None, table, rows }
    }

    /// Forgets of `tokens` what comes behind the first `n_shared`. Those may go with it, since pieces go whole; what
    /// others begin with is written again.
    pub(super) fn forget(&mut self, tokens: &[u32], n_shared: usize) {
        self.worth.retain(|other| !other.starts_with(tokens));
        self.given = None;
        if self.to_forget.len() < MAX_TO_FORGET {
            self.to_forget.push_back((tokens.to_vec(), n_shared));
        } else {
            log::warn!("the disk does not keep up: what a session that is gone said stays on it for now");
        }
        self.forget_on();
    }

    /// Tells the writer what to forget, as much as it takes. It wakes the engine when it takes more.
    fn forget_on(&mut self) {
        while let Some((tokens, n_shared)) = self.to_forget.pop_front() {
            if !self.store.forget(tokens.clone(), n_shared) {
                self.to_forget.push_front((tokens, n_shared));
                return;
            }
            if n_shared >= self.worth_tokens {
                self.worth.push_back(tokens[..n_shared].to_vec());
            }
        }
    }

    /// Takes the first prefix off those that are to be written.
    fn next_worth(&mut self) {
        self.worth.pop_front();
        self.given = None;
    }
}

/// Takes up the sessions that the disk knows of.
pub(super) fn restore_sessions(store: &PrefixStore, sessions: &Sessions) {
    if let Some(record) = store.record(TABLE)
        && let Err(why) = sessions.restore(&record)
    {
        log::warn!("sessions are not restored: {why}");
    }
}

/// Has the rows read again that the process before this one wanted most.
pub(super) fn warm_rows<B: Backend>(store: &PrefixStore, backend: &mut B) {
    let Some(record) = store.record(ROWS) else { return };
    match backend.warm(&record) {
        Ok(0) => {}
        Ok(n_rows) => log::info!(n_rows; "rows that were wanted most are read again"),
        Err(why) => log::warn!("rows are not read again: {why}"),
    }
}

fn part_kind(kind: LayerKind) -> PartKind {
    match kind {
        LayerKind::Full => PartKind::Full,
        LayerKind::Sliding => PartKind::Sliding,
    }
}

fn layer_kind(kind: PartKind) -> LayerKind {
    match kind {
        PartKind::Full => LayerKind::Full,
        PartKind::Sliding => LayerKind::Sliding,
    }
}

impl<B: Backend> Worker<B> {
    /// Whether the sequence has to wait for the disk to give what it knows of the prompt.
    pub(super) fn waits_for_disk(&mut self, i: usize) -> bool {
        let (Some(disk), Some(sequence)) = (&mut self.disk, &mut self.slots[i]) else { return false };
        let is_waited_for = disk.restoring.as_ref().is_some_and(|restoring| !restoring.is_late());
        if self.options.kept_contexts == 0 || sequence.asked_disk {
            // What is being read may be for this one.
            return sequence.waits_for_disk && is_waited_for;
        }
        let reusable = reusable(&sequence.tokens[..sequence.n_prompt]);
        let mut plan = disk.store.plan(reusable, self.backend.lookback());
        if plan.n_tokens < self.prefixes.n_known(reusable) + BLOCK_TOKENS {
            return false;
        }
        // One at a time, so that no more than a context's worth is in flight; and it may bring what this one needs.
        if disk.restoring.is_some() {
            return is_waited_for;
        }
        let prefixes = &self.prefixes;
        plan.without(|path, kind| prefixes.get(path, layer_kind(kind)).is_some());
        let tokens = plan.tokens.clone();
        let (sender, receiver) = channel();
        let engine = thread::current();
        let read = move || {
            // If nobody listens the engine has ended.
            let _ = sender.send(plan.read());
            engine.unpark();
        };
        if let Err(e) = thread::Builder::new().name("prefix-reader".to_owned()).spawn(read) {
            log::warn!("no thread to restore a prefix: {e}");
            sequence.asked_disk = true;
            return false;
        }
        disk.restoring = Some(Restoring { tokens, receiver, since: Instant::now() });
        (sequence.asked_disk, sequence.waits_for_disk) = (true, true);
        true
    }

    /// Takes over what was read.
    pub(super) fn take_restored(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let Some(Restoring { receiver, .. }) = &disk.restoring else { return };
        let restored = match receiver.try_recv() {
            Err(TryRecvError::Empty) => return,
            Ok(restored) => restored,
            // The thread has panicked; what it was to bring is computed.
            Err(TryRecvError::Disconnected) => Some(Restored::new()),
        };
        let Some(Restoring { tokens, .. }) = disk.restoring.take() else { return };
        let Some(mut restored) = restored else {
            // A piece was no good, and is known no more. Without it the disk may still give something.
            for sequence in self.slots.iter_mut().flatten().filter(|sequence| sequence.n_cached.is_none()) {
                (sequence.asked_disk, sequence.waits_for_disk) = (false, false);
            }
            return;
        };
        for sequence in self.slots.iter_mut().flatten() {
            sequence.waits_for_disk = false;
        }
        let bound = self.prefix_bound();
        let backend = &self.backend;
        self.prefixes.store(&tokens, 0, 0, bound, |positions, kind| {
            let bytes = restored.remove(&(positions.start / BLOCK_TOKENS, part_kind(kind)))?;
            let what = backend.kept_of_bytes(positions, kind, &bytes)?;
            let n_bytes = backend.kept_bytes(&what);
            Some(Kept { what, n_bytes })
        });
    }

    /// Has a prefix written, if that saves enough.
    pub(super) fn write_if_worth_it(&mut self, tokens: &[u32]) {
        let Some(disk) = self.disk.as_mut().filter(|_| self.options.kept_contexts > 0) else { return };
        let n_known = self.prefixes.n_known(tokens);
        let n_written = disk.store.plan(&tokens[..n_known], self.backend.lookback()).n_tokens;
        if n_known - n_written < disk.worth_tokens || disk.worth.len() >= MAX_WORTH {
            return;
        }
        let tokens = &tokens[..n_known];
        // Of what is larger than all pieces may be the end would push the beginning out, again and again.
        let first = self.prefixes.get(&tokens[..BLOCK_TOKENS.min(n_known)], LayerKind::Full);
        let n_bytes =
            first.map_or(0, |kept| self.backend.kept_bytes(kept)) * n_known.div_ceil(BLOCK_TOKENS) as u64;
        if n_bytes > disk.store.disk_bytes() {
            return;
        }
        // A longer one that waits does not bring the windows that resuming here needs.
        if !disk.worth.iter().any(|other| other == tokens) {
            disk.worth.push_back(tokens.to_vec());
        }
    }

    /// Gives the next piece to the writer, if it has none. `ending`: no more requests will come.
    pub(super) fn write_what_is_due(&mut self, now: Instant, ending: bool) {
        let Some(disk) = &mut self.disk else { return };
        disk.forget_on();
        self.write_table(now, ending);
        self.write_hot_rows(now, ending);
        loop {
            self.take_due(now, ending);
            let Some(disk) = self.disk.as_ref().filter(|disk| disk.store.is_idle()) else { return };
            let Some(tokens) = disk.worth.front().cloned() else { return };
            let piece = self.next_piece(&tokens);
            let Some(disk) = &mut self.disk else { return };
            // What was given and is lacking still, or again, could not be written, or had to go for what followed.
            let piece = piece.filter(|(first, _)| disk.given.is_none_or(|given| *first > given));
            let given = piece.and_then(|(first, piece)| disk.store.write(piece).then_some(first));
            if given.is_some() {
                disk.given = given;
                return;
            }
            disk.next_worth();
        }
    }

    /// Has what sessions have come to written, of those that are due as many as may wait. The others stay due.
    fn take_due(&mut self, now: Instant, ending: bool) {
        let is_due = |held: &Held| held.unwritten_since.is_some_and(|since| ending || now >= since + QUIET);
        while self.disk.as_ref().is_some_and(|disk| disk.worth.len() < MAX_WORTH)
            && let Some(held) = self.held.values_mut().find(|held| is_due(held))
        {
            held.unwritten_since = None;
            let tokens = held.tokens.clone();
            self.write_if_worth_it(&tokens);
        }
    }

    /// Whether nothing is left to be written, once what is due was taken.
    pub(super) fn is_written(&self) -> bool {
        let is_done =
            |disk: &Persisting| disk.worth.is_empty() && disk.to_forget.is_empty() && disk.store.is_idle();
        self.disk.as_ref().is_none_or(is_done)
    }

    /// When what is being read will not be waited for any longer.
    pub(super) fn end_of_patience(&self, now: Instant) -> Option<Instant> {
        let restoring = self.disk.as_ref()?.restoring.as_ref()?;
        Some(restoring.since + RESTORE_PATIENCE).filter(|end| *end > now)
    }

    /// When something will be due to be written.
    pub(super) fn next_write(&self) -> Option<Instant> {
        // A writer that works wakes the engine when it is through.
        let disk = self.disk.as_ref().filter(|disk| disk.store.is_idle())?;
        let sessions = &self.shared.sessions;
        let has_changed = disk.table.n_changes != sessions.n_changes();
        let table = has_changed.then(|| disk.table.due(sessions.version())).flatten();
        let held = self.held.values().filter_map(|held| held.unwritten_since?.checked_add(QUIET));
        let rows = disk.rows.at.checked_add(ROWS_INTERVAL);
        held.chain(table).chain(rows).min()
    }

    fn write_hot_rows(&mut self, now: Instant, ending: bool) {
        let Some(Persisting { store, rows, .. }) = &mut self.disk else { return };
        if !ending && now < rows.at + ROWS_INTERVAL {
            return;
        }
        let list = self.backend.hot_rows();
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        let hash = hasher.finish();
        // Where too much waits to be written it is tried again in the next turn.
        if hash == rows.hash || list.is_none_or(|list| store.write_record(ROWS, list)) {
            *rows = WrittenRows { hash, at: now };
        }
    }

    /// What is new or gone is written soon, uses now and then.
    fn write_table(&mut self, now: Instant, ending: bool) {
        let Some(Persisting { store, table, .. }) = &mut self.disk else { return };
        let sessions = &self.shared.sessions;
        let (version, n_changes) = (sessions.version(), sessions.n_changes());
        let is_due = ending || table.due(version).is_none_or(|due| now >= due);
        if n_changes != table.n_changes
            && is_due
            && store.is_idle()
            && store.write_record(TABLE, sessions.record())
        {
            *table = WrittenTable { version, n_changes, at: Some(now) };
        }
    }

    /// The first blocks of `tokens` that are not written, of those that resuming at its end needs, and which is the first.
    /// `None` if there are none, or they are forgotten.
    fn next_piece(&self, tokens: &[u32]) -> Option<(usize, NewPiece)> {
        let disk = self.disk.as_ref()?;
        let (path, n_known) = self.prefixes.along(tokens);
        let seen_from = n_known.saturating_sub(self.backend.lookback());
        let mut wanted: Vec<Wanted> = Vec::new();
        for (block, _) in path.chunks(BLOCK_TOKENS).enumerate() {
            wanted.push((block, PartKind::Full));
            if (block + 1) * BLOCK_TOKENS > seen_from {
                wanted.push((block, PartKind::Sliding));
            }
        }
        let lacking = disk.store.lacking(&path, &wanted);
        let first = lacking.first()?.0;
        let mut parts = Vec::new();
        let mut end = 0;
        for (block, kind) in lacking.into_iter().take_while(|(block, _)| *block < first + PIECE_BLOCKS) {
            let block_end = path.len().min((block + 1) * BLOCK_TOKENS);
            let Some(kept) = self.prefixes.get(&path[..block_end], layer_kind(kind)) else {
                // A window that is not whole says nothing to others.
                continue;
            };
            parts.push(NewPart { block, kind, bytes: self.backend.bytes_of_kept(kept) });
            end = block_end;
        }
        (!parts.is_empty()).then(|| (first, NewPiece { tokens: path[..end].to_vec(), parts }))
    }
}
