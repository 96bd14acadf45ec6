//! Models of any shape, written for tests: hyper-parameters and tensors that fit each other, with the
//! vocabulary of a fixture.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::path::Path;

use pled::gguf::{self, Array, Value};
use pled::quant::BlockFormat;

/// What a model is made of. Change what a test is about.
#[derive(Clone, Debug)]
pub struct Forge {
    pub architecture: &'static str,
    pub n_vocab: u64,
    pub n_embd: u64,
    pub n_ctx: u32,
    pub window: u32,
    pub n_head: u64,
    pub n_head_kv: u64,
    /// Of full and of sliding layers; Gemma 3 has the first for both.
    pub head_dim: [u64; 2],
    pub n_ff: u64,
    pub n_embd_per_layer: u64,
    pub n_shared: usize,
    /// One for each layer.
    pub sliding: Vec<bool>,
    /// Of every matrix whose rows are whole blocks of it; others are F32.
    pub format: BlockFormat,
    /// Further keys, written last.
    pub keys: Vec<(String, Value)>,
    /// Further tensors of F32.
    pub tensors: Vec<(String, Vec<u64>)>,
}

impl Forge {
    /// A small model that is right.
    pub fn new(architecture: &'static str) -> Self {
        Self {
            architecture,
            n_vocab: 384,
            n_embd: 32,
            n_ctx: 64,
            window: 4,
            n_head: 2,
            n_head_kv: 1,
            head_dim: [8, 8],
            n_ff: 32,
            n_embd_per_layer: 0,
            n_shared: 0,
            sliding: vec![true, false],
            format: BlockFormat::Q8_0,
            keys: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Name, dimensions (innermost first) and format of every tensor.
    fn all_tensors(&self) -> Vec<(String, Vec<u64>, BlockFormat)> {
        let mut all = Vec::new();
        let mut matrix = |name: String, n_cols: u64, n_rows: u64| {
            let fits = n_cols.is_multiple_of(self.format.block_len() as u64);
            all.push((name, vec![n_cols, n_rows], if fits { self.format } else { BlockFormat::F32 }));
        };
        let (n_layer, n_embd, p) = (self.sliding.len(), self.n_embd, self.n_embd_per_layer);
        matrix("token_embd.weight".to_owned(), n_embd, self.n_vocab);
        if p > 0 {
            matrix("per_layer_token_embd.weight".to_owned(), n_layer as u64 * p, self.n_vocab);
            matrix("per_layer_model_proj.weight".to_owned(), n_embd, n_layer as u64 * p);
        }
        let mut vectors = vec![("output_norm.weight".to_owned(), n_embd)];
        for (i, sliding) in self.sliding.iter().enumerate() {
            let head_dim = self.head_dim[usize::from(*sliding && self.architecture == "gemma4")];
            let (n_q, n_kv) = (self.n_head * head_dim, self.n_head_kv * head_dim);
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            matrix(name("attn_q"), n_embd, n_q);
            matrix(name("attn_k"), n_embd, n_kv);
            matrix(name("attn_v"), n_embd, n_kv);
            matrix(name("attn_output"), n_q, n_embd);
            matrix(name("ffn_gate"), n_embd, self.n_ff);
            matrix(name("ffn_up"), n_embd, self.n_ff);
            matrix(name("ffn_down"), self.n_ff, n_embd);
            if p > 0 {
                matrix(name("inp_gate"), n_embd, p);
                matrix(name("proj"), p, n_embd);
                vectors.push((name("post_norm"), n_embd));
            }
            for part in ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"] {
                vectors.push((name(part), n_embd));
            }
            vectors.extend([(name("attn_q_norm"), head_dim), (name("attn_k_norm"), head_dim)]);
            if self.architecture == "gemma4" {
                vectors.push((name("layer_output_scale"), 1));
            }
        }
        if p > 0 {
            vectors.push(("per_layer_proj_norm.weight".to_owned(), p));
        }
        if self.architecture == "gemma4" {
            vectors.push(("rope_freqs.weight".to_owned(), self.head_dim[0] / 2));
        }
        all.extend(vectors.into_iter().map(|(name, n)| (name, vec![n], BlockFormat::F32)));
        all.extend(self.tensors.iter().map(|(name, dims)| (name.clone(), dims.clone(), BlockFormat::F32)));
        all
    }

    fn all_keys(&self) -> Vec<(String, Value)> {
        let a = self.architecture;
        let int = |name: &str, v: u64| (format!("{a}.{name}"), Value::U64(v));
        let float = |name: &str, v: f32| (format!("{a}.{name}"), Value::F32(v));
        let fixture = if a == "gemma4" { "gemma4-ple" } else { "gemma3" };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        let bytes = std::fs::read(folder.join("model-q4_0.gguf")).unwrap();
        let fixture = gguf::read(&mut &bytes[..], bytes.len() as u64).unwrap();
        let vocabulary = fixture.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer."));
        let mut keys: Vec<_> = vocabulary.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        keys.extend([
            ("general.architecture".to_owned(), Value::Str(a.into())),
            int("context_length", self.n_ctx.into()),
            int("embedding_length", self.n_embd),
            int("block_count", self.sliding.len() as u64),
            int("feed_forward_length", self.n_ff),
            int("attention.head_count", self.n_head),
            int("attention.head_count_kv", self.n_head_kv),
            int("attention.key_length", self.head_dim[0]),
            int("attention.key_length_swa", self.head_dim[1]),
            int("attention.sliding_window", self.window.into()),
            int("attention.shared_kv_layers", self.n_shared as u64),
            int("embedding_length_per_layer_input", self.n_embd_per_layer),
            float("attention.layer_norm_rms_epsilon", 1e-6),
            float("rope.freq_base", 1e6),
            (
                format!("{a}.attention.sliding_window_pattern"),
                Value::Array(Array::Bool(self.sliding.clone())),
            ),
        ]);
        for (key, value) in &self.keys {
            keys.retain(|(other, _)| other != key);
            keys.push((key.clone(), value.clone()));
        }
        keys
    }

    /// The file. Every byte of the weights is 0x2c: small, finite numbers in every format.
    pub fn bytes(&self) -> Vec<u8> {
        let (tensors, keys) = (self.all_tensors(), self.all_keys());
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((keys.len() as u64).to_le_bytes());
        for (key, value) in &keys {
            string(&mut out, key.as_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for (name, dims, format) in &tensors {
            string(&mut out, name.as_bytes());
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(format.ggml_id().expect("a format of files").to_le_bytes());
            out.extend(offset.to_le_bytes());
            let row = format.row_bytes(dims[0] as usize).unwrap() as u64;
            offset += (row * dims[1..].iter().product::<u64>()).next_multiple_of(32);
        }
        let start = out.len().next_multiple_of(32);
        out.resize(start + offset as usize, 0x2c);
        out
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Type and value, of the kinds that models have.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let array = |out: &mut Vec<u8>, id: u32, n: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(id.to_le_bytes());
        out.extend((n as u64).to_le_bytes());
    };
    match value {
        Value::U32(v) => out.extend([4u32.to_le_bytes(), v.to_le_bytes()].concat()),
        Value::F32(v) => out.extend([6u32.to_le_bytes(), v.to_le_bytes()].concat()),
        Value::Bool(v) => out.extend([7, 0, 0, 0, u8::from(*v)]),
        Value::U64(v) => out.extend([&10u32.to_le_bytes()[..], &v.to_le_bytes()].concat()),
        Value::Str(text) => {
            out.extend(8u32.to_le_bytes());
            string(out, text);
        }
        Value::Array(Array::Bool(all)) => {
            array(out, 7, all.len());
            out.extend(all.iter().map(|v| u8::from(*v)));
        }
        Value::Array(Array::I32(all)) => {
            array(out, 5, all.len());
            out.extend(all.iter().flat_map(|v| v.to_le_bytes()));
        }
        Value::Array(Array::F32(all)) => {
            array(out, 6, all.len());
            out.extend(all.iter().flat_map(|v| v.to_le_bytes()));
        }
        Value::Array(Array::Strings(all)) => {
            array(out, 8, all.len());
            all.iter().for_each(|text| string(out, text));
        }
        other => panic!("no test writes {}", other.type_name()),
    }
}
