//! Operations over shapes: products with packed weights, attention, norms, rotation, element by element
//! functions, and the pool of compute threads.
//!
//! Knows matrices and rows of activations, not models. The result for one row of weights and one token
//! is the same bits whatever the number of tokens in a call, the range of rows, the number of threads
//! and the instruction set (see [`crate::simd`]).
//!
//! Deliberately absent: models, files, allocation in steady state.

mod activations;
mod attention;
mod coarse;
mod elementwise;
mod gated;
mod kernels;
mod matmul;
mod matrix;
mod norm;
mod outputs;
mod pool;
mod rope;
mod rows;
mod team;
#[cfg(test)]
mod tests;

pub use activations::{Activations, ReadBy};
pub use attention::{
    GroupSoftmax, HeadRing, Heads, MAX_GROUP, MAX_HEAD_DIM, MAX_PARTS, RingData, attend, attend_part, parts,
};
pub use coarse::{CoarseMatrix, GreatestScratch, matmul_greatest};
pub use elementwise::{gelu_mul, scale, scale_all, soft_cap};
pub use gated::gated_matmul;
pub use kernels::Kernels;
pub use matmul::matmul;
pub use matrix::{Layout, Matrix, ShapeError, WeightBytes};
pub use norm::{
    NextInput, add_rms_norm_rows, copy_rows, rms_norm_in_place, rms_norm_rows, rms_norm_unweighted,
};
pub use pool::{Pool, PoolError};
pub use rope::{RopeFrequencies, rotate};

/// What an operation computes with: threads and the instruction set. Made once, shared by reference.
#[derive(Debug)]
pub struct Compute {
    /// The compute threads.
    pub pool: Pool,
    /// The instruction set.
    pub kernels: Kernels,
}
