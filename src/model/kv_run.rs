//! Keys and values of a run of tokens, copied from the cache of one sequence into that of another.
//!
//! What a token's keys and values are follows from the tokens up to it and from nothing else, so a copy is
//! as good as computing them again, bit for bit. Full layers need all tokens of a prefix; sliding layers
//! only those that the next token still sees, so the two kinds are copied apart.

use std::ops::Range;

use super::error::OutOfMemory;
use super::hparams::LayerKind;
use super::kv_cache::{KvCache, KvType, LayerKv, Values};

/// Keys and values of consecutive tokens in all layers of one kind.
#[derive(Debug)]
pub struct KvRun {
    kind: LayerKind,
    positions: Range<usize>,
    /// Of each layer of the kind that owns keys and values: keys, then values, `[n_head_kv, n_tokens, head_dim]`.
    values: Values,
}

impl KvRun {
    /// Bytes of keys and values.
    pub fn n_bytes(&self) -> usize {
        self.values.n_bytes()
    }

    /// The keys and values, little-endian; of groups of bytes first all bytes, then all scales.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.n_bytes());
        match &self.values {
            Values::F16(bits) => out.extend(bits.iter().flat_map(|v| v.to_le_bytes())),
            Values::Q8 { codes, scales } => {
                out.extend(codes.iter().map(|code| code.cast_unsigned()));
                out.extend(scales.iter().flat_map(|v| v.to_le_bytes()));
            }
            Values::F32(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
        out
    }

    /// The run of `n_values` numbers of this type that these are the bytes of; `None` if they are not so many.
    pub(super) fn of_bytes(
        kv_type: KvType,
        kind: LayerKind,
        positions: Range<usize>,
        n_values: usize,
        bytes: &[u8],
    ) -> Result<Option<Self>, OutOfMemory> {
        let mut values = Values::zeroed(kv_type, n_values)?;
        if bytes.len() != values.n_bytes() {
            return Ok(None);
        }
        let two = |chunk: &[u8]| u16::from_le_bytes(chunk.try_into().expect("chunks of two"));
        match &mut values {
            Values::F16(bits) => bits.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(v, b)| *v = two(b)),
            Values::Q8 { codes, scales } => {
                let (of_codes, of_scales) = bytes.split_at(codes.len());
                codes.iter_mut().zip(of_codes).for_each(|(code, byte)| *code = byte.cast_signed());
                scales.iter_mut().zip(of_scales.chunks_exact(2)).for_each(|(v, b)| *v = two(b));
            }
            Values::F32(values) => values.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(v, b)| {
                *v = f32::from_le_bytes(b.try_into().expect("chunks of four"));
            }),
        }
        Ok(Some(Self { kind, positions, values }))
    }
}

impl KvCache {
    /// Copies what the layers of `kind` hold of `positions`; `None` if they do not hold all of it any more.
    ///
    /// # Errors
    /// If the system does not give that much memory.
    pub fn copy_run(&self, kind: LayerKind, positions: Range<usize>) -> Result<Option<KvRun>, OutOfMemory> {
        if positions.start < self.held_from(kind) || positions.end > self.n_tokens() {
            return Ok(None);
        }
        let layers = || self.layers.iter().flatten().filter(|layer| layer.kind == kind);
        let n_values = layers().map(|layer| 2 * layer.n_heads() * positions.len() * layer.head_dim).sum();
        let mut values = Values::zeroed(self.kv_type, n_values)?;
        let mut at = 0;
        for layer in layers() {
            for ring in [&layer.k, &layer.v] {
                for head in 0..layer.n_heads() {
                    for place in layer.places(head, positions.clone()) {
                        values.copy_from(at, ring, place.clone());
                        at += place.len();
                    }
                }
            }
        }
        Ok(Some(KvRun { kind, positions, values }))
    }

    /// Becomes the cache of `n_tokens` tokens whose keys and values stand in `runs`, of each kind ascending;
    /// what of a run lies behind them is left out.
    ///
    /// # Panics
    /// If the runs lack a token that full layers need, or one that sliding layers still see.
    pub fn resume<'r>(&mut self, n_tokens: usize, runs: impl IntoIterator<Item = &'r KvRun>) {
        assert!(n_tokens <= self.n_ctx(), "{n_tokens} tokens in a context of {}", self.n_ctx());
        let (mut full, mut sliding) = (0..0, 0..0);
        for run in runs {
            let positions = run.positions.start..run.positions.end.min(n_tokens);
            let had = match run.kind {
                LayerKind::Full => &mut full,
                LayerKind::Sliding => &mut sliding,
            };
            let start = if positions.start == had.end { had.start } else { positions.start };
            *had = start..positions.end;
            self.paste(run, positions);
        }
        assert!(full == (0..n_tokens), "{full:?} of {n_tokens} tokens for full layers");
        let seen = n_tokens - n_tokens.min(self.lookback)..n_tokens;
        let is_seen = seen.is_empty() || sliding.start <= seen.start && sliding.end == seen.end;
        assert!(is_seen, "{sliding:?} of {seen:?} for sliding layers");
        self.set_n_tokens(n_tokens, sliding.start);
    }

    /// Writes the first tokens of `run`, which are `positions`, to their places.
    fn paste(&mut self, run: &KvRun, positions: Range<usize>) {
        let n_run = run.positions.len();
        let mut at = 0;
        for layer in self.layers.iter_mut().flatten().filter(|layer| layer.kind == run.kind) {
            let (n_heads, head_dim) = (layer.n_heads(), layer.head_dim);
            for head in 0..n_heads {
                let places = layer.places(head, positions.clone());
                for (ring, from) in [(&mut layer.k, at), (&mut layer.v, at + n_heads * n_run * head_dim)] {
                    let mut from = from + head * n_run * head_dim;
                    for place in &places {
                        ring.copy_from(place.start, &run.values, from..from + place.len());
                        from += place.len();
                    }
                }
            }
            at += 2 * n_heads * n_run * head_dim;
        }
    }
}

impl LayerKv {
    fn n_heads(&self) -> usize {
        self.k.len() / (self.n_slots * self.head_dim)
    }

    /// Where `positions` of KV head `head` stand: one piece, or two where the ring begins anew in between.
    fn places(&self, head: usize, positions: Range<usize>) -> Vec<Range<usize>> {
        let first = positions.start % self.n_slots;
        let n_first = positions.len().min(self.n_slots - first);
        let pieces = [first..first + n_first, 0..positions.len() - n_first];
        let head = head * self.n_slots;
        let place =
            |slots: Range<usize>| (head + slots.start) * self.head_dim..(head + slots.end) * self.head_dim;
        pieces.into_iter().filter(|slots| !slots.is_empty()).map(place).collect()
    }
}
