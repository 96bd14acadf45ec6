//! Weights: every tensor that the forward pass uses, bound to its name and checked once.
//!
//! Binding runs twice over the same list of names. The first run checks presence, shape and type and
//! plans where each matrix will stand in memory; nothing large has been read or allocated until it is
//! through. The second builds the matrices from the bytes that were read. Tensors that nobody names
//! here (keys and values of layers that share, encoders) are never read, and the per-layer embedding
//! table only has its place noted: its rows stay in storage.

use super::error::ModelError;
use super::hparams::{HParams, LayerHParams};
use super::kv_cache::KvType;
use super::open::ModelFile;
use crate::gguf::TensorInfo;
use crate::ops::{Compute, Layout, Matrix, WeightBytes};
use crate::quant::BlockFormat;
use crate::storage::AlignedBytes;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Where a matrix starts in memory: a cache line, so that kernels may load aligned.
const ALIGNMENT_BYTES: usize = 64;

/// All weights of a model. `M` is a matrix, `V` a vector; both are `()` while planning.
#[derive(Debug)]
pub(super) struct Weights<M = Matrix, V = Vec<f32>> {
    /// `[n_vocab, n_embd]`.
    pub token_embd: M,
    /// The head, `[n_vocab, n_embd]`, where the file does not tie it to the embedding.
    pub output: Option<M>,
    pub output_norm: V,
    pub per_layer: Option<PerLayerWeights<M, V>>,
    pub layers: Vec<LayerWeights<M, V>>,
}

impl Weights {
    /// The output head, `[n_vocab, n_embd]`.
    pub(super) fn head(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.token_embd)
    }

    /// Float32 where every matrix is F32: such a file is meant to be computed exactly. Else float16.
    pub(super) fn kv_type(&self) -> KvType {
        match self.matrices().all(|m| m.format() == BlockFormat::F32) {
            true => KvType::F32,
            false => KvType::F16,
        }
    }

    /// Every matrix that a decoded token multiplies with, the head included.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let per_layer = self.per_layer.iter().map(|p| &p.model_proj);
        self.layers.iter().flat_map(LayerWeights::matrices).chain(per_layer).chain([self.head()])
    }
}

/// Weights that turn a token's embedding into its per-layer inputs.
#[derive(Debug)]
pub(super) struct PerLayerWeights<M, V> {
    /// `[n_layer * n_embd_per_layer, n_embd]`.
    pub model_proj: M,
    /// `[n_embd_per_layer]`, shared by all layers.
    pub proj_norm: V,
}

/// Weights of one layer.
#[derive(Debug)]
pub(super) struct LayerWeights<M = Matrix, V = Vec<f32>> {
    pub attn_norm: V,
    /// `[n_head * head_dim, n_embd]`.
    pub attn_q: M,
    pub attn_q_norm: V,
    /// Absent in layers that share the keys and values of an earlier one.
    pub kv: Option<KvWeights<M, V>>,
    /// `[n_embd, n_head * head_dim]`.
    pub attn_output: M,
    pub post_attention_norm: V,
    pub ffn_norm: V,
    /// `[n_ff, n_embd]`.
    pub ffn_gate: M,
    /// `[n_ff, n_embd]`.
    pub ffn_up: M,
    /// `[n_embd, n_ff]`.
    pub ffn_down: M,
    pub post_ffw_norm: V,
    pub per_layer: Option<LayerInputWeights<M, V>>,
    /// Multiplies the residual stream at the end of the layer (Gemma 4): `[1]`.
    pub layer_output_scale: Option<V>,
}

impl LayerWeights {
    /// Every matrix of it.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let inputs = self.per_layer.iter().flat_map(|p| [&p.inp_gate, &p.proj]);
        [&self.attn_q, &self.attn_output, &self.ffn_gate, &self.ffn_up, &self.ffn_down]
            .into_iter()
            .chain(self.kv_matrices())
            .chain(inputs)
    }

    /// Those that make keys and values, if it owns them.
    pub(super) fn kv_matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.kv.iter().flat_map(|kv| [Some(&kv.k), kv.v.as_ref()]).flatten()
    }
}

/// Key and value projections of a layer that owns them.
#[derive(Debug)]
pub(super) struct KvWeights<M, V> {
    /// `[n_head_kv * head_dim, n_embd]`.
    pub k: M,
    /// The same shape; absent where values are the unnormalised keys (k-equals-v).
    pub v: Option<M>,
    pub k_norm: V,
}

/// Weights that add a layer's input of the per-layer embedding.
#[derive(Debug)]
pub(super) struct LayerInputWeights<M, V> {
    /// `[n_embd_per_layer, n_embd]`.
    pub inp_gate: M,
    /// `[n_embd, n_embd_per_layer]`.
    pub proj: M,
    pub post_norm: V,
}

/// Where the per-layer embedding table stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowTable {
    /// Index of the file in [`ModelFile::parts`].
    pub part: usize,
    /// Byte offset of row 0 in that file.
    pub offset: u64,
    /// Bytes of one row: the `n_layer * n_embd_per_layer` values of a token.
    pub row_bytes: usize,
    /// Rows, one for each token id.
    pub n_rows: u32,
    /// Type of the values.
    pub format: BlockFormat,
    /// Leading bytes that suffice for a prompt token whose logits nobody wants.
    pub prefix_bytes: usize,
}

/// What binding asks for; [`Planner`] and [`Loaded`] answer.
trait Source {
    type Matrix;
    type Vector;
    fn has(&self, name: &str) -> bool;
    fn matrix(&mut self, name: &str, n_rows: usize, n_cols: usize) -> Result<Self::Matrix, ModelError>;
    fn vector(&mut self, name: &str, len: usize) -> Result<Self::Vector, ModelError>;
}

/// The list of names: one place for both runs.
fn bind<S: Source>(hp: &HParams, s: &mut S) -> Result<Weights<S::Matrix, S::Vector>, ModelError> {
    let per_layer = match hp.n_embd_per_layer {
        0 => None,
        n => Some(PerLayerWeights {
            model_proj: s.matrix("per_layer_model_proj.weight", hp.n_embd_per_layer_row(), hp.n_embd)?,
            proj_norm: s.vector("per_layer_proj_norm.weight", n)?,
        }),
    };
    Ok(Weights {
        token_embd: s.matrix("token_embd.weight", hp.n_vocab, hp.n_embd)?,
        output: match s.has("output.weight") {
            true => Some(s.matrix("output.weight", hp.n_vocab, hp.n_embd)?),
            false => None,
        },
        output_norm: s.vector("output_norm.weight", hp.n_embd)?,
        per_layer,
        layers: (0..hp.n_layer()).map(|i| bind_layer(hp, i, s)).collect::<Result<_, _>>()?,
    })
}

fn bind_layer<S: Source>(
    hp: &HParams,
    i: usize,
    s: &mut S,
) -> Result<LayerWeights<S::Matrix, S::Vector>, ModelError> {
    let name = |part: &str| format!("blk.{i}.{part}.weight");
    let layer: &LayerHParams = &hp.layers[i];
    let n_embd = hp.n_embd;
    let kv = if hp.owns_kv(i) {
        let n_kv = layer.n_embd_kv();
        Some(KvWeights {
            k: s.matrix(&name("attn_k"), n_kv, n_embd)?,
            v: match s.has(&name("attn_v")) || !hp.may_share_k_and_v(i) {
                true => Some(s.matrix(&name("attn_v"), n_kv, n_embd)?),
                false => None,
            },
            k_norm: s.vector(&name("attn_k_norm"), layer.head_dim)?,
        })
    } else {
        None
    };
    let per_layer = match hp.n_embd_per_layer {
        0 => None,
        n => Some(LayerInputWeights {
            inp_gate: s.matrix(&name("inp_gate"), n, n_embd)?,
            proj: s.matrix(&name("proj"), n_embd, n)?,
            post_norm: s.vector(&name("post_norm"), n_embd)?,
        }),
    };
    Ok(LayerWeights {
        attn_norm: s.vector(&name("attn_norm"), n_embd)?,
        attn_q: s.matrix(&name("attn_q"), layer.n_embd_q(), n_embd)?,
        attn_q_norm: s.vector(&name("attn_q_norm"), layer.head_dim)?,
        kv,
        attn_output: s.matrix(&name("attn_output"), n_embd, layer.n_embd_q())?,
        post_attention_norm: s.vector(&name("post_attention_norm"), n_embd)?,
        ffn_norm: s.vector(&name("ffn_norm"), n_embd)?,
        ffn_gate: s.matrix(&name("ffn_gate"), layer.n_ff, n_embd)?,
        ffn_up: s.matrix(&name("ffn_up"), layer.n_ff, n_embd)?,
        ffn_down: s.matrix(&name("ffn_down"), n_embd, layer.n_ff)?,
        post_ffw_norm: s.vector(&name("post_ffw_norm"), n_embd)?,
        per_layer,
        layer_output_scale: match hp.has_layer_output_scale() {
            true => Some(s.vector(&name("layer_output_scale"), 1)?),
            false => None,
        },
    })
}

/// First run: checks, and plans the memory.
struct Planner<'a> {
    file: &'a ModelFile,
    planned: Vec<Planned<'a>>,
    n_bytes: usize,
}

/// One tensor that will be read.
struct Planned<'a> {
    tensor: &'a TensorInfo,
    format: BlockFormat,
    /// Its place in the buffer of all weights.
    place: Range<usize>,
}

impl Planner<'_> {
    fn plan(&mut self, name: &str, shape: &[usize]) -> Result<BlockFormat, ModelError> {
        let tensor = find(self.file, name, shape)?;
        let format = format_of(tensor)?;
        let n_bytes =
            tensor.n_bytes.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| shape_error(tensor, shape))?;
        let start = self.n_bytes.next_multiple_of(ALIGNMENT_BYTES);
        self.n_bytes = start + n_bytes;
        self.planned.push(Planned { tensor, format, place: start..start + n_bytes });
        Ok(format)
    }
}

impl Source for Planner<'_> {
    type Matrix = ();
    type Vector = ();

    fn has(&self, name: &str) -> bool {
        self.file.gguf.tensor(name).is_some()
    }

    fn matrix(&mut self, name: &str, n_rows: usize, n_cols: usize) -> Result<(), ModelError> {
        self.plan(name, &[n_cols, n_rows]).map(|_| ())
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<(), ModelError> {
        match self.plan(name, &[len])? {
            BlockFormat::F32 => Ok(()),
            other => Err(not_f32(name, other)),
        }
    }
}

/// Second run: the bytes are there.
struct Loaded {
    bytes: Arc<AlignedBytes>,
    places: HashMap<String, (BlockFormat, Layout, Range<usize>)>,
}

impl Source for Loaded {
    type Matrix = Matrix;
    type Vector = Vec<f32>;

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn matrix(&mut self, name: &str, n_rows: usize, n_cols: usize) -> Result<Matrix, ModelError> {
        let (format, layout, place) = self.places[name].clone();
        let bytes = WeightBytes::new(self.bytes.clone(), place).expect("planned inside the buffer");
        Ok(Matrix::with_layout(format, layout, n_rows, n_cols, bytes)?)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let (format, _, place) = self.places[name].clone();
        let mut values = vec![0.0; len];
        format.dequantize(&self.bytes[place], &mut values);
        check_finite(name, &values)?;
        Ok(values)
    }
}

/// Binds, reads and builds all weights, each in the layout that is best to compute with. Also gives a digest of them.
pub(super) fn load(file: &ModelFile, hp: &HParams, c: &Compute) -> Result<(Weights, u64), ModelError> {
    let mut planner = Planner { file, planned: Vec::new(), n_bytes: 0 };
    bind(hp, &mut planner)?;
    refuse_unknown(file, hp, &planner.planned)?;
    let Planner { mut planned, n_bytes, .. } = planner;
    planned.sort_by_key(|p| (p.tensor.part, p.tensor.offset));
    let mut bytes = AlignedBytes::zeroed(n_bytes)?;
    let mut places = HashMap::with_capacity(planned.len());
    let mut digest = FNV_BASIS;
    for Planned { tensor, format, place } in planned {
        file.parts[tensor.part].read_bulk(tensor.offset, &mut bytes[place.clone()])?;
        // While they are in the processor's cache, and as they stand in the file: in its order.
        digest = fnv(digest, crc32c::crc32c(&bytes[place.clone()]));
        let layout = match tensor.dims() {
            // A place in memory holds it, so its rows can be counted.
            [_, n_rows] => {
                let layout = Layout::best(c, format, *n_rows as usize);
                layout.arrange(c, format, *n_rows as usize, &mut bytes[place.clone()]);
                layout
            }
            _ => Layout::Rows,
        };
        places.insert(tensor.name.clone(), (format, layout, place));
    }
    for part in &file.parts {
        part.check_unchanged()?;
    }
    Ok((bind(hp, &mut Loaded { bytes: Arc::new(bytes), places })?, digest))
}

/// FNV-1a over checksums: 64 bits, of which every checksum may change every one.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(digest: u64, sum: u32) -> u64 {
    sum.to_le_bytes()
        .iter()
        .fold(digest, |digest, &byte| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Tensors of layers that share keys and values which writers keep although nobody reads them.
const UNUSED: [&str; 3] = ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"];

/// Refuses tensors of layers that no formula here has, such as biases: without them the answers would be
/// wrong and look right.
fn refuse_unknown(file: &ModelFile, hp: &HParams, planned: &[Planned<'_>]) -> Result<(), ModelError> {
    let known: HashSet<&str> = planned.iter().map(|p| p.tensor.name.as_str()).collect();
    let is_unused = |layer: &str, part: &str| {
        let layer = layer.parse::<usize>().ok().filter(|&i| i < hp.n_layer());
        layer.is_some_and(|i| !hp.owns_kv(i)) && UNUSED.contains(&part)
    };
    let in_layers = file.gguf.tensors().iter().filter_map(|t| Some((t, t.name.strip_prefix("blk.")?)));
    for (tensor, rest) in in_layers {
        let unused = rest.split_once('.').is_some_and(|(layer, part)| is_unused(layer, part));
        if !unused && !known.contains(tensor.name.as_str()) {
            return Err(ModelError::Unsupported {
                what: format!("tensor {}", tensor.name),
                hint: "it is no part of the layers that the metadata describe",
            });
        }
    }
    Ok(())
}

/// Tokens of the vocabulary: rows of the embedding.
pub(super) fn n_vocab(file: &ModelFile) -> Result<usize, ModelError> {
    let name = "token_embd.weight";
    let missing = || ModelError::MissingTensor { name: name.to_owned() };
    let tensor = file.gguf.tensor(name).ok_or_else(missing)?;
    match tensor.dims() {
        [_, n] if *n <= u64::from(u32::MAX) => Ok(*n as usize),
        other => Err(ModelError::TensorShape {
            name: name.to_owned(),
            found: other.to_vec(),
            expected: vec![other.first().copied().unwrap_or(0), u64::from(u32::MAX)],
        }),
    }
}

/// Finds the per-layer embedding table and checks its shape.
pub(super) fn row_table(file: &ModelFile, hp: &HParams) -> Result<Option<RowTable>, ModelError> {
    if hp.n_embd_per_layer == 0 {
        return Ok(None);
    }
    let n_values = hp.n_embd_per_layer_row();
    let tensor = find(file, "per_layer_token_embd.weight", &[n_values, hp.n_vocab])?;
    let format = format_of(tensor)?;
    let shape_error = || shape_error(tensor, &[n_values, hp.n_vocab]);
    let row_bytes = format.row_bytes(n_values).ok_or_else(shape_error)?;
    let n_rows = u32::try_from(hp.n_vocab).map_err(|_| shape_error())?;
    // Whole blocks: the prefix of a row in a 256-element format may end inside a block.
    let prefix_values = (hp.last_kv_layer() * hp.n_embd_per_layer).next_multiple_of(format.block_len());
    let prefix_bytes = prefix_values / format.block_len() * format.block_bytes();
    Ok(Some(RowTable { part: tensor.part, offset: tensor.offset, row_bytes, n_rows, format, prefix_bytes }))
}

/// Reads a small F32 vector of any length, if the file has it.
pub(super) fn read_vector(
    file: &ModelFile,
    name: &str,
    max_len: u64,
) -> Result<Option<Vec<f32>>, ModelError> {
    let Some(tensor) = file.gguf.tensor(name) else { return Ok(None) };
    match format_of(tensor)? {
        BlockFormat::F32 => {}
        other => return Err(not_f32(name, other)),
    }
    if tensor.dims().len() != 1 || tensor.dims()[0] > max_len {
        return Err(ModelError::TensorShape {
            name: name.to_owned(),
            found: tensor.dims().to_vec(),
            expected: vec![max_len],
        });
    }
    let mut values = vec![0.0; tensor.dims()[0] as usize];
    let mut bytes = vec![0; values.len() * size_of::<f32>()];
    file.parts[tensor.part].read_exact_at(&mut bytes, tensor.offset)?;
    BlockFormat::F32.dequantize(&bytes, &mut values);
    check_finite(name, &values)?;
    Ok(Some(values))
}

/// The tensor `name` with exactly this shape, innermost first.
fn find<'a>(file: &'a ModelFile, name: &str, shape: &[usize]) -> Result<&'a TensorInfo, ModelError> {
    let missing = || ModelError::MissingTensor { name: name.to_owned() };
    let tensor = file.gguf.tensor(name).ok_or_else(missing)?;
    let same = tensor.dims().len() == shape.len()
        && tensor.dims().iter().zip(shape).all(|(found, expected)| *found == *expected as u64);
    if same { Ok(tensor) } else { Err(shape_error(tensor, shape)) }
}

fn shape_error(tensor: &TensorInfo, shape: &[usize]) -> ModelError {
    ModelError::TensorShape {
        name: tensor.name.clone(),
        found: tensor.dims().to_vec(),
        expected: shape.iter().map(|n| *n as u64).collect(),
    }
}

fn format_of(tensor: &TensorInfo) -> Result<BlockFormat, ModelError> {
    tensor.format().ok_or_else(|| ModelError::TensorType {
        name: tensor.name.clone(),
        found: tensor.type_name(),
        expected: BlockFormat::names(),
    })
}

/// Norms and scales are used as they stand in the file.
fn not_f32(name: &str, found: BlockFormat) -> ModelError {
    ModelError::TensorType {
        name: name.to_owned(),
        found: found.name().to_owned(),
        expected: BlockFormat::F32.name().to_owned(),
    }
}

fn check_finite(name: &str, values: &[f32]) -> Result<(), ModelError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(ModelError::TensorValue { name: name.to_owned(), index, value: values[index] }),
    }
}
