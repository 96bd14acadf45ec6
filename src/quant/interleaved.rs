//! Rows of a matrix interleaved: sixteen rows stand together, and what a vector takes of them at once is contiguous.
//!
//! The blocks of [`INTERLEAVED_ROWS`] rows that stand under each other become one group of as many bytes. Each block is cut into
//! units (a scale, or the bytes of a few codes), and the group has the first unit of every row, then the second of every row, and
//! so on. Nothing is added or lost: a row can be had back byte for byte.
//!
//! Deliberately absent: arithmetic, and the choice of which matrices are worth it.

use super::BlockFormat;

/// Rows that stand together.
pub const INTERLEAVED_ROWS: usize = 16;

/// Neighbouring units of a block that are of the same size.
#[derive(Clone, Copy, Debug)]
struct Units {
    /// Bytes of a unit.
    n_bytes: usize,
    /// How many there are.
    n: usize,
}

/// A scale (f16), or another number of two bytes.
const HALF: Units = Units { n_bytes: 2, n: 1 };

/// The units of a block, in its order; `None` for formats that are not interleaved.
fn units(format: BlockFormat) -> Option<&'static [Units]> {
    match format {
        BlockFormat::Q4_0 => Some(&[HALF, Units { n_bytes: 4, n: 4 }]),
        BlockFormat::Q8_0 => Some(&[HALF, Units { n_bytes: 4, n: 8 }]),
        // Low bits in two words, high ones in one.
        BlockFormat::Coarse3 => Some(&[HALF, Units { n_bytes: 4, n: 3 }]),
        // Scale and scale of minima, packed scales and minima in three words, nibbles.
        BlockFormat::Q4K => Some(&[HALF, HALF, Units { n_bytes: 4, n: 35 }]),
        // The same, with fifth bits before the nibbles.
        BlockFormat::Q5K => Some(&[HALF, HALF, Units { n_bytes: 4, n: 43 }]),
        // Low bits, high bits, scales of a byte, and their scale.
        BlockFormat::Q6K => Some(&[
            Units { n_bytes: 4, n: 32 },
            Units { n_bytes: 4, n: 16 },
            Units { n_bytes: 1, n: 16 },
            HALF,
        ]),
        _ => None,
    }
}

/// Whether rows in this format can be interleaved.
pub fn can_interleave(format: BlockFormat) -> bool {
    units(format).is_some()
}

/// Calls `f` with the place of each unit in a block of one row, and in the group of blocks if that row is the first.
fn for_each_unit(units: &[Units], mut f: impl FnMut(std::ops::Range<usize>, usize)) {
    let mut at = 0;
    for Units { n_bytes, n } in units {
        for _ in 0..*n {
            f(at..at + n_bytes, INTERLEAVED_ROWS * at);
            at += n_bytes;
        }
    }
}

/// Interleaves [`INTERLEAVED_ROWS`] rows that stand one after the other in `rows`. `scratch` is overwritten.
///
/// # Panics
/// If the format [cannot be interleaved](can_interleave), or `rows` are not so many rows of whole blocks.
pub fn interleave(format: BlockFormat, rows: &mut [u8], scratch: &mut Vec<u8>) {
    let units = units(format).expect("a format whose rows can be interleaved");
    let block_bytes = format.block_bytes();
    assert!(
        rows.len().is_multiple_of(INTERLEAVED_ROWS * block_bytes),
        "{INTERLEAVED_ROWS} rows of whole blocks"
    );
    scratch.clear();
    scratch.extend_from_slice(rows);
    let row_bytes = rows.len() / INTERLEAVED_ROWS;
    for (b, group) in rows.chunks_exact_mut(INTERLEAVED_ROWS * block_bytes).enumerate() {
        for_each_unit(units, |unit, at| {
            let places = group[at..].chunks_exact_mut(unit.len());
            for (row, place) in scratch.chunks_exact(row_bytes).zip(places) {
                place.copy_from_slice(&row[b * block_bytes..][unit.clone()]);
            }
        });
    }
}

/// The blocks of row `r` of rows that were [interleaved](interleave).
///
/// # Panics
/// As [`interleave`], and if there is no such row.
pub fn row_of(format: BlockFormat, interleaved: &[u8], r: usize) -> Vec<u8> {
    assert!(r < INTERLEAVED_ROWS, "row {r} of {INTERLEAVED_ROWS}");
    let units = units(format).expect("a format whose rows can be interleaved");
    let block_bytes = format.block_bytes();
    let mut row = Vec::with_capacity(interleaved.len() / INTERLEAVED_ROWS);
    for group in interleaved.chunks_exact(INTERLEAVED_ROWS * block_bytes) {
        for_each_unit(units, |unit, at| {
            let n_bytes = unit.len();
            row.extend_from_slice(&group[at + r * n_bytes..][..n_bytes]);
        });
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::tests::every_format;

    #[test]
    fn units_make_up_a_block() {
        for format in every_format() {
            if let Some(units) = units(format) {
                assert_eq!(units.iter().map(|u| u.n_bytes * u.n).sum::<usize>(), format.block_bytes());
            }
        }
    }

    #[test]
    fn rows_come_back_byte_for_byte() {
        for format in every_format().filter(|&format| can_interleave(format)) {
            let row_bytes = 3 * format.block_bytes();
            let rows: Vec<u8> = (0..INTERLEAVED_ROWS * row_bytes).map(|i| (i * 7 % 251) as u8).collect();
            let mut interleaved = rows.clone();
            interleave(format, &mut interleaved, &mut vec![1, 2, 3]);
            assert_ne!(interleaved, rows);
            for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                assert_eq!(row_of(format, &interleaved, r), row, "{}", format.name());
            }
        }
    }

    #[test]
    fn units_of_all_rows_stand_together() {
        let mut rows: Vec<u8> = (0..INTERLEAVED_ROWS as u8).flat_map(|r| [r; 18]).collect();
        interleave(BlockFormat::Q4_0, &mut rows, &mut Vec::new());
        let scales: Vec<u8> = (0..16).flat_map(|r| [r, r]).collect();
        let quads: Vec<u8> = (0..16).flat_map(|r| [r; 4]).collect();
        assert_eq!(rows, [scales, quads.repeat(4)].concat());
    }
}
