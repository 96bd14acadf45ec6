use super::kernels::with_isa;
use super::*;
use crate::quant::tests::{every_format, reference_blocks};
use crate::quant::{BlockFormat, can_interleave};
use crate::simd::{F16Rows, Isa};
use half::f16;
use rand::{Rng, RngExt, SeedableRng};
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

/// The same matrix with its rows interleaved.
fn interleaved(w: &Matrix) -> Matrix {
    let (format, n_rows) = (w.format(), w.n_rows());
    let mut bytes: Vec<u8> = (0..n_rows).flat_map(|r| w.row(r)).copied().collect();
    Layout::Interleaved.arrange(&compute(2, Kernels::scalar()), format, n_rows, &mut bytes);
    Matrix::with_layout(format, Layout::Interleaved, n_rows, w.n_cols(), bytes.into()).unwrap()
}

#[test]
fn interleaved_rows_give_the_bits_of_others() {
    let scalar = compute(1, Kernels::scalar());
    for format in every_format().filter(|&format| can_interleave(format)) {
        // More columns than are computed at a time; long batches of narrow rows, since the portable kernels are slow.
        for (n_cols, all_n_tokens) in [(1280, (1..=9).chain([19]).collect()), (256, vec![260])] {
            let w = some_matrix(format, 48, n_cols, 3);
            let interleaved = interleaved(&w);
            let (mut got, mut want) = (vec![0.0; n_cols], vec![1.0; n_cols]);
            for r in 0..48 {
                interleaved.dequantize_row(r, &mut got);
                w.dequantize_row(r, &mut want);
                assert_same_bits(&got, &want, &format!("{} row {r}", format.name()));
            }
            for n_tokens in all_n_tokens {
                let x = some_activations(n_tokens * n_cols, n_tokens as u64);
                for rows in [0..48, 0..16, 16..48, 5..37, 20..21] {
                    let want = product(&scalar, &w, rows.clone(), &x);
                    for kernels in Kernels::available() {
                        for n_threads in [1, 3] {
                            let c = compute(n_threads, kernels);
                            let what = format!(
                                "{} {}: {n_tokens} tokens, rows {rows:?}",
                                kernels.name(),
                                format.name()
                            );
                            assert_same_bits(&product(&c, &interleaved, rows.clone(), &x), &want, &what);
                        }
                    }
                }
            }
        }
    }
}

/// Two products, and what joins them, one after the other: what [`gated_matmul`] does piece by piece.
#[test]
fn gated_products_have_the_bits_of_single_ones() {
    // A width and a number of rows that are whole blocks, but no whole number of pieces.
    let formats = [
        (BlockFormat::Q4_0, BlockFormat::Q8_0, 64, 96),
        (BlockFormat::Q4_0, BlockFormat::F16, 64, 352),
        (BlockFormat::Q4K, BlockFormat::Q6K, 256, 768),
        (BlockFormat::F32, BlockFormat::F32, 24, 80),
        (BlockFormat::F32, BlockFormat::F32, 24, 300),
    ];
    for (format, after, n_cols, n_ff) in formats {
        let (gate, up) = (some_matrix(format, n_ff, n_cols, 1), some_matrix(format, n_ff, n_cols, 2));
        let down = some_matrix(after, 16, n_ff, 3);
        for n_tokens in [1, 2, 8, 9, 64, 70] {
            let x = some_activations(n_tokens * n_cols, n_tokens as u64);
            let oracle = compute(1, Kernels::scalar());
            let [by_gate, by_up] = [&gate, &up].map(|w| product(&oracle, w, 0..n_ff, &x));
            let mut joined = vec![0.0; by_gate.len()];
            gelu_mul(Kernels::scalar(), &by_gate, &by_up, &mut joined);
            let want = product(&oracle, &down, 0..16, &joined);
            for (kernels, n_threads) in Kernels::available().into_iter().flat_map(|k| [(k, 1), (k, 3)]) {
                let c = compute(n_threads, kernels);
                for interleave in [false, true] {
                    if interleave && !(can_interleave(format) && n_ff.is_multiple_of(16)) {
                        continue;
                    }
                    let [gate, up] = [&gate, &up].map(|w| if interleave { interleaved(w) } else { copy(w) });
                    let (mut x_of, mut between) = (Activations::default(), Activations::default());
                    x_of.reset(n_tokens, n_cols).copy_from_slice(&x);
                    gated_matmul(&c, [&gate, &up], &mut x_of, after, &mut between);
                    let mut got = vec![f32::NAN; want.len()];
                    matmul(&c, &down, 0..16, &mut between, &mut got);
                    let what = format!("{} {} {n_tokens} tokens", kernels.name(), format.name());
                    assert_same_bits(&got, &want, &what);
                }
            }
        }
    }
}

/// The same matrix once more.
fn copy(w: &Matrix) -> Matrix {
    let bytes: Vec<u8> = (0..w.n_rows()).flat_map(|r| w.row(r)).copied().collect();
    Matrix::new(w.format(), w.n_rows(), w.n_cols(), bytes.into()).unwrap()
}

/// What was quantised at once is of no use for weights of another kind, and says so.
#[test]
#[should_panic(expected = "quantised at once")]
fn quantised_values_are_not_taken_for_others() {
    let c = compute(1, Kernels::scalar());
    let w = some_matrix(BlockFormat::Q8_0, 256, 32, 1);
    let (mut x, mut out) = (Activations::default(), Activations::default());
    x.reset(1, 32).fill(1.0);
    gated_matmul(&c, [&w, &w], &mut x, BlockFormat::Q8_0, &mut out);
    matmul(&c, &some_matrix(BlockFormat::Q4K, 4, 256, 1), 0..4, &mut out, &mut [0.0; 4]);
}

/// What kernels read interleaved they get so, where the shape allows it.
#[test]
fn the_layout_is_the_one_that_kernels_read() {
    for kernels in Kernels::available() {
        let c = compute(1, kernels);
        let best = |n_rows| Layout::best(&c, BlockFormat::Q4_0, n_rows);
        let are_read = matches!(kernels.name(), "avx512vnni" | "neon+dotprod" | "neon");
        assert_eq!(best(32) == Layout::Interleaved, are_read, "{}", kernels.name());
        assert_eq!((best(0), best(33)), (Layout::Rows, Layout::Rows));
        assert_eq!(Layout::best(&c, BlockFormat::F32, 32), Layout::Rows);
    }
}

/// The portable kernels against f64 sums of dequantised weights and unquantised activations: what is
/// left is the error of quantising activations, at most half a step of max / 127 for each.
#[test]
fn scalar_is_near_the_exact_product() {
    let c = compute(1, Kernels::scalar());
    for format in every_format() {
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
        for format in every_format() {
            let unit = format.block_len();
            // The last but one is more than a panel unpacks at a time.
            let n_cols =
                if unit == 1 { [1, 7, 8, 39, 512] } else { [unit, 2 * unit, 3 * unit, 1280, 7 * unit] };
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

/// Blocks of any bytes: scales that are infinite or not a number, codes of -128, scales of -128.
#[test]
fn all_kernels_agree_on_adversarial_blocks() {
    for format in every_format() {
        let (n_rows, n_cols) = (6, 512);
        for bytes in adversarial_bytes(n_rows * format.row_bytes(n_cols).unwrap()) {
            let w = Matrix::new(format, n_rows, n_cols, bytes.into()).unwrap();
            for x in adversarial_activations(n_cols) {
                let want = product(&compute(1, Kernels::scalar()), &w, 0..n_rows, &x);
                for kernels in Kernels::available() {
                    let got = product(&compute(1, kernels), &w, 0..n_rows, &x);
                    assert_same_bits(&got, &want, &format!("{} {w:?}", kernels.name()));
                }
            }
        }
    }
}

/// The same of interleaved rows, for few tokens and for many.
#[test]
fn interleaved_kernels_agree_on_adversarial_blocks() {
    for format in every_format().filter(|&format| can_interleave(format)) {
        let (n_rows, n_cols) = (16, 256);
        for bytes in adversarial_bytes(n_rows * format.row_bytes(n_cols).unwrap()) {
            let w = Matrix::new(format, n_rows, n_cols, bytes.into()).unwrap();
            let interleaved = interleaved(&w);
            for x in adversarial_activations(n_cols) {
                let want = product(&compute(1, Kernels::scalar()), &w, 0..n_rows, &x);
                for kernels in Kernels::available() {
                    for n_tokens in [1, 2, 3, 4, x.len() / n_cols] {
                        let x = &x[..n_tokens * n_cols];
                        let got = product(&compute(1, kernels), &interleaved, 0..n_rows, x);
                        let what = format!("{} {w:?} {n_tokens} tokens", kernels.name());
                        assert_same_bits(&got, &want[..n_tokens * n_rows], &what);
                    }
                }
            }
        }
    }
}

/// Any bytes, and the largest magnitudes everywhere: sums that do not fit an instruction would saturate or wrap. Each also with
/// every other byte such that no half is infinite.
fn adversarial_bytes(n_bytes: usize) -> Vec<Vec<u8>> {
    let mut random = vec![0; n_bytes];
    ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut random);
    let fills = [0x00, 0x7f, 0x80, 0xff].map(|fill| vec![fill; n_bytes]);
    std::iter::once(random)
        .chain(fills)
        .flat_map(|bytes| {
            let finite_scales = bytes.chunks(2).flat_map(|pair| [pair[0], pair[1] & 0x3f]).collect();
            [bytes, finite_scales]
        })
        .collect()
}

/// Tokens at the ends of the range of codes, and some of any size.
fn adversarial_activations(n_cols: usize) -> [Vec<f32>; 3] {
    let extremes = (0..9 * n_cols).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
    [vec![-1.0; 9 * n_cols], extremes, some_activations(17 * n_cols, 6)]
}

/// One (row, token) has the same bits however the product is cut.
#[test]
fn result_does_not_depend_on_the_split() {
    for kernels in Kernels::available() {
        for format in every_format() {
            let (n_rows, n_cols, n_tokens) = (41, 512, 9);
            let w = some_matrix(format, n_rows, n_cols, 7);
            let x = some_activations(n_tokens * n_cols, 8);
            let whole = product(&compute(1, kernels), &w, 0..n_rows, &x);
            for n_threads in [1, 2, 3, 5] {
                let c = compute(n_threads, kernels);
                for rows in [0..n_rows, 0..1, 3..20, 40..41, 5..5] {
                    let mut want = Vec::new();
                    for token in whole.chunks_exact(n_rows) {
                        want.extend_from_slice(&token[rows.clone()]);
                    }
                    let what = format!("{} {} {n_threads} threads {rows:?}", kernels.name(), format.name());
                    assert_same_bits(&product(&c, &w, rows.clone(), &x), &want, &what);
                    for (token, want) in x.chunks_exact(n_cols).zip(want.chunks_exact(rows.len().max(1))) {
                        assert_same_bits(&product(&c, &w, rows.clone(), token), want, &what);
                    }
                }
            }
        }
    }
}

/// A fault in the input is a fault in every output of its token, and in no other's.
#[test]
fn not_a_number_surfaces() {
    for kernels in Kernels::available() {
        for format in every_format() {
            let (n_rows, n_cols) = (5, 512);
            let w = some_matrix(format, n_rows, n_cols, 9);
            for fault in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (at, n_tokens) in [(0, 3), (31, 12), (255, 3), (300, 12), (511, 12)] {
                    let mut x = some_activations(n_tokens * n_cols, 10);
                    x[n_cols + at] = fault;
                    let out = product(&compute(1, kernels), &w, 0..n_rows, &x);
                    let what = format!("{} {} {fault} at {at}", kernels.name(), format.name());
                    for (t, out) in out.chunks_exact(n_rows).enumerate() {
                        // An infinity times a float weight may be an infinity, which is a fault too.
                        let is_fault =
                            |y: &f32| if format.block_len() == 1 { !y.is_finite() } else { y.is_nan() };
                        let as_expected =
                            out.iter().all(|y| if t == 1 { is_fault(y) } else { y.is_finite() });
                        assert!(as_expected, "{what}, token {t}: {out:?}");
                    }
                }
            }
        }
    }
}

/// Activations of every size, from subnormal to the largest.
fn activations_of_all_sizes() -> Vec<f32> {
    let mut x = Vec::new();
    for (i, exponent) in (-149..=127).enumerate() {
        let size = 2.0_f64.powi(exponent) as f32;
        x.extend(some_activations(512, i as u64).iter().map(|v| v.clamp(-1.9, 1.9) * size));
    }
    // Ties in rounding: codes that are whole and a half.
    x.extend((0..512).map(|i| if i % 32 == 0 { 127.0 } else { i as f32 % 127.0 + 0.5 }));
    x.extend([0.0; 512]);
    x.extend([-0.0; 256]);
    x.extend((0..256).map(|i| if i == 77 { f32::NAN } else { 1.0 }));
    x
}

#[test]
fn quantised_activations_are_the_same_everywhere() {
    let x = activations_of_all_sizes();
    let n = x.len();
    let run = |kernels: Kernels| {
        let (mut q, mut d, mut sums) = (vec![1; n], vec![1.0; n / 32], vec![1; n / 32]);
        let (mut qk, mut dk, mut sums_k) = (vec![1; n], vec![1.0; n / 256], vec![1; n / 16]);
        with_isa!(kernels, isa => {
            isa.quantize_q8(&x, &mut q, &mut d, &mut sums);
            isa.quantize_q8_k(&x, &mut qk, &mut dk, &mut sums_k);
        });
        (q, d, sums, qk, dk, sums_k)
    };
    let want = run(Kernels::scalar());
    for kernels in Kernels::available() {
        let got = run(kernels);
        assert!(
            got.0 == want.0 && got.2 == want.2 && got.3 == want.3 && got.5 == want.5,
            "{}",
            kernels.name()
        );
        assert_same_bits(&got.1, &want.1, kernels.name());
        assert_same_bits(&got.4, &want.4, kernels.name());
    }
    let (q, d, sums, qk, dk, sums_k) = want;
    assert!(q.iter().chain(&qk).all(|&q| q != -128));
    for (b, (x, q)) in x.chunks_exact(32).zip(q.chunks_exact(32)).enumerate() {
        assert_eq!(sums[b], q.iter().map(|&q| i32::from(q)).sum::<i32>());
        if d[b].is_normal() && d[b] > 1e-4 {
            for (x, q) in x.iter().zip(q) {
                assert!((x - f32::from(*q) * d[b]).abs() <= d[b] * 0.6, "{x} as {q} * {}", d[b]);
            }
        }
    }
    for (sum, q) in sums_k.iter().zip(qk.chunks_exact(16)) {
        assert_eq!(*sum, q.iter().map(|&q| i16::from(q)).sum::<i16>());
    }
    assert!(d[n / 32 - 1 - (255 - 77) / 32].is_nan() && dk[n / 256 - 1].is_nan());
}

/// Values and codes are the same whether an input is filled token by token on several threads or all at once.
#[test]
fn tokens_are_quantised_as_the_whole() {
    for (n_tokens, n_cols) in [(1, 2048), (3, 512), (5, 96), (2, 7)] {
        let x = some_activations(n_tokens * n_cols, 9);
        for format in [BlockFormat::F32, BlockFormat::Q4_0, BlockFormat::Q6K] {
            if !n_cols.is_multiple_of(format.block_len()) {
                continue;
            }
            let read_first = some_matrix(format, 1, n_cols, 1);
            for other in [format, BlockFormat::F32] {
                let read_by = ReadBy::matrices([&read_first, &some_matrix(other, 1, n_cols, 1)]);
                for n_threads in [1, 2, 3] {
                    let c = compute(n_threads, Kernels::detect());
                    let (mut whole, mut filled) = (Activations::default(), Activations::default());
                    // What is left from before is not to be seen.
                    filled.reset(9, 2048).fill(3.0);
                    filled.prepare(&c, format);
                    whole.reset(n_tokens, n_cols).copy_from_slice(&x);
                    whole.prepare(&c, format);
                    filled.fill(&c, [n_tokens, n_cols], read_by, |token, row| {
                        row.copy_from_slice(&x[token * n_cols..][..n_cols]);
                    });
                    if other == BlockFormat::F32 {
                        assert_eq!(filled.f32_batch().x, x);
                    }
                    match format {
                        BlockFormat::Q4_0 => {
                            let (a, b) = (whole.q8_batch(), filled.q8_batch());
                            assert!(a.q == b.q && a.d == b.d && a.sums == b.sums);
                        }
                        BlockFormat::Q6K => {
                            let (a, b) = (whole.q8_k_batch(), filled.q8_k_batch());
                            assert!(a.q == b.q && a.d == b.d && a.sums == b.sums);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// llama.cpp quantises 256 activations with the sign of the largest: codes and scale have the other
/// sign then, their products the same bits.
#[test]
fn sign_of_the_largest_cancels() {
    let x = some_activations(20 * 256, 11);
    let (mut q, mut d, mut sums) = (vec![0; x.len()], vec![0.0; x.len() / 256], vec![0; x.len() / 16]);
    with_isa!(Kernels::scalar(), isa => isa.quantize_q8_k(&x, &mut q, &mut d, &mut sums));
    for ((x, q), d) in x.chunks_exact(256).zip(q.chunks_exact(256)).zip(d) {
        let mut largest = 0.0_f32;
        for &x in x {
            if x.abs() > largest.abs() {
                largest = x;
            }
        }
        let inverse = -127.0 / largest;
        for (&x, &q) in x.iter().zip(q) {
            let code = (inverse * x).round_ties_even().min(127.0);
            assert_eq!((code * (1.0 / inverse)).abs().to_bits(), (f32::from(q) * d).abs().to_bits());
            assert!(code * (1.0 / inverse) == f32::from(q) * d);
        }
    }
}

#[test]
fn f16_helpers_are_the_same_everywhere() {
    // Every half, its neighbours in f32, and the middle between it and the next: all cases of rounding.
    let mut x = Vec::new();
    for bits in 0..=u16::MAX {
        let wide = f16::from_bits(bits).to_f32().to_bits();
        let middle = wide.wrapping_add(1 << 12);
        x.extend(
            [wide, wide.wrapping_sub(1), wide.wrapping_add(1), middle, middle - 1, middle + 1]
                .map(f32::from_bits),
        );
    }
    x.extend([1e-8, 5.960_464_5e-8, 2.980_232_2e-8, 2.980_232_4e-8, 65519.9, 65520.0, 1e30, -1e30]);
    let mut want = vec![f16::ZERO; x.len()];
    Kernels::scalar().to_f16(&x, &mut want);
    let (a, b) = (&want[5000..5600], some_activations(600, 12));
    for kernels in Kernels::available() {
        let mut got = vec![f16::ONE; x.len()];
        kernels.to_f16(&x, &mut got);
        for ((x, got), want) in x.iter().zip(&got).zip(&want) {
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{}: {x:?} as {got:?}, not {want:?}",
                kernels.name()
            );
        }
        let sizes = (1..20)
            .chain([24, 31, 32, 40, 48, 64, 80, 96, 100])
            .flat_map(|n_cols| [0, 1, 2, 3, 4, 5, 6, 8, 9, 17].map(move |n| (n_cols, n)));
        for (n_cols, n) in sizes.filter(|(n_cols, n)| n_cols * n <= 600) {
            for n_rows in [0, 1, 3, 4, 6] {
                let rows = F16Rows { n_cols, rows: &a[..n_rows * n_cols], next: &[] };
                let x = &b[..n * n_cols];
                let dots = |k: Kernels| {
                    let mut dots = vec![7.0; n_rows * n];
                    k.dots_f16(rows, x, &mut dots);
                    dots
                };
                let what = format!("{} {n_rows} rows {n_cols} columns {n} vectors", kernels.name());
                assert_same_bits(&dots(kernels), &dots(Kernels::scalar()), &what);
                let sums = |k: Kernels| {
                    let mut y = x.to_vec();
                    k.add_weighted_f16(&b[100..100 + n_rows * n], rows, &mut y);
                    y
                };
                assert_same_bits(&sums(kernels), &sums(Kernels::scalar()), &what);
            }
        }
    }
}

#[test]
fn bytes_widen_to_the_same_halves_everywhere() {
    let x = activations_of_all_sizes();
    let (mut codes, mut scales) = (vec![0; x.len()], vec![f16::ZERO; x.len() / 32]);
    Kernels::scalar().to_q8(&x, &mut codes, &mut scales);
    let widen = |kernels: Kernels| {
        let mut halves = vec![f16::ONE; codes.len()];
        kernels.widen_q8(&codes, &scales, &mut halves);
        halves.into_iter().map(f16::to_f32).collect::<Vec<_>>()
    };
    let want = widen(Kernels::scalar());
    for kernels in Kernels::available() {
        assert_same_bits(&widen(kernels), &want, kernels.name());
    }
    for (i, (x, got)) in x.iter().zip(want).enumerate() {
        let scale = scales[i / 32].to_f32();
        if x.is_nan() {
            assert!(got.is_nan());
        } else if scale > 1e-4 && scale < 500.0 {
            // Half a step, the rounding of the scale and that of the half.
            assert!((x - got).abs() <= scale * 0.7, "{x} as {got}, steps of {scale}");
        }
    }
}

#[test]
fn matrix_checks_its_shape() {
    let bytes = |n: usize| WeightBytes::from(vec![0; n]);
    assert!(Matrix::new(BlockFormat::Q4_0, 2, 64, bytes(72)).is_ok());
    let error = Matrix::new(BlockFormat::Q4_0, 2, 64, bytes(71)).unwrap_err();
    assert_eq!(error.to_string(), "71 bytes for a matrix of 2 rows and 64 columns in Q4_0");
    let error = Matrix::new(BlockFormat::Q6K, 2, 320, bytes(72)).unwrap_err();
    assert_eq!(error.to_string(), "320 columns are not whole blocks of 256 elements (Q6_K)");
    assert!(Matrix::new(BlockFormat::F32, usize::MAX, usize::MAX, bytes(4)).is_err());
    assert!(Matrix::new(BlockFormat::F32, usize::MAX, 2, bytes(4)).is_err());
    let buffer = std::sync::Arc::new(vec![0_u8; 10]);
    assert!(WeightBytes::new(buffer.clone(), 4..11).is_none());
    assert_eq!(WeightBytes::new(buffer, 4..10).unwrap().as_slice().len(), 6);
}

#[test]
fn pool_runs_every_item_once() {
    use std::sync::atomic::{AtomicU32, Ordering};
    assert!(matches!(Pool::new(0), Err(PoolError::NoThreads)));
    for n_threads in [1, 2, 3, 8] {
        let pool = Pool::new(n_threads).unwrap();
        assert_eq!(pool.n_threads(), n_threads);
        for n in [0, 1, 2, 7, 64, 1000] {
            let counts: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
            pool.for_each(0..n, |i| _ = counts[i].fetch_add(1, Ordering::Relaxed));
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            let mut data = vec![-1.0; 3 * n];
            pool.for_each_rows_mut(&mut data, 3, |first, rows| {
                for (i, row) in rows.chunks_exact_mut(3).enumerate() {
                    row.fill((first + i) as f32);
                }
            });
            assert!(data.chunks_exact(3).enumerate().all(|(i, row)| row == [i as f32; 3]));
        }
    }
}

#[test]
fn pool_survives_panics_nesting_and_other_callers() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let pool = Pool::new(3).unwrap();
    for at in 0..30 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.for_each(0..30, |i| assert!(i != at, "item {at}"));
        }));
        let message = *result.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, format!("item {at}"));
    }
    let count = AtomicU32::new(0);
    let count_all = || {
        pool.for_each(0..10, |_| pool.for_each(0..10, |_| _ = count.fetch_add(1, Ordering::Relaxed)));
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| count_all()));
        }
    });
    assert_eq!(count.into_inner(), 4 * 50 * 100);
}

/// Many short rounds, with pauses in which helpers go to sleep or are about to.
#[test]
fn pool_loses_no_round() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let pool = Pool::new(4).unwrap();
    let sum = AtomicU64::new(0);
    let mut expected = 0;
    for round in 0..3000_u64 {
        pool.for_each(0..7, |_| _ = sum.fetch_add(round, Ordering::Relaxed));
        expected += 7 * round;
        assert_eq!(sum.load(Ordering::Relaxed), expected);
        if round % 100 == 0 {
            std::thread::sleep(std::time::Duration::from_micros(round / 3));
        }
    }
}
