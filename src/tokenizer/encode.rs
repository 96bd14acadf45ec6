//! Text to ids.

use std::borrow::Cow;

use super::{Rule, Tokenizer, merge::Merger, special::Piece};

/// Which special tokens a text may contain, from trusting to careful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Specials {
    /// All of them: templates, and prompts whose author means what they wrote.
    Parse,
    /// Only the user-defined ones, as common engines do in their plain mode. In a Gemma 4 vocabulary this
    /// includes `<|tool_call>` and its like.
    Plain,
    /// None that mean anything: for text of users and tools, which could forge structure otherwise. Runs
    /// of white space and HTML tags that a vocabulary lists as user-defined stay one token: they are
    /// text.
    None,
}

/// Longest text in bytes: positions are kept in 32 bits, and a space becomes three bytes.
const MAX_TEXT_BYTES: usize = u32::MAX as usize / 3;

impl Tokenizer {
    /// The ids of a text, without BOS; see [`encode_prompt`](Self::encode_prompt).
    ///
    /// # Panics
    /// If the text is longer than 1.4 GB. Callers bound what they accept.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        self.encode_mapped(text, specials, Cow::Borrowed)
    }

    /// As [`encode`](Self::encode), with `map` over the text between special tokens.
    pub(super) fn encode_mapped<'t>(
        &self,
        text: &'t str,
        specials: Specials,
        map: impl Fn(&'t str) -> Cow<'t, str>,
    ) -> Vec<u32> {
        assert!(text.len() <= MAX_TEXT_BYTES, "a text of {} bytes", text.len());
        // Four bytes a token is usual for prose.
        let mut out = Vec::with_capacity(text.len() / 4 + 1);
        let mut merger = Merger::default();
        let mut escaped = String::new();
        self.special.cut(&self.vocabulary, text, specials, |piece| match piece {
            Piece::Special(id) => out.push(id),
            Piece::Text(text) => {
                escaped.clear();
                for (i, word) in map(text).split(' ').enumerate() {
                    if i > 0 {
                        escaped.push('\u{2581}');
                    }
                    escaped.push_str(word);
                }
                self.encode_text(&escaped, &mut merger, &mut out);
            }
        });
        out
    }

    /// The ids of a text that begins a sequence: [`bos`](Self::bos) in front where the model wants one.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str, specials: Specials) -> Vec<u32> {
        let mut ids: Vec<u32> = self.bos().filter(|_| self.add_bos()).into_iter().collect();
        ids.extend(self.encode(text, specials));
        ids
    }

    /// Where in `text` the text of a token begins that means something to the model. Unit: bytes.
    pub(super) fn forgeries(&self, text: &str) -> Vec<usize> {
        self.special.forgeries(&self.vocabulary, text)
    }

    /// Text without special tokens and spaces.
    fn encode_text(&self, text: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        match &self.rule {
            Rule::Scores(scores) => merger.run(&(&self.vocabulary, scores), text, &self.byte_ids, out),
            Rule::Ranks(table) => {
                let rule = (&self.vocabulary, table);
                for run in newline_runs(text) {
                    // Merges need not lead to the token of a long run of newlines.
                    if run.starts_with('\n')
                        && let Some(id) = self.vocabulary.find_text(run.as_bytes())
                    {
                        out.push(id);
                    } else {
                        merger.run(&rule, run, &self.byte_ids, out);
                    }
                }
            }
        }
    }
}

/// Maximal runs of newlines and of anything else.
fn newline_runs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let newlines = rest.starts_with('\n');
        let end = rest.bytes().position(|b| (b == b'\n') != newlines).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}
