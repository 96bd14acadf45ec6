use super::*;
use crate::quant::BlockFormat;
use crate::quant::tests::reference_blocks;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Activations of varied size, with some exact zeros.
pub(crate) fn some_activations(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| match rng.random_range(0..20) {
            0 => 0.0,
            1 => rng.random_range(-30.0..30.0),
            _ => rng.random_range(-1.0..1.0),
        })
        .collect()
}

/// A matrix of blocks drawn from the reference blocks.
pub(crate) fn some_matrix(format: BlockFormat, n_rows: usize, n_cols: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (blocks, _) = reference_blocks(format);
    let blocks: Vec<&[u8]> = blocks.chunks_exact(format.block_bytes()).collect();
    let n_blocks = n_rows * n_cols / format.block_len();
    let bytes: Vec<u8> =
        (0..n_blocks).flat_map(|_| blocks[rng.random_range(0..blocks.len())]).copied().collect();
    Matrix::new(format, n_rows, n_cols, bytes.into()).unwrap()
}

fn compute(n_threads: usize, kernels: Kernels) -> Compute {
    Compute { pool: Pool::new(n_threads).unwrap(), kernels }
}

fn product(c: &Compute, w: &Matrix, rows: std::ops::Range<usize>, x: &[f32]) -> Vec<f32> {
    let n_tokens = x.len() / w.n_cols();
    let mut activations = Activations::with_capacity(n_tokens, w.n_cols());
    activations.reset(n_tokens, w.n_cols()).copy_from_slice(x);
    let mut out = vec![f32::NAN; n_tokens * rows.len()];
    matmul(c, w, rows, &mut activations, &mut out);
    out
}

/// The portable kernels against f64 sums of dequantised weights and unquantised activations: what is
/// left is the error of quantising activations, at most half a step of max / 127 for each.
#[test]
fn scalar_is_near_the_exact_product() {
    let c = compute(1, Kernels::scalar());
    for format in BlockFormat::ALL {
        let (n_rows, n_cols) = (5, 512);
        let w = some_matrix(format, n_rows, n_cols, 1);
        let x = some_activations(2 * n_cols, 2);
        let out = product(&c, &w, 0..n_rows, &x);
        let mut row = vec![0.0; n_cols];
        for (t, x) in x.chunks_exact(n_cols).enumerate() {
            for r in 0..n_rows {
                w.dequantize_row(r, &mut row);
                let (mut exact, mut bound) = (0.0, 1e-30);
                let group = if format.block_len() == 1 { n_cols } else { format.block_len() };
                for (w, x) in row.chunks(group).zip(x.chunks(group)) {
                    let max = x.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                    let step = if format.block_len() == 1 { 1e-6 } else { 0.51 / 127.0 };
                    for (&w, &x) in w.iter().zip(x) {
                        exact += f64::from(w) * f64::from(x);
                        // Half a step of the codes, and the rounding of the scale to f16.
                        bound += f64::from(w.abs()) * (f64::from(max) * step + f64::from(x.abs()) / 2048.0);
                    }
                }
                let got = f64::from(out[t * n_rows + r]);
                assert!((got - exact).abs() <= bound, "{} {got} for {exact} +- {bound}", format.name());
            }
        }
    }
}

fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "{what}: output {i} is {got:?}, not {want:?}"
        );
    }
}

/// Every instruction set gives the bits of the portable one, for all formats and awkward shapes.
#[test]
fn all_kernels_give_the_same_bits() {
    for kernels in Kernels::available() {
        let (oracle, c) = (compute(1, Kernels::scalar()), compute(1, kernels));
        for format in BlockFormat::ALL {
            let unit = format.block_len();
            let n_cols = if unit == 1 { [1, 7, 8, 39, 512] } else { [1, 2, 3, 5, 8].map(|n| n * unit) };
            for (n_cols, n_rows) in n_cols.into_iter().zip([9, 1, 4, 3, 14]) {
                let w = some_matrix(format, n_rows, n_cols, 3);
                for n_tokens in [0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 33] {
                    let x = some_activations(n_tokens * n_cols, n_tokens as u64);
                    let what = format!("{} {w:?} {n_tokens} tokens", kernels.name());
                    assert_same_bits(
                        &product(&c, &w, 0..n_rows, &x),
                        &product(&oracle, &w, 0..n_rows, &x),
                        &what,
                    );
                }
            }
        }
    }
}
