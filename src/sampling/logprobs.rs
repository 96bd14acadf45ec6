//! Log-probabilities for those who ask for them.

use super::{
    SamplingError,
    exp::exp,
    sampler::check_finite,
    top::{Candidate, select_top},
};

/// A token with its natural log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// ln p, at most 0; minus infinity for a masked token.
    pub logprob: f32,
}

/// The chosen token and the most likely ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// The most likely tokens, most likely first, lower id first among equals.
    pub top: Vec<TokenLogprob>,
}

/// ln softmax of the row `[n_vocab]` for `chosen` and the `top_n` most likely tokens (fewer if fewer
/// are above minus infinity).
///
/// The distribution is the model's own: after its soft-cap, at temperature 1, before any penalty, bias,
/// suppression or filter. It says what the model thought, not how it was sampled.
pub fn logprobs(logits: &[f32], chosen: u32, top_n: usize) -> Result<Logprobs, SamplingError> {
    let Some(&chosen_logit) = logits.get(chosen as usize) else {
        return Err(SamplingError::TokenOutOfRange { id: chosen, n_vocab: logits.len() });
    };
    check_finite(logits)?;
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    if max == f64::NEG_INFINITY {
        return Err(SamplingError::NothingLeft);
    }
    let sum: f64 = logits.iter().map(|&l| exp(f64::from(l) - max)).sum();
    let log_sum = max + sum.ln();
    let of = |c: Candidate| TokenLogprob { id: c.id, logprob: (f64::from(c.logit) - log_sum) as f32 };
    let mut candidates = Vec::new();
    select_top(logits, top_n.min(logits.len()), &mut candidates);
    Ok(Logprobs {
        chosen: of(Candidate { logit: chosen_logit, id: chosen }),
        top: candidates.into_iter().map(of).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_distribution() {
        // Probabilities 0.1, 0.6, 0.3 and a masked token.
        let logits = [0.1f32.ln() + 5.0, 0.6f32.ln() + 5.0, 0.3f32.ln() + 5.0, f32::NEG_INFINITY];
        let got = logprobs(&logits, 0, 10).unwrap();
        assert_eq!(got.chosen.id, 0);
        assert!((got.chosen.logprob - 0.1f32.ln()).abs() < 1e-6);
        assert_eq!(got.top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2, 0]);
        let total: f32 = got.top.iter().map(|t| t.logprob.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
        assert!(logprobs(&logits, 1, 0).unwrap().top.is_empty());
        assert_eq!(logprobs(&logits, 3, 0).unwrap().chosen.logprob, f32::NEG_INFINITY);
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(logprobs(&[0.0, 1.0], 2, 1), Err(SamplingError::TokenOutOfRange { id: 2, n_vocab: 2 }));
        assert_eq!(logprobs(&[0.0, f32::NAN], 0, 1), Err(SamplingError::NanLogit { id: 1 }));
        assert_eq!(logprobs(&[f32::NEG_INFINITY; 4], 0, 1), Err(SamplingError::NothingLeft));
    }
}
