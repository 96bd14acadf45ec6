//! F32, F16 and BF16: one element is one block, widening is exact.

use half::{bf16, f16};

pub(super) fn dequantize_f32(bytes: &[u8], out: &mut [f32]) {
    for (y, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *y = f32::from_le_bytes(*b);
    }
}

pub(super) fn dequantize_f16(bytes: &[u8], out: &mut [f32]) {
    for (y, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *y = f16::from_le_bytes(*b).to_f32();
    }
}

pub(super) fn dequantize_bf16(bytes: &[u8], out: &mut [f32]) {
    for (y, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *y = bf16::from_le_bytes(*b).to_f32();
    }
}
