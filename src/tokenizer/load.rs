//! From the keys of a model file to a [`Tokenizer`], every check on the way.

use super::{
    Rule, Tokenizer, TokenizerError,
    decode::byte_of,
    merge::ScoreRule,
    ranks::MergeTable,
    special::SpecialIndex,
    vocabulary::{Class, Vocabulary},
};
use crate::gguf::{Metadata, StringArray, quote};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const PADDING: &str = "tokenizer.ggml.padding_token_id";
const MASK: &str = "tokenizer.ggml.mask_token_id";
const SUPPRESS: &str = "tokenizer.ggml.suppress_tokens";

/// Tokens that end an answer, by text: Gemma 3's and Gemma 4's end of a turn, and Gemma 4's request for
/// the result of a tool (its file calls that one user-defined).
const END_TEXTS: [&str; 4] = ["<eos>", "<end_of_turn>", "<turn|>", "<|tool_response>"];

/// Listed as an end by some files; an HTML tag in these vocabularies.
const NOT_AN_END: &[u8] = b"</s>";

/// Stand-ins for images and sounds, never to be sampled.
const MEDIA_TEXTS: [&str; 7] = [
    "<|image|>",
    "<|audio|>",
    "<image|>",
    "<audio|>",
    "<|video|>",
    "<image_soft_token>",
    "<audio_soft_token>",
];

/// In the published Gemma 4 vocabulary everything from `<|image|>` on is a placeholder.
const GEMMA4_FIRST_MEDIA: (u32, &str) = (258_880, "<|image|>");

/// Which procedure a vocabulary is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ranks,
    Scores,
}

/// The vocabulary of a file as it stands there.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) kind: Kind,
    pub(super) tokens: StringArray,
    pub(super) types: Vec<i32>,
    /// Used by [`Kind::Scores`].
    pub(super) scores: Vec<f32>,
    /// Used by [`Kind::Ranks`].
    pub(super) merges: StringArray,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) padding: Option<u32>,
    pub(super) mask: Option<u32>,
    pub(super) suppress: Vec<i32>,
    pub(super) add_bos: bool,
}

impl Tokenizer {
    /// The tokenizer of a model file. Takes the big arrays (texts, types, scores, merges) out of the
    /// metadata, so that they are not in memory twice.
    ///
    /// Errors: a vocabulary of another family, a key that is missing or of a wrong type or length, a
    /// value out of range. Each names the key, the index and the value.
    pub fn from_metadata(m: &mut Metadata) -> Result<Self, TokenizerError> {
        let required = |key| TokenizerError::MissingKey { key };
        let pre = m.opt_str("tokenizer.ggml.pre")?.unwrap_or_default();
        let kind = match m.opt_str("tokenizer.ggml.model")? {
            None => return Err(required("tokenizer.ggml.model")),
            Some("gemma4") => Kind::Ranks,
            Some(_) if pre == "gemma4" => Kind::Ranks,
            Some("llama") => Kind::Scores,
            Some(model) => {
                let (model, pre) = (quote(model.as_bytes()), quote(pre.as_bytes()));
                return Err(TokenizerError::UnsupportedModel { model, pre });
            }
        };
        if m.opt_bool("tokenizer.ggml.add_space_prefix")? == Some(true) {
            return Err(TokenizerError::SpacePrefix);
        }
        // Some files of Gemma models say false; the models need it all the same.
        let gemma =
            kind == Kind::Ranks || m.opt_str("general.architecture")?.is_some_and(|a| a.starts_with("gemma"));
        let add_bos = gemma || m.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
        let mut parts = Parts {
            kind,
            tokens: StringArray::default(),
            types: m.opt_i32_array(TYPES)?.ok_or(required(TYPES))?,
            scores: Vec::new(),
            merges: StringArray::default(),
            bos: m.opt_u32(BOS)?,
            eos: m.opt_u32(EOS)?,
            eot: m.opt_u32(EOT)?,
            unknown: m.opt_u32(UNKNOWN)?,
            padding: m.opt_u32(PADDING)?,
            mask: m.opt_u32(MASK)?,
            suppress: m.opt_i32_array(SUPPRESS)?.unwrap_or_default(),
            add_bos,
        };
        match kind {
            Kind::Ranks => parts.merges = m.take_strings(MERGES)?.ok_or(required(MERGES))?,
            Kind::Scores => parts.scores = m.opt_f32_array(SCORES)?.ok_or(required(SCORES))?,
        }
        parts.tokens = m.take_strings(TOKENS)?.ok_or(required(TOKENS))?;
        for key in [TYPES, SCORES] {
            m.take(key);
        }
        Self::from_parts(parts)
    }

    /// Checks the parts and builds the tables.
    pub(super) fn from_parts(parts: Parts) -> Result<Self, TokenizerError> {
        let mut vocabulary = Vocabulary::new(parts.tokens, &parts.types)?;
        drop(parts.types);
        let n_vocab = vocabulary.len();
        let named = [
            (BOS, parts.bos),
            (EOS, parts.eos),
            (EOT, parts.eot),
            (UNKNOWN, parts.unknown),
            (PADDING, parts.padding),
            (MASK, parts.mask),
        ];
        for (key, id) in named {
            if let Some(id) = id
                && id as usize >= n_vocab
            {
                return Err(TokenizerError::IdOutOfRange { key, id, n_vocab });
            }
        }
        let bos = parts.bos.or_else(|| vocabulary.find(b"<bos>")).ok_or(TokenizerError::NoBos)?;

        let mut eog: Vec<u32> = [parts.eos, parts.eot].into_iter().flatten().collect();
        eog.extend(END_TEXTS.iter().filter_map(|text| vocabulary.find(text.as_bytes())));
        eog.retain(|&id| vocabulary.text(id) != Some(NOT_AN_END));
        eog.sort_unstable();
        eog.dedup();
        if eog.is_empty() {
            return Err(TokenizerError::NoEndOfGeneration);
        }

        // Whatever type the file gives them, text must not become one of these.
        let marks = named[2..].iter().filter_map(|(_, id)| *id).filter(|id| !eog.contains(id));
        let marks = marks.filter(|&id| vocabulary.text(id) != Some(NOT_AN_END));
        let controls: Vec<u32> = marks.chain([bos]).chain(eog.iter().copied()).collect();
        for id in controls {
            vocabulary.set_class(id, Class::Control);
        }

        let suppressed = suppressed(&vocabulary, &eog, parts.padding, &parts.suppress);
        let byte_ids = byte_ids(&vocabulary)?;
        let rule = match parts.kind {
            Kind::Ranks => Rule::Ranks(MergeTable::new(&vocabulary, parts.merges)?),
            Kind::Scores => Rule::Scores(score_rule(&parts.scores, n_vocab)?),
        };
        let special = SpecialIndex::new(&vocabulary);
        Ok(Self {
            vocabulary,
            rule,
            special,
            byte_ids,
            bos,
            add_bos: parts.add_bos,
            eog: eog.into(),
            suppressed: suppressed.into(),
        })
    }
}

/// Padding (unless the file uses an end token for it), media placeholders and what the file lists. An id
/// of the file's list beyond the vocabulary is passed over: it cannot be sampled anyway.
fn suppressed(vocabulary: &Vocabulary, eog: &[u32], padding: Option<u32>, listed: &[i32]) -> Vec<u32> {
    let n_vocab = vocabulary.len() as u32;
    let mut ids: Vec<u32> = MEDIA_TEXTS.iter().filter_map(|t| vocabulary.find(t.as_bytes())).collect();
    ids.extend(padding);
    let (first_media, text) = GEMMA4_FIRST_MEDIA;
    if vocabulary.text(first_media) == Some(text.as_bytes()) {
        ids.extend(first_media..n_vocab);
    }
    ids.retain(|id| !eog.contains(id));
    ids.extend(listed.iter().filter_map(|&id| u32::try_from(id).ok()).filter(|&id| id < n_vocab));
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn byte_ids(vocabulary: &Vocabulary) -> Result<Box<[u32; 256]>, TokenizerError> {
    let mut found = [None; 256];
    for (id, class) in (0u32..).zip(vocabulary.classes()) {
        if *class == Class::Byte {
            let text = vocabulary.text(id).unwrap_or_default();
            let byte = byte_of(text).ok_or_else(|| TokenizerError::ByteToken { id, text: quote(text) })?;
            found[byte as usize] = Some(id);
        }
    }
    let mut ids = Box::new([0; 256]);
    for (byte, id) in (0u8..=255).zip(found) {
        ids[byte as usize] = id.ok_or(TokenizerError::MissingByteToken { byte })?;
    }
    Ok(ids)
}

fn score_rule(scores: &[f32], n_vocab: usize) -> Result<ScoreRule, TokenizerError> {
    if scores.len() != n_vocab {
        return Err(TokenizerError::WrongLength { key: SCORES, n: scores.len(), n_vocab });
    }
    match (0u32..).zip(scores).find(|(_, score)| score.is_nan()) {
        Some((id, &value)) => Err(TokenizerError::Score { id, value }),
        None => Ok(ScoreRule::new(scores)),
    }
}
