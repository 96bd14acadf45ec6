//! Blocks of rows, unpacked so that a vector lane is a row.

use super::{Lanes, PANEL_ROWS};
use crate::quant::{Block32, Block256};
use std::array::from_fn;
use std::marker::PhantomData;

/// Four codes of each of `R` rows.
pub(in crate::simd) type Quad<const R: usize> = [[i8; 4]; R];

/// Rows of a panel that can be unpacked into blocks of type `B`.
pub(in crate::simd) trait Source<B> {
    /// Unpacks block `b` of the rows from `first_row` on.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation; there are such rows and blocks.
    unsafe fn unpack(&self, first_row: usize, b: usize, block: &mut B);
}

/// Rows as they stand in a file, in format `F`, which the instruction set of `L` unpacks.
pub(super) struct Rows<'a, L, F> {
    rows: [&'a [u8]; PANEL_ROWS],
    by: PhantomData<(L, F)>,
}

impl<'a, L, F> Rows<'a, L, F> {
    #[inline(always)]
    pub(super) fn new(rows: [&'a [u8]; PANEL_ROWS]) -> Self {
        Self { rows, by: PhantomData }
    }

    /// Block `b`, `n_bytes` long, of rows from `first_row` on.
    #[inline(always)]
    fn blocks<const R: usize>(&self, first_row: usize, b: usize, n_bytes: usize) -> [&'a [u8]; R] {
        from_fn(|r| &self.rows[first_row + r][b * n_bytes..][..n_bytes])
    }
}

impl<L: Lanes<R>, F: Load32<L>, const R: usize> Source<Unpacked32<R>> for Rows<'_, L, F> {
    #[inline(always)]
    unsafe fn unpack(&self, first_row: usize, b: usize, block: &mut Unpacked32<R>) {
        // SAFETY: the caller's promise.
        unsafe { block.unpack::<L, F>(self.blocks(first_row, b, F::BYTES)) }
    }
}

impl<L: Lanes<R>, F: Load256<L>, const R: usize> Source<Unpacked256<R>> for Rows<'_, L, F> {
    #[inline(always)]
    unsafe fn unpack(&self, first_row: usize, b: usize, block: &mut Unpacked256<R>) {
        // SAFETY: the caller's promise.
        unsafe { block.unpack::<L, F>(self.blocks(first_row, b, F::BYTES)) }
    }
}

/// A 32-element format that the instruction set of `L` can unpack.
pub(in crate::simd) trait Load32<L>: Block32 {
    /// As [`Block32::codes`].
    ///
    /// # Safety
    /// The CPU has the instructions; `BYTES` bytes can be read from `block`.
    unsafe fn load(block: *const u8, codes: &mut [i8; 32]);
}

/// A 256-element format that the instruction set of `L` can unpack.
pub(in crate::simd) trait Load256<L>: Block256 {
    /// 32 codes of [`Block256::codes`] from 32 * RUN on.
    ///
    /// # Safety
    /// The CPU has the instructions; `BYTES` bytes can be read from `block`; RUN is below 8.
    unsafe fn load<const RUN: usize>(block: *const u8, codes: &mut [i8; 32]);
}

/// A block of each of `R` rows in a 32-element format, unpacked.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::simd) struct Unpacked32<const R: usize> {
    pub(in crate::simd) quads: [Quad<R>; 8],
    pub(in crate::simd) d: [f32; R],
    pub(in crate::simd) m: [f32; R],
}

/// A block of each of `R` rows in a 256-element format, unpacked.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::simd) struct Unpacked256<const R: usize> {
    pub(in crate::simd) quads: [Quad<R>; 64],
    /// Scales of the groups.
    pub(in crate::simd) scales: [[i32; R]; 16],
    /// Minima of the groups, negative.
    pub(in crate::simd) minus_mins: [[i32; R]; 8],
    pub(in crate::simd) d: [f32; R],
    pub(in crate::simd) dmin: [f32; R],
}

impl<const R: usize> Unpacked32<R> {
    /// Nothing but zeros.
    pub(in crate::simd) const ZERO: Self = Self { quads: [[[0; 4]; R]; 8], d: [0.0; R], m: [0.0; R] };

    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn unpack<L: Lanes<R>, F: Load32<L>>(&mut self, packed: [&[u8]; R]) {
        let mut codes = [[0; 32]; R];
        // SAFETY: the caller's promise; blocks are BYTES long; R halves are read and R floats written.
        unsafe {
            for r in 0..R {
                F::load(packed[r].as_ptr(), &mut codes[r]);
            }
            L::spread(&codes, L::taken_off::<F>() as i8, &mut self.quads);
            L::store(self.d.as_mut_ptr(), L::load_halves(packed.map(|block| half_bits(block, 0)).as_ptr()));
            if F::HAS_MIN {
                L::store(
                    self.m.as_mut_ptr(),
                    L::load_halves(packed.map(|block| half_bits(block, 2)).as_ptr()),
                );
            }
        }
    }
}

impl<const R: usize> Unpacked256<R> {
    /// Nothing but zeros.
    pub(in crate::simd) const ZERO: Self = Self {
        quads: [[[0; 4]; R]; 64],
        scales: [[0; R]; 16],
        minus_mins: [[0; R]; 8],
        d: [0.0; R],
        dmin: [0.0; R],
    };

    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn unpack<L: Lanes<R>, F: Load256<L>>(&mut self, packed: [&[u8]; R]) {
        macro_rules! run {
            ($RUN:literal) => {{
                let mut codes = [[0; 32]; R];
                let (quads, _) = self.quads[8 * $RUN..].as_chunks_mut();
                // SAFETY: the caller's promise; blocks are BYTES long; runs are 0..8.
                unsafe {
                    for r in 0..R {
                        F::load::<$RUN>(packed[r].as_ptr(), &mut codes[r]);
                    }
                    L::spread(&codes, L::taken_off::<F>() as i8, &mut quads[0]);
                }
            }};
        }
        run!(0);
        run!(1);
        run!(2);
        run!(3);
        run!(4);
        run!(5);
        run!(6);
        run!(7);
        for r in 0..R {
            let (mut scales, mut mins) = ([0; 16], [0; 16]);
            F::scales(packed[r], &mut scales);
            F::mins(packed[r], &mut mins);
            for g in 0..256 / F::GROUP {
                self.scales[g][r] = i32::from(scales[g]);
                if F::HAS_MIN {
                    self.minus_mins[g][r] = -i32::from(mins[g]);
                }
            }
        }
        let halves = |at: usize| packed.map(|block| half_bits(block, at));
        // SAFETY: the caller's promise; R halves are read and R floats written.
        unsafe {
            L::store(self.d.as_mut_ptr(), L::load_halves(halves(F::D_AT).as_ptr()));
            if F::HAS_MIN {
                L::store(self.dmin.as_mut_ptr(), L::load_halves(halves(F::D_AT + 2).as_ptr()));
            }
        }
    }
}

/// The bits of the half at byte `at` of a block.
#[inline(always)]
fn half_bits(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}
