//! Choice of the next token from a row of logits, and the end of an answer at a stop string.
//!
//! The rule of the room: one fixed order, and the same seed, parameters and logits give the same ids
//! on every platform. The order is
//!
//! 1. the model has already soft-capped the logits;
//! 2. repetition, presence and frequency penalties ([`SamplingParams`] has the formulas);
//! 3. `logit_bias`;
//! 4. suppressed ids (media placeholders, padding, and what the caller excludes for this token), and whatever the
//!    answer's grammar does not allow ([`constraint`]);
//! 5. temperature; 0 ends here with the largest logit, the lowest id among equals;
//! 6. top-k;
//! 7. softmax over what is left;
//! 8. top-p: the shortest run of the most likely tokens whose probabilities reach `top_p`;
//! 9. min-p: of these, the ones with at least `min_p` times the largest probability;
//! 10. one draw from ChaCha8, seeded once for the request.
//!
//! Equal logits are ordered by id, so every step has one answer. Probabilities are formed in f64 by an
//! exponential of our own (`exp.rs`) made of additions and multiplications only: the one of the system's
//! libm may differ in the last bit between platforms, and a draw that falls between two tokens would
//! then part two machines.
//!
//! A NaN or an infinite logit is an error with its token id, never a token. Minus infinity is the mask
//! of a forbidden token and stays one whatever the penalties and biases.
//!
//! Deliberately absent: soft-capping (the model's), text of tokens outside of [`constraint`], any clock.

pub mod constraint;
mod error;
mod exp;
mod logprobs;
mod params;
mod penalties;
mod sampler;
mod stop;
mod top;

#[cfg(test)]
mod tests;

pub use error::SamplingError;
pub use logprobs::{Logprobs, TokenLogprob, logprobs};
pub use params::SamplingParams;
pub use sampler::Sampler;
pub use stop::{MAX_STOP_BYTES, MAX_STOP_STRINGS, StopMatcher};
