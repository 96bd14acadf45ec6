//! Owned memory for weights, caches and read buffers.

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use super::error::StorageError;

/// Buffers smaller than this do not ask for huge pages: rounding would cost more than it gives.
const HUGE_FROM_BYTES: usize = 2 << 20;

/// Owned bytes that begin at a page boundary.
///
/// They are an anonymous mapping: zero at first, resident only where touched, and returned to the
/// system as a whole when dropped (a heap keeps what it thinks it may need again). Large ones ask for
/// huge pages, because streaming 1.4 GB of weights per token through small pages costs TLB misses.
pub struct AlignedBytes {
    map: MmapMut,
}

impl AlignedBytes {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Result<Self, StorageError> {
        let map = MmapMut::map_anon(len).map_err(|source| StorageError::Allocate { len, source })?;
        if len >= HUGE_FROM_BYTES {
            // Only a wish: kernels without huge pages refuse it and nothing else changes.
            let _ = map.advise(Advice::HugePage);
        }
        Ok(Self { map })
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len())
    }
}
