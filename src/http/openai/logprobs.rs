//! Log probabilities, in the shapes of conversations and of completions.

use serde_json::{Map, Value, json};

use crate::sampling::{Logprobs, TokenLogprob};
use crate::tokenizer::Tokenizer;

/// What stands for the logarithm of nothing, which JSON has no number for.
const LEAST: f32 = -9999.0;

fn bytes(id: u32, tokenizer: &Tokenizer) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.token_bytes(id, &mut bytes);
    bytes
}

fn text(id: u32, tokenizer: &Tokenizer) -> String {
    String::from_utf8_lossy(&bytes(id, tokenizer)).into_owned()
}

/// Of a conversation.
pub(super) fn of_chat(logprobs: &[Logprobs], tokenizer: &Tokenizer) -> Value {
    let one = |t: TokenLogprob| {
        json!({
            "token": text(t.id, tokenizer),
            "logprob": t.logprob.max(LEAST),
            "bytes": bytes(t.id, tokenizer),
        })
    };
    let each = logprobs.iter().map(|l| {
        let mut entry = one(l.chosen);
        entry["top_logprobs"] = l.top.iter().map(|&t| one(t)).collect();
        entry
    });
    json!({ "content": each.collect::<Vec<_>>(), "refusal": null })
}

/// Of a completion. `offset`: characters of the answer before these tokens; moved on behind them.
pub(super) fn of_text(logprobs: &[Logprobs], tokenizer: &Tokenizer, offset: &mut usize) -> Value {
    let (mut tokens, mut chosen, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for l in logprobs {
        let token = text(l.chosen.id, tokenizer);
        offsets.push(*offset);
        *offset += token.chars().count();
        tokens.push(token);
        chosen.push(l.chosen.logprob.max(LEAST));
        let of_top = l.top.iter().map(|t| (text(t.id, tokenizer), t.logprob.max(LEAST).into()));
        top.push(of_top.collect::<Map<_, Value>>());
    }
    json!({ "tokens": tokens, "token_logprobs": chosen, "top_logprobs": top, "text_offset": offsets })
}
