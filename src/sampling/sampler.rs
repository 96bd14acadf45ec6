//! One request's sampler: parameters, history, random sequence and the buffers of a draw.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    SamplingError, SamplingParams,
    exp::exp,
    penalties::{Edits, History},
    top::{Candidate, select_top},
};

/// Candidates looked at first when no top-k bounds them; eight times as many each time they do not
/// reach `top_p`. Real text needs one round nearly always.
const FIRST_SELECTION: usize = 256;

/// Chooses the tokens of one request. The order of its steps is in the head of [`super`].
///
/// Buffers are kept between calls: once they have grown, choosing a token allocates nothing.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    n_vocab: usize,
    suppressed: Arc<[u32]>,
    seed: u64,
    rng: ChaCha8Rng,
    history: History,
    undo: Vec<(u32, f32)>,
    candidates: Vec<Candidate>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler over rows of `n_vocab` logits that never returns an id of `suppressed`.
    ///
    /// Errors: whatever [`SamplingParams::check`] refuses.
    pub fn new(
        params: SamplingParams,
        n_vocab: usize,
        suppressed: impl Into<Arc<[u32]>>,
    ) -> Result<Self, SamplingError> {
        params.check(n_vocab)?;
        // The keys of a fresh `RandomState` come from the operating system.
        let seed = params.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(Self {
            n_vocab,
            suppressed: suppressed.into(),
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            history: History::new(&params),
            undo: Vec::new(),
            candidates: Vec::new(),
            weights: Vec::new(),
            params,
        })
    }

    /// The seed in use: the one asked for, or the fresh one.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The parameters as they were given.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Tells the penalties what the prompt holds.
    pub fn accept_prompt(&mut self, ids: &[u32]) {
        self.history.accept_prompt(ids);
    }

    /// Tells the penalties what the completion now holds. [`sample`](Self::sample) does not do it by
    /// itself: a drafted token may be thrown away again.
    pub fn accept(&mut self, id: u32) {
        self.history.accept(id);
    }

    /// Chooses the next token. The logits `[n_vocab]` are changed meanwhile and are as before on return.
    ///
    /// Errors: a row of another length, NaN or plus infinity in it, or every token masked.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, SamplingError> {
        self.sample_excluding(logits, &[])
    }

    /// [`sample`](Self::sample) without the tokens of `excluded`, for this token only: the
    /// end-of-generation tokens of an answer that is shorter than asked for, for example.
    pub fn sample_excluding(&mut self, logits: &mut [f32], excluded: &[u32]) -> Result<u32, SamplingError> {
        if logits.len() != self.n_vocab {
            return Err(SamplingError::WrongLength { got: logits.len(), n_vocab: self.n_vocab });
        }
        check_finite(logits)?;
        // Taken out for the call because the edits borrow it while `self` chooses.
        let mut undo = std::mem::take(&mut self.undo);
        let mut edits = Edits::new(logits, &mut undo);
        self.history.apply(&mut edits);
        for &(id, bias) in &self.params.logit_bias {
            edits.adjust(id, |logit| logit + bias);
        }
        edits.forbid(&self.suppressed);
        edits.forbid(excluded);
        let chosen = match argmax(edits.logits()) {
            None => Err(SamplingError::NothingLeft),
            Some((best, _)) if self.params.temperature == 0.0 => Ok(best),
            Some((_, max)) => Ok(self.draw(edits.logits(), max)),
        };
        edits.restore();
        self.undo = undo;
        chosen
    }

    /// Steps 5 to 10; `max` is the largest logit.
    fn draw(&mut self, logits: &[f32], max: f32) -> u32 {
        let scale = Scale { max: f64::from(max), temperature: f64::from(self.params.temperature) };
        // Exactly one number for each token, whatever the filters leave.
        let random = (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        let top_k = self.params.top_k as usize;
        if top_k > 0 && top_k < self.n_vocab {
            select_top(logits, top_k, &mut self.candidates);
            scale.weights(&self.candidates, &mut self.weights);
            let total = self.weights.iter().sum();
            let kept = self.reached(total).unwrap_or(self.weights.len());
            return self.pick(random, kept);
        }
        let total: f64 = logits.iter().map(|&logit| scale.weight(logit)).sum();
        if self.params.top_p >= 1.0 && self.params.min_p == 0.0 {
            return pick_from_all(logits, scale, random * total);
        }
        let mut size = FIRST_SELECTION;
        loop {
            select_top(logits, size, &mut self.candidates);
            scale.weights(&self.candidates, &mut self.weights);
            if let Some(kept) = self.reached(total) {
                return self.pick(random, kept);
            }
            if size >= self.n_vocab {
                return self.pick(random, self.weights.len());
            }
            size = size.saturating_mul(8);
        }
    }

    /// How many of the weights (in falling order, a beginning of the distribution with this total) pass
    /// top-p and min-p; `None` if all do and later ones might.
    fn reached(&self, total: f64) -> Option<usize> {
        let enough = f64::from(self.params.top_p) * total;
        let least = f64::from(self.params.min_p) * self.weights.first()?;
        let mut sum = 0.0;
        for (i, &weight) in self.weights.iter().enumerate() {
            // The first one is its own measure and always stays.
            if weight < least {
                return Some(i);
            }
            sum += weight;
            if self.params.top_p < 1.0 && sum >= enough {
                return Some(i + 1);
            }
        }
        None
    }

    /// The candidate at `random` (in [0, 1)) of the first `kept` weights laid end to end.
    fn pick(&self, random: f64, kept: usize) -> u32 {
        let weights = &self.weights[..kept];
        let mut left = random * weights.iter().sum::<f64>();
        for (candidate, weight) in self.candidates.iter().zip(weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a rest behind the last one; the most likely token is the safe answer.
        self.candidates[0].id
    }
}

/// Logits to unnormalised probabilities, the largest being 1.
#[derive(Clone, Copy)]
struct Scale {
    max: f64,
    temperature: f64,
}

impl Scale {
    fn weight(self, logit: f32) -> f64 {
        exp((f64::from(logit) - self.max) / self.temperature)
    }

    fn weights(self, candidates: &[Candidate], out: &mut Vec<f64>) {
        out.clear();
        out.extend(candidates.iter().map(|c| self.weight(c.logit)));
    }
}

/// The token at `left` of all weights laid end to end in the order of the ids.
fn pick_from_all(logits: &[f32], scale: Scale, mut left: f64) -> u32 {
    let mut last = 0;
    for (id, &logit) in logits.iter().enumerate() {
        let weight = scale.weight(logit);
        if weight > 0.0 {
            last = id as u32;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// The first of the largest logits; `None` if all are minus infinity.
fn argmax(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id as u32, logit);
        }
    }
    (best.1 > f32::NEG_INFINITY).then_some(best)
}

/// Refuses NaN and plus infinity. In pieces without a branch inside, so that it costs little.
pub(super) fn check_finite(logits: &[f32]) -> Result<(), SamplingError> {
    for (piece_no, piece) in logits.chunks(256).enumerate() {
        // NaN is not below anything.
        if !piece.iter().fold(true, |good, &l| good & (l < f32::INFINITY)) {
            let at = piece.iter().position(|l| l.is_nan() || *l == f32::INFINITY).unwrap_or(0);
            let id = (piece_no * 256 + at) as u32;
            return Err(if piece[at].is_nan() {
                SamplingError::NanLogit { id }
            } else {
                SamplingError::InfiniteLogit { id }
            });
        }
    }
    Ok(())
}

#[cfg(test)]
impl Sampler {
    pub(super) fn buffer_capacities(&self) -> [usize; 3] {
        [self.undo.capacity(), self.candidates.capacity(), self.weights.capacity()]
    }
}
