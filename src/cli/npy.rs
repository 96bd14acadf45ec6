//! Arrays in NumPy's file format, version 1.0: a magic, a header that is a Python literal padded to 64
//! bytes, and the elements (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::io::{self, Write};

/// Bytes to whose multiple the header is padded.
const ALIGNMENT: usize = 64;
/// Magic and version.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Writes a float32 matrix row by row, so that it never has to be in memory as a whole.
#[derive(Debug)]
pub(super) struct MatrixWriter<W: Write> {
    out: W,
    n_cols: usize,
    n_rows_left: usize,
}

impl<W: Write> MatrixWriter<W> {
    /// Begins a matrix `[n_rows, n_cols]`, row-major.
    pub(super) fn new(mut out: W, n_rows: usize, n_cols: usize) -> io::Result<Self> {
        let dictionary =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {n_cols}), }}");
        // The header ends with a newline; its length, two bytes, stands between magic and header.
        let unpadded = MAGIC.len() + 2 + dictionary.len() + 1;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
        let header_len =
            u16::try_from(dictionary.len() + padding + 1).expect("two numbers fit a short header");
        out.write_all(MAGIC)?;
        out.write_all(&header_len.to_le_bytes())?;
        writeln!(out, "{dictionary}{:padding$}", "")?;
        Ok(Self { out, n_cols, n_rows_left: n_rows })
    }

    /// The next row. [n_cols]
    pub(super) fn row(&mut self, row: &[f32]) -> io::Result<()> {
        assert_eq!(row.len(), self.n_cols, "a row of another matrix");
        self.n_rows_left = self.n_rows_left.checked_sub(1).expect("more rows than announced");
        for value in row {
            self.out.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }

    /// Ends the matrix; all rows must have been written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        assert_eq!(self.n_rows_left, 0, "fewer rows than announced");
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_laid_out_as_numpy_reads_it() {
        let mut bytes = Vec::new();
        let mut writer = MatrixWriter::new(&mut bytes, 2, 3).unwrap();
        writer.row(&[1.0, 2.0, 3.0]).unwrap();
        writer.row(&[-1.0, 0.5, f32::INFINITY]).unwrap();
        writer.finish().unwrap();

        assert_eq!(&bytes[..8], MAGIC);
        let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header_len) % ALIGNMENT, 0);
        let header = std::str::from_utf8(&bytes[10..10 + header_len]).unwrap();
        assert!(
            header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"),
            "{header}"
        );
        assert!(header.ends_with('\n'));
        let values: Vec<f32> = bytes[10 + header_len..]
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        assert_eq!(values, [1.0, 2.0, 3.0, -1.0, 0.5, f32::INFINITY]);
    }

    #[test]
    #[should_panic(expected = "fewer rows")]
    fn a_matrix_that_is_not_whole_is_noticed() {
        MatrixWriter::new(Vec::new(), 1, 1).unwrap().finish().unwrap();
    }
}
