//! Prompts of the command line: a text, or ids as they are.

use super::exit::UsageError;
use crate::tokenizer::{Specials, Tokenizer};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Prompt {
    /// Text to continue, as it is; texts of special tokens become these tokens
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids to continue, as they are, as in 2,17,42
    #[arg(long, value_name = "IDS")]
    prompt_ids: Option<String>,
}

impl Prompt {
    /// The ids. A text gets the model's beginning-of-sequence token in front where the model wants one.
    pub(super) fn ids(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, UsageError> {
        match (&self.prompt, &self.prompt_ids) {
            (_, Some(ids)) => parse_ids(ids),
            (Some(text), None) => Ok(tokenizer.encode_prompt(text, Specials::Parse)),
            (None, None) => Err(UsageError("give --prompt or --prompt-ids".to_owned())),
        }
    }
}

fn parse_ids(text: &str) -> Result<Vec<u32>, UsageError> {
    let parse = |word: &str| {
        let refused =
            || UsageError(format!("--prompt-ids: \"{word}\" is no token id; give ids as in 2,17,42"));
        word.trim().parse().map_err(|_| refused())
    };
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_commas() {
        assert_eq!(parse_ids("2, 17,42").unwrap(), [2, 17, 42]);
        for text in ["", "2,,3", "-1", "2 3", "4294967296"] {
            assert!(parse_ids(text).is_err(), "{text}");
        }
    }
}
