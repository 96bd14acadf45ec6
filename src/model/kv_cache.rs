//! Keys and values of one sequence.
//!
//! Each layer that owns keys and values has a ring for every KV head. In a full layer the ring is as
//! long as the context; in a sliding layer it holds the window and one chunk: while a chunk is
//! computed, its first query still needs the window before it. Memory is zeroed lazily by the
//! system, so a cache costs what its sequence has filled.

use super::error::OutOfMemory;
use super::hparams::{HParams, LayerKind};
use super::zeroed::zeroed;
use crate::ops::{HeadRing, Kernels, RingData};
use half::slice::HalfBitsSliceExt;
use std::fmt;
use std::ops::Range;

/// Type of cached keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// Float16: its rounding is far below that of quantised weights and activations.
    F16,
    /// Signed bytes with a float16 scale for each 32 of them: half of float16's memory.
    Q8_0,
    /// Float32, so that a model with F32 weights is computed in float32 throughout.
    F32,
}

impl KvType {
    /// Bytes of `n` values.
    pub fn bytes_of(self, n: usize) -> usize {
        match self {
            Self::F16 => 2 * n,
            Self::Q8_0 => n + n / 32 * 2,
            Self::F32 => 4 * n,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::F32 => "f32",
        })
    }
}

/// The cache of one sequence.
#[derive(Debug)]
pub struct KvCache {
    /// One entry for each layer of the model; `None` where the layer reads another's.
    pub(super) layers: Vec<Option<LayerKv>>,
    pub(super) kv_type: KvType,
    /// Positions before its own that a token sees in sliding layers.
    pub(super) lookback: usize,
    n_tokens: usize,
    /// Behind the last position that was ever written: a pass that failed wrote some that do not count.
    written_to: usize,
    /// First position that sliding layers were given, where the sequence began with what another computed.
    sliding_from: usize,
    n_ctx: usize,
    max_chunk: usize,
}

/// Rings of one layer.
#[derive(Debug)]
pub(super) struct LayerKv {
    pub(super) kind: LayerKind,
    /// `[n_head_kv, n_slots, head_dim]`.
    pub(super) k: Values,
    /// The same shape.
    pub(super) v: Values,
    pub(super) n_slots: usize,
    pub(super) head_dim: usize,
}

/// Numbers of one type; zero at first.
#[derive(Debug)]
pub(super) enum Values {
    /// Float16 as bits: a vector of zero integers is what the allocator hands out untouched, one of
    /// `f16` zeros would be written, and so backed by memory, at once.
    F16(Vec<u16>),
    /// Scales as bits, for the same reason.
    Q8 {
        codes: Vec<i8>,
        scales: Vec<u16>,
    },
    F32(Vec<f32>),
}

impl Values {
    pub(super) fn zeroed(kind: KvType, n: usize) -> Result<Self, OutOfMemory> {
        Ok(match kind {
            KvType::F16 => Self::F16(zeroed(n)?),
            KvType::Q8_0 => Self::Q8 { codes: zeroed(n)?, scales: zeroed(n / 32)? },
            KvType::F32 => Self::F32(zeroed(n)?),
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::Q8 { codes, .. } => codes.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Copies the numbers at `place` of `from`, which are of the same type, to those from `at`. Both are whole vectors
    /// of a head.
    pub(super) fn copy_from(&mut self, at: usize, from: &Self, place: Range<usize>) {
        let to = at..at + place.len();
        match (self, from) {
            (Self::F16(values), Self::F16(from)) => values[to].copy_from_slice(&from[place]),
            (Self::F32(values), Self::F32(from)) => values[to].copy_from_slice(&from[place]),
            (Self::Q8 { codes, scales }, Self::Q8 { codes: from, scales: from_scales }) => {
                let from_scales = &from_scales[place.start / 32..place.end / 32];
                scales[to.start / 32..to.end / 32].copy_from_slice(from_scales);
                codes[to].copy_from_slice(&from[place]);
            }
            _ => unreachable!("caches of one model are of one type"),
        }
    }

    pub(super) fn n_bytes(&self) -> usize {
        match self {
            Self::F16(values) => size_of_val(values.as_slice()),
            Self::Q8 { codes, scales } => size_of_val(codes.as_slice()) + size_of_val(scales.as_slice()),
            Self::F32(values) => size_of_val(values.as_slice()),
        }
    }

    fn read(&self, place: Range<usize>) -> RingData<'_> {
        match self {
            Self::F16(values) => RingData::F16(values[place].reinterpret_cast()),
            Self::Q8 { codes, scales } => {
                let scales = scales[place.start / 32..place.end / 32].reinterpret_cast();
                RingData::Q8 { codes: &codes[place], scales }
            }
            Self::F32(values) => RingData::F32(&values[place]),
        }
    }

    fn write(&mut self, kernels: &Kernels, start: usize, from: &[f32]) {
        let place = start..start + from.len();
        match self {
            Self::F16(values) => kernels.to_f16(from, values[place].reinterpret_cast_mut()),
            Self::Q8 { codes, scales } => {
                let scales = scales[place.start / 32..place.end / 32].reinterpret_cast_mut();
                kernels.to_q8(from, &mut codes[place], scales);
            }
            Self::F32(values) => values[place].copy_from_slice(from),
        }
    }
}

impl KvCache {
    /// An empty cache for contexts of `n_ctx` tokens, filled by at most `max_chunk` at a time.
    pub(super) fn new(
        hp: &HParams,
        kind: KvType,
        n_ctx: usize,
        max_chunk: usize,
    ) -> Result<Self, OutOfMemory> {
        let layer_kv = |i: usize| {
            let layer = &hp.layers[i];
            let n_slots = match layer.kind {
                LayerKind::Full => n_ctx,
                LayerKind::Sliding => n_ctx.min(hp.window.saturating_add(max_chunk)),
            };
            let n = n_slots.saturating_mul(layer.n_embd_kv());
            let (k, v) = (Values::zeroed(kind, n)?, Values::zeroed(kind, n)?);
            Ok(LayerKv { kind: layer.kind, k, v, n_slots, head_dim: layer.head_dim })
        };
        let layers = (0..hp.n_layer()).map(|i| hp.owns_kv(i).then(|| layer_kv(i)).transpose());
        let layers = layers.collect::<Result<_, _>>()?;
        let lookback = hp.lookback();
        Ok(Self {
            layers,
            kv_type: kind,
            lookback,
            n_tokens: 0,
            written_to: 0,
            sliding_from: 0,
            n_ctx,
            max_chunk,
        })
    }

    /// Tokens whose keys and values are held: the position of the next token.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// The longest sequence that fits.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// The longest chunk that one forward pass may append.
    pub fn max_chunk(&self) -> usize {
        self.max_chunk
    }

    /// Bytes reserved for keys and values. The system backs them as they are filled.
    pub fn n_bytes(&self) -> usize {
        self.layers.iter().flatten().map(|l| l.k.n_bytes() + l.v.n_bytes()).sum()
    }

    /// Forgets the sequence.
    pub fn clear(&mut self) {
        self.set_n_tokens(0, 0);
    }

    /// Holds `n_tokens` tokens from now on, in sliding layers those from `sliding_from`.
    pub(super) fn set_n_tokens(&mut self, n_tokens: usize, sliding_from: usize) {
        self.n_tokens = n_tokens;
        self.written_to = n_tokens;
        self.sliding_from = sliding_from;
    }

    /// The first position whose keys and values layers of `kind` still hold.
    pub fn held_from(&self, kind: LayerKind) -> usize {
        let of_kind = self.layers.iter().flatten().find(|layer| layer.kind == kind);
        let n_slots = of_kind.map_or(usize::MAX, |layer| layer.n_slots);
        let given_from = if kind == LayerKind::Sliding { self.sliding_from } else { 0 };
        given_from.max(self.written_to.saturating_sub(n_slots))
    }

    /// Takes over `n` tokens whose keys and values have been written in every layer.
    pub(super) fn commit(&mut self, n: usize) {
        self.n_tokens += n;
    }

    /// Keys of KV head `head` of `layer`, which owns them.
    pub(super) fn keys(&self, layer: usize, head: usize) -> HeadRing<'_> {
        let l = self.layer(layer);
        HeadRing::new(l.k.read(l.head(head)), l.head_dim)
    }

    /// Values of KV head `head` of `layer`, which owns them.
    pub(super) fn values(&self, layer: usize, head: usize) -> HeadRing<'_> {
        let l = self.layer(layer);
        HeadRing::new(l.v.read(l.head(head)), l.head_dim)
    }

    /// Stores the key `k` and value `v`, `[head_dim]` each, of `position`.
    pub(super) fn write(
        &mut self,
        kernels: &Kernels,
        (layer, head): (usize, usize),
        position: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let l = self.layers[layer].as_mut().expect("only layers that own keys and values write them");
        self.written_to = self.written_to.max(position + 1);
        let start = (head * l.n_slots + position % l.n_slots) * l.head_dim;
        l.k.write(kernels, start, k);
        l.v.write(kernels, start, v);
    }

    fn layer(&self, layer: usize) -> &LayerKv {
        self.layers[layer].as_ref().expect("kv_layer names a layer that owns its keys and values")
    }
}

impl LayerKv {
    /// Where KV head `head` stands.
    fn head(&self, head: usize) -> Range<usize> {
        let n = self.n_slots * self.head_dim;
        head * n..(head + 1) * n
    }
}
