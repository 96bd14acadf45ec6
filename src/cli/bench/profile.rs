//! Where the time of forward passes goes: a clock that listens to the steps of the model.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::model::{Probe, Step, Work};

/// The clock; clones read the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct StepClock(Arc<Mutex<Passes>>);

#[derive(Debug, Default)]
struct Passes {
    /// The step that runs and when it began.
    running: Option<(Work, Instant)>,
    /// Steps of the pass that runs.
    pass: BTreeMap<Step, Total>,
    /// The most tokens that a step of it computes.
    n_tokens: usize,
    prompts: Phase,
    answers: Phase,
}

/// Passes of one kind together.
#[derive(Debug, Default)]
struct Phase {
    n_tokens: usize,
    steps: BTreeMap<Step, Total>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Total {
    time: Duration,
    multiply_adds: u64,
    weight_bytes: u64,
}

/// One step in a report.
#[derive(Debug, Serialize)]
pub(super) struct StepReport {
    /// `prefill` or `decode`.
    pub(super) phase: &'static str,
    pub(super) step: &'static str,
    /// Milliseconds for each token.
    pub(super) ms_per_token: f64,
    /// Part of the phase's time, 0 to 1.
    pub(super) share: f64,
    /// Products a second, 10^9.
    pub(super) gmac_s: f64,
    /// Bytes of weights a second, 10^9, each counted once for a pass.
    pub(super) weight_gb_s: f64,
}

impl StepClock {
    /// What tells this clock of the steps. Passes of more than `batch` tokens are counted as parts of prompts.
    pub(super) fn probe(&self, batch: usize) -> Probe {
        let passes = Arc::clone(&self.0);
        Probe::new(move |work| lock(&passes).begin(work, Instant::now(), batch))
    }

    /// Forgets everything so far.
    pub(super) fn clear(&self) {
        *lock(&self.0) = Passes::default();
    }

    /// Steps in the order of a pass.
    pub(super) fn report(&self) -> Vec<StepReport> {
        let passes = lock(&self.0);
        let mut steps = passes.prompts.report("prefill");
        steps.extend(passes.answers.report("decode"));
        steps
    }
}

/// Nothing under the lock is left half done by a panic.
fn lock(passes: &Mutex<Passes>) -> std::sync::MutexGuard<'_, Passes> {
    passes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Passes {
    fn begin(&mut self, work: Work, now: Instant, batch: usize) {
        if work.step == Step::Embed {
            // A pass that failed never ended.
            (self.pass, self.n_tokens, self.running) = (BTreeMap::new(), 0, None);
        }
        if let Some((work, began)) = self.running.take() {
            let total = self.pass.entry(work.step).or_default();
            total.time += now - began;
            total.multiply_adds += work.multiply_adds;
            total.weight_bytes += work.weight_bytes;
            self.n_tokens = self.n_tokens.max(work.n_tokens);
        }
        if work.step != Step::End {
            self.running = Some((work, now));
            return;
        }
        let phase = if self.n_tokens > batch { &mut self.prompts } else { &mut self.answers };
        phase.n_tokens += self.n_tokens;
        for (step, of_pass) in std::mem::take(&mut self.pass) {
            let total = phase.steps.entry(step).or_default();
            total.time += of_pass.time;
            total.multiply_adds += of_pass.multiply_adds;
            total.weight_bytes += of_pass.weight_bytes;
        }
    }
}

impl Phase {
    fn report(&self, phase: &'static str) -> Vec<StepReport> {
        let all: f64 = self.steps.values().map(|total| total.time.as_secs_f64()).sum();
        let step = |(step, total): (&Step, &Total)| {
            let seconds = total.time.as_secs_f64().max(1e-9);
            StepReport {
                phase,
                step: step.name(),
                ms_per_token: seconds * 1e3 / self.n_tokens as f64,
                share: seconds / all.max(1e-9),
                gmac_s: total.multiply_adds as f64 / seconds / 1e9,
                weight_gb_s: total.weight_bytes as f64 / seconds / 1e9,
            }
        };
        self.steps.iter().map(step).collect()
    }
}

/// A table for people.
pub(super) fn print(steps: &[StepReport], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "phase    step                  ms/token  share   GMAC/s  weights GB/s")?;
    for s in steps {
        let (phase, step) = (s.phase, s.step);
        let share = 100.0 * s.share;
        let (ms, gmac, gb) = (s.ms_per_token, s.gmac_s, s.weight_gb_s);
        writeln!(out, "{phase:8} {step:20} {ms:9.4} {share:5.1} % {gmac:8.1} {gb:8.1}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(step: Step, n_tokens: usize) -> Work {
        Work { step, n_tokens, multiply_adds: 10, weight_bytes: 4 }
    }

    #[test]
    fn time_goes_to_the_step_that_ran_and_to_the_kind_of_its_pass() {
        let mut passes = Passes::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (first, n_tokens) in [(0, 1), (100, 8)] {
            passes.begin(work(Step::Embed, 0), at(first), 1);
            passes.begin(work(Step::Queries, n_tokens), at(first + 1), 1);
            passes.begin(work(Step::Attention, n_tokens), at(first + 4), 1);
            passes.begin(work(Step::Queries, n_tokens), at(first + 5), 1);
            passes.begin(work(Step::End, 0), at(first + 7), 1);
        }
        for (phase, n_tokens) in [(&passes.answers, 1), (&passes.prompts, 8)] {
            assert_eq!(phase.n_tokens, n_tokens);
            let queries = phase.steps[&Step::Queries];
            assert_eq!((queries.time, queries.multiply_adds), (Duration::from_millis(5), 20));
            assert_eq!(phase.steps[&Step::Attention].time, Duration::from_millis(1));
            assert_eq!(phase.steps[&Step::Embed].weight_bytes, 4);
        }
    }

    #[test]
    fn a_pass_that_failed_is_not_counted() {
        let mut passes = Passes::default();
        let now = Instant::now();
        for step in [Step::Embed, Step::Queries, Step::Embed, Step::Head, Step::End] {
            passes.begin(work(step, 1), now, 1);
        }
        assert!(!passes.answers.steps.contains_key(&Step::Queries));
        assert_eq!(passes.answers.n_tokens, 1);
    }
}
