//! The slow tokenizer: quadratic, no index over special tokens, every step as the rule is told in
//! words. It shares no code with the room that it judges.

use std::collections::HashMap;

use pled::tokenizer::Specials;

/// A vocabulary as it stands in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocab {
    pub bpe: bool,
    pub tokens: Vec<String>,
    pub types: Vec<i32>,
    pub scores: Vec<f32>,
    pub merges: Vec<(String, String)>,
}

pub(crate) struct Oracle {
    vocab: Vocab,
    /// Tokens that text may become: control tokens, bytes and user-defined tokens with a meaning are not
    /// made by merges. (In real vocabularies no merges lead there.)
    index: HashMap<String, u32>,
    bytes: HashMap<String, u32>,
    rank: HashMap<(String, String), usize>,
}

const ENDS: [&str; 4] = ["<eos>", "<end_of_turn>", "<turn|>", "<|tool_response>"];

/// White space, or an HTML tag.
fn is_mere_text(text: &str) -> bool {
    text.chars().all(|c| " \t\n\r\u{2581}".contains(c))
        || text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).is_some_and(|t| {
            let t = t.strip_prefix('/').unwrap_or(t);
            t.starts_with(|c: char| c.is_ascii_lowercase())
                && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

impl Oracle {
    pub(crate) fn new(vocab: Vocab) -> Self {
        let pick = |wanted: &dyn Fn(usize) -> bool| {
            let ids = (0..vocab.tokens.len()).filter(|&id| wanted(id));
            ids.map(|id| (vocab.tokens[id].clone(), id as u32)).collect()
        };
        let index = pick(&|id| {
            let text = vocab.tokens[id].as_str();
            !ENDS.contains(&text) && (vocab.types[id] == 1 || vocab.types[id] == 4 && is_mere_text(text))
        });
        let bytes = pick(&|id| vocab.types[id] == 6);
        let mut rank = HashMap::new();
        for (i, pair) in vocab.merges.iter().enumerate() {
            rank.entry(pair.clone()).or_insert(i);
        }
        Self { vocab, index, bytes, rank }
    }

    /// Whether a token's text is cut out before anything else.
    fn is_special(&self, id: usize, mode: Specials) -> bool {
        let text = self.vocab.tokens[id].as_str();
        let control = ENDS.contains(&text) || matches!(self.vocab.types[id], 2 | 3);
        if control {
            return mode == Specials::Parse;
        }
        if self.vocab.types[id] != 4 {
            return false;
        }
        match mode {
            Specials::Parse => true,
            Specials::Plain => text != "</s>",
            Specials::None => text != "</s>" && is_mere_text(text),
        }
    }

    pub(crate) fn encode(&self, text: &str, mode: Specials) -> Vec<u32> {
        enum Part {
            Token(u32),
            Text(String),
        }
        let mut special: Vec<usize> =
            (0..self.vocab.tokens.len()).filter(|&i| self.is_special(i, mode)).collect();
        special.sort_by_key(|&i| std::cmp::Reverse(self.vocab.tokens[i].len()));
        let mut parts = vec![Part::Text(text.to_string())];
        for id in special {
            // Cheap for the thousands of special tokens that a text does not hold.
            if !text.contains(&self.vocab.tokens[id]) {
                continue;
            }
            let mut next = Vec::new();
            for part in parts {
                match part {
                    Part::Text(text) => {
                        for (i, piece) in text.split(&self.vocab.tokens[id]).enumerate() {
                            if i > 0 {
                                next.push(Part::Token(id as u32));
                            }
                            if !piece.is_empty() {
                                next.push(Part::Text(piece.to_string()));
                            }
                        }
                    }
                    token => next.push(token),
                }
            }
            parts = next;
        }
        let mut ids = Vec::new();
        for part in parts {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => self.encode_text(&text.replace(' ', "\u{2581}"), &mut ids),
            }
        }
        ids
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        let mut runs: Vec<String> = Vec::new();
        for c in text.chars() {
            match runs.last_mut() {
                Some(run) if !self.vocab.bpe || run.ends_with('\n') == (c == '\n') => run.push(c),
                _ => runs.push(c.to_string()),
            }
        }
        for run in runs {
            let mut symbols: Vec<String> = run.chars().map(String::from).collect();
            if self.vocab.bpe && run.starts_with('\n') && self.index.contains_key(&run) {
                symbols = vec![run];
            }
            while let Some(at) = self.best(&symbols) {
                let right = symbols.remove(at + 1);
                symbols[at] += &right;
            }
            for symbol in symbols {
                match self.index.get(&symbol) {
                    Some(&id) => ids.push(id),
                    None => ids.extend(symbol.bytes().map(|b| self.bytes[&format!("<0x{b:02X}>")])),
                }
            }
        }
    }

    /// The place of the pair to merge next.
    fn best(&self, symbols: &[String]) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (at, pair) in symbols.windows(2).enumerate() {
            let cost = if self.vocab.bpe {
                self.rank.get(&(pair[0].clone(), pair[1].clone())).map(|&r| r as f64)
            } else {
                let joined = format!("{}{}", pair[0], pair[1]);
                self.index.get(&joined).map(|&id| -f64::from(self.vocab.scores[id as usize]))
            };
            if let Some(cost) = cost
                && best.is_none_or(|(least, _)| cost < least)
            {
                best = Some((cost, at));
            }
        }
        best.map(|(_, at)| at)
    }
}
