//! The bytes of the directory, handed out only after a look at how many are left.

use std::io::{BufRead, BufReader, Read};

use super::error::{GgufError, Place, quote};
use super::{MAX_DIRECTORY_BYTES, MAX_STRING_BYTES};

/// Also the step in which buffers grow: memory follows the bytes that really arrived.
const STEP_BYTES: usize = 64 << 10;

/// A reader that knows its position, the bytes left and the entry being read.
pub(super) struct Source<'a, R> {
    input: BufReader<&'a mut R>,
    pos: u64,
    file_len: u64,
    place: Place,
}

impl<'a, R: Read> Source<'a, R> {
    pub(super) fn new(input: &'a mut R, file_len: u64) -> Self {
        let input = BufReader::with_capacity(STEP_BYTES, input);
        Self { input, pos: 0, file_len, place: Place::Header }
    }

    /// Offset of the next byte.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// Names the entry that errors are about from here on.
    pub(super) fn enter(&mut self, place: Place) {
        self.place = place;
    }

    /// The entry being read, for errors that the caller makes.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Refuses to go on unless the file, and the limit for directories, have `needed` more bytes.
    pub(super) fn need(&self, needed: u64) -> Result<(), GgufError> {
        let left = self.file_len - self.pos;
        if needed > left {
            return Err(GgufError::Truncated { place: self.place(), offset: self.pos, needed, left });
        }
        if needed > MAX_DIRECTORY_BYTES.saturating_sub(self.pos) {
            let limit = MAX_DIRECTORY_BYTES;
            return Err(GgufError::DirectoryTooLong { place: self.place(), offset: self.pos, limit });
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// One byte that must be 0 or 1.
    pub(super) fn bool(&mut self) -> Result<bool, GgufError> {
        let [byte] = self.array()?;
        self.check_bool(byte, self.pos - 1)
    }

    /// A 64-bit count of things that take at least `min_bytes` each.
    pub(super) fn count(&mut self, what: &'static str, limit: u64, min_bytes: u64) -> Result<u64, GgufError> {
        let offset = self.pos;
        let value = self.u64()?;
        if value > limit {
            return Err(GgufError::Limit { place: self.place(), offset, what, value, limit });
        }
        self.need(value.saturating_mul(min_bytes))?;
        Ok(value)
    }

    /// Length of a string that begins at the next byte.
    fn string_len(&mut self, limit: u64) -> Result<usize, GgufError> {
        let len = self.count("string length", limit, 1)?;
        Ok(usize::try_from(len).expect("bounded by the limit for directories"))
    }

    /// A string value.
    pub(super) fn string(&mut self) -> Result<Vec<u8>, GgufError> {
        let len = self.string_len(MAX_STRING_BYTES)?;
        let mut out = Vec::new();
        self.append(&mut out, len)?;
        out.shrink_to_fit();
        Ok(out)
    }

    /// Appends an array element to an arena.
    pub(super) fn string_into(&mut self, arena: &mut Vec<u8>) -> Result<(), GgufError> {
        let len = self.string_len(MAX_STRING_BYTES)?;
        self.append(arena, len)
    }

    /// A key or tensor name: printable ASCII, one character at least.
    pub(super) fn name(&mut self, limit: u64) -> Result<String, GgufError> {
        let len = self.string_len(limit)?;
        let offset = self.pos;
        let mut bytes = Vec::new();
        self.append(&mut bytes, len)?;
        if bytes.is_empty() || !bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Err(GgufError::Name { place: self.place(), offset, found: quote(&bytes) });
        }
        Ok(String::from_utf8(bytes).expect("ASCII is UTF-8"))
    }

    /// `count` packed numbers of N bytes each.
    pub(super) fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        self.need(count.saturating_mul(N as u64))?;
        let mut left = usize::try_from(count).expect("bounded by the limit for directories");
        let mut out = Vec::new();
        let mut step = [0; 4096];
        while left > 0 {
            let n = left.min(step.len() / N);
            self.fill(&mut step[..n * N])?;
            out.extend(step[..n * N].as_chunks::<N>().0.iter().map(|&b| decode(b)));
            left -= n;
        }
        out.shrink_to_fit();
        Ok(out)
    }

    /// `count` bytes that must each be 0 or 1.
    pub(super) fn bools(&mut self, count: u64) -> Result<Vec<bool>, GgufError> {
        let start = self.pos;
        let bytes = self.numbers(count, |[b]: [u8; 1]| b)?;
        bytes.iter().zip(start..).map(|(&b, offset)| self.check_bool(b, offset)).collect()
    }

    fn check_bool(&self, value: u8, offset: u64) -> Result<bool, GgufError> {
        match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(GgufError::Bool { place: self.place(), offset, value }),
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), GgufError> {
        self.need(out.len() as u64)?;
        self.input.read_exact(out).map_err(|e| self.failed(e))?;
        self.pos += out.len() as u64;
        Ok(())
    }

    /// Appends `len` bytes in steps of what the input buffer holds.
    fn append(&mut self, out: &mut Vec<u8>, len: usize) -> Result<(), GgufError> {
        self.need(len as u64)?;
        let mut left = len;
        while left > 0 {
            let available = match self.input.fill_buf() {
                Ok([]) => return Err(self.failed(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => &bytes[..bytes.len().min(left)],
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(e)),
            };
            let n = available.len();
            out.extend_from_slice(available);
            self.input.consume(n);
            self.pos += n as u64;
            left -= n;
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> GgufError {
        GgufError::Io { place: self.place(), offset: self.pos, source }
    }
}
