//! Zeroed memory that may be refused.

use super::error::OutOfMemory;

/// `n` zeros, backed by memory only where they are written.
///
/// `vec!` ends the process where the system does not give that much, so the system is asked first.
pub(super) fn zeroed<T: Copy + Default>(n: usize) -> Result<Vec<T>, OutOfMemory> {
    match Vec::<T>::new().try_reserve_exact(n) {
        Ok(()) => Ok(vec![T::default(); n]),
        Err(_) => Err(OutOfMemory { n_bytes: (n as u64).saturating_mul(size_of::<T>() as u64) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_an_error() {
        assert_eq!(zeroed::<u16>(3).unwrap(), [0; 3]);
        for n in [usize::MAX, usize::MAX / 4, 1 << 60] {
            let error = zeroed::<f32>(n).unwrap_err();
            assert!(error.n_bytes >= 1 << 62, "{error}");
        }
    }
}
