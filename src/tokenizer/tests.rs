//! Vocabularies with something wrong in them, and decoding of arbitrary ids.

use super::{
    Specials, StreamDecoder, Tokenizer, TokenizerError,
    load::{Kind, Parts},
    vocabulary::{MAX_TOKEN_BYTES, MAX_TOKENS},
};
use crate::gguf::{Metadata, StringArray};

/// Id of `<0x00>` in [`parts`].
const BYTES: u32 = 5;

/// A vocabulary that loads: five control tokens, 256 bytes, a user-defined token, some text.
fn parts(kind: Kind) -> (Parts, Vec<Vec<u8>>) {
    let mut tokens: Vec<Vec<u8>> =
        ["<pad>", "<eos>", "<bos>", "<unk>", "<turn|>"].map(|t| t.as_bytes().to_vec()).into();
    let mut types = vec![3; 5];
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>").into_bytes()));
    types.extend([6; 256]);
    tokens.push(b"<|channel>".to_vec());
    types.push(4);
    for text in ["a", "b", "ab", "\u{2581}", "\u{2581}a", "é", "\n\n"] {
        tokens.push(text.into());
        types.push(1);
    }
    let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
    let parts = Parts {
        kind,
        tokens: tokens.iter().collect(),
        types,
        scores,
        merges: ["a b", "\u{2581} a"].into_iter().collect(),
        bos: Some(2),
        eos: Some(1),
        eot: None,
        unknown: Some(3),
        padding: Some(0),
        mask: None,
        suppress: Vec::new(),
        add_bos: true,
    };
    (parts, tokens)
}

fn tokenizer(kind: Kind) -> Tokenizer {
    Tokenizer::from_parts(parts(kind).0).unwrap()
}

/// The message for a vocabulary changed in one place.
fn refusal(kind: Kind, change: impl FnOnce(&mut Parts, &mut Vec<Vec<u8>>)) -> String {
    let (mut parts, mut tokens) = parts(kind);
    change(&mut parts, &mut tokens);
    parts.tokens = tokens.iter().collect();
    Tokenizer::from_parts(parts).expect_err("must be refused").to_string()
}

#[test]
fn each_fault_is_named_with_key_index_and_value() {
    use Kind::{Ranks, Scores};
    let cases = [
        (
            refusal(Ranks, |_, t| t.clear()),
            format!("`tokenizer.ggml.tokens` has 0 entries, it must have from 1 to {MAX_TOKENS}"),
        ),
        (
            refusal(Ranks, |p, _| p.types.truncate(7)),
            "`tokenizer.ggml.token_type` has 7 entries for 269 tokens".into(),
        ),
        (
            refusal(Scores, |p, _| p.scores.push(0.0)),
            "`tokenizer.ggml.scores` has 270 entries for 269 tokens".into(),
        ),
        (
            refusal(Scores, |p, _| p.scores[9] = f32::NAN),
            "`tokenizer.ggml.scores`[9] is NaN, it must be a number".into(),
        ),
        (
            refusal(Ranks, |p, _| p.types[262] = 7),
            "`tokenizer.ggml.token_type`[262] is 7, it must be from 1 to 6".into(),
        ),
        (
            refusal(Ranks, |p, _| p.types[262] = -1),
            "`tokenizer.ggml.token_type`[262] is -1, it must be from 1 to 6".into(),
        ),
        (
            refusal(Ranks, |_, t| t[262] = vec![b'x'; MAX_TOKEN_BYTES + 1]),
            "`tokenizer.ggml.tokens`[262] has 1025 bytes, at most 1024 are accepted".into(),
        ),
        (
            refusal(Ranks, |_, t| t[BYTES as usize + 10] = b"<0x+A>".to_vec()),
            "`tokenizer.ggml.tokens`[15] is of type byte, but its text \"<0x+A>\" is not `<0x00>`..`<0xFF>`"
                .into(),
        ),
        (
            refusal(Ranks, |p, _| p.types[BYTES as usize + 10] = 1),
            "`tokenizer.ggml.tokens` has no byte token <0x0A>".into(),
        ),
        (
            refusal(Ranks, |p, _| p.bos = Some(269)),
            "`tokenizer.ggml.bos_token_id` is 269, the vocabulary has 269 tokens".into(),
        ),
        (
            refusal(Ranks, |p, _| p.mask = Some(u32::MAX)),
            "`tokenizer.ggml.mask_token_id` is 4294967295, the vocabulary has 269 tokens".into(),
        ),
        (
            refusal(Ranks, |p, _| p.merges = ["a b", "ab"].into_iter().collect()),
            "`tokenizer.ggml.merges`[1] is \"ab\": there is no space between two parts".into(),
        ),
        (
            refusal(Ranks, |p, _| p.merges = [" "].into_iter().collect()),
            "`tokenizer.ggml.merges`[0] is \" \": there is no space between two parts".into(),
        ),
        (
            refusal(Ranks, |p, _| p.merges = [""].into_iter().collect()),
            "`tokenizer.ggml.merges`[0] is \"\": there is no space between two parts".into(),
        ),
        (
            refusal(Ranks, |p, _| p.merges = ["a b", "b a"].into_iter().collect()),
            "`tokenizer.ggml.merges`[1] is \"b a\": \"ba\" is not a token".into(),
        ),
        (
            refusal(Ranks, |p, _| p.merges = ["a "].into_iter().collect()),
            "`tokenizer.ggml.merges`[0] is \"a \": \"\" is not a token".into(),
        ),
        (
            refusal(Ranks, |p, t| {
                t[3] = b"aa".to_vec();
                p.merges = ["a a"].into_iter().collect();
            }),
            "`tokenizer.ggml.merges`[0] is \"a a\": it makes the special token 3".into(),
        ),
        (
            refusal(Ranks, |p, t| {
                p.bos = None;
                t[2] = b"<start>".to_vec();
            }),
            "no beginning-of-text token: neither `tokenizer.ggml.bos_token_id` nor a token <bos>".into(),
        ),
        (
            refusal(Ranks, |p, t| {
                p.eos = None;
                t[1] = b"</s>".to_vec();
                t[4] = b"<x>".to_vec();
            }),
            "no end-of-generation token: no usable `tokenizer.ggml.eos_token_id` nor any of the known texts"
                .into(),
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
    let too_many = StringArray::from_iter(std::iter::repeat_n("", MAX_TOKENS + 1));
    let error = Tokenizer::from_parts(Parts { tokens: too_many, ..parts(Ranks).0 }).unwrap_err();
    assert!(matches!(error, TokenizerError::TokenCount { n, .. } if n == MAX_TOKENS + 1));
}

#[test]
fn long_entries_are_shortened_in_messages() {
    let long = format!("a {}", "é".repeat(100_000));
    let message = refusal(Kind::Ranks, |p, _| p.merges = [&long].into_iter().collect());
    assert!(message.len() < 600, "{message}");
    let bytes = [&b"a "[..], &[0xff; 100_000]].concat();
    let message = refusal(Kind::Ranks, |p, _| p.merges = [&bytes].into_iter().collect());
    assert!(message.len() < 800, "{message}");
}

#[test]
fn a_file_without_a_vocabulary_is_refused() {
    let error = Tokenizer::from_metadata(&mut Metadata::default()).unwrap_err();
    assert_eq!(error.to_string(), "key `tokenizer.ggml.model` is missing");
}

#[test]
fn oddities_of_real_files() {
    // `</s>` listed as the end: the known texts end answers, `</s>` does not.
    let (mut p, mut tokens) = parts(Kind::Scores);
    tokens[0] = b"</s>".to_vec();
    p.types[0] = 4;
    p.eos = Some(0);
    p.padding = None;
    p.tokens = tokens.iter().collect();
    let t = Tokenizer::from_parts(p).unwrap();
    assert_eq!(t.eog_ids(), [1, 4]);
    assert_eq!(t.decode(&[0]), "</s>");
    assert_eq!(t.encode("</s>", Specials::Parse), [0]);
    assert!(!t.encode("</s>", Specials::Plain).contains(&0));

    // The end token used for padding is not suppressed; ids beyond the vocabulary are passed over.
    let (p, _) = parts(Kind::Ranks);
    let t =
        Tokenizer::from_parts(Parts { padding: Some(1), suppress: vec![7, -1, 268, 269, i32::MAX, 7], ..p })
            .unwrap();
    assert_eq!(t.suppressed(), [7, 268]);

    // An end of the turn that the file calls ordinary or user-defined steers all the same.
    for token_type in [1, 4] {
        let (mut p, _) = parts(Kind::Ranks);
        p.types[4] = token_type;
        let t = Tokenizer::from_parts(p).unwrap();
        assert!(t.is_control(4) && t.is_eog(4));
        assert_eq!(t.encode("<turn|>", Specials::Parse), [4]);
        assert!(!t.encode("<turn|>", Specials::Plain).contains(&4));
    }

    // No id of BOS, but its text.
    let (p, _) = parts(Kind::Ranks);
    assert_eq!(Tokenizer::from_parts(Parts { bos: None, ..p }).unwrap().bos(), Some(2));
}

#[test]
fn three_modes() {
    let t = tokenizer(Kind::Ranks);
    let text = "<bos><|channel>";
    assert_eq!(t.encode(text, Specials::Parse), [2, 261]);
    let plain = t.encode(text, Specials::Plain);
    assert_eq!((plain[0], *plain.last().unwrap()), (BYTES + u32::from(b'<'), 261));
    let none = t.encode(text, Specials::None);
    assert!(!none.contains(&2) && !none.contains(&261));
    assert_eq!(t.decode(&none), text);
}

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

#[test]
fn any_ids_streamed_equal_the_whole() {
    // A token whose text is not UTF-8 by itself.
    let (mut p, mut tokens) = parts(Kind::Scores);
    tokens[266] = b"\x98\x80x\xf0\x9f".to_vec();
    p.tokens = tokens.iter().collect();
    let t = Tokenizer::from_parts(p).unwrap();
    let mut rng = Rng(1);
    // Bytes that begin, continue and break sequences of every length.
    let interesting =
        [0x00, 0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc2, 0xc3, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0x90, 0xf4, 0xff];
    let (mut valid, mut broken) = (0, 0);
    for _ in 0..20_000 {
        let ids: Vec<u32> = (0..rng.below(12))
            .map(|_| match rng.below(8) {
                0 => rng.below(300) as u32,
                1 => 266,
                _ => BYTES + interesting[rng.below(interesting.len())] as u32,
            })
            .collect();
        let mut bytes = Vec::new();
        ids.iter().for_each(|&id| t.token_bytes(id, &mut bytes));
        let want = String::from_utf8_lossy(&bytes);
        let mut decoder = StreamDecoder::new();
        let mut got = String::new();
        for &id in &ids {
            decoder.push(&t, id, &mut got);
            assert!(decoder.pending_bytes() <= 3);
            assert!(want.starts_with(&got), "{ids:?}");
        }
        decoder.finish(&mut got);
        assert_eq!(got, want, "{ids:?}");
        assert_eq!(t.decode(&ids), want);
        valid += want.chars().filter(|c| c.len_utf8() > 1 && *c != '\u{fffd}').count();
        broken += want.matches('\u{fffd}').count();
    }
    assert!(valid > 1000 && broken > 1000, "{valid} {broken}");
}

#[test]
fn a_character_over_four_tokens() {
    let t = tokenizer(Kind::Ranks);
    let mut decoder = StreamDecoder::new();
    let mut out = String::new();
    for byte in "😀".bytes() {
        assert_eq!(out, "");
        decoder.push(&t, BYTES + u32::from(byte), &mut out);
    }
    assert_eq!(out, "😀");
    decoder.push(&t, BYTES + 0xe2, &mut out);
    decoder.push(&t, BYTES + 0x82, &mut out);
    assert_eq!(out, "😀");
    // A control token says nothing; text breaks the sequence.
    decoder.push(&t, 1, &mut out);
    decoder.push(&t, 266, &mut out);
    assert_eq!(out, "😀\u{fffd} a");
    decoder.push(&t, BYTES + 0xf0, &mut out);
    decoder.finish(&mut out);
    assert_eq!(out, "😀\u{fffd} a\u{fffd}");
    assert_eq!(decoder.pending_bytes(), 0);
}

/// Whatever stands in the arrays: an error or a tokenizer that works.
#[test]
fn mutated_vocabularies_do_no_harm() {
    let mut rng = Rng(2);
    let mut loaded = 0;
    for round in 0..3000 {
        let kind = [Kind::Ranks, Kind::Scores][round % 2];
        let (mut p, mut tokens) = parts(kind);
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(tokens.len());
            match rng.below(9) {
                0 => tokens[at] = (0..rng.below(6)).map(|_| rng.below(256) as u8).collect(),
                1 => tokens[at] = tokens[rng.below(tokens.len())].clone(),
                2 => p.types[at] = rng.below(9) as i32 - 1,
                3 => p.scores[at] = f32::from_bits(rng.below(1 << 31) as u32 * 2),
                4 => p.merges = [&tokens[at], &b" a"[..].to_vec()].into_iter().collect(),
                5 => p.bos = Some(rng.below(300) as u32),
                6 => p.eos = Some(rng.below(300) as u32),
                7 => p.padding = Some(rng.below(300) as u32),
                _ => p.suppress = vec![rng.below(600) as i32 - 300],
            }
        }
        p.tokens = tokens.iter().collect();
        let Ok(t) = Tokenizer::from_parts(p) else { continue };
        loaded += 1;
        for text in ["", "ab a\n\n é<eos><|channel><0x41>", "\n\n\n\u{2581}\u{10ffff}"] {
            for mode in [Specials::Parse, Specials::Plain, Specials::None] {
                let ids = t.encode(text, mode);
                assert!(ids.iter().all(|&id| (id as usize) < t.n_vocab()));
                t.decode(&ids);
            }
        }
        t.decode(&[0, u32::MAX, 300]);
    }
    assert!(loaded > 300, "{loaded}");
}

/// One run of 100,000 characters in which everything merges, in both procedures.
#[test]
fn long_runs_take_no_quadratic_time() {
    for kind in [Kind::Ranks, Kind::Scores] {
        // Tokens a, aa, aaaa, .. and newlines likewise.
        let (mut p, mut tokens) = parts(kind);
        let mut merges: Vec<String> = Vec::new();
        for c in ["a", "\n"] {
            for power in 0..8 {
                let text = c.repeat(1 << power);
                merges.push(format!("{text} {text}"));
                for text in [text.clone(), text.repeat(2)] {
                    if !tokens.contains(&text.clone().into_bytes()) {
                        tokens.push(text.into());
                        p.types.push(1);
                        p.scores.push(-1.0);
                    }
                }
            }
        }
        // Nested special tokens of a character of their own.
        for n in [1, 2, 3, 5, 50, 200] {
            tokens.push(b"!".repeat(n));
            p.types.push(3);
            p.scores.push(0.0);
        }
        p.tokens = tokens.iter().collect();
        p.merges = merges.iter().collect();
        let t = Tokenizer::from_parts(p).unwrap();
        for unit in ["a", "\n", "b", "a\n", "!", "!!!!a"] {
            let text = unit.repeat(100_000 / unit.len());
            // Tenths of a second in a test build; a quadratic way takes minutes.
            let ids = t.encode(&text, Specials::Parse);
            let spelled: usize = ids.iter().map(|&id| t.piece(id).unwrap().len()).sum();
            assert_eq!(spelled, text.len(), "{kind:?} {unit:?}");
        }
    }
}
