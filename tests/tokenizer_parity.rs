//! Token ids against goldens of other engines, and against a slow tokenizer on random vocabularies.
//!
//! The published vocabularies are not in the repository; see [`support::asset`].

#[path = "tokenizer_parity/oracle.rs"]
mod oracle;
mod support;

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use oracle::{Oracle, Vocab};
use pled::{
    gguf::{self, Metadata},
    tokenizer::{Specials, StreamDecoder, Tokenizer},
};
use serde_json::Value;
use support::{asset, fixture};

const MODES: [Specials; 3] = [Specials::Parse, Specials::Plain, Specials::None];

fn json(name: &str) -> Value {
    let path = fixture("tokenizer").join(name);
    serde_json::from_reader(BufReader::new(File::open(path).unwrap())).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn metadata(path: &Path) -> Metadata {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    gguf::read(&mut BufReader::new(file), len).unwrap().metadata
}

/// The tokenizer and what the oracle needs.
fn load(path: &Path) -> (Tokenizer, Vocab) {
    let mut m = metadata(path);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let merges = m.opt_strings("tokenizer.ggml.merges").unwrap();
    let merge = |entry: &[u8]| {
        let entry = text(entry);
        let at = entry.char_indices().skip(1).find(|(_, c)| *c == ' ').unwrap().0;
        (entry[..at].to_string(), entry[at + 1..].to_string())
    };
    let vocab = Vocab {
        bpe: merges.is_some(),
        tokens: m.opt_strings("tokenizer.ggml.tokens").unwrap().unwrap().iter().map(text).collect(),
        types: m.opt_i32_array("tokenizer.ggml.token_type").unwrap().unwrap(),
        scores: m.opt_f32_array("tokenizer.ggml.scores").unwrap().unwrap(),
        merges: merges.map(|all| all.iter().map(merge).collect()).unwrap_or_default(),
    };
    (Tokenizer::from_metadata(&mut m).unwrap(), vocab)
}

/// The published vocabularies, if they are there.
fn gemma4() -> Option<PathBuf> {
    asset("vocab-gemma4.gguf")
}

fn gemma3() -> Option<PathBuf> {
    asset("gemma3-270m.gguf")
}

/// Ids in both modes that other engines have, and the way back.
fn check_cases(t: &Tokenizer, cases: &Value) {
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (mode, key) in [(Specials::Parse, "ids_parse_special"), (Specials::Plain, "ids_plain")] {
            let want = ids(&case[key]);
            assert_eq!(t.encode(text, mode), want, "{mode:?} {text:?}");
            check_decode(t, &want);
        }
        // Without special tokens the text comes back as it was, but for U+2581.
        let plain = t.encode(text, Specials::None);
        assert_eq!(t.decode(&plain), text.replace('\u{2581}', " "), "{plain:?}");
    }
}

/// Token by token is the same as at once.
fn check_decode(t: &Tokenizer, ids: &[u32]) {
    let mut decoder = StreamDecoder::new();
    let mut streamed = String::new();
    for &id in ids {
        decoder.push(t, id, &mut streamed);
    }
    decoder.finish(&mut streamed);
    assert_eq!(streamed, t.decode(ids));
}

#[test]
fn tiny_vocabularies_equal_their_goldens() {
    let golden = json("tiny.json");
    for (folder, key) in [("gemma4-ple", "gemma4"), ("gemma4-keqv", "gemma4"), ("gemma3", "gemma3")] {
        let (t, vocab) = load(&fixture(folder).join("model-q4_0.gguf"));
        check_cases(&t, &golden["cases"][key]);
        let oracle = Oracle::new(vocab);
        for case in golden["cases"][key].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(oracle.encode(text, Specials::Parse), ids(&case["ids_parse_special"]));
            for mode in MODES {
                assert_eq!(t.encode(text, mode), oracle.encode(text, mode), "{mode:?} {text:?}");
            }
        }
    }
}

#[test]
fn gemma4_vocabulary_equals_other_engines() {
    let Some(path) = gemma4() else { return };
    let (t, vocab) = load(&path);
    check_published(&t, vocab, "gemma4");

    assert_eq!(t.n_vocab(), 262_144);
    assert_eq!((t.bos(), t.add_bos()), (Some(2), true));
    assert_eq!(t.eog_ids(), [1, 50, 106]);
    assert!(!t.is_eog(212), "</s> is an HTML tag");
    let suppressed: Vec<u32> = std::iter::once(0).chain(258_880..262_144).collect();
    assert_eq!(t.suppressed(), suppressed);
    for (id, text) in [(50, "<|tool_response>"), (106, "<turn|>"), (105, "<|turn>"), (2, "<bos>")] {
        assert_eq!(t.find(text), Some(id));
        assert!(t.is_control(id));
        assert_eq!(t.decode(&[id]), "");
    }
    for (id, text) in [(48, "<|tool_call>"), (100, "<|channel>"), (52, "<|\"|>"), (212, "</s>")] {
        assert_eq!(t.find(text), Some(id));
        assert_eq!(t.decode(&[id]), text);
        // What a user writes is never the token, unless the token is mere text.
        assert!(!t.encode(text, Specials::None).contains(&id));
    }
}

#[test]
fn gemma3_vocabulary_equals_other_engines() {
    let Some(path) = gemma3() else { return };
    let (t, vocab) = load(&path);
    check_published(&t, vocab, "gemma3");

    assert_eq!((t.bos(), t.add_bos()), (Some(2), true));
    assert_eq!(t.eog_ids(), [1, 106]);
    assert_eq!(t.suppressed(), [0]);
    assert_eq!(t.decode(&[212]), "</s>");
    // HTML tags and white space are text, image marks are not.
    assert_eq!(t.encode("<b>  \n\n", Specials::None), [200, 138, 108]);
    assert!(!t.encode("<start_of_image>", Specials::None).contains(&255_999));
}

fn check_published(t: &Tokenizer, vocab: Vocab, name: &str) {
    check_cases(t, &json(&format!("golden-{name}.json"))["cases"]);
    let corpus = json(&format!("corpus-{name}.json"));
    check_cases(t, &corpus["cases"]);
    check_long(t, &corpus["long"]);

    let megabytes = t.heap_bytes() / 1_000_000;
    assert!(megabytes < 25, "{megabytes} MB");

    let oracle = Oracle::new(vocab);
    for case in corpus["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for mode in MODES {
            assert_eq!(t.encode(text, mode), oracle.encode(text, mode), "{mode:?} {text:?}");
        }
    }
    // Pieces of the vocabulary in random order: every merge in reach of every other.
    let mut rng = Rng(5);
    for _ in 0..60 {
        let mut text = String::new();
        for _ in 0..40 {
            text += &String::from_utf8_lossy(t.piece(rng.below(t.n_vocab()) as u32).unwrap());
        }
        for mode in MODES {
            assert_eq!(t.encode(&text, mode), oracle.encode(&text, mode), "{mode:?} {text:?}");
        }
    }
}

/// Texts of about 100,000 characters: the same ids as another engine, and soon.
fn check_long(t: &Tokenizer, cases: &Value) {
    for case in cases.as_array().unwrap() {
        let unit = case["unit"].as_str().unwrap();
        let text = unit.repeat(case["times"].as_u64().unwrap() as usize);
        for (mode, key) in [(Specials::Parse, "parse_special"), (Specials::Plain, "plain")] {
            let got = t.encode(&text, mode);
            // Some 50 ms in a test build; a quadratic way takes minutes. Emulated CPUs are slow.
            assert_eq!(got.len() as u64, case[format!("n_{key}")].as_u64().unwrap(), "{mode:?} {unit:?}");
            let hash = got
                .iter()
                .flat_map(|id| id.to_le_bytes())
                .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            assert_eq!(format!("{hash:016x}"), case[format!("fnv_{key}")], "{mode:?} {unit:?}");
        }
        let plain = t.encode(&text, Specials::None);
        assert_eq!(t.decode(&plain), text);
    }
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

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Small alphabets make merges and special tokens collide all the time.
fn random_vocab(rng: &mut Rng) -> Vocab {
    let alphabet = ["a", "b", "c", "\n", "\u{2581}", "é", "😀"];
    let mut v = Vocab { bpe: rng.below(2) == 0, ..Vocab::default() };
    let add = |v: &mut Vocab, text: String, token_type: i32, score: f32| {
        if !v.tokens.contains(&text) {
            v.tokens.push(text);
            v.types.push(token_type);
            v.scores.push(score);
        }
    };
    for text in ["<pad>", "<eos>", "<bos>"] {
        add(&mut v, text.to_string(), 3, 0.0);
    }
    for byte in 0..256 {
        add(&mut v, format!("<0x{byte:02X}>"), 6, 0.0);
    }
    for text in alphabet {
        // Some characters are left to the byte tokens.
        if rng.below(4) > 0 {
            add(&mut v, text.to_string(), 1, -(rng.below(3) as f32));
        }
    }
    for _ in 0..rng.below(40) {
        let (left, right) = if v.bpe {
            let normal: Vec<&String> =
                v.tokens.iter().zip(&v.types).filter(|t| *t.1 == 1).map(|t| t.0).collect();
            if normal.is_empty() {
                break;
            }
            (rng.pick(&normal).to_string(), rng.pick(&normal).to_string())
        } else {
            let n = 1 + rng.below(5);
            (rng.pick(&alphabet).to_string(), (0..n).map(|_| *rng.pick(&alphabet)).collect())
        };
        let joined = left.clone() + &right;
        // Few different scores, so that the leftmost has to win.
        add(&mut v, joined.clone(), 1, -(rng.below(4) as f32));
        let is_normal = v.tokens.iter().position(|t| *t == joined).is_some_and(|i| v.types[i] == 1);
        if v.bpe && is_normal {
            v.merges.push((left, right));
        }
    }
    let raw = ["a", "b", "c", "\n", " ", "é", "<", ">", "😀"];
    for _ in 0..rng.below(12) {
        let text: String = (0..1 + rng.below(5)).map(|_| *rng.pick(&raw)).collect();
        add(&mut v, text, *rng.pick(&[2, 3, 4]), 0.0);
    }
    v
}

/// A GGUF file of nothing but keys.
fn vocab_file(v: &Vocab) -> Vec<u8> {
    let mut keys = Vec::new();
    let mut n_keys = 0u64;
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut key = |name: &str, type_id: u32, value: &dyn Fn(&mut Vec<u8>)| {
        string(&mut keys, name);
        keys.extend(type_id.to_le_bytes());
        value(&mut keys);
        n_keys += 1;
    };
    let array = |out: &mut Vec<u8>, type_id: u32, n: usize| {
        out.extend(type_id.to_le_bytes());
        out.extend((n as u64).to_le_bytes());
    };
    let model = if v.bpe { "gemma4" } else { "llama" };
    key("tokenizer.ggml.model", 8, &|out| string(out, model));
    key("tokenizer.ggml.tokens", 9, &|out| {
        array(out, 8, v.tokens.len());
        v.tokens.iter().for_each(|text| string(out, text));
    });
    key("tokenizer.ggml.token_type", 9, &|out| {
        array(out, 5, v.types.len());
        out.extend(v.types.iter().flat_map(|t| t.to_le_bytes()));
    });
    key("tokenizer.ggml.scores", 9, &|out| {
        array(out, 6, v.scores.len());
        out.extend(v.scores.iter().flat_map(|s| s.to_le_bytes()));
    });
    key("tokenizer.ggml.merges", 9, &|out| {
        array(out, 8, v.merges.len());
        v.merges.iter().for_each(|(left, right)| string(out, &format!("{left} {right}")));
    });
    key("tokenizer.ggml.bos_token_id", 4, &|out| out.extend(2u32.to_le_bytes()));
    key("tokenizer.ggml.eos_token_id", 4, &|out| out.extend(1u32.to_le_bytes()));
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(n_keys.to_le_bytes());
    file.extend(keys);
    file
}

#[test]
fn random_vocabularies_equal_the_oracle() {
    let mut rng = Rng(11);
    let mut n_special = 0;
    for round in 0..400 {
        let vocab = random_vocab(&mut rng);
        let file = vocab_file(&vocab);
        let mut m = gguf::read(&mut &file[..], file.len() as u64).unwrap().metadata;
        let t = Tokenizer::from_metadata(&mut m).unwrap();
        let oracle = Oracle::new(vocab);
        for _ in 0..20 {
            let pieces = ["a", "b", "c", "\n", " ", "é", "<", ">", "😀", "aa", "ab", "\n\n", "  ", "<eos>"];
            let text: String = (0..rng.below(40)).map(|_| *rng.pick(&pieces)).collect();
            for mode in MODES {
                let got = t.encode(&text, mode);
                assert_eq!(got, oracle.encode(&text, mode), "round {round} {mode:?} {text:?}");
                n_special += got.iter().filter(|&&id| t.is_control(id)).count();
                check_decode(&t, &got);
            }
        }
    }
    assert!(n_special > 1000, "the test must see special tokens: {n_special}");
}
