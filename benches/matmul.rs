//! Speed of products with packed weights: `cargo bench --bench matmul [-- [threads] [format]...]`.
//!
//! Prints bytes of weights a second for one token (decoding is bound by reading weights) beside what
//! the same threads reach by only reading, and multiply-adds a second for more tokens.

#![allow(clippy::print_stdout)]

use pled::ops::{Activations, Compute, Kernels, Layout, Matrix, Pool, WeightBytes, matmul};
use pled::quant::{BlockFormat, INTERLEAVED_ROWS};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// Columns of the benchmark matrices: the width of a small model.
const N_COLS: usize = 1536;
/// Weights are larger than any cache.
const N_BYTES: usize = 192 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let n_threads = args.first().and_then(|a| a.parse().ok()).unwrap_or(2);
    let wanted: Vec<&String> = args.iter().skip(1).collect();
    let bytes = Arc::new(varied_bytes(N_BYTES));
    for kernels in Kernels::available() {
        let c = Compute { pool: Pool::new(n_threads).expect("a pool"), kernels };
        if kernels.name() == "scalar" && !args.iter().any(|a| a == "scalar") {
            continue;
        }
        let read = N_BYTES as f64 / median(7, || read_all(&c, &bytes)) / 1e9;
        println!("{} with {n_threads} threads; reading alone: {read:.1} GB/s", kernels.name());
        for format in BlockFormat::ALL {
            if wanted.is_empty() || wanted.iter().any(|w| w.eq_ignore_ascii_case(format.name())) {
                bench(&c, format, &bytes, read);
            }
        }
    }
}

fn bench(c: &Compute, format: BlockFormat, bytes: &Arc<Vec<u8>>, read: f64) {
    let row_bytes = format.row_bytes(N_COLS).expect("whole blocks");
    let matrix = |n_rows: usize| {
        let bytes = WeightBytes::new(bytes.clone(), 0..n_rows * row_bytes).expect("bytes enough");
        // Any bytes will do, so those of any layout need no arranging.
        let layout = Layout::best(c, format, n_rows);
        Matrix::with_layout(format, layout, n_rows, N_COLS, bytes).expect("a matrix")
    };
    let mut line = format!("  {:7}", format.name());
    let large = matrix(N_BYTES / row_bytes / INTERLEAVED_ROWS * INTERLEAVED_ROWS);
    let seconds = run(c, &large, 1);
    let speed = large.n_bytes() as f64 / seconds / 1e9;
    line += &format!(" 1 token {speed:5.1} GB/s ({:3.0} % of reading)", 100.0 * speed / read);
    let small = matrix(2048);
    for n_tokens in [2, 4, 8, 32, 256] {
        let seconds = run(c, &small, n_tokens);
        let macs = (n_tokens * small.n_rows() * N_COLS) as f64;
        line += &format!("  {n_tokens}: {:5.1}", macs / seconds / 1e9);
    }
    println!("{line} GMAC/s");
}

/// Seconds of one product with `n_tokens` tokens, quantising of activations counted.
fn run(c: &Compute, w: &Matrix, n_tokens: usize) -> f64 {
    let mut x = Activations::with_capacity(n_tokens, N_COLS);
    let mut out = vec![0.0; n_tokens * w.n_rows()];
    median(5, || {
        let values = x.reset(n_tokens, N_COLS);
        for (i, v) in values.iter_mut().enumerate() {
            *v = (i % 17) as f32 - 8.0;
        }
        matmul(c, w, 0..w.n_rows(), &mut x, &mut out);
        black_box(&out);
    })
}

/// Reads everything with wide additions.
fn read_all(c: &Compute, bytes: &[u8]) {
    c.pool.for_each(bytes.chunks(1 << 20), |run| {
        let mut sums = [0_u64; 32];
        for chunk in run.as_chunks::<256>().0 {
            for (sum, b) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*b));
            }
        }
        black_box(sums);
    });
}

/// Median seconds of a call after one to warm up; short calls are repeated.
fn median(n: usize, mut f: impl FnMut()) -> f64 {
    let mut time = |repeat: usize| {
        let start = Instant::now();
        (0..repeat).for_each(|_| f());
        start.elapsed().as_secs_f64() / repeat as f64
    };
    let repeat = (0.02 / time(1)).ceil().clamp(1.0, 1000.0) as usize;
    let mut times: Vec<f64> = (0..n).map(|_| time(repeat)).collect();
    times.sort_by(f64::total_cmp);
    times[n / 2]
}

/// Bytes that are weights of no particular size in any format.
fn varied_bytes(n: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..n.div_ceil(8))
        .flat_map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Without the highest bits of an f16 scale: infinities and the like have a speed of their own.
            (state >> 8 & 0x3fff_3fff_3fff_3fff).to_le_bytes()
        })
        .take(n)
        .collect()
}
