//! One request's sampler: parameters, history, random sequence and the buffers of a draw.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    SamplingError, SamplingParams,
    constraint::TokenSet,
    exp::exp,
    penalties::{Edits, History},
    top::{Candidate, by_rank, select_top},
};

/// Buckets of [`Sampler::top_p_floor`] for each unit of the exponent, and how many there are: the last one
/// begins where a weight is below e^-40 of the largest.
const BUCKETS_PER_UNIT: f64 = 64.0;
const N_BUCKETS: usize = 40 * 64;

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
    /// `[N_BUCKETS]` once used
    buckets: Vec<f64>,
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
            buckets: Vec::new(),
            params,
        })
    }

    /// The seed in use: the one asked for, or the fresh one.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many of the greatest logits decide which token is chosen, apart from those that are excluded or suppressed; `None` if all are
    /// needed.
    pub fn n_greatest(&self) -> Option<usize> {
        if !self.history.is_empty() || !self.params.logit_bias.is_empty() {
            return None;
        }
        match (self.params.temperature == 0.0, self.params.top_k) {
            (true, _) => Some(1),
            (false, top_k) => Some(top_k as usize).filter(|k| (1..self.n_vocab).contains(k)),
        }
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
        self.check(logits)?;
        self.choose(logits, excluded)
    }

    /// [`sample_excluding`](Self::sample_excluding) among the tokens of `allowed` only. The logits of all others
    /// stay masked.
    pub fn sample_among(
        &mut self,
        logits: &mut [f32],
        allowed: &TokenSet,
        excluded: &[u32],
    ) -> Result<u32, SamplingError> {
        // Before the mask hides what is wrong with the row.
        self.check(logits)?;
        allowed.mask(logits);
        self.choose(logits, excluded)
    }

    fn check(&self, logits: &[f32]) -> Result<(), SamplingError> {
        if logits.len() != self.n_vocab {
            return Err(SamplingError::WrongLength { got: logits.len(), n_vocab: self.n_vocab });
        }
        check_finite(logits)
    }

    /// Steps 2 to 10.
    fn choose(&mut self, logits: &mut [f32], excluded: &[u32]) -> Result<u32, SamplingError> {
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
            self.draw_from_candidates(scale, random)
        } else {
            self.draw_from_all(logits, scale, random)
        }
    }

    /// From the candidates, which are in order of their rank.
    fn draw_from_candidates(&mut self, scale: Scale, random: f64) -> u32 {
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|c| scale.weight(c.logit)));
        let enough = f64::from(self.params.top_p) * self.weights.iter().sum::<f64>();
        let least = f64::from(self.params.min_p);
        let mut n_kept = 0;
        let mut sum = 0.0;
        // The first weight is 1, so at least one token is kept.
        while n_kept < self.weights.len() && self.weights[n_kept] >= least {
            sum += self.weights[n_kept];
            n_kept += 1;
            if self.params.top_p < 1.0 && sum >= enough {
                break;
            }
        }
        let mut left = random * sum;
        for (candidate, weight) in self.candidates[..n_kept].iter().zip(&self.weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a rest behind the last one; the most likely token is the safe answer.
        self.candidates[0].id
    }

    /// From the whole row, without sorting it.
    fn draw_from_all(&mut self, logits: &[f32], scale: Scale, random: f64) -> u32 {
        let floor = (self.params.top_p < 1.0).then(|| self.top_p_floor(logits, scale));
        let least = f64::from(self.params.min_p);
        // Computed anew in both passes: kept in memory they would be megabytes for each request.
        let kept = || {
            let all = (0u32..).zip(logits).map(|(id, &logit)| Candidate { logit, id });
            let above = all.filter(|c| floor.is_none_or(|floor| by_rank(c, &floor).is_le()));
            above
                .map(|c| (c.id, scale.weight(c.logit)))
                .filter(|&(_, weight)| weight > 0.0 && weight >= least)
        };
        let mut left = random * kept().map(|(_, weight)| weight).sum::<f64>();
        let mut last = 0;
        for (id, weight) in kept() {
            // Rounding may leave a rest behind the last one, which is then chosen.
            last = id;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// The last token, by rank, that top-p keeps.
    ///
    /// Weights are summed in buckets by their exponent, so that only the bucket in which the sum reaches
    /// `top_p` has to be sorted.
    fn top_p_floor(&mut self, logits: &[f32], scale: Scale) -> Candidate {
        let bucket_of = |logit: f32| {
            // A conversion that saturates: minus infinity lands in the last bucket.
            ((-scale.exponent(logit) * BUCKETS_PER_UNIT) as usize).min(N_BUCKETS - 1)
        };
        self.buckets.clear();
        self.buckets.resize(N_BUCKETS, 0.0);
        for &logit in logits {
            self.buckets[bucket_of(logit)] += scale.weight(logit);
        }
        let enough = f64::from(self.params.top_p) * self.buckets.iter().sum::<f64>();
        let mut sum = 0.0;
        let mut at = 0;
        while at + 1 < N_BUCKETS && sum + self.buckets[at] < enough {
            sum += self.buckets[at];
            at += 1;
        }
        self.candidates.clear();
        let all = (0u32..).zip(logits).map(|(id, &logit)| Candidate { logit, id });
        self.candidates.extend(all.filter(|c| bucket_of(c.logit) == at && c.logit > f32::NEG_INFINITY));
        self.candidates.sort_unstable_by(by_rank);
        for candidate in &self.candidates {
            sum += scale.weight(candidate.logit);
            if sum >= enough {
                return *candidate;
            }
        }
        // Rounding has kept the sum below: everything counts.
        Candidate { logit: f32::NEG_INFINITY, id: u32::MAX }
    }
}

/// Logits to unnormalised probabilities, the largest being 1.
#[derive(Clone, Copy)]
struct Scale {
    max: f64,
    temperature: f64,
}

impl Scale {
    /// At most 0.
    fn exponent(self, logit: f32) -> f64 {
        (f64::from(logit) - self.max) / self.temperature
    }

    fn weight(self, logit: f32) -> f64 {
        exp(self.exponent(logit))
    }
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
    pub(super) fn buffer_capacities(&self) -> [usize; 4] {
        let (c, w) = (self.candidates.capacity(), self.weights.capacity());
        [self.undo.capacity(), c, w, self.buckets.capacity()]
    }
}
