//! The `options` of a request.

use serde::Deserialize;

use super::super::conversation::violation;
use crate::engine::{Stopping, Violation};
use crate::sampling::SamplingParams;

/// What is not here concerns loading and memory, or is unknown, and is ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    /// Below 0: no bound but the context.
    num_predict: Option<i64>,
    stop: Option<Stop>,

    // What would change the answer and is possible in part or not at all.
    repeat_last_n: Option<i64>,
    mirostat: Option<f32>,
    typical_p: Option<f32>,
    tfs_z: Option<f32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Options {
    pub(super) fn sampling(&self, defaults: &SamplingParams, wrong: &mut Vec<Violation>) -> SamplingParams {
        let mut refuse = |is_wrong: bool, field: &str, problem: &str| {
            if is_wrong {
                wrong.push(violation(format!("options.{field}"), problem));
            }
        };
        // 0 looks at nothing, below 0 at all of the context.
        let window = self.repeat_last_n.filter(|_| self.repeat_penalty.is_some_and(|r| r != 1.0));
        refuse(
            window.is_some_and(|n| n > 0),
            "repeat_last_n",
            "must be 0 or -1: penalties look at the whole context",
        );
        refuse(self.mirostat.is_some_and(|m| m != 0.0), "mirostat", "is not supported");
        refuse(self.typical_p.is_some_and(|p| p != 1.0), "typical_p", "is not supported");
        refuse(self.tfs_z.is_some_and(|z| z != 1.0), "tfs_z", "is not supported");
        let repetition_penalty = match window {
            Some(0) => 1.0,
            _ => self.repeat_penalty.unwrap_or(defaults.repetition_penalty),
        };
        SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty,
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            // Below 0: a fresh one.
            seed: self.seed.and_then(|seed| u64::try_from(seed).ok()).or(defaults.seed),
            logit_bias: defaults.logit_bias.clone(),
        }
    }

    pub(super) fn stopping(self) -> Stopping {
        let stop = match self.stop {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        let max_tokens = self.num_predict.and_then(|n| usize::try_from(n).ok());
        Stopping { max_tokens, stop, ..Stopping::default() }
    }
}
