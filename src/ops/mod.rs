//! Operations over shapes: products with packed weights, and the pool of compute threads.
//!
//! Knows matrices and rows of activations, not models. The result for one row of weights and one token
//! is the same bits whatever the number of tokens in a call, the range of rows, the number of threads
//! and the instruction set (see [`crate::simd`]).
//!
//! Deliberately absent: models, files, allocation in steady state.

mod activations;
mod kernels;
mod matmul;
mod matrix;
mod pool;
#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use kernels::Kernels;
pub use matmul::matmul;
pub use matrix::{Matrix, ShapeError, WeightBytes};
pub use pool::{Pool, PoolError};

/// What an operation computes with: threads and the instruction set. Made once, shared by reference.
#[derive(Debug)]
pub struct Compute {
    /// The compute threads.
    pub pool: Pool,
    /// The instruction set.
    pub kernels: Kernels,
}
