//! Rows of sequences: from announced runs of tokens to the rows of one step.
//!
//! A sequence carries a [`Ticket`] for each announced run of tokens; [`SpanRows`] turns the tickets of one step into
//! rows when the model comes to need them, which is after the whole of layer 0. A step does not wait for them for ever:
//! the engine's thread has others to serve, and to hear who cancels.

use std::time::{Duration, Instant};

use super::backend::{NotRun, SpanFailure};
use super::event::{Failure, RowFault};
use super::stats::RowCounters;
use crate::model::{RowError, RowSource};
use crate::ple::{Awaited, Pending, PleError, RowRequest, RowStore, Rows, Urgency};
use crate::storage::StorageError;

/// The longest that a step stands still for rows. A working card needs a few ms for a row and a tenth of a second for a
/// chunk of a prompt that nobody foresaw; a step that is given up costs its layer 0 when it is made again.
const PATIENCE: Duration = Duration::from_millis(100);

/// The row store, and how much of a row a token needs.
#[derive(Debug)]
pub(super) struct TableRows {
    pub(super) store: RowStore,
    /// Of a token whose logits nobody wants: the slices of the layers that it runs.
    pub(super) prefix_bytes: usize,
}

/// The rows of one run of tokens.
#[derive(Debug)]
pub(super) enum Ticket {
    /// The store was too busy; asked for again when they are needed.
    Unsent,
    Pending(Pending),
    /// There already, as after a step that another sequence's rows did not let happen.
    Ready(Rows),
}

impl Ticket {
    /// Whether a step that needs the rows would not wait for them.
    pub(super) fn has_arrived(&self) -> bool {
        match self {
            // It is asked for again by the step.
            Self::Unsent | Self::Ready(_) => true,
            Self::Pending(pending) => pending.has_arrived(),
        }
    }
}

impl TableRows {
    /// Asks the store for what `tokens` need of their rows, and counts for the sequence what that costs.
    pub(super) fn submit(
        &mut self,
        tokens: &[u32],
        wants_logits: bool,
        urgency: Urgency,
        counters: &mut RowCounters,
    ) -> Result<Pending, PleError> {
        let row_bytes = self.store.layout().row_bytes;
        // Of a run only the last token may go through all layers.
        let n_prefixes = tokens.len() - usize::from(wants_logits);
        let part =
            |(i, &id)| RowRequest { id, n_bytes: if i < n_prefixes { self.prefix_bytes } else { row_bytes } };
        let requests: Vec<RowRequest> = tokens.iter().enumerate().map(part).collect();
        let pending = self.store.submit_parts(&requests, urgency)?;
        // Reads go on in the background and may serve several sequences: what is counted here are the rows
        // that this one made necessary.
        let cost = pending.cost();
        counters.rows += tokens.len() as u64;
        counters.distinct += cost.distinct;
        counters.cache_hits += tokens.len() as u64 - cost.misses;
        counters.bytes_read += cost.bytes;
        Ok(pending)
    }
}

/// The rows of one step.
pub(super) struct SpanRows<'a> {
    table: &'a mut TableRows,
    waits: Vec<Wait<'a>>,
    /// Index of each span's first token in the batch.
    starts: Vec<usize>,
    /// Why the step cannot be run.
    pub(super) not_run: NotRun,
}

/// The rows of one span.
pub(super) struct Wait<'a> {
    pub(super) tokens: &'a [u32],
    pub(super) wants_logits: bool,
    pub(super) ticket: &'a mut Ticket,
    pub(super) counters: &'a mut RowCounters,
}

impl<'a> SpanRows<'a> {
    pub(super) fn new(table: &'a mut TableRows, waits: Vec<Wait<'a>>, starts: Vec<usize>) -> Self {
        Self { table, waits, starts, not_run: NotRun::default() }
    }
}

impl RowSource for SpanRows<'_> {
    /// Waits for every span, also after one has failed or was late: those that have their rows keep them for the next
    /// attempt, which is made without the others.
    fn fetch(&mut self) -> Result<(), RowError> {
        let deadline = Instant::now() + PATIENCE;
        for (span, wait) in self.waits.iter_mut().enumerate() {
            match wait.get(self.table, deadline) {
                Ok(true) => {}
                Ok(false) => self.not_run.late.push(span),
                Err(e) => self.not_run.failed.push(SpanFailure { span, failure: failure(&e) }),
            }
        }
        match (&self.not_run.failed[..], &self.not_run.late[..]) {
            ([], []) => Ok(()),
            ([first, ..], _) => Err(RowError(first.failure.to_string().into())),
            ([], [..]) => Err(RowError("rows are late".into())),
        }
    }

    fn row(&self, i: usize) -> &[u8] {
        let span = self.starts.partition_point(|&start| start <= i) - 1;
        match &*self.waits[span].ticket {
            Ticket::Ready(rows) => rows.row(i - self.starts[span]),
            _ => unreachable!("rows are read after fetch has succeeded"),
        }
    }
}

impl Wait<'_> {
    /// Whether the rows are there by the deadline.
    fn get(&mut self, table: &mut TableRows, deadline: Instant) -> Result<bool, PleError> {
        let pending = match std::mem::replace(self.ticket, Ticket::Unsent) {
            Ticket::Unsent => table.submit(self.tokens, self.wants_logits, Urgency::Now, self.counters)?,
            Ticket::Pending(pending) => pending,
            ready @ Ticket::Ready(_) => {
                *self.ticket = ready;
                return Ok(true);
            }
        };
        let before = table.store.waited();
        let awaited = table.store.wait_until(pending, deadline);
        self.counters.wait += table.store.waited() - before;
        *self.ticket = match awaited? {
            Awaited::Rows(rows) => Ticket::Ready(rows),
            Awaited::Late(pending) => Ticket::Pending(pending),
        };
        Ok(matches!(self.ticket, Ticket::Ready(_)))
    }
}

/// Error numbers that Linux gives when a device has gone away: ENXIO, ENODEV, ESTALE, ENOMEDIUM.
const GONE: [i32; 4] = [6, 19, 116, 123];

fn failure(e: &PleError) -> Failure {
    let source = match e {
        PleError::Read { source, .. } => source,
        PleError::Rotten { path, offset, .. } => {
            let (path, offset) = (path.clone(), *offset);
            let message = e.to_string();
            return Failure::Rows(RowFault { message, path, offset, errno: None, device_gone: false });
        }
        other => return Failure::Step(other.to_string()),
    };
    let errno = source.errno();
    Failure::Rows(RowFault {
        message: e.to_string(),
        path: source.path().map(Into::into).unwrap_or_default(),
        offset: source.offset().unwrap_or_default(),
        errno,
        device_gone: errno.is_some_and(|e| GONE.contains(&e))
            || matches!(
                source,
                StorageError::Open { .. } | StorageError::Replaced { .. } | StorageError::Changed { .. }
            ),
    })
}
