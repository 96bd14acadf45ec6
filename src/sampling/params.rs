//! The parameters of one request, and their ranges.

use super::SamplingError;

/// How the next token is chosen. The order of the steps is in the head of [`super`].
///
/// With `seen` = the distinct tokens of prompt and completion, and `n` = how often the *completion* has
/// a token so far:
///
/// * `repetition_penalty` r (Keskar et al. 2019, as in the transformers library): for each token of
///   `seen` the logit becomes `l / r` if it is positive and `l * r` otherwise, once and without a window;
/// * `presence_penalty` p and `frequency_penalty` f (as in the OpenAI interface): for each token with
///   n > 0 the logit becomes `l - p - f * n`. The prompt does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 chooses the largest. At least 0.
    pub temperature: f32,
    /// Keeps this many of the largest logits; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most likely tokens that together reach this probability; 1 keeps all. In (0, 1].
    pub top_p: f32,
    /// Keeps tokens of at least this fraction of the largest probability; 0 keeps all. In [0, 1].
    pub min_p: f32,
    /// Above 1 makes tokens of prompt and completion less likely; 1 does nothing. Above 0.
    pub repetition_penalty: f32,
    /// Taken once from the logit of each token of the completion; 0 does nothing. Finite.
    pub presence_penalty: f32,
    /// Taken from the logit of each token of the completion for each occurrence; 0 does nothing. Finite.
    pub frequency_penalty: f32,
    /// Start of the random sequence; without it each request gets a fresh one.
    pub seed: Option<u64>,
    /// Added to the logits of single tokens; several entries of a token add up. Finite.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplingParams {
    /// What the Gemma models recommend: temperature 1, top-k 64, top-p 0.95, nothing else.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 64,
            top_p: 0.95,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Always the largest logit, nothing else.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, ..Self::default() }
    }

    /// Refuses what is outside its range; the error names the field and the value.
    ///
    /// [`Sampler::new`](super::Sampler::new) checks too; a front end calls this to refuse a request
    /// before it waits in a queue.
    pub fn check(&self, n_vocab: usize) -> Result<(), SamplingError> {
        let number = |field, value: f32, ok: bool, rule| {
            if ok { Ok(()) } else { Err(SamplingError::OutOfRange { field, value, rule }) }
        };
        // NaN fails every comparison, so each `ok` is written as what must hold.
        let t = self.temperature;
        number("temperature", t, t >= 0.0 && t.is_finite(), "finite and at least 0")?;
        number("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1")?;
        number("min_p", self.min_p, self.min_p >= 0.0 && self.min_p <= 1.0, "from 0 to 1")?;
        let r = self.repetition_penalty;
        number("repetition_penalty", r, r > 0.0 && r.is_finite(), "finite and above 0")?;
        number("presence_penalty", self.presence_penalty, self.presence_penalty.is_finite(), "finite")?;
        number("frequency_penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "finite")?;
        for &(id, value) in &self.logit_bias {
            if id as usize >= n_vocab {
                return Err(SamplingError::BiasTokenOutOfRange { id, n_vocab });
            }
            if !value.is_finite() {
                return Err(SamplingError::BiasNotFinite { id, value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_greedy_are_valid() {
        SamplingParams::default().check(10).unwrap();
        SamplingParams::greedy().check(10).unwrap();
    }

    #[test]
    fn each_field_is_refused_by_name_and_value() {
        let base = SamplingParams::default;
        let cases: Vec<(&str, SamplingParams)> = vec![
            ("temperature", SamplingParams { temperature: -0.5, ..base() }),
            ("temperature", SamplingParams { temperature: f32::NAN, ..base() }),
            ("temperature", SamplingParams { temperature: f32::INFINITY, ..base() }),
            ("top_p", SamplingParams { top_p: 0.0, ..base() }),
            ("top_p", SamplingParams { top_p: 1.5, ..base() }),
            ("top_p", SamplingParams { top_p: f32::NAN, ..base() }),
            ("min_p", SamplingParams { min_p: -0.1, ..base() }),
            ("min_p", SamplingParams { min_p: 1.1, ..base() }),
            ("min_p", SamplingParams { min_p: f32::NAN, ..base() }),
            ("repetition_penalty", SamplingParams { repetition_penalty: 0.0, ..base() }),
            ("repetition_penalty", SamplingParams { repetition_penalty: f32::INFINITY, ..base() }),
            ("presence_penalty", SamplingParams { presence_penalty: f32::NAN, ..base() }),
            ("frequency_penalty", SamplingParams { frequency_penalty: f32::NEG_INFINITY, ..base() }),
            ("logit_bias", SamplingParams { logit_bias: vec![(3, 1.0), (10, 1.0)], ..base() }),
            ("logit_bias", SamplingParams { logit_bias: vec![(9, f32::NEG_INFINITY)], ..base() }),
        ];
        for (field, params) in cases {
            let error = params.check(10).expect_err(field);
            assert_eq!(error.field(), Some(field));
            assert!(error.to_string().contains(field), "{error}");
        }
        let error = SamplingParams { top_p: 1.5, ..base() }.check(10).unwrap_err();
        assert_eq!(error.to_string(), "top_p is 1.5, it must be above 0 and at most 1");
        let error = SamplingParams { logit_bias: vec![(10, 1.0)], ..base() }.check(10).unwrap_err();
        assert_eq!(error.to_string(), "logit_bias names token 10, the vocabulary has 10 tokens");
    }
}
