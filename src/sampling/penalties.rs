//! Changes to the logits of single tokens, and the way back.

use std::collections::HashMap;

use super::SamplingParams;

/// A row of logits being changed: remembers what it overwrites, so that the caller gets the row back
/// as the model made it (log-probabilities are taken from that one).
pub(super) struct Edits<'a> {
    logits: &'a mut [f32],
    undo: &'a mut Vec<(u32, f32)>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(logits: &'a mut [f32], undo: &'a mut Vec<(u32, f32)>) -> Self {
        undo.clear();
        Self { logits, undo }
    }

    pub(super) fn logits(&self) -> &[f32] {
        self.logits
    }

    /// Minus infinity stays what it is, and nothing else becomes infinite by arithmetic: a bias cannot
    /// bring a masked token back nor turn a large logit into one that the softmax cannot take.
    pub(super) fn adjust(&mut self, id: u32, change: impl FnOnce(f32) -> f32) {
        if let Some(logit) = self.logits.get_mut(id as usize)
            && *logit > f32::NEG_INFINITY
        {
            self.undo.push((id, *logit));
            *logit = change(*logit).clamp(-f32::MAX, f32::MAX);
        }
    }

    /// Ids outside the row cannot be chosen anyway and are passed over.
    pub(super) fn forbid(&mut self, ids: &[u32]) {
        for &id in ids {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                self.undo.push((id, *logit));
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Backwards, since a token may have been changed more than once.
    pub(super) fn restore(self) {
        for &(id, logit) in self.undo.iter().rev() {
            self.logits[id as usize] = logit;
        }
    }
}

/// The tokens of prompt and completion, as far as the penalties need them.
#[derive(Debug)]
pub(super) struct History {
    /// Each token seen, with its number of occurrences in the completion (0: only in the prompt).
    counts: HashMap<u32, u32>,
    repetition: f32,
    presence: f32,
    frequency: f32,
}

impl History {
    pub(super) fn new(params: &SamplingParams) -> Self {
        Self {
            counts: HashMap::new(),
            repetition: params.repetition_penalty,
            presence: params.presence_penalty,
            frequency: params.frequency_penalty,
        }
    }

    /// Whether no token is penalised so far.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn penalises_completion(&self) -> bool {
        self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0
    }

    pub(super) fn accept_prompt(&mut self, ids: &[u32]) {
        if self.repetition != 1.0 {
            for &id in ids {
                self.counts.entry(id).or_insert(0);
            }
        }
    }

    pub(super) fn accept(&mut self, id: u32) {
        if self.penalises_completion() {
            let count = self.counts.entry(id).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Each token is changed on its own, so the order of the map does not matter.
    pub(super) fn apply(&self, edits: &mut Edits<'_>) {
        for (&id, &count) in &self.counts {
            edits.adjust(id, |mut logit| {
                logit = if logit > 0.0 { logit / self.repetition } else { logit * self.repetition };
                if count > 0 {
                    // In this order and in f64: the sum of the two penalties may leave the range of
                    // f32 although each is finite.
                    let penalty = f64::from(self.presence) + f64::from(self.frequency) * f64::from(count);
                    logit = (f64::from(logit) - penalty) as f32;
                }
                logit
            });
        }
    }
}
